"""Initial parameters."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import DTypeLike

from circlemlp.core.parameters import Floats, Layout
from circlemlp.core.streams import stream


def initialise(layout: Layout, *, seed: int, replicates: Iterable[int], dtype: DTypeLike) -> Floats:
    """Draw the parameters of independent replicates.

    The weights of hidden layers are drawn from He's N(0, 2 / fan_in), which keeps the second moment of a ReLU layer's
    outputs equal to that of its inputs [1]_. Those of the top layer, whose output is not rectified, are drawn from
    N(0, 1 / fan_in). Biases are zero.

    Parameters
    ----------
    layout : Layout
    seed : int
        The weights of replicate r are drawn from the stream ``seed, "initialisation", r``.
    replicates : iterable of int
        The replicate numbers.
    dtype : dtype
        float32 or float64. The weights are drawn in float64 and rounded once.

    Returns
    -------
    ndarray of shape (len(replicates), layout.n_parameters)

    References
    ----------
    .. [1] He, Zhang, Ren, Sun (2015), "Delving deep into rectifiers", equation 10.
    """
    numbers = list(replicates)
    parameters = np.zeros((len(numbers), layout.n_parameters), dtype=dtype)
    top = len(layout.shapes) - 1
    for row, replicate in enumerate(numbers):
        rng = stream(seed, "initialisation", replicate)
        for layer, matrix in enumerate(layout.matrices(parameters[row : row + 1])):
            _, fan_in, fan_out = matrix[:, :-1].shape
            variance = (1 if layer == top else 2) / fan_in
            matrix[0, :-1] = rng.standard_normal((fan_out, fan_in)).T * math.sqrt(variance)
    return parameters
