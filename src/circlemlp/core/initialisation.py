"""Initial parameters."""

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.parameters import Floats, Layout
from circlemlp.core.streams import stream


def _he(rng: np.random.Generator, fan_in: int, fan_out: int, *, is_top: bool) -> NDArray[np.float64]:
    return rng.standard_normal((fan_out, fan_in)) * math.sqrt((1 if is_top else 2) / fan_in)


def _glorot(rng: np.random.Generator, fan_in: int, fan_out: int, *, is_top: bool) -> NDArray[np.float64]:
    del is_top  # all layers alike
    bound = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, (fan_out, fan_in))


INITIALISATIONS: dict[str, Callable[..., NDArray[np.float64]]] = {"he": _he, "glorot": _glorot}
"""The initialisations by the names they have in configurations: weights of shape (fan_out, fan_in) of one layer."""


def initialise(
    layout: Layout, *, seed: int, replicates: Iterable[int], dtype: DTypeLike, initialisation: str = "he"
) -> Floats:
    """Draw the parameters of independent replicates.

    ``he``: the weights of hidden layers are drawn from N(0, 2 / fan_in), which keeps the second moment of a ReLU
    layer's outputs equal to that of its inputs [1]_. Those of the top layer, whose output is not rectified, are drawn
    from N(0, 1 / fan_in).

    ``glorot``: all weights are drawn uniformly between -b and b with b^2 = 6 / (fan_in + fan_out), so their variance is
    2 / (fan_in + fan_out), a compromise between keeping the variance of outputs and that of errors [2]_. It is also
    scikit-learn's, whose biases are drawn likewise.

    Biases are zero.

    Parameters
    ----------
    layout : Layout
    seed : int
        The weights of replicate r are drawn from the stream ``seed, "initialisation", r``.
    replicates : iterable of int
        The replicate numbers.
    dtype : dtype
        float32 or float64. The weights are drawn in float64 and rounded once.
    initialisation : str
        A key of ``INITIALISATIONS``.

    Returns
    -------
    ndarray of shape (len(replicates), layout.n_parameters)

    References
    ----------
    .. [1] He, Zhang, Ren, Sun (2015), "Delving deep into rectifiers", equation 10.
    .. [2] Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks",
       equation 16.
    """
    numbers = list(replicates)
    draw = INITIALISATIONS[initialisation]
    parameters = np.zeros((len(numbers), layout.n_parameters), dtype=dtype)
    top = len(layout.shapes) - 1
    for row, replicate in enumerate(numbers):
        rng = stream(seed, "initialisation", replicate)
        for layer, matrix in enumerate(layout.matrices(parameters[row : row + 1])):
            _, fan_in, fan_out = matrix[:, :-1].shape
            matrix[0, :-1] = draw(rng, fan_in, fan_out, is_top=layer == top).T
    return parameters
