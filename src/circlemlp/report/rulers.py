"""True errors that answers without a network have: what the errors of networks are measured against."""

import math
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq, minimize

from circlemlp.core import geometry
from circlemlp.core.data import Boundary
from circlemlp.core.geometry import Points

ANGLES, OFFSETS = 24, 25
"""Of the straight lines from which the search for the best one starts."""
SEGMENTS = 4, 16
"""Of the boundaries that are rulers."""


def rulers_by_name(boundary: Boundary) -> dict[str, float]:
    """Return the rulers' true errors by what pictures call them, from the highest to the lowest."""
    named = {"constant answer": constant_error(boundary), "best straight line": best_line_error(boundary)}
    if boundary.inner_radius == boundary.low == 0 and boundary.outer_radius == boundary.high:
        named |= {f"best {n} segments": best_chain_error(n) for n in SEGMENTS}
    return named


def constant_error(boundary: Boundary) -> float:
    """Return the true error of always giving the more frequent answer."""
    square = geometry.square(boundary.low, boundary.high)
    whole, ring = _areas(boundary, square)
    return min(ring, whole - ring) / whole


@lru_cache(maxsize=8)
def best_line_error(boundary: Boundary) -> float:
    """Return the lowest true error of a straight line, to about 1e-9: the best of a grid of lines, made better.

    On the unit quarter circle it is 0.0365.
    """
    square = geometry.square(boundary.low, boundary.high)
    whole, ring = _areas(boundary, square)

    def error(line: Points) -> float:
        """Return the error of the line at an angle and an offset, whichever side answers 1."""
        direction = np.array([math.cos(line[0]), math.sin(line[0])])
        above, _, _ = geometry.cut(square, square @ direction - line[1])
        area, in_ring = _areas(boundary, above) if len(above) > 2 else (0.0, 0.0)
        wrong = (area - in_ring) + (ring - in_ring)
        return min(wrong, whole - wrong) / whole

    size = float(np.abs(square).max()) * math.sqrt(2)
    lines = [
        np.array([angle, offset])
        for angle in np.linspace(0, np.pi, ANGLES, endpoint=False)
        for offset in np.linspace(-size, size, OFFSETS)
    ]
    found = minimize(error, min(lines, key=error), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    return min(float(found.fun), constant_error(boundary))


def best_chain_error(segments: int) -> float:
    """Return the lowest true error on the unit quarter circle of a boundary that consists of so many segments.

    docs/true_error.md derives it. Every segment crosses the arc twice, at the angle ``half`` to either side of its
    middle, and the first and the last end on the sides that touch the arc. With more and more segments it approaches
    (pi / 2)³ / 32 = 0.121 over their number squared.
    """

    def covered(half: float) -> tuple[float, float]:
        """Return half the angle that a segment covers, and the angle between an axis and the end of the boundary."""
        return math.atan(2 * math.tan(half)), math.atan(math.sqrt(3) * math.sin(half))

    half = brentq(lambda half: segments * covered(half)[0] + covered(half)[1] - math.pi / 4, 0, math.pi / 4)
    own, end = covered(half)
    return float(segments * (2 * half - own) + math.tan(end) - end)


def _areas(boundary: Boundary, polygon: Points) -> tuple[float, float]:
    """Return the area of a polygon, and of its part in the ring."""
    starts, ends = geometry.edges([polygon])
    outer, inner = (geometry.area_in_circle(starts, ends, r) for r in (boundary.outer_radius, boundary.inner_radius))
    return geometry.area(starts, ends), outer - inner
