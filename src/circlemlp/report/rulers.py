"""True errors that answers without a network have: what the errors of networks are measured against."""

import math
from functools import lru_cache

import numpy as np
from scipy.optimize import minimize

from circlemlp.core import geometry
from circlemlp.core.data import Boundary
from circlemlp.core.geometry import Points

ANGLES, OFFSETS = 24, 25
"""Of the straight lines from which the search for the best one starts."""


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


def _areas(boundary: Boundary, polygon: Points) -> tuple[float, float]:
    """Return the area of a polygon, and of its part in the ring."""
    starts, ends = geometry.edges([polygon])
    outer, inner = (geometry.area_in_circle(starts, ends, r) for r in (boundary.outer_radius, boundary.inner_radius))
    return geometry.area(starts, ends), outer - inner
