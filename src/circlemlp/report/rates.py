"""The picture of the learning rates: the true error of every replicate that chose, and the regimes."""

import math
from itertools import groupby, pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circlemlp.report import style, words
from circlemlp.report.boundary import true_boundary
from circlemlp.report.cell_results import CellResult
from circlemlp.report.choosing import BestRate
from circlemlp.report.colors import light, of_architecture
from circlemlp.report.comparison import Comparison
from circlemlp.report.document import Numeric, Table
from circlemlp.report.rulers import best_line_error, constant_error

MOST_ABREAST, MOST_REPLICATES, MOST_BEHIND = 4, 100, 8
"""Panels in a row; replicates of a cell that are drawn; architectures whose medians are behind those of each other."""
LETTER = 3.7
"""Points of width that a letter of a regime's name takes."""


def draw(comparison: Comparison) -> style.Drawing | None:
    """Draw a panel for each architecture, or nothing where there is one learning rate or no true error."""
    rates = sorted({cell.learning_rate for cell in comparison.cells})
    errors = style.finite([error for cell in comparison.cells for error in 10**cell.log_errors])
    if len(rates) < 2 or not len(errors):
        return None
    n = len(comparison.best)
    columns = min(n, 2) if n <= MOST_BEHIND else MOST_ABREAST
    rows = -(-n // columns)
    width = style.WIDTH if columns <= 2 else style.WIDE
    height = 2.15 * rows if n > 1 else 3.2
    figure = Figure(figsize=(width, height + 0.4), layout="constrained")
    room = (72 * width - 90) / columns - 15  # points, of a panel without the names around it
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    groups = {name: list(cells) for name, cells in groupby(comparison.cells, key=lambda cell: cell.architecture)}
    medians = {name: _medians(cells) for name, cells in groups.items()}
    for axes, best in zip(panels, comparison.best, strict=False):
        name = best.cell.architecture
        _shade(axes, groups[name], rates, room)
        for x, y in medians.values() if n <= MOST_BEHIND else ():
            axes.plot(x, y, color=light("soft"), alpha=0.3, linewidth=0.9, zorder=1.5)
        _draw_own(axes, groups[name], *medians[name])
        if comparison.confirmation and best.exists:
            _draw_estimate(axes, best)
        axes.set_title(name, color=of_architecture(name), pad=11)
    edges = _edges(rates)
    boundary = true_boundary(comparison.cells[0].trained.config)
    low, high = min(errors.min(), best_line_error(boundary)), max(errors.max(), constant_error(boundary))
    low, high = low / 1.3, high * (high / low) ** 0.08
    rulers = style.rulers(list(panels[:n]), boundary, low, high)
    panels[0].set(
        xscale="log",
        yscale="log",
        xlim=(edges[0] / 1.4, edges[-1] * 1.4),
        ylim=(low, high),
    )
    style.plain_logarithms(panels[0].xaxis, {1: 8, 2: 6}.get(columns, 4))
    style.plain_logarithms(panels[0].yaxis)
    for axes in panels[n:]:
        axes.set_axis_off()
    figure.supxlabel("learning rate", fontsize=9)
    figure.supylabel("true error", fontsize=9)
    note = (
        f"Each point is one replicate that chose (at most {MOST_REPLICATES} of a cell); the line is their median"
        + (", and the others' medians are in the back" if 1 < n <= MOST_BEHIND else "")
        + f". Shades are regimes, as in the table below; where they end, the grid ends.{rulers}"
    )
    if comparison.confirmation:
        note += " The diamond is the confirmed estimate, with its interval."
    return style.Drawing(figure, finding(comparison, medians), note, _data(comparison.cells), wide=columns > 2)


def _medians(cells: list[CellResult]) -> tuple[list[float], list[float]]:
    """Return learning rates, and at each the median of the true errors that are known of networks that finished."""
    found: dict[float, float] = {}
    for cell in cells:
        known = style.finite(np.where(cell.trained.history.diverged_at < 0, 10**cell.log_errors, np.nan))
        if len(known):
            found[cell.learning_rate] = float(np.median(known))
    return list(found), list(found.values())


def _edges(rates: list[float]) -> list[float]:
    """Return where the grid's rates meet: in the middle between neighbours, on the scale of the logarithm."""
    middles = [math.sqrt(a * b) for a, b in pairwise(rates)]
    return [rates[0] ** 2 / middles[0], *middles, rates[-1] ** 2 / middles[-1]]


def _shade(axes: Axes, cells: list[CellResult], rates: list[float], room: float) -> None:
    """Draw the regimes as areas, and write their names above those that are wide enough, in ``room`` points."""
    edges = _edges(rates)
    own = {cell.learning_rate: cell.regime for cell in cells}
    whole = math.log(edges[-1] / edges[0])
    for regime, places in groupby(range(len(rates)), key=lambda place: own.get(rates[place])):
        if regime is None:
            continue
        place = list(places)
        start, end = edges[place[0]], edges[place[-1] + 1]
        axes.axvspan(start, end, color=light(regime.replace(" ", "-")), linewidth=0, zorder=0)
        if math.log(end / start) / whole * room > LETTER * len(regime):
            axes.annotate(
                regime,
                (math.sqrt(start * end), 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=6.5,
                color=light("soft"),
            )


def _draw_own(axes: Axes, cells: list[CellResult], x: list[float], y: list[float]) -> None:
    color = of_architecture(cells[0].architecture)
    shown = [10 ** cell.log_errors[:MOST_REPLICATES] for cell in cells]
    places = [cell.learning_rate * 1.12 ** style.aside(len(own)) for cell, own in zip(cells, shown, strict=True)]
    diverged = [cell.trained.history.diverged_at[:MOST_REPLICATES] >= 0 for cell in cells]
    errors, rates, failed = np.concatenate(shown), np.concatenate(places), np.concatenate(diverged)
    known = ~failed & np.isfinite(errors)
    style.dots(axes, rates[known], errors[known], color, 2.7)
    axes.scatter(rates[failed], errors[failed], s=9, color=color, marker="x", linewidth=0.8, zorder=2)
    axes.plot(x, y, color=color, linewidth=1.6, zorder=3)


def _draw_estimate(axes: Axes, best: BestRate) -> None:
    """Draw an estimate of a true error as a diamond, and its interval where it has one."""
    error, rate = best.judged.error, best.cell.learning_rate
    if error.exists:
        axes.vlines(rate, error.low, error.high, color=light("ink"), linewidth=2, zorder=4)
    axes.plot(
        rate,
        error.estimate,
        "D",
        color=of_architecture(best.cell.architecture),
        markersize=5.5,
        markeredgecolor=light("ink"),
        zorder=5,
    )


def finding(comparison: Comparison, medians: dict[str, tuple[list[float], list[float]]]) -> str:
    """Say how much the learning rate changes the median error, and where each architecture's best rate is."""
    changes = {name: max(y) / min(y) for name, (_, y) in medians.items() if len(y) > 1}
    chosen: dict[float, list[str]] = {}
    for best in comparison.best:
        if best.lacks != "rate":
            chosen.setdefault(best.cell.learning_rate, []).append(best.cell.architecture)
    parts = []
    if changes:
        low, high = min(changes.values()), max(changes.values())
        fold = f"{low:.3g}-fold" if len(changes) == 1 else f"{low:.3g}- to {high:.3g}-fold"
        parts.append(f"Within the grid the median true error changes {fold} with the learning rate")
    if chosen:
        where = [f"{words.rate(rate)} ({words.some(names)})" for rate, names in sorted(chosen.items())]
        parts.append(f"chosen {'was' if len(where) == 1 else 'were'} {words.some(where)}")
    return words.sentence("; ".join(parts) or "no learning rate could be chosen") + "."


def _data(cells: list[CellResult]) -> Table:
    head = ["architecture", Numeric("learning rate"), Numeric("median true error"), Numeric("lowest")]
    rows = []
    for cell in cells:
        known = style.finite(cell.true_errors)
        numbers = [np.median(known), known.min(), known.max()] if len(known) else []
        shown = [*map(words.number, numbers)] or [""] * 3
        every = " ".join(words.number(error) or "?" for error in cell.true_errors[:MOST_REPLICATES])
        rows.append([cell.architecture, words.rate(cell.learning_rate), *shown, cell.regime, every])
    return Table([*head, Numeric("highest"), "regime", "every replicate"], rows)
