"""Activations of the hidden layers, computed in place."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circlemlp.core.parameters import Floats


def relu(scores: Floats, zeros: Floats) -> None:
    """Replace scores s by h = max(s, 0), in place.

    ``zeros`` is an array of zeros of the same shape: NumPy's maximum of two arrays takes a vectorised path
    that its maximum of an array and a scalar does not.
    """
    np.maximum(scores, zeros, out=scores)


def relu_backward(delta: Floats, activations: Floats, slope: NDArray[np.signedinteger[Any]]) -> None:
    """Multiply the error by the slope 1[s > 0], in place.

    ``activations`` are h = max(s, 0), and h > 0 exactly where s > 0; at s = 0 the slope is taken as 0. A float
    is above zero exactly if its bits are, read as a signed integer of its width. So the slope is found, and
    applied, in integers: x * 1 keeps the bits of x and x * 0 makes them those of +0. That takes two passes
    over memory, where a comparison to booleans, their conversion and a product take four.

    ``slope`` is a workspace of the same shape, of the integer type that is as wide as the floats.
    """
    bits = delta.view(slope.dtype)
    np.clip(activations.view(slope.dtype), 0, 1, out=slope)
    np.multiply(bits, slope, out=bits)
