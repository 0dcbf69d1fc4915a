"""Data with a circular decision boundary."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circlemlp.core.streams import stream


@dataclass(frozen=True)
class Boundary:
    """The true classes: class 1 is a ring around the origin, ``inner_radius <= |x| < outer_radius``, inside a square.

    If ``inner_radius`` is 0 the ring is a disk; if the square is the first quadrant, only a quarter of it is seen.

    Attributes
    ----------
    low, high : float
        The square is ``[low, high)`` in both coordinates.
    inner_radius, outer_radius : float
        The radii of the ring, in the units of the coordinates.
    """

    low: float
    high: float
    inner_radius: float
    outer_radius: float

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Boundary":
        """Return the boundary of a described data set, see ``sample_dataset``.

        Raises
        ------
        KeyError
            If there is no such shape.
        TypeError
            If the keys are not those of the shape.
        """
        radii = {key: value for key, value in data.items() if key not in DRAWING}
        return SHAPES[data["shape"]](**radii)

    def classify(self, x: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the true class, 0 or 1, of points ``x`` of shape (n, 2); shape (n,)."""
        squared_distance = x[:, 0] ** 2 + x[:, 1] ** 2
        inner, outer = self.inner_radius * self.inner_radius, self.outer_radius * self.outer_radius
        return ((squared_distance >= inner) & (squared_distance < outer)).astype(np.uint8)


DRAWING = ("shape", "draws", "n_train", "n_validation", "label_noise", "seed")
"""The keys that every described data set has, whatever its shape."""

SHAPES: dict[str, Callable[..., Boundary]] = {
    "quarter_circle": lambda radius: Boundary(0.0, 1.0, 0.0, radius),
    "disk": lambda radius: Boundary(-1.0, 1.0, 0.0, radius),
    "rings": lambda inner_radius, outer_radius: Boundary(-1.0, 1.0, inner_radius, outer_radius),
}
"""The shapes by the names they have in configurations, as functions of the other keys."""


@dataclass(frozen=True)
class Dataset:
    """The points and labels for training and for validation: one draw for each replicate, or one that all share.

    A data set does not say which replicates these are.

    Attributes
    ----------
    x_train, x_validation : ndarray of shape (draws, n, 2), float64
    y_train, y_validation : ndarray of shape (draws, n), uint8
        Labels, 0 or 1.
    """

    x_train: NDArray[np.float64]
    y_train: NDArray[np.uint8]
    x_validation: NDArray[np.float64]
    y_validation: NDArray[np.uint8]

    @property
    def draws(self) -> int:
        """The number of draws."""
        return len(self.x_train)

    def of_replicates(self, replicates: range) -> "Dataset":
        """Return the draws of some replicates, counted from the first one here, as views. All share a single draw.

        Raises
        ------
        ValueError
            If a replicate has no draw.
        """
        if self.draws == 1:
            return self
        if replicates.stop > self.draws:
            raise ValueError(f"there are {self.draws} draws of the data, fewer than {replicates.stop} replicates need")
        return Dataset(**{name: array[replicates.start : replicates.stop] for name, array in vars(self).items()})

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of the arrays: names, types, shapes and contents."""
        sha = hashlib.sha256()
        for name, array in vars(self).items():
            sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


CHUNK = 16_384
"""How many points are drawn at a time. It decides no number, only the memory that drawing takes: about a megabyte."""


Place = tuple[int, slice]
"""A draw, and some points of it."""


def _chunks(
    data: Mapping[str, Any], split: str, draws: int, first: int
) -> Iterator[tuple[Place, NDArray[np.float64], NDArray[np.uint8]]]:
    """Draw one split of a described data set; yield the place of some points in it, the points and their labels."""
    boundary, n = Boundary.of(data), data[f"n_{split}"]
    for draw in range(draws):
        number = (first + draw,) if data["draws"] == "fresh" else ()
        points, flips = (stream(data["seed"], "data", split, name, *number) for name in ("points", "flips"))
        for start in range(0, n, CHUNK):
            place = slice(start, min(start + CHUNK, n))
            size = place.stop - start
            x = points.uniform(boundary.low, boundary.high, size=(size, 2))
            flipped = flips.random(size) < data["label_noise"]
            yield (draw, place), x, boundary.classify(x) ^ flipped


def draws_for(data: Mapping[str, Any], replicates: int) -> int:
    """Return how many draws of a described data set a number of replicates need."""
    return replicates if data["draws"] == "fresh" else 1


def sample_dataset(data: Mapping[str, Any], draws: int = 1, first: int = 0) -> Dataset:
    """Draw points uniformly from a square and label them.

    Parameters
    ----------
    data : mapping
        The description of a data set, the very mapping that is hashed into the identity of a run:

        ``shape``, and ``radius``, or ``inner_radius`` and ``outer_radius``
            What ``Boundary.of`` reads.
        ``draws``
            ``"fresh"``: each replicate has a draw of its own, from streams with its number in their names.
            ``"shared"``: all replicates have the same one.
        ``n_train``, ``n_validation``
            Numbers of points, each at least 1.
        ``label_noise``
            The probability, in [0, 0.5), that a label is flipped, in both splits alike. It is also the lowest error
            rate that any classifier can have.
        ``seed``
            Non-negative. Points and flips come from separate streams, so noise never moves a point.
    draws : int
        The number of draws where they are fresh; none of them depends on it. Where one is shared, it is ignored.
    first : int
        The number of the replicate that has the first of the fresh draws, >= 0; the others follow.

    Returns
    -------
    Dataset

    Raises
    ------
    KeyError, TypeError
        If a key is missing or unknown, as in ``Boundary.of``.
    """
    arrays: list[NDArray[Any]] = []
    draws = draws_for(data, draws)
    for split in ("train", "validation"):
        n = data[f"n_{split}"]
        x, y = np.empty((draws, n, 2)), np.empty((draws, n), np.uint8)
        for place, points, labels in _chunks(data, split, draws, first):
            x[place], y[place] = points, labels
        arrays += [x, y]
    return Dataset(*arrays)


def is_drawn_from(dataset: Dataset, data: Mapping[str, Any], first: int = 0) -> bool:
    """Say whether a data set is what ``sample_dataset`` draws from a description: every type, shape and bit.

    Its first draw is to be that of the replicate ``first``, where draws are fresh, and it may have any number of them.
    The arrays may be larger than memory: they are read, and drawn again, a chunk at a time.
    """
    draws = draws_for(data, dataset.draws)
    for split, x, y in (
        ("train", dataset.x_train, dataset.y_train),
        ("validation", dataset.x_validation, dataset.y_validation),
    ):
        n = data[f"n_{split}"]
        types = x.dtype == np.float64 and y.dtype == np.uint8
        if not (types and x.shape == (draws, n, 2) and y.shape == (draws, n) and x.flags.c_contiguous):
            return False
        for place, points, labels in _chunks(data, split, draws, first):
            if x[place].tobytes() != points.tobytes() or y[place].tobytes() != labels.tobytes():
                return False
    return True
