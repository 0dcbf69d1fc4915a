"""A network computes logits from samples, and gradients from top errors, for replicates of one architecture."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from circlemlp.core.activations import ACTIVATIONS
from circlemlp.core.parameters import Floats, Layout
from circlemlp.core.passes import HiddenLayers, Memory, OneHiddenLayer, Passes, Weights
from circlemlp.core.tiles import Cut, augment


@contextmanager
def arithmetic() -> Iterator[None]:
    """Let infinities and NaN arise without a warning, since divergence is a result, and NumPy allocate no buffers.

    NumPy uses these buffers to convert between types only. Their small size lasts as long as ``errstate``.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        np.setbufsize(16)
        yield


class Network:
    """Replicates of one architecture.

    Parameters
    ----------
    layout : Layout
    parameters : ndarray of shape (replicates, layout.n_parameters)
        float32 or float64. The array is kept, not copied, so updating it updates the network.
    activation : str
        A key of ``ACTIVATIONS``.

    Attributes
    ----------
    gradient : ndarray like ``parameters``
        The gradient of a batch, after ``backward`` has seen all its tiles.
    """

    def __init__(self, layout: Layout, parameters: Floats, activation: str = "relu") -> None:
        self.layout = layout
        self.parameters = parameters
        self.gradient = np.zeros_like(parameters)
        self._activation = ACTIVATIONS[activation]
        self._weights = Weights(layout, parameters)
        self._gradients = layout.matrices(self.gradient[:, np.newaxis])
        self._memory = Memory(parameters.dtype)
        self._workspaces: dict[tuple[int, ...], _Workspace] = {}

    def _workspace(self, x: Floats) -> "_Workspace":
        """Return the workspace for a tile of this shape, which is made at the first call.

        A pass over the data has tiles of a few shapes only: that of a whole tile, and that of the last tile of a batch.
        """
        shape = len(self.parameters), x.shape[1], x.shape[3]
        if shape not in self._workspaces:
            one_hidden_layer = len(self.layout.layer_sizes) == 3
            passes = OneHiddenLayer if one_hidden_layer else HiddenLayers
            self._workspaces[shape] = _Workspace(
                passes(self._memory, self._weights, self._activation, shape), self.layout, self.parameters, shape[1]
            )
        return self._workspaces[shape]

    def forward(self, x: Floats, logits: Floats) -> None:
        """Write the logits of a tile to ``logits``, of shape (replicates, blocks, samples).

        Parameters
        ----------
        x : ndarray of shape (1 or replicates, blocks, inputs, samples)
            Inputs as ``tiles.augment`` makes them. The replicates share them, or each has its own.
        """
        self._workspace(x).passes.forward(x, logits)

    def top_error(self, x: Floats) -> Floats:
        """Return the array from which ``backward`` reads delta^L = dJ/ds: shape (replicates, blocks, samples)."""
        return self._workspace(x).passes.top_error

    def backward(self, x: Floats, *, starts_batch: bool, ends_batch: bool) -> None:
        """Compute the gradient of a tile from the errors that were written to ``top_error``.

        It has to be the tile that last passed through ``forward``. If the top errors are (p - y) / n in all tiles of a
        batch of n samples, ``gradient`` becomes the gradient of the mean loss.

        Parameters
        ----------
        x : ndarray
            The inputs that were given to ``forward``.
        starts_batch, ends_batch : bool
            Whether the tile is the first, and whether it is the last of its batch. The first replaces ``gradient``, the
            others add to it.
        """
        workspace = self._workspace(x)
        if starts_batch:
            workspace.passes.start_batch()
        if starts_batch and x.shape[1] == 1:  # there is only one block, so there is nothing to add
            workspace.passes.backward(x, self._gradients)
        else:
            workspace.passes.backward(x, workspace.gradients)
            workspace.add_blocks(self.gradient, replace=starts_batch)
        if ends_batch:
            workspace.passes.finish(self._gradients)

    @arithmetic()
    def probabilities(self, x: NDArray[np.float64]) -> Floats:
        """Return p(y = 1 | x) of samples x of shape (n, features): shape (replicates, n)."""
        logits = self.logits(x)
        decay = np.exp(-np.abs(logits))
        p: Floats = np.where(logits > 0, logits.dtype.type(1), decay) / (1 + decay)
        return p

    @arithmetic()
    def logits(self, x: NDArray[np.float64]) -> Floats:
        """Return the logits of samples x of shape (n, features): shape (replicates, n)."""
        replicates, dtype = len(self.parameters), self.parameters.dtype
        logits = np.empty((replicates, len(x)), dtype)
        cut = Cut.of(self.layout, dtype, replicates, len(x))
        for start, stop in cut.tiles(len(x)):
            inputs = cut.blocked(augment(x[start:stop], dtype))
            self.forward(inputs, cut.blocked(logits[:, start:stop]))
        return logits


class _Workspace:
    """The passes over tiles of one shape, and the gradients of their blocks.

    Attributes
    ----------
    passes : Passes
    gradients : list of ndarray of shape (replicates, blocks, fan_in + 1, fan_out)
        The gradients of each block, layer by layer.
    """

    def __init__(self, passes: Passes, layout: Layout, parameters: Floats, blocks: int) -> None:
        self.passes = passes
        replicates, n_parameters = parameters.shape
        self._parts = np.zeros((replicates, 1 + blocks, n_parameters), parameters.dtype)
        self.gradients = layout.matrices(self._parts[:, 1:])

    def add_blocks(self, gradient: Floats, *, replace: bool) -> None:
        """Add the blocks' gradients to ``gradient``, one after another, or with ``replace`` to zero."""
        if not replace:
            np.copyto(self._parts[:, 0], gradient)
        np.add.reduce(self._parts[:, int(replace) :], axis=1, out=gradient)
