"""The forward and the backward pass, equation by equation, on tiles of samples.

Samples are columns. A tile's activations h^l are a block of shape (width + 1, replicates, columns); its last row
is ones, so that the augmented matrix gives the scores in one product. Nodes come first so that a block
without its ones, which is what element-wise operations see, is contiguous memory; matrix products see the
same memory as one matrix (width + 1, columns) a replicate. Samples pass through in tiles that fit a core's
cache, so memory does not grow with their number, and every workspace is allocated once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.activations import ACTIVATIONS, Activation
from circlemlp.core.parameters import Floats, Layout

TILE_BYTES, MOST_COLUMNS = 13 * 2**18, 5120
"""How much the activations and errors of one tile may take, and its most samples.

Measured: smaller tiles keep closer to the processor, larger ones share each NumPy call's fixed cost.
"""

FEW_FEATURES = 4
"""Up to so many inputs, one matrix-vector product for each is faster than one matrix product for all."""


def columns_per_tile(layout: Layout, dtype: DTypeLike) -> int:
    """Return how many samples of one replicate go through the network at once.

    A function of the architecture and the dtype alone, never of the machine: the tiles decide the order of
    summation, and so the bits.
    """
    *lower, last = layout.layer_sizes[1:-1]
    rows = 2 * sum(lower) + last
    columns = TILE_BYTES // (rows * np.dtype(dtype).itemsize)
    return int(np.clip(columns // 64 * 64, 64, MOST_COLUMNS))


def augment(x: NDArray[np.float64], dtype: DTypeLike) -> Floats:
    """Return samples x of shape (n, features) as columns over a row of ones: (features + 1, n)."""
    columns = np.ones((x.shape[1] + 1, len(x)), dtype)
    columns[:-1] = x.T
    return columns


def _by_replicate(block: Floats) -> Floats:
    """View a block of shape (rows, replicates, columns) as a matrix (rows, columns) for each replicate."""
    return block.transpose(1, 0, 2)


@dataclass(frozen=True)
class _Layer:
    """A hidden layer's workspaces for one tile, as matrices a replicate.

    Attributes
    ----------
    scores : ndarray of shape (replicates, width, columns)
        Scores, which ``activation`` turns into activations and later uses up.
    augmented : ndarray of shape (replicates, width + 1, columns)
        The same memory with the row of ones below.
    error : ndarray of shape (replicates, width, columns)
        delta of the layer; in the last hidden layer it takes the place of the activations.
    error_block : ndarray of shape (width, replicates, columns)
        The same memory.
    activation : Activation
    """

    scores: Floats
    augmented: Floats
    error: Floats
    error_block: Floats
    activation: Activation

    @classmethod
    def of(cls, activation: type[Activation], shape: tuple[int, int, int], dtype: DTypeLike, is_last: bool) -> "_Layer":
        width, replicates, columns = shape
        block = np.ones((width + 1, replicates, columns), dtype)
        error_block = block[:-1] if is_last else np.zeros(shape, dtype)
        return cls(
            scores=_by_replicate(block[:-1]),
            augmented=_by_replicate(block),
            error=_by_replicate(error_block),
            error_block=error_block,
            activation=activation(block[:-1]),
        )


class Network:
    """Replicates of one architecture, side by side.

    Parameters
    ----------
    layout : Layout
    parameters : ndarray of shape (replicates, layout.n_parameters)
        Float32 or float64. Kept, not copied: whoever updates it updates the network.
    activation : str
        A key of ``ACTIVATIONS``.

    Attributes
    ----------
    gradient : ndarray like ``parameters``
        What ``backward`` over the tiles of a batch leaves.
    """

    def __init__(self, layout: Layout, parameters: Floats, activation: str = "relu") -> None:
        self.layout = layout
        self.parameters = parameters
        self.gradient = np.zeros_like(parameters)
        self._activation = ACTIVATIONS[activation]
        self._weights = layout.matrices(parameters)
        self._gradients = layout.matrices(self.gradient)
        self._tile_gradient = np.empty_like(parameters)
        self._tile_gradients = layout.matrices(self._tile_gradient)
        self._top_weights = self._weights[-1][:, :-1]
        self._tiles: dict[int, list[_Layer]] = {}

    def _tile(self, columns: int) -> list[_Layer]:
        """Return the hidden layers' workspaces for this many columns, made when first asked for.

        A pass over data asks for a few numbers at most: a whole tile, and the last of a batch.
        """
        if columns not in self._tiles:
            replicates, dtype = len(self.parameters), self.parameters.dtype
            *lower, last = ((width, replicates, columns) for width in self.layout.layer_sizes[1:-1])
            self._tiles[columns] = [
                *(_Layer.of(self._activation, shape, dtype, is_last=False) for shape in lower),
                _Layer.of(self._activation, last, dtype, is_last=True),
            ]
        return self._tiles[columns]

    def forward(self, x: Floats, logits: Floats) -> None:
        """Write the logits of a tile to ``logits``, of shape (replicates, columns).

        Parameters
        ----------
        x : ndarray of shape (features + 1, columns) or (replicates, features + 1, columns)
            Inputs over a row of ones: the same for all replicates, or each its own.
        """
        h = x
        for layer, weights in zip(self._tile(x.shape[-1]), self._weights, strict=False):
            np.matmul(weights.mT, h, out=layer.scores)  # s^l = W^l h^(l-1) + b^l
            layer.activation.forward()  # h^l = f(s^l)
            h = layer.augmented
        np.matmul(self._weights[-1].mT, h, out=logits[:, np.newaxis])

    def backward(self, x: Floats, top_error: Floats, first: bool) -> None:
        """Compute the gradient of the tile last taken forward.

        With a top error of (p - y) / n over the tiles of a batch of n samples, ``gradient`` becomes that of the
        mean loss.

        Parameters
        ----------
        x : ndarray
            As given to ``forward``.
        top_error : ndarray of shape (replicates, columns)
            delta^L = dJ/ds.
        first : bool
            Whether the tile is its batch's first: then ``gradient`` is replaced, else added to.
        """
        gradients = self._gradients if first else self._tile_gradients
        *lower, last = self._tile(x.shape[-1])
        # The last hidden layer: delta = w * E with E = f'(s) * delta^L, where w are the weights of the top node.
        np.matmul(last.augmented, top_error[:, :, np.newaxis], out=gradients[-1])
        last.activation.backward(top_error[np.newaxis], out=last.error_block)
        above = last
        if lower:
            np.multiply(last.error, self._top_weights, out=last.error)
        for level in range(len(lower) - 1, -1, -1):
            layer = lower[level]
            np.matmul(layer.augmented, above.error.mT, out=gradients[level + 1])  # dJ/d[W | b]' = [h ; 1] delta'
            np.matmul(self._weights[level + 1][:, :-1], above.error, out=layer.error)
            layer.activation.backward(layer.error_block, out=layer.error_block)  # delta = f'(s) * (W' delta)
            above = layer
        self._bottom_gradient(x, above.error, gradients[0])
        if not lower:
            np.multiply(gradients[0], self._top_weights.mT, out=gradients[0])  # w, after the sum over the samples
        if not first:
            np.add(self.gradient, self._tile_gradient, out=self.gradient)

    @staticmethod
    def _bottom_gradient(x: Floats, error: Floats, out: Floats) -> None:
        if x.shape[-2] > FEW_FEATURES:
            np.matmul(x, error.mT, out=out)
            return
        for feature in range(x.shape[-2]):
            np.matmul(error, x[..., feature, :, np.newaxis], out=out[:, feature, :, np.newaxis])

    def probabilities(self, x: NDArray[np.float64]) -> Floats:
        """Return p(y = 1 | x) of samples x of shape (n, features): shape (replicates, n)."""
        logits = self.logits(x)
        decay = np.exp(-np.abs(logits))
        p: Floats = np.where(logits > 0, logits.dtype.type(1), decay) / (1 + decay)
        return p

    def logits(self, x: NDArray[np.float64]) -> Floats:
        """Return the logits of samples x of shape (n, features): shape (replicates, n)."""
        columns = columns_per_tile(self.layout, self.parameters.dtype)
        logits = np.empty((len(self.parameters), len(x)), self.parameters.dtype)
        for start in range(0, len(x), columns):
            stop = start + columns
            self.forward(augment(x[start:stop], self.parameters.dtype), logits[:, start:stop])
        return logits
