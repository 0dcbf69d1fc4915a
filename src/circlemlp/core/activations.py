"""Activations of the hidden layers, computed in place."""

import numpy as np
from numpy.typing import NDArray

from circlemlp.core.parameters import Floats


def relu(scores: Floats, zeros: Floats) -> None:
    """Replace scores s by h = max(s, 0), in place.

    ``zeros`` is an array of zeros of the same shape: NumPy's maximum of two arrays takes a vectorised path
    that its maximum of an array and a scalar does not.
    """
    np.maximum(scores, zeros, out=scores)


def relu_backward(delta: Floats, activations: Floats, zeros: Floats, active: NDArray[np.bool_], slope: Floats) -> None:
    """Multiply the error by the slope 1[s > 0], in place.

    ``activations`` are h = max(s, 0), and h > 0 exactly where s > 0. At s = 0 the slope is taken as 0.
    ``zeros``, ``active`` and ``slope`` are of the same shape, the last two as workspaces: plain copies
    between them, because NumPy allocates a buffer to compare or multiply operands of unlike types or strides.
    """
    np.copyto(slope, activations)
    np.greater(slope, zeros, out=active)
    np.copyto(slope, active)
    np.multiply(delta, slope, out=delta)
