"""The exact true error of a network: the area where its answer is wrong, over the area of the square.

The answer is 1 where the logit is above 0. With ReLU or leaky ReLU the logit is affine on convex polygons, inside
which no node's score changes its sign. The square is cut along lines on which one node's score is zero, until the
answer on each part is known: either because bounds on the logit have one sign there, or because the logit is affine
there, and a last cut along logit = 0 settles it. Far from the decision boundary the answer is known while most nodes
are still open, so a few hundred cuts are enough where the network has thousands of polygons.

With another activation the logit is bounded by an affine function and a distance from it, on boxes. A box that the
decision boundary may cross is cut in four, until the points within that distance of it cover at most ``TOLERANCE`` of
the square. The answer of the affine function is taken there.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from circlemlp.core import geometry
from circlemlp.core.activations import Gelu, LeakyRelu
from circlemlp.core.data import Boundary
from circlemlp.core.geometry import Points
from circlemlp.core.network import arithmetic
from circlemlp.core.parameters import Floats, Layout

TOLERANCE = 1e-6
"""The share of the square in which the answer of a network that is not piecewise linear may stay uncertain."""
DIVISIONS, MOST_BOXES, BOXES_AT_ONCE = 64, 400_000, 2048
"""The number of boxes along a side of the square at the start, the most boxes at any time, and the most in one matrix
product, which bounds the memory that it takes."""
CONSERVED = 1e-12
"""The largest error of the sum of the parts' areas, relative to the square."""


class Layer(NamedTuple):
    """Weights of shape (fan_out, fan_in) and biases of shape (fan_out,), float64."""

    weights: Points
    biases: Points


@dataclass
class Decision:
    """How a network divides the square into convex polygons, each of shape (corners, 2), counter-clockwise.

    Attributes
    ----------
    zeros, ones : list of ndarray
        Where it answers 0, and where it answers 1. Together they cover the square once.
    segments : list of ndarray of shape (2, 2)
        The decision boundary: where the logit, or the affine function that is taken for it, is 0.
    """

    zeros: list[Points]
    ones: list[Points]
    segments: list[Points]

    def settle(self, corners: Points, logits: Points) -> None:
        """Add a polygon in which the logit is affine, given by its values at the corners."""
        above, below, segment = geometry.cut(corners, logits)
        for parts, part in ((self.ones, above), (self.zeros, below)):
            if len(part) > 2:
                parts.append(part)
        if len(segment) == 2:
            self.segments.append(segment)


def true_errors(config: Mapping[str, Any], parameters: Floats, diverged_at: NDArray[np.int64]) -> Points:
    """Return the true error of each replicate of a cell.

    Parameters
    ----------
    config : mapping
        The configuration that is hashed into the identity of a run.
    parameters : ndarray of shape (replicates, n_parameters)
    diverged_at : ndarray of shape (replicates,)
        As in ``training.History``. A replicate that diverged has no true error.

    Returns
    -------
    ndarray of shape (replicates,), float64
        NaN where there is none, as ``true_error`` says.
    """
    boundary, model = Boundary.of(config["data"]), config["model"]
    layout = Layout.of(model["hidden_layer_sizes"])
    return np.array(
        [
            true_error(boundary, layout, network, model["activation"]) if epoch < 0 else math.nan
            for network, epoch in zip(parameters, diverged_at, strict=True)
        ]
    )


def true_error(boundary: Boundary, layout: Layout, parameters: Floats, activation: str) -> float:
    """Return the true error of one network, in real arithmetic.

    Parameters
    ----------
    boundary : Boundary
        The square, and the ring in which the true class is 1. Flipped labels do not count.
    layout : Layout
        With two features.
    parameters : ndarray of shape (n_parameters,)
    activation : str
        A key of ``activations.ACTIVATIONS``.

    Returns
    -------
    float
        In [0, 1]. It is exact to rounding if the network is piecewise linear, else to ``TOLERANCE``. NaN if a
        parameter is not finite, or so large that a score is not, or if too many boxes would be needed.

    Raises
    ------
    ArithmeticError
        If the areas of the parts do not add up to those of the square and the ring.
    """
    with arithmetic():
        decision = decide(boundary, layout, parameters, activation)
    if decision is None:
        return math.nan

    def areas(polygons: list[Points]) -> tuple[float, float]:
        starts, ends = geometry.edges(polygons)
        outer, inner = (
            geometry.area_in_circle(starts, ends, radius) for radius in (boundary.outer_radius, boundary.inner_radius)
        )
        return geometry.area(starts, ends), outer - inner

    whole, ring = areas([geometry.square(boundary.low, boundary.high)])
    (zeros, zeros_in_ring), (ones, ones_in_ring) = areas(decision.zeros), areas(decision.ones)
    lost = max(abs(zeros + ones - whole), abs(zeros_in_ring + ones_in_ring - ring))
    if lost > CONSERVED * whole:
        raise ArithmeticError(f"The areas of the parts add up to those of the square and the ring but for {lost}.")
    return max(0.0, (ones - ones_in_ring + zeros_in_ring) / whole)


def decide(boundary: Boundary, layout: Layout, parameters: Floats, activation: str) -> Decision | None:
    """Return how a network divides the square, with the arguments of ``true_error``; None where that gives NaN."""
    layers = [Layer(matrix[:-1].T.copy(), matrix[-1]) for matrix in layout.matrices(parameters.astype(np.float64))]
    if activation in SMOOTH:
        return _decide_by_boxes(boundary, layers, *SMOOTH[activation])
    slope = float(parameters.dtype.type(LeakyRelu.SLOPE)) if activation == "leaky_relu" else 0.0
    return _decide_by_cuts(boundary, layers, slope)


class _Open(NamedTuple):
    """The lowest layer with nodes whose score may have either sign in a polygon.

    Attributes
    ----------
    layer : int
    nodes : ndarray of int
    scores : ndarray of shape (corners, fan_out)
        At the corners.
    lowest, highest : ndarray of shape (fan_out,)
        The least and the largest of them.
    """

    layer: int
    nodes: NDArray[np.intp]
    scores: Points
    lowest: Points
    highest: Points


Signs = list[NDArray[np.int8]]
"""One array of shape (fan_out,) for each hidden layer. It has 1 or -1 where the sign of a node's score is known in a
polygon, and 0 elsewhere."""


def _decide_by_cuts(boundary: Boundary, layers: list[Layer], slope: float) -> Decision | None:
    decision = Decision([], [], [])
    nothing_known = [np.zeros(len(layer.biases), np.int8) for layer in layers[:-1]]
    left = [(geometry.square(boundary.low, boundary.high), nothing_known)]
    while left:
        corners, known = left.pop()
        logits, lowest, highest, known, opened = _propagate(layers, slope, corners, known)
        if not math.isfinite(highest - lowest):
            return None
        if lowest > 0:
            decision.ones.append(corners)
        elif highest <= 0:
            decision.zeros.append(corners)
        elif opened is None:
            decision.settle(corners, logits)
        else:
            node = _heaviest(opened, layers[opened.layer + 1].weights)
            above, below, _ = geometry.cut(corners, opened.scores[:, node])
            for part, sign in ((above, 1), (below, -1)):
                if len(part) > 2:
                    signs = [layer.copy() for layer in known]
                    signs[opened.layer][node] = sign
                    left.append((part, signs))
    return decision


def _propagate(
    layers: list[Layer], slope: float, corners: Points, known: Signs
) -> tuple[Points, float, float, Signs, _Open | None]:
    """Return the logits at a polygon's corners, bounds on the logit in it, the signs, and the lowest open layer.

    Up to the lowest open layer, scores are affine, so their least and largest values are at corners. Above it, a score
    is the sum of an affine function and of what open nodes add, which is bounded node by node.
    """
    values, less, more = corners, np.zeros(2), np.zeros(2)
    signs: Signs = []
    opened = None
    for number, layer in enumerate(layers[:-1]):
        scores, less, more = _weigh(layer, values, less, more)
        lowest, highest = scores.min(axis=0) + less, scores.max(axis=0) + more
        sign = np.where(known[number], known[number], (lowest >= 0) - 1 * (highest <= 0)).astype(np.int8)
        sign[(lowest == 0) & (highest == 0)] = 1  # its score is 0 everywhere
        is_open = sign == 0
        signs.append(sign if opened is None else known[number])
        if opened is None and is_open.any():
            opened = _Open(number, np.flatnonzero(is_open), scores, lowest, highest)
        gain = np.where(sign > 0, 1.0, slope)
        values = np.where(is_open, 0.0, gain * scores)
        less, more = np.where(is_open, slope * lowest, gain * less), np.where(is_open, highest, gain * more)
    scores, less, more = _weigh(layers[-1], values, less, more)
    return scores[:, 0], float(scores.min() + less[0]), float(scores.max() + more[0]), signs, opened


def _weigh(layer: Layer, values: Points, less: Points, more: Points) -> tuple[Points, Points, Points]:
    """Return a layer's scores at corners, and bounds on what inputs between ``less`` and ``more`` add to them."""
    middle, radius = layer.weights @ ((less + more) / 2), np.abs(layer.weights) @ ((more - less) / 2)
    return values @ layer.weights.T + layer.biases, middle - radius, middle + radius


def _heaviest(opened: _Open, weights_above: Points) -> int:
    """Return the open node whose uncertain sign weighs most in the layer above."""
    uncertainty = np.minimum(-opened.lowest, opened.highest)[opened.nodes]
    return int(opened.nodes[np.argmax(uncertainty * np.abs(weights_above).sum(axis=0)[opened.nodes])])


def _tanh(s: Points) -> tuple[Points, Points]:
    t = np.tanh(s)
    return t, 1 - t * t


def _gelu(s: Points) -> tuple[Points, Points]:
    t = np.tanh(Gelu.C * (s + Gelu.A * s * s * s))
    return s * (1 + t) / 2, (1 + t + s * (1 - t * t) * Gelu.C * (1 + 3 * Gelu.A * s * s)) / 2


SMOOTH: dict[str, tuple[Callable[[Points], tuple[Points, Points]], float]] = {
    "tanh": (_tanh, 4 / math.sqrt(27)),
    "gelu": (_gelu, Gelu.C),
}
"""Activations that are not piecewise linear: the function with its slope, and the largest size of its second
derivative, which tanh has where it is 1 / sqrt(3) and GELU has at 0."""


def _decide_by_boxes(
    boundary: Boundary, layers: list[Layer], function: Callable[[Points], tuple[Points, Points]], curvature: float
) -> Decision | None:
    decision = Decision([], [], [])
    whole = (boundary.high - boundary.low) ** 2
    half = (boundary.high - boundary.low) / (2 * DIVISIONS)
    ticks = boundary.low + half * (2 * np.arange(DIVISIONS) + 1)
    centers = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    corners = geometry.square(-1, 1)
    while len(centers) <= MOST_BOXES:
        groups = np.array_split(centers, -(-len(centers) // BOXES_AT_ONCE))
        bounds = (_affine_bounds(layers, function, curvature, group, half) for group in groups)
        logits, slopes, distance = (np.concatenate(arrays) for arrays in zip(*bounds, strict=True))
        reach = np.abs(slopes).sum(axis=1) + distance
        if not np.isfinite(logits - reach).all():
            return None
        one, zero = logits > reach, logits <= -reach
        decision.ones += list(centers[one][:, np.newaxis] + half * corners)
        decision.zeros += list(centers[zero][:, np.newaxis] + half * corners)
        centers, logits, slopes, distance = (array[~(one | zero)] for array in (centers, logits, slopes, distance))
        # The points within the distance of the affine function's zeros are in a strip across the box.
        steepest = np.maximum(np.abs(slopes).max(axis=1, initial=0), distance)
        if (distance / steepest).sum() * (2 * half) ** 2 <= TOLERANCE * whole:
            for center, logit, slope in zip(centers, logits, slopes, strict=True):
                decision.settle(center + half * corners, logit + corners @ slope)
            return decision
        half /= 2
        centers = (centers[:, np.newaxis] + half * corners).reshape(-1, 2)
    return None


def _affine_bounds(
    layers: list[Layer],
    function: Callable[[Points], tuple[Points, Points]],
    curvature: float,
    centers: Points,
    half: float,
) -> tuple[Points, Points, Points]:
    """Bound the logit on boxes: at x, it is within ``distance`` of logit + slopes · (x - center) / half.

    Around the middle of its range an activation is affine, but for at most half its curvature times the square of the
    way to the end of the range (Taylor's theorem).

    Returns
    -------
    logits : ndarray of shape (boxes,)
    slopes : ndarray of shape (boxes, 2)
    distance : ndarray of shape (boxes,)
    """
    values, distance = centers, np.zeros((len(centers), 2))
    slopes = np.broadcast_to(half * np.eye(2), (len(centers), 2, 2))
    for layer in layers[:-1]:
        values, slopes = values @ layer.weights.T + layer.biases, slopes @ layer.weights.T
        distance = distance @ np.abs(layer.weights).T
        reach = np.abs(slopes).sum(axis=1) + distance
        values, gain = function(values)
        slopes = slopes * gain[:, np.newaxis]
        distance = np.abs(gain) * distance + curvature / 2 * reach * reach
    top = layers[-1]
    logits, slopes = values @ top.weights.T + top.biases, slopes @ top.weights.T
    return logits[:, 0], slopes[:, :, 0], (distance @ np.abs(top.weights).T)[:, 0]
