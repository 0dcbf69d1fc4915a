"""Which elementary functions this process computes with.

Beside matrix products, exponentials, logarithms and hyperbolic tangents are the only operations of a training whose
last bits IEEE 754 does not fix. NumPy computes some of them itself, with the instructions it was told to use. The
others come from the C library, which chooses by the processor and by ``GLIBC_TUNABLES``, and changes from version to
version. Unless NumPy uses AVX-512, these are the exponentials and logarithms in float64. Everywhere, one of them is
the logarithm from which the largest initial weights are drawn, before they are rounded to the type of the network. So
what the functions return is part of the numeric environment of a run.
"""

import hashlib
import math

import numpy as np
from numpy.typing import DTypeLike

from circlemlp.core.parameters import Floats
from circlemlp.core.streams import stream

ARGUMENTS = 32_768
"""With and without fused multiply-add, the functions of glibc 2.36 differ in one of 1500 to 6000 arguments."""


def elementary_digest(dtype: DTypeLike) -> str:
    """Return the SHA-256, in hexadecimal, of what the elementary functions return for a sample of arguments.

    It takes some milliseconds.

    Parameters
    ----------
    dtype : dtype
        float32 or float64, the type of the arithmetic.
    """
    fractions = stream(0, "elementary").random(ARGUMENTS)
    scores = (40 * fractions - 20).astype(dtype)
    values: list[Floats] = [np.exp(scores), np.tanh(scores / 8), np.log((1 + fractions).astype(dtype))]
    values.append(np.array([math.log1p(-fraction) for fraction in fractions.tolist()]).astype(dtype))
    return hashlib.sha256(b"".join(array.tobytes() for array in values)).hexdigest()
