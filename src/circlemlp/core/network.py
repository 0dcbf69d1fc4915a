"""The forward and the backward pass, equation by equation, on tiles of samples.

Samples are columns. A tile of activations h^l has shape (replicates, width + 1, columns); its last row is
ones, so that the augmented matrix [W | b] gives the scores in one product. Samples pass through in tiles
that fit a core's cache, so memory does not grow with their number, and every workspace is allocated once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.activations import relu, relu_backward
from circlemlp.core.loss import LogisticLoss
from circlemlp.core.parameters import Floats, Layout

TILE_BYTES, MOST_COLUMNS = 5 * 2**19, 2560
"""How much activations and errors of one tile may take, and its most samples.

Measured: smaller tiles keep closer to the processor, larger ones share each NumPy call's fixed cost.
"""


def columns_per_tile(layout: Layout, dtype: DTypeLike) -> int:
    """Return how many samples of one replicate go through the network at once.

    A function of the architecture and the dtype alone, never of the machine: the tiles decide the order of
    summation, and so the bits.
    """
    nodes = sum(2 * size + 1 for size in layout.layer_sizes[1:])
    columns = TILE_BYTES // (nodes * np.dtype(dtype).itemsize)
    return int(np.clip(columns // 64 * 64, 64, MOST_COLUMNS))


def augment(x: NDArray[np.float64], dtype: DTypeLike) -> Floats:
    """Return samples x of shape (n, features) as columns over a row of ones: (features + 1, n)."""
    columns = np.ones((x.shape[1] + 1, len(x)), dtype)
    columns[:-1] = x.T
    return columns


@dataclass(frozen=True)
class _Tile:
    """Workspaces for one number of columns, layer by layer.

    Layers count from 0, the lowest hidden one. The blocks of hidden layers have the row of ones, which
    element-wise operations leave as it is, so that they run over contiguous memory.

    Attributes
    ----------
    activations, errors, zeros, slope : list of ndarray of shape (replicates, size + 1, columns)
        Of the hidden layers. The last row of ``errors`` means nothing.
    scores, delta : list of ndarray of shape (replicates, size, columns)
        Of all layers: views of ``activations`` and ``errors`` without the last row, and at the top their own.
    loss : LogisticLoss
    """

    activations: list[Floats]
    errors: list[Floats]
    zeros: list[Floats]
    slope: list[NDArray[np.signedinteger[Any]]]
    scores: list[Floats]
    delta: list[Floats]
    loss: LogisticLoss

    @classmethod
    def of(cls, layer_sizes: tuple[int, ...], replicates: int, columns: int, dtype: np.dtype[Any]) -> "_Tile":
        *hidden, top = layer_sizes[1:]

        def blocks(value: float) -> list[Floats]:
            return [np.full((replicates, size + 1, columns), value, dtype) for size in hidden]

        activations, errors = blocks(1), blocks(0)
        scores, delta = ([block[:, :-1] for block in some] for some in (activations, errors))
        return cls(
            activations=activations,
            errors=errors,
            zeros=blocks(0),
            slope=[np.zeros(block.shape, f"i{block.itemsize}") for block in activations],
            scores=[*scores, np.zeros((replicates, top, columns), dtype)],
            delta=[*delta, np.zeros((replicates, top, columns), dtype)],
            loss=LogisticLoss((replicates, columns), dtype),
        )


class Network:
    """Replicates of one architecture, side by side.

    Parameters
    ----------
    layout : Layout
    parameters : ndarray of shape (replicates, layout.n_parameters)
        Float32 or float64. Kept, not copied: whoever updates it updates the network.

    Attributes
    ----------
    gradient : ndarray like ``parameters``
        What ``backward`` adds to.
    """

    def __init__(self, layout: Layout, parameters: Floats) -> None:
        self.layout = layout
        self.parameters = parameters
        self.gradient = np.zeros_like(parameters)
        self._matrices = layout.matrices(parameters)
        self._tile_gradient = np.empty_like(parameters)
        self._tile_gradients = layout.matrices(self._tile_gradient)
        self._transposed = [
            np.empty((len(parameters), columns, rows), parameters.dtype) for rows, columns in layout.shapes[1:]
        ]
        self._column = np.empty((len(parameters), layout.layer_sizes[1], 1), parameters.dtype)
        self._tiles: dict[int, _Tile] = {}

    def _tile(self, columns: int) -> _Tile:
        """Return the workspaces for this many columns, made when first asked for.

        A pass over data asks for at most three numbers: a whole tile, the last of a batch, and the last
        of the last batch.
        """
        if columns not in self._tiles:
            replicates, dtype = len(self.parameters), self.parameters.dtype
            self._tiles[columns] = _Tile.of(self.layout.layer_sizes, replicates, columns, dtype)
        return self._tiles[columns]

    def forward(self, x: Floats, signs: Floats) -> LogisticLoss:
        """Compute the logits of a tile, and what the loss needs of them.

        Parameters
        ----------
        x : ndarray of shape (features + 1, columns) or (replicates, features + 1, columns)
            Inputs over a row of ones: the same for all replicates, or each its own.
        signs : ndarray of shape (columns,) or (replicates, columns)
            The labels as 2y - 1.

        Returns
        -------
        LogisticLoss
            Of this tile, until the next call.
        """
        tile = self._tile(x.shape[-1])
        self._logits(tile, x)
        tile.loss.evaluate(tile.scores[-1][:, 0], signs)
        return tile.loss

    def _logits(self, tile: _Tile, x: Floats) -> Floats:
        h = x
        for layer, matrix in enumerate(self._matrices):
            np.matmul(matrix, h, out=tile.scores[layer])  # s^l = W^l h^(l-1) + b^l
            if layer < len(tile.activations):
                h = tile.activations[layer]
                relu(h, tile.zeros[layer])  # h^l = max(s^l, 0)
        return tile.scores[-1][:, 0]

    def backward(self, x: Floats, scale: float) -> None:
        """Add the gradient of the tile last taken forward, times ``scale``, to ``gradient``.

        With ``scale = 1 / n`` over the tiles of a batch of n samples, ``gradient`` becomes that of the mean
        loss.
        """
        tile = self._tile(x.shape[-1])
        top = len(self._matrices) - 1
        tile.loss.top_error(scale, tile.delta[top][:, 0])  # delta^L = (p - y) / n
        for layer in range(top, -1, -1):
            delta = tile.delta[layer]
            if layer:
                self._weight_gradient(delta, tile.activations[layer - 1], layer)
                self._propagate(tile, layer)
            else:
                self._bottom_gradient(delta, x)
        np.add(self.gradient, self._tile_gradient, out=self.gradient)

    def _weight_gradient(self, delta: Floats, below: Floats, layer: int) -> None:
        """dJ/d[W^l | b^l] = delta^l h^(l-1)', computed as (h^(l-1) delta^l')'.

        BLAS takes the matrix with more rows first up to a fifth faster.
        """
        transposed = self._transposed[layer - 1]
        np.matmul(below, np.swapaxes(delta, -1, -2), out=transposed)
        np.copyto(self._tile_gradients[layer], np.swapaxes(transposed, -1, -2))

    def _bottom_gradient(self, delta: Floats, x: Floats) -> None:
        """dJ/d[W^1 | b^1] = delta^1 x', a column at a time.

        The inputs are so few that a matrix-vector product for each is twice as fast as one matrix product.
        """
        for feature in range(x.shape[-2]):
            np.matmul(delta, x[..., feature, :, np.newaxis], out=self._column)
            np.copyto(self._tile_gradients[0][:, :, feature, np.newaxis], self._column)

    def _propagate(self, tile: _Tile, layer: int) -> None:
        """delta^(l-1) = (W^l' delta^l) * 1[s^(l-1) > 0]."""
        weights, delta = self._matrices[layer][:, :, :-1], tile.delta[layer]
        below = layer - 1
        if layer == len(self._matrices) - 1:
            # One top node: an outer product, which einsum forms without the buffers of a broadcast multiply.
            np.einsum("ri,rt->rit", weights[:, 0], delta[:, 0], out=tile.delta[below])
        else:
            np.matmul(np.swapaxes(weights, -1, -2), delta, out=tile.delta[below])
        relu_backward(tile.errors[below], tile.activations[below], tile.slope[below])

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
            tile_of_x = augment(x[start : start + columns], self.parameters.dtype)
            tile = self._tile(tile_of_x.shape[-1])
            logits[:, start : start + columns] = self._logits(tile, tile_of_x)
        return logits
