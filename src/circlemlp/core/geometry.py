"""Convex polygons: cutting them along a line, their areas, and their areas inside a circle.

The area inside a circle around the origin is a sum over the edges, by Green's theorem: of the triangle between the
origin and the part of the edge that is inside, and of the sectors that the parts outside span.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

HALVINGS, TERMS = 3, 14
"""The angle of a tangent is halved three times, which makes it at most pi / 16. There, the error of 14 terms of the
arctangent's series is below one of rounding."""


def square(low: float, high: float) -> Points:
    """Return the corners of the square [low, high]², counter-clockwise, shape (4, 2)."""
    return np.array([[low, low], [high, low], [high, high], [low, high]])


def cut(corners: Points, values: Points) -> tuple[Points, Points, Points]:
    """Cut a convex polygon where an affine function is zero.

    Parameters
    ----------
    corners : ndarray of shape (corners, 2)
    values : ndarray of shape (corners,)
        The function at the corners.

    Returns
    -------
    above, below : ndarray of shape (corners, 2)
        The parts where it is at least, at most zero, in the given order; fewer than three corners enclose nothing.
    between : ndarray of shape (corners, 2)
        The corners that both parts have: two where the line crosses the polygon.
    """
    points, heights = corners.tolist(), values.tolist()
    above: list[tuple[float, float]] = []
    below: list[tuple[float, float]] = []
    between: list[tuple[float, float]] = []
    for (x, y), height, (next_x, next_y), next_height in zip(
        points, heights, points[1:] + points[:1], heights[1:] + heights[:1], strict=True
    ):
        if height >= 0:
            above.append((x, y))
        if height <= 0:
            below.append((x, y))
        if height == 0:
            between.append((x, y))
        if height < 0 < next_height or next_height < 0 < height:
            way = height / (height - next_height)
            crossing = (x + way * (next_x - x), y + way * (next_y - y))
            for part in (above, below, between):
                part.append(crossing)
    first, second, shared = (np.array(part).reshape(-1, 2) for part in (above, below, between))
    return first, second, shared


def edges(polygons: Sequence[Points]) -> tuple[Points, Points]:
    """Return where the edges of all polygons start and where they end, each of shape (edges, 2)."""
    if not polygons:
        return np.zeros((0, 2)), np.zeros((0, 2))
    return np.concatenate(polygons), np.concatenate([np.roll(corners, -1, axis=0) for corners in polygons])


def area(starts: Points, ends: Points) -> float:
    """Return the area that edges enclose, counter-clockwise."""
    return float(_cross(starts, ends).sum() / 2)


def area_in_circle(starts: Points, ends: Points, radius: float) -> float:
    """Return the part of the area that edges enclose which is inside a circle around the origin."""
    along = ends - starts
    a, b, c = _dot(along, along), _dot(starts, along), _dot(starts, starts) - radius * radius
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    a = np.where(a > 0, a, 1)  # an edge of no length
    # Fractions of the way at which the edge enters and leaves the circle; equal where it stays outside.
    enters, leaves = (np.clip((sign * root - b) / a, 0, 1)[:, np.newaxis] for sign in (-1, 1))
    first = np.where(enters == 1, ends, starts + enters * along)
    last = np.where(leaves == 1, ends, starts + leaves * along)
    sectors = radius * radius * (_angle(starts, first) + _angle(last, ends))
    return float((_cross(first, last) + sectors).sum() / 2)


def _dot(a: Points, b: Points) -> Points:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1]


def _cross(a: Points, b: Points) -> Points:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _angle(a: Points, b: Points) -> Points:
    """Return the angle from a to b as seen from the origin, in (-pi, pi).

    The tangent of its half is cross / (|a||b| + dot). Sums, products, quotients and roots are rounded alike
    everywhere; the C library's atan2 is not.
    """
    cross, dot = _cross(a, b), _dot(a, b)
    denominator = np.sqrt(cross * cross + dot * dot) + dot
    tangent = cross / np.where(denominator > 0, denominator, 1)
    for _ in range(HALVINGS):
        tangent = tangent / (1 + np.sqrt(1 + tangent * tangent))
    series = np.zeros_like(tangent)
    for n in range(2 * TERMS - 1, 0, -2):
        series = 1 / n - tangent * tangent * series
    angle: Points = 2 ** (HALVINGS + 1) * tangent * series
    return angle
