"""Activations of the hidden layers: the value h = f(s) and the derivative f'(s), in place.

An activation object works on one array of scores, contiguous and of any shape, and has the workspaces it needs.
``forward`` replaces the scores by the activations. Afterwards, ``slope`` or ``error_below`` may be called once; either
overwrites the activations, because nothing else needs them when an error reaches the layer. So a tile of samples takes
little memory and stays in the processor's cache.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from circlemlp.core.parameters import Floats

LEAST_ROW, LONGEST_ROW = 4096, 16_384
"""The bounds on the length of a row. NumPy combines every row of the scores with one row of constants. Rows have to be
long, because each costs NumPy some time, but short enough for the constants to stay in the first-level cache."""


def in_rows(block: Floats) -> Floats:
    """View contiguous memory as rows whose length is between the bounds, or as one row if no such length divides it."""
    lengths = range(min(LONGEST_ROW, block.size), LEAST_ROW - 1, -1)
    return block.reshape(-1, next((length for length in lengths if block.size % length == 0), block.size))


class Activation(ABC):
    """The interface of the classes in ``ACTIVATIONS``.

    Parameters
    ----------
    scores : ndarray of any shape
        It has to be contiguous. It is kept, not copied, and every method works on it.

    Attributes
    ----------
    homogeneous : bool
        Whether f(c s) = c f(s) for every c > 0, from which s f'(s) = f(s) follows.
    unit : float
        The number that ``slope`` writes where the slope is 1. It is a power of two.
    """

    homogeneous: ClassVar[bool]
    unit: float = 1.0

    def __init__(self, scores: Floats) -> None:
        self._block = scores

    @abstractmethod
    def forward(self) -> None:
        """Replace the scores s by f(s)."""

    @abstractmethod
    def slope(self) -> None:
        """Replace the activations by ``unit`` f'(s)."""

    def error_below(self, error: Floats) -> None:
        """Multiply ``error`` by f'(s). It has to be contiguous and of the scores' shape.

        This method is for activations whose ``unit`` is 1; others override it.
        """
        self.slope()
        np.multiply(error, self._block, out=error)


class Relu(Activation):
    """f(s) = max(s, 0), f'(s) = 1 for s > 0, else 0.

    f(s) > 0 exactly where s > 0, so the derivative can be computed from the activations h = f(s).

    ``slope`` computes it as min(h, unit) / unit, in one pass over memory. ``unit`` is about the root of the smallest
    normal number, 1e-19 in float32 and 1e-154 in float64. For scores between 0 and ``unit`` the result is too small: it
    is s / unit in place of 1.

    ``error_below`` computes it in integers. Read as an integer, the bits of a positive float are a positive number, and
    those of 0 are 0; so the minimum of that integer and 1 is the derivative. Its product with the bits of the error
    leaves them as they are (times 1) or makes them 0 (times 0; the bits of -0 are the lowest integer, and give 0 or
    -0). This takes two passes over memory in place of three. Where h is NaN the product is meaningless, but the logits
    are NaN there as well, and the loss shows it.
    """

    homogeneous = True

    def __init__(self, scores: Floats) -> None:
        super().__init__(in_rows(scores))
        self._bits = self._block.view(f"i{scores.itemsize}")
        # NumPy's maximum and minimum are vectorised over two arrays, not over an array and a scalar.
        self._zeros, self._ones = np.zeros_like(self._block[0]), np.ones_like(self._bits[0])
        self.unit = 2.0 ** (np.finfo(scores.dtype).minexp // 2)
        self._units = np.full_like(self._zeros, self.unit)

    def forward(self) -> None:
        """Apply f."""
        np.maximum(self._block, self._zeros, out=self._block)

    def slope(self) -> None:
        """Write ``unit`` f'."""
        np.minimum(self._block, self._units, out=self._block)

    def error_below(self, error: Floats) -> None:
        """Apply f' to an error."""
        bits = error.reshape(self._bits.shape, copy=False).view(self._bits.dtype)
        np.minimum(self._bits, self._ones, out=self._bits)
        np.multiply(bits, self._bits, out=bits)


class LeakyRelu(Activation):
    """f(s) = s for s > 0, else SLOPE s; f'(s) = 1 for s > 0, else SLOPE."""

    SLOPE = 0.01
    homogeneous = True

    def __init__(self, scores: Floats) -> None:
        super().__init__(scores)
        self._scaled = np.empty_like(scores)
        self._positive = np.empty(scores.shape, bool)

    def forward(self) -> None:
        """Apply f."""
        np.multiply(self._block, self.SLOPE, out=self._scaled)
        np.maximum(self._block, self._scaled, out=self._block)

    def slope(self) -> None:
        """Write f'."""
        np.greater(self._block, 0, out=self._positive)
        np.copyto(self._block, self._positive)
        np.maximum(self._block, self.SLOPE, out=self._block)


class Tanh(Activation):
    """f(s) = tanh(s), f'(s) = 1 - f(s)^2."""

    homogeneous = False

    def forward(self) -> None:
        """Apply f."""
        np.tanh(self._block, out=self._block)

    def slope(self) -> None:
        """Write f'."""
        np.multiply(self._block, self._block, out=self._block)
        np.subtract(1, self._block, out=self._block)


class Gelu(Activation):
    """f(s) = s (1 + t) / 2 with t = tanh(c (s + a s^3)), c = sqrt(2 / pi), a = 0.044715 [1]_.

    f'(s) = (1 + t + s (1 - t^2) c (1 + 3 a s^2)) / 2. This is the form with tanh, as in GPT-2. The other form needs the
    error function, which NumPy does not have.

    References
    ----------
    .. [1] Hendrycks and Gimpel (2016), "Gaussian error linear units (GELUs)", section 2.
    """

    C, A = math.sqrt(2 / math.pi), 0.044715
    SATURATED = 100.0
    """A score far beyond those at which t becomes 1 or -1 in floating point, but whose powers do not overflow."""
    homogeneous = False

    def __init__(self, scores: Floats) -> None:
        super().__init__(scores)
        self._scores, self._t = np.empty_like(scores), np.empty_like(scores)

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

    def slope(self) -> None:
        """Write f'."""
        slope, s, t = self._block, self._scores, self._t
        np.multiply(t, t, out=slope)
        np.subtract(1, slope, out=slope)
        np.clip(s, -self.SATURATED, self.SATURATED, out=s)  # 1 - t^2 is 0 beyond, and 0 times infinity would be NaN
        np.multiply(slope, s, out=slope)
        np.multiply(s, s, out=s)
        np.multiply(s, 3 * self.C * self.A, out=s)
        np.add(s, self.C, out=s)  # the derivative of tanh's argument
        np.multiply(slope, s, out=slope)
        np.add(slope, t, out=slope)
        np.add(slope, 1, out=slope)
        np.multiply(slope, 0.5, out=slope)


ACTIVATIONS: dict[str, type[Activation]] = {"relu": Relu, "leaky_relu": LeakyRelu, "tanh": Tanh, "gelu": Gelu}
"""The activations by the names they have in configurations."""
