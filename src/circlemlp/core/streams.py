"""Independent random streams, found by name.

A stream is a function of a seed and a name, never of how many numbers were drawn before it. So the initialisation of
replicate 3 is the same whether replicate 2 was trained or not, and two trainings with the same seed shuffle the samples
of a replicate alike, whatever the architecture and the learning rate.
"""

import hashlib

import numpy as np


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """Return the random generator of a seed and a name.

    Parameters
    ----------
    seed : int
        Any non-negative integer; 0 is a seed like any other.
    *name : str or int
        The purpose of the stream, from the general to the particular: ``"initialisation", 3``.

    Returns
    -------
    numpy.random.Generator
        A PCG64 generator, independent of every stream of another seed or name
        (``numpy.random.SeedSequence`` with the hashed name as its spawn key).
    """
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    spawn_key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn_key))
