"""How one network divides the square: a picture of what ``core.true_error`` does, as an SVG.

One panel has every region on which the network is linear. The others have the polygons that were enough to know its
answer everywhere: most of them have one answer, by a bound on the logit, and the rest are cut by the decision boundary.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, PathPatch, Rectangle
from matplotlib.path import Path as Outline

from circlemlp.core import geometry
from circlemlp.core.activations import LeakyRelu
from circlemlp.core.data import Boundary
from circlemlp.core.geometry import Points
from circlemlp.core.network import arithmetic
from circlemlp.core.parameters import Floats, Layout
from circlemlp.core.true_error import SMOOTH, Decision, decide, true_error
from circlemlp.report import style, words
from circlemlp.report.boundary import LEARNED, TRUE, rings
from circlemlp.report.colors import light
from circlemlp.report.document import Numeric, Picture, Table

MOST_REGIONS = 3000
"""A network with more has no picture: its file would be large, and its lines would be a grey square."""
SLIVER = 1e-14
"""The share of the square's area below which a part exists by rounding alone."""
ENLARGED = 20
BY_BOUND, BY_CUT = (light("zero"), light("one")), (light("zero-cut"), light("one-cut"))
WRONG = light("wrong")
"""Colours of the polygons with answer 0 and with answer 1; of what is answered wrongly."""
LINES: dict[str, Any] = {"edgecolor": light("soft"), "linewidth": 0.4}


def draw_regions(config: Mapping[str, Any], parameters: Floats, path: Path) -> Picture | None:
    """Draw how a network divides the square.

    Parameters
    ----------
    config : mapping
        The configuration that is hashed into the identity of a run.
    parameters : ndarray of shape (n_parameters,)
        Of one network.
    path : Path
        The SVG file to write.

    Returns
    -------
    Picture or None
        What is seen, with its numbers. None, and no file, if the network is not piecewise linear, if it has no true
        error, if it gives one answer everywhere, or if it has more than ``MOST_REGIONS`` regions.
    """
    boundary, model = Boundary.of(config["data"]), config["model"]
    layout, activation = Layout.of(model["hidden_layer_sizes"]), model["activation"]
    if activation in SMOOTH:
        return None
    with arithmetic():
        decision = decide(boundary, layout, parameters, activation)
    if decision is None or not decision.segments:
        return None
    divided = linear_regions(boundary, layout, parameters, activation)
    if divided is None:
        return None
    regions, cuts = len(divided[0]), divided[1]
    crossed = len(decision.segments)
    answers = [_by_bound_and_cut(one, decision.segments) for one in (decision.zeros, decision.ones)]
    bounded = sum(len(by_bound) for by_bound, _ in answers)
    error = words.number(true_error(boundary, layout, parameters, activation))
    with style.context():
        figure, panels = _figure(boundary, decision, cuts)
        panels["enough"].set_title(f"{bounded + crossed} polygons are enough to know its answers")
        panels["all"].set_title(f"all {regions} regions")
        style.save(figure, path)
    finding = (
        f"A {'-'.join(map(str, layout.layer_sizes))} network is linear on each of {regions} polygons (top right). "
        f"To know its answer everywhere, {bounded + crossed} are enough (left): in {bounded} a bound on the logit has "
        f"one sign, and {crossed} are crossed by the decision boundary, which has as many segments. "
        f"The true error is {error}. Bottom right, {ENLARGED} times "
        "as large: around the corner of the decision boundary that is farthest from the true one."
    )
    rows = [
        ["polygons on which it is linear", str(regions)],
        *(
            [f"polygons with answer {answer}, known by a {how}", str(len(polygons))]
            for answer, parts in enumerate(answers)
            for how, polygons in zip(("bound", "cut"), parts, strict=True)
        ),
        ["segments of the decision boundary", str(crossed)],
        ["true error", error],
    ]
    return Picture(path.name, finding, data=Table(["what", Numeric("number")], rows))


def linear_regions(
    boundary: Boundary, layout: Layout, parameters: Floats, activation: str
) -> tuple[list[Points], list[Points]] | None:
    """Return the polygons in which no hidden node's score changes its sign, with the arguments of ``true_error``.

    In such a polygon of the layers below, a layer's scores are affine, and the lines on which they are zero cut it.

    Returns
    -------
    regions : list of ndarray of shape (corners, 2)
        They cover the square once. None in place of both lists if there are more than ``MOST_REGIONS``.
    cuts : list of ndarray of shape (2, 2)
        The segments that divide them.
    """
    least = SLIVER * (boundary.high - boundary.low) ** 2
    slope = float(parameters.dtype.type(LeakyRelu.SLOPE)) if activation == "leaky_relu" else 0.0
    cuts: list[Points] = []
    # Of each polygon: its corners, and the affine function that gives a layer's inputs in it.
    pieces = [(geometry.square(boundary.low, boundary.high), np.eye(2), np.zeros(2))]
    for matrix in layout.matrices(parameters.astype(np.float64))[:-1]:
        after: list[tuple[Points, Points, Points]] = []
        while pieces:
            corners, gradient, constant = pieces.pop()
            gradients, constants = gradient @ matrix[:-1], constant @ matrix[:-1] + matrix[-1]
            scores = corners @ gradients + constants
            parts = [corners]
            for node in np.flatnonzero((scores.min(axis=0) < 0) & (scores.max(axis=0) > 0)):
                whole, parts = parts, []
                for part in whole:
                    *halves, between = geometry.cut(part, part @ gradients[:, node] + constants[node])
                    halves = [half for half in halves if geometry.area(*geometry.edges([half])) > least]
                    parts += halves
                    cuts += [between] if len(halves) == 2 else []
                if len(pieces) + len(parts) + len(after) > MOST_REGIONS:
                    return None
            for part in parts:
                gain = np.where(part.mean(axis=0) @ gradients + constants > 0, 1.0, slope)
                after.append((part, gradients * gain, constants * gain))
        pieces = after
    return [corners for corners, _, _ in pieces], cuts


def _figure(boundary: Boundary, decision: Decision, cuts: list[Points]) -> tuple[Figure, dict[str, Axes]]:
    figure = Figure(figsize=(7.4, 5.7), layout="compressed")
    panels = figure.subplot_mosaic([["enough", "all"], ["enough", "near"]], width_ratios=[2.1, 1])
    side = (boundary.high - boundary.low) / ENLARGED
    near = np.clip(_farthest(boundary, decision) - side / 2, boundary.low, boundary.high - side)
    square = geometry.square(boundary.low, boundary.high)[[0, 2]]
    _draw_decision(panels["enough"], boundary, decision, *square)
    _draw_decision(panels["near"], boundary, decision, near, near + side)
    panels["enough"].add_patch(Rectangle((near[0], near[1]), side, side, fill=False, zorder=4))
    panels["all"].add_patch(_patch(cuts, fill=False, **LINES))
    panels["all"].add_patch(_patch(decision.segments, fill=False, **LEARNED))
    _frame(panels["all"], *square)
    panels["enough"].set(xlabel="x₁", ylabel="x₂")
    panels["near"].set_title(f"{ENLARGED} times as large")
    for name in ("all", "near"):
        panels[name].set(xticks=[], yticks=[])
    colors = {"0, by a bound": BY_BOUND[0], "1, by a bound": BY_BOUND[1], "0, by a cut": BY_CUT[0]}
    colors |= {"1, by a cut": BY_CUT[1], "wrong": WRONG}
    lines = [
        Line2D([], [], **LEARNED, label="decision boundary"),
        Line2D([], [], **TRUE, label="true boundary"),
    ]
    patches = [Patch(facecolor=color, label=label) for label, color in colors.items()]
    figure.legend(handles=[*lines, *patches], loc="outside lower center", ncols=4)
    return figure, panels


def _draw_decision(axes: Axes, boundary: Boundary, decision: Decision, low: Points, high: Points) -> None:
    """Draw the polygons whose answers are known, the boundaries and what is wrong, as far as they are in a window."""
    wrong_places = rings(boundary)
    for answer, polygons in enumerate((decision.zeros, decision.ones)):
        parts = _by_bound_and_cut(polygons, decision.segments)
        for some, color in zip(parts, (BY_BOUND[answer], BY_CUT[answer]), strict=True):
            axes.add_patch(_patch([_inside(one, low, high) for one in some], facecolor=color, **LINES))
        wrong = _patch([_inside(one, low, high) for one in polygons], facecolor=WRONG, linewidth=0)
        axes.add_patch(wrong)
        wrong.set_clip_path(wrong_places[answer], axes.transData)
    axes.add_patch(_patch(decision.segments, fill=False, **LEARNED))
    for radius in (boundary.inner_radius, boundary.outer_radius):
        axes.add_patch(Circle((0, 0), radius, fill=False, **TRUE))
    _frame(axes, low, high)


def _frame(axes: Axes, low: Points, high: Points) -> None:
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.grid(False)
    axes.spines[:].set_visible(True)


def _patch(parts: Sequence[Points], **style: Any) -> PathPatch:
    """Return polygons or segments as one path, which takes less text than many with a style each."""
    outlines = [
        Outline([*part, part[0]], closed=True) if len(part) > 2 else Outline(part) for part in parts if len(part) > 1
    ]
    return PathPatch(Outline.make_compound_path(*outlines), **style)


def _inside(corners: Points, low: Points, high: Points) -> Points:
    """Return the part of a polygon in a window."""
    for axis in (0, 1):
        corners, _, _ = geometry.cut(corners, corners[:, axis] - low[axis])
        corners, _, _ = geometry.cut(corners, high[axis] - corners[:, axis])
    return corners


def _by_bound_and_cut(polygons: list[Points], segments: list[Points]) -> tuple[list[Points], list[Points]]:
    """Return the polygons without a side that is a segment of the decision boundary, and those with one."""
    along = {frozenset(map(tuple, segment.tolist())) for segment in segments}
    parts: tuple[list[Points], list[Points]] = ([], [])
    for corners in polygons:
        points = list(map(tuple, corners.tolist()))
        sides = map(frozenset, zip(points, points[1:] + points[:1], strict=True))
        parts[not along.isdisjoint(sides)].append(corners)
    return parts


def _farthest(boundary: Boundary, decision: Decision) -> Points:
    """Return the corner of the decision boundary that is farthest from the true one."""
    corners = np.concatenate(decision.segments)
    radii = [radius for radius in (boundary.inner_radius, boundary.outer_radius) if radius > 0]
    distances = np.abs(np.hypot(*corners.T)[:, np.newaxis] - radii).min(axis=1)
    farthest: Points = corners[distances.argmax()]
    return farthest
