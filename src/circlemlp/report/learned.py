"""Pictures of what the networks learned: their decision boundaries, drawn from the exact segments.

The wrong area is a network's own polygons as far as they are on the other side of the true boundary.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch
from matplotlib.path import Path as Outline

from circlemlp.core import geometry
from circlemlp.core.data import Boundary
from circlemlp.core.geometry import Points
from circlemlp.core.network import arithmetic
from circlemlp.core.parameters import Layout
from circlemlp.core.true_error import Decision, decide
from circlemlp.report import style, words
from circlemlp.report.boundary import median_replicate, rings, true_boundary
from circlemlp.report.cell_results import CellResult, numbered
from circlemlp.report.choosing import BestRate
from circlemlp.report.colors import light, of_architecture
from circlemlp.report.comparison import Comparison
from circlemlp.report.document import Numeric, Table
from circlemlp.store.trained import Trained

MOST_ARCHITECTURES, MOST_RATES, MOST_OVERLAID, MOST_ABREAST = 12, 12, 100, 4
"""Rows and columns of the grid; networks in one panel of the overlay; its panels in a row."""
LEAST_AREA = 1e-9
"""A wrong area that does not show."""
SECTORS = 6
"""Of equal angles, for which it is said where networks err."""
PIECES = 4
"""Of a segment: straight lines are curves where distances are drawn against angles."""


def decision(cell: Trained, row: int) -> Decision | None:
    """Return how one network of a cell divides the square, or None if it diverged or it is not known."""
    if cell.history.diverged_at[row] >= 0:
        return None
    model = cell.config.model
    layout = Layout.of(model.hidden_layer_sizes)
    with arithmetic():
        return decide(true_boundary(cell.config), layout, cell.parameters[row], model.activation)


def draw_grid(comparison: Comparison) -> style.Drawing:
    """Draw the boundary of each cell's median replicate, architecture by learning rate."""
    names = [best.cell.architecture for best in comparison.best][:MOST_ARCHITECTURES]
    every = sorted({cell.learning_rate for cell in comparison.cells})
    chosen = {best.cell.key for best in comparison.best if best.lacks != "rate" and len(every) > 1}
    rates = some_rates(every, {rate for name, rate in chosen if name in names})
    cells = {cell.key: cell for cell in comparison.cells}
    boundary = true_boundary(comparison.cells[0].trained.config)
    size = min(1.6, 8.4 / len(rates), max(6.4 / len(names), 1.0))
    figure = Figure(figsize=(size * len(rates) + 1.1, size * len(names) + 0.5))
    left, bottom = 1.0 / figure.get_figwidth(), 0.05 / figure.get_figheight()
    panels = figure.subplots(
        len(names),
        len(rates),
        squeeze=False,
        gridspec_kw={
            "left": left,
            "right": 0.995,
            "bottom": bottom,
            "top": 1 - 0.42 / figure.get_figheight(),
            "wspace": 0.07,
            "hspace": 0.07,
        },
    )
    rows, shown = [], []
    for line, name in zip(panels, names, strict=True):
        for axes, rate in zip(line, rates, strict=True):
            _frame(axes, boundary)
            cell = cells.get((name, rate))
            if cell is None:
                _say(axes, "not trained")
                continue
            row = median_replicate(cell.trained)
            found = decision(cell.trained, row)
            _draw_learned(axes, boundary, found, diverged=bool(cell.trained.history.diverged_at[row] >= 0))
            if cell.key in chosen:
                axes.spines[:].set(edgecolor=of_architecture(name), linewidth=2.2, zorder=6)
            error = cell.true_errors[row]
            segments = len(found.segments) if found else 0
            shown.append((cell, error, segments, found is not None))
            known = [words.number(error), str(segments)] if found else ["", ""]
            rows.append([name, words.rate(rate), str(cell.trained.numbers[row]), *known])
        line[0].set_ylabel(
            name, rotation=0, ha="right", va="center", labelpad=6, color=of_architecture(name), fontweight="bold"
        )
    for axes, rate in zip(panels[0], rates, strict=True):
        axes.set_title(words.rate(float(f"{rate:.3g}")), loc="center", fontweight="normal", fontsize=9, pad=4)
    figure.text(0.02 / figure.get_figwidth(), 1 - 0.2 / figure.get_figheight(), "learning rate", color=light("soft"))
    head = ["architecture", Numeric("learning rate"), Numeric("replicate"), Numeric("true error")]
    data = Table([*head, Numeric("segments of the boundary")], rows)
    note = (
        "Each panel is the network with the median true error of its cell. Line: its decision boundary, exactly; "
        "dashed: the true one; filled: where its answer is wrong." + " Framed: the chosen learning rate." * bool(chosen)
    )
    if len(names) < len(comparison.best) or len(rates) < len(every):
        note += (
            f" Shown are {len(names)} of {words.count(len(comparison.best), 'architecture')} and {len(rates)} of "
            f"{words.count(len(every), 'learning rate')}."
        )
    return style.Drawing(figure, _finding(shown), note, data, wide=figure.get_figwidth() > style.WIDTH)


def some_rates(rates: Sequence[float], chosen: set[float]) -> list[float]:
    """Return some of many rates: those that were chosen, and others at even distances."""
    if len(rates) <= MOST_RATES:
        return list(rates)
    kept = sorted(chosen)[:MOST_RATES]
    even = [rates[round(place)] for place in np.linspace(0, len(rates) - 1, MOST_RATES)]
    for rate in [even[0], even[-1], *even]:
        if len(kept) < MOST_RATES and rate not in kept:
            kept.append(rate)
    return sorted(kept)


def _finding(shown: Sequence[tuple[CellResult, float, int, bool]]) -> str:
    """Say what the boundaries of the shown networks are like."""
    known = [(cell, error, segments) for cell, error, segments, is_known in shown if is_known]
    if not known:
        return "No network that is shown has a boundary: they diverged, or it is not known."
    constant = sum(segments == 0 for _, _, segments in known)
    parts = []
    if constant:
        parts.append(
            f"{constant} of {words.count(len(shown), 'network')} give{'s' * (constant == 1)} one answer everywhere"
        )
    if constant < len(known):
        counts = [segments for _, _, segments in known if segments]
        few = (
            f"{min(counts)} to {max(counts)} segments"
            if min(counts) < max(counts)
            else words.count(max(counts), "segment")
        )
        subject = "the boundaries of the others have" if constant else "the boundaries have"
        parts.append(f"{subject} {few}")
    if measured := [one for one in known if np.isfinite(one[1])]:
        cell, error, segments = min(measured, key=lambda one: one[1])
        parts.append(
            f"the smallest wrong area, {words.number(error)} of the square, is that of {cell.architecture} at "
            f"{words.rate(cell.learning_rate)}, with {words.count(segments, 'segment')}"
        )
    return words.sentence("; ".join(parts)) + "."


def _draw_learned(axes: Axes, boundary: Boundary, found: Decision | None, *, diverged: bool) -> None:
    if found is None:
        _say(axes, "diverged" if diverged else "not known")
        return
    ring, rest = rings(boundary)
    for polygons, place in ((found.zeros, ring), (found.ones, rest)):
        inside = place is ring
        some = [corners for corners in polygons if wrong(boundary, corners, answer=not inside) > LEAST_AREA]
        if some:
            outline = Outline.make_compound_path(*(Outline([*one, one[0]], closed=True) for one in some))
            patch = PathPatch(outline, facecolor=light("wrong"), edgecolor=light("wrong"), linewidth=0.2)
            axes.add_patch(patch)
            patch.set_clip_path(place, axes.transData)
    _draw_true(axes, boundary)
    if found.segments:
        axes.add_patch(_lines(found.segments, edgecolor=light("ink"), linewidth=1.1))


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=7.5)


def wrong(boundary: Boundary, corners: Points, *, answer: bool) -> float:
    """Return the area of a polygon where an answer is wrong."""
    starts, ends = geometry.edges([corners])
    outer, inner = (geometry.area_in_circle(starts, ends, r) for r in (boundary.outer_radius, boundary.inner_radius))
    in_ring = outer - inner
    return geometry.area(starts, ends) - in_ring if answer else in_ring


def _lines(segments: Sequence[Points], **drawn: object) -> PathPatch:
    return PathPatch(Outline.make_compound_path(*map(Outline, segments)), fill=False, **drawn)


def _draw_true(axes: Axes, boundary: Boundary) -> None:
    for radius in _radii(boundary):
        circle = Circle((0, 0), radius, fill=False, edgecolor=light("arc"), linewidth=1, linestyle=(0, (3, 2)))
        axes.add_patch(circle)


def _radii(boundary: Boundary) -> list[float]:
    return [radius for radius in (boundary.inner_radius, boundary.outer_radius) if radius > 0]


def _frame(axes: Axes, boundary: Boundary) -> None:
    ends = (boundary.low, boundary.high)
    axes.set(xlim=ends, ylim=ends, aspect="equal", xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, edgecolor=light("line"))


def draw_overlay(comparison: Comparison) -> style.Drawing | None:
    """Draw the boundaries of all networks that judge, and how far from the true one they are; None: there are none."""
    shown = [best for best in comparison.best if best.exists][:MOST_ARCHITECTURES]
    boundary = true_boundary(comparison.cells[0].trained.config)
    segments = {best.cell.architecture: _all_segments(best) for best in shown}
    if not any(map(any, segments.values())):
        return None
    columns = min(len(shown), MOST_ABREAST)
    bands = -(-len(shown) // columns)
    figure = Figure(figsize=(2.05 * columns + 0.5, 3.15 * bands + 0.3), layout="constrained")
    panels = figure.subplots(2 * bands, columns, squeeze=False, height_ratios=[1.9, 1.1] * bands)
    limit = _limit(boundary, segments)
    for place, best in enumerate(shown):
        band, column = divmod(place, columns)
        name = best.cell.architecture
        square, along = panels[2 * band, column], panels[2 * band + 1, column]
        _frame(square, boundary)
        thin = {"edgecolor": of_architecture(name), "linewidth": 0.6, "alpha": 0.45}
        flat = [segment for one in segments[name] for segment in one]
        if flat:
            square.add_patch(_lines(flat, **thin))
            along.add_patch(_lines([_unrolled(boundary, segment) for segment in flat], **thin))
        _draw_true(square, boundary)
        square.set_title(f"{name} at {words.rate(best.cell.learning_rate)}", color=of_architecture(name), fontsize=8.5)
        along.axhline(0, color=light("arc"), linewidth=1, linestyle=(0, (3, 2)))
        low, high = _angles(boundary)
        along.set(xlim=(low, high), ylim=(-limit, limit), xticks=np.linspace(low, high, 4))
        along.tick_params(labelsize=7.5)
        along.xaxis.set_major_formatter(lambda value, _: words.number(value, ".0f") + "°")
        along.set(yticklabels=[]) if column else along.set_ylabel("distance outward", fontsize=8)
    for place in range(len(shown), bands * columns):
        for axes in panels[2 * (place // columns) : 2 * (place // columns) + 2, place % columns]:
            axes.set_axis_off()
    note = (
        f"All networks that judge ({numbered(comparison.judging.trained.numbers)}"
        + (f", the first {MOST_OVERLAID}" if comparison.judging.replicates > MOST_OVERLAID else "")
        + "), one line each. Above: their decision boundaries over the true one, dashed. Below: how far outside the "
        "true boundary each is, by the angle from the horizontal axis; some lines leave the frame."
    )
    if len(shown) < sum(best.exists for best in comparison.best):
        note += f" The first {len(shown)} architectures."
    finding, data = _where(boundary, segments)
    return style.Drawing(figure, finding, note, data, wide=columns > 2)


def _all_segments(best: BestRate) -> list[list[Points]]:
    cell = best.judged.trained
    found = [decision(cell, row) for row in range(min(len(cell.numbers), MOST_OVERLAID))]
    return [one.segments if one else [] for one in found]


def _angles(boundary: Boundary) -> tuple[float, float]:
    """Return the ends of the angles that the square has, in degrees."""
    return (0.0, 90.0) if boundary.low == 0 else (-180.0, 180.0)


def _outward(boundary: Boundary, points: Points) -> tuple[Points, Points]:
    """Return the angles of points, and how far outside the true boundary they are: less than 0 is in the ring."""
    angles, radii = np.degrees(np.arctan2(points[:, 1], points[:, 0])), np.hypot(*points.T)
    distances: Points = radii - boundary.outer_radius
    if boundary.inner_radius > 0:
        distances = np.maximum(distances, boundary.inner_radius - radii)
    return angles, distances


def _unrolled(boundary: Boundary, segment: Points) -> Points:
    points = segment[0] + np.linspace(0, 1, PIECES + 1)[:, np.newaxis] * (segment[1] - segment[0])
    angles, distances = _outward(boundary, points)
    if np.ptp(angles) > 180:  # it crosses the line between -180 and 180 degrees
        angles = np.full_like(angles, np.nan)
    return np.column_stack([angles, distances])


def _limit(boundary: Boundary, segments: dict[str, list[list[Points]]]) -> float:
    """Return how far from the true boundary is shown: what 99 % of the corners need."""
    corners = np.concatenate([segment for networks in segments.values() for one in networks for segment in one])
    _, distances = _outward(boundary, corners)
    return max(1.15 * float(np.quantile(np.abs(distances), 0.99)), 1e-3)


def _where(boundary: Boundary, segments: dict[str, list[list[Points]]]) -> tuple[str, Table]:
    """Say in which sector the boundaries are farthest from the true one."""
    ends = np.linspace(*_angles(boundary), SECTORS + 1)
    names, rows, means = list(segments), [], []
    for name in names:
        corners = [segment for one in segments[name] for segment in one]
        angles, distances = _outward(boundary, np.concatenate(corners)) if corners else (np.zeros(0), np.zeros(0))
        sectors = np.clip(np.searchsorted(ends, angles, side="right") - 1, 0, SECTORS - 1)
        own = [np.abs(distances[sectors == sector]) for sector in range(SECTORS)]
        medians = [float(np.median(values)) if len(values) else np.nan for values in own]
        means.append(medians)
        rows.append([name, *(words.number(value, ".2g") for value in medians)])
    sectors_named = [f"{words.number(a, '.0f')}° to {words.number(b, '.0f')}°" for a, b in pairwise(ends)]
    worst: dict[str, list[str]] = {}
    for name, medians in zip(names, means, strict=True):
        if np.isfinite(medians).any():
            worst.setdefault(sectors_named[int(np.nanargmax(medians))], []).append(name)
    said = [f"{sector} ({words.some(who)})" for sector, who in worst.items()]
    text = (
        f"The corners of the learned boundaries are farthest from the true one, by their median, at {words.some(said)}."
    )
    return text, Table(["median distance", *map(Numeric, sectors_named)], rows)
