"""Where each weight is stored: one flat buffer for each network, and views of it as one matrix for each layer.

Parameters, gradients and an optimizer's moments are each one array of shape (replicates, n_parameters), so that an
update takes a dozen vector operations, however many layers there are. The view of layer l is the augmented matrix
[W | b]', of shape (fan_in + 1, fan_out). With a column of ones beside the inputs h, one product gives W h + b, and the
product of those inputs with the errors gives the gradients of W and b in the same layout.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Floats = NDArray[Any]


CACHE_LINE = 64
"""The size of a line of the processor's cache, in bytes."""


def aligned_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Floats:
    """Return zeros that begin at the start of a cache line, where vector instructions are faster."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size].view(dtype).reshape(shape)


@dataclass(frozen=True)
class Layout:
    """The layers of a network and their places in a flat buffer.

    Attributes
    ----------
    layer_sizes : tuple of int
        The numbers of nodes from the inputs to the top: ``(2, 64, 1)``.
    """

    layer_sizes: tuple[int, ...]

    @classmethod
    def of(cls, hidden_layer_sizes: Sequence[int], n_features: int = 2) -> "Layout":
        """Return the layout of a binary classifier with these hidden layers."""
        return cls((n_features, *hidden_layer_sizes, 1))

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Return the shapes (fan_in + 1, fan_out) of the matrices [W | b]', bottom layer first."""
        sizes = self.layer_sizes
        return [(fan_in + 1, fan_out) for fan_in, fan_out in pairwise(sizes)]

    @property
    def n_parameters(self) -> int:
        """Return the number of weights and biases of one network."""
        return sum(rows * columns for rows, columns in self.shapes)

    def matrices(self, flat: Floats) -> list[Floats]:
        """View a buffer of shape (..., n_parameters) as its layers' matrices.

        Returns
        -------
        list of ndarray of shape (..., fan_in + 1, fan_out)
            Writing to these views writes to ``flat``. The last row is the bias.
        """
        views = []
        start = 0
        for rows, columns in self.shapes:
            stop = start + rows * columns
            views.append(flat[..., start:stop].reshape(*flat.shape[:-1], rows, columns))
            start = stop
        return views
