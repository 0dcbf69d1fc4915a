"""Activations of the hidden layers: the value h = f(s) and the derivative f'(s), in place.

An activation belongs to one block of scores of shape (nodes, replicates, columns) and owns the workspaces it
needs. ``forward`` turns the scores into activations where they stand. ``backward`` is called at most once
after it, and uses up the activations: when an error reaches a layer, nothing else needs them any more. That
keeps what one tile of samples occupies small, and so in the processor's cache.
"""

import math
from typing import Protocol

import numpy as np

from circlemlp.core.parameters import Floats

LONG_ROW = 512
"""From so many samples of all replicates on, constants of one row are faster than those of a whole block."""


class Activation(Protocol):
    """What a row of ``ACTIVATIONS`` does."""

    def __init__(self, block: Floats) -> None: ...

    def forward(self) -> None:
        """Replace the block's scores s by f(s)."""

    def backward(self, error: Floats, out: Floats) -> None:
        """Write error * f'(s) to ``out``, which may be ``error`` or the block; the block's contents are lost.

        ``error`` is of the block's shape, or of one row that stands for all.
        """


class Relu:
    """f(s) = max(s, 0), f'(s) = 1 for s > 0, else 0.

    f(s) > 0 exactly where s > 0, so the derivative is read off the activations, and in integers: the bits of
    a positive float are a positive integer, those of 0 are 0. The smaller of them and 1 is the derivative,
    and its product with the bits of the error keeps those (times 1) or makes them 0 (times 0; -0, whose bits
    are the lowest integer, gives 0 or -0). That is two passes over memory; a comparison, its conversion to
    floats and a product are three.
    """

    def __init__(self, block: Floats) -> None:
        self._block, self._bits = block, block.view(f"i{block.itemsize}")
        # NumPy's maximum and minimum are vectorised over two arrays, not over an array and a scalar. One row
        # for all takes less of the cache, but needs a loop of NumPy's for each row, and so not too short ones.
        rows = slice(0, 1) if block[0].size >= LONG_ROW else slice(None)
        self._zeros, self._ones = np.zeros_like(block[rows]), np.ones_like(self._bits[rows])

    def forward(self) -> None:
        """Apply f."""
        np.maximum(self._block, self._zeros, out=self._block)

    def backward(self, error: Floats, out: Floats) -> None:
        """Apply f' to an error."""
        integer = self._bits.dtype
        np.minimum(self._bits, self._ones, out=self._bits)
        np.multiply(self._bits, error.view(integer), out=out.view(integer))


class LeakyRelu:
    """f(s) = s for s > 0, else SLOPE s; f'(s) = 1 for s > 0, else SLOPE."""

    SLOPE = 0.01

    def __init__(self, block: Floats) -> None:
        self._block, self._scaled = block, np.empty_like(block)
        self._positive = np.empty(block.shape, bool)

    def forward(self) -> None:
        """Apply f."""
        np.multiply(self._block, self.SLOPE, out=self._scaled)
        np.maximum(self._block, self._scaled, out=self._block)

    def backward(self, error: Floats, out: Floats) -> None:
        """Apply f' to an error."""
        slope = self._scaled
        np.greater(self._block, 0, out=self._positive)
        np.copyto(slope, self._positive)
        np.maximum(slope, self.SLOPE, out=slope)
        np.multiply(slope, error, out=out)


class Tanh:
    """f(s) = tanh(s), f'(s) = 1 - f(s)^2."""

    def __init__(self, block: Floats) -> None:
        self._block = block

    def forward(self) -> None:
        """Apply f."""
        np.tanh(self._block, out=self._block)

    def backward(self, error: Floats, out: Floats) -> None:
        """Apply f' to an error."""
        h = self._block
        np.multiply(h, h, out=h)
        np.subtract(1, h, out=h)
        np.multiply(h, error, out=out)


class Gelu:
    """f(s) = s (1 + t) / 2 with t = tanh(c (s + a s^3)), c = sqrt(2 / pi), a = 0.044715 [1]_.

    f'(s) = (1 + t + s (1 - t^2) c (1 + 3 a s^2)) / 2. This is the form with tanh, as in GPT-2; NumPy has no
    error function for the other.

    References
    ----------
    .. [1] Hendrycks and Gimpel (2016), "Gaussian error linear units (GELUs)", section 2.
    """

    C, A = math.sqrt(2 / math.pi), 0.044715

    def __init__(self, block: Floats) -> None:
        self._block = block
        self._scores, self._t = np.empty_like(block), np.empty_like(block)

    def forward(self) -> None:
        """Apply f."""
        h, s, t = self._block, self._scores, self._t
        np.copyto(s, h)
        np.multiply(s, s, out=t)
        np.multiply(t, self.C * self.A, out=t)
        np.add(t, self.C, out=t)
        np.multiply(t, s, out=t)
        np.tanh(t, out=t)
        np.add(t, 1, out=h)
        np.multiply(h, 0.5, out=h)
        np.multiply(h, s, out=h)

    def backward(self, error: Floats, out: Floats) -> None:
        """Apply f' to an error."""
        slope, s, t = self._block, self._scores, self._t
        np.multiply(s, s, out=slope)
        np.multiply(slope, 3 * self.C * self.A, out=slope)
        np.add(slope, self.C, out=slope)
        np.multiply(slope, s, out=slope)  # s times the derivative of tanh's argument
        np.multiply(t, t, out=s)
        np.subtract(1, s, out=s)
        np.multiply(slope, s, out=slope)
        np.add(slope, t, out=slope)
        np.add(slope, 1, out=slope)
        np.multiply(slope, 0.5, out=slope)
        np.multiply(slope, error, out=out)


ACTIVATIONS: dict[str, type[Activation]] = {"relu": Relu, "leaky_relu": LeakyRelu, "tanh": Tanh, "gelu": Gelu}
"""The activations by the names they have in configurations."""
