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


def relu_backward(delta: Floats, activations: Floats, active: NDArray[np.bool_]) -> None:
    """Multiply the error by the slope 1[s > 0], in place.

    ``activations`` are h = max(s, 0), and h > 0 exactly where s > 0. At s = 0 the slope is taken as 0.
    ``active`` is a workspace of the same shape.
    """
    np.greater(activations, 0, out=active)
    np.multiply(delta, active, out=delta)
