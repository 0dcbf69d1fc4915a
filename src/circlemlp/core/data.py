"""Data with a circular decision boundary."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circlemlp.core.streams import stream


@dataclass(frozen=True)
class Boundary:
    """A ring around the origin in a square: class 1 is where ``inner <= |x| < outer``.

    With ``inner_radius = 0`` it is a disk; seen from the first quadrant alone, a quarter circle.

    Attributes
    ----------
    low, high : float
        The square is ``[low, high)`` in both coordinates.
    inner_radius, outer_radius : float
        Radii of the ring, in the units of the coordinates.
    """

    low: float
    high: float
    inner_radius: float
    outer_radius: float

    def classify(self, x: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the true class, 0 or 1, of points ``x`` of shape (n, 2); shape (n,)."""
        squared_distance = x[:, 0] ** 2 + x[:, 1] ** 2
        inside = (squared_distance >= self.inner_radius**2) & (squared_distance < self.outer_radius**2)
        return inside.astype(np.uint8)


@dataclass(frozen=True)
class Dataset:
    """Points and labels, split for training and validation.

    Attributes
    ----------
    x_train, x_validation : ndarray of shape (n, 2), float64
    y_train, y_validation : ndarray of shape (n,), uint8
        Labels, 0 or 1.
    """

    x_train: NDArray[np.float64]
    y_train: NDArray[np.uint8]
    x_validation: NDArray[np.float64]
    y_validation: NDArray[np.uint8]

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of the arrays: names, types, shapes and contents."""
        sha = hashlib.sha256()
        for name, array in vars(self).items():
            sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


def sample_dataset(boundary: Boundary, *, n_train: int, n_validation: int, label_noise: float, seed: int) -> Dataset:
    """Draw points uniformly from the square and label them.

    Parameters
    ----------
    boundary : Boundary
        Where the points lie and which of them are of class 1.
    n_train, n_validation : int
        Numbers of points, each at least 1.
    label_noise : float
        The probability, in [0, 0.5), that a label is flipped, in both splits alike. It is also the
        lowest error rate any classifier can have.
    seed : int
        Non-negative. Points and flips come from separate streams, so noise never moves a point.

    Returns
    -------
    Dataset
    """

    def split(name: str, n: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        x = stream(seed, "data", name, "points").uniform(boundary.low, boundary.high, size=(n, 2))
        flipped = stream(seed, "data", name, "flips").random(n) < label_noise
        return x, boundary.classify(x) ^ flipped

    return Dataset(*split("train", n_train), *split("validation", n_validation))
