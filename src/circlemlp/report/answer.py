"""The picture of the answer: the true error of each architecture at its best rate, every replicate a point."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circlemlp.report import style, words
from circlemlp.report.boundary import true_boundary
from circlemlp.report.choosing import BestRate
from circlemlp.report.colors import light, of_architecture
from circlemlp.report.comparison import Comparison
from circlemlp.report.document import Numeric, Table

MOST_HIGH = 12
"""The most architectures whose labels have two lines."""


def draw(comparison: Comparison) -> style.Drawing:
    """Draw the replicates that judge, the lowest error on top."""
    ranked = sorted(comparison.best, key=lambda one: one.rank)
    low_rows = len(ranked) > MOST_HIGH
    figure = Figure(figsize=(style.WIDTH, 0.9 + (0.28 if low_rows else 0.48) * len(ranked)), layout="constrained")
    axes = figure.subplots()
    shown = [one for one in ranked if one.exists]
    values = style.finite([error for one in shown for error in 10**one.judged.log_errors])
    for place, one in enumerate(ranked):
        if one.exists:
            _draw_replicates(axes, place, one)
    axes.set_yticks(range(len(ranked)), [_label(one, " " if low_rows else "\n") for one in ranked])
    for label, one in zip(axes.get_yticklabels(), ranked, strict=True):
        label.set_color(of_architecture(one.cell.architecture))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set(ylim=(len(ranked) - 0.45, -0.6), xlabel="true error, as a share of the square")
    rulers = ""
    if len(values):
        low, high = values.min() / 1.25, values.max() * 1.25
        axes.set(xscale="log", xlim=(low, high))
        style.plain_logarithms(axes.xaxis)
        rulers = style.rulers([axes], true_boundary(comparison.cells[0].trained.config), low, high, vertical=True)
    note = "Each point is one replicate" + (
        "; the bar is the estimate with its 95% interval."
        if any(one.judged.error.exists for one in shown)
        else ", and the short line is the estimate."
    )
    if any(one.judged.diverged for one in shown):
        note += " A cross is a replicate that diverged, whose error counts as 1, the worst possible."
    return style.Drawing(figure, finding(comparison), note + rulers, _data(ranked))


def _draw_replicates(axes: Axes, place: int, one: BestRate) -> None:
    color, judged = of_architecture(one.cell.architecture), one.judged
    order = np.argsort(judged.log_errors, kind="stable")
    errors, diverged = 10 ** judged.log_errors[order], (judged.trained.history.diverged_at >= 0)[order]
    y = place + 0.42 * style.aside(len(errors))
    axes.scatter(errors[~diverged], y[~diverged], s=11, color=color, alpha=0.5, linewidth=0)
    axes.scatter(errors[diverged], y[diverged], s=14, color=color, marker="x", linewidth=1)
    if judged.error.exists:
        axes.plot([judged.error.low, judged.error.high], [place] * 2, color=color, linewidth=4, solid_capstyle="butt")
    if np.isfinite(judged.error.estimate):
        axes.plot([judged.error.estimate] * 2, [place - 0.26, place + 0.26], color=light("ink"), linewidth=1.6)


def _label(one: BestRate, between: str) -> str:
    return (
        one.cell.architecture + between + (f"at {words.rate(one.cell.learning_rate)}" if one.exists else "not judged")
    )


def finding(comparison: Comparison) -> str:
    """Say how far apart the estimates are, and how far apart the replicates of one architecture."""
    ranked = sorted((one for one in comparison.best if not one.rank[0]), key=lambda one: one.rank)
    if not ranked:
        return "No true error is known of an architecture at a best learning rate."
    low, high = ranked[0], ranked[-1]
    text = f"The true error of {low.cell.architecture} is {words.interval(low.judged.error)}."
    if len(ranked) > 1:
        ratio = high.judged.error.estimate / low.judged.error.estimate
        text = (
            f"From {low.cell.architecture} to {high.cell.architecture} the estimate of the true error grows from "
            f"{words.number(low.judged.error.estimate)} to {words.number(high.judged.error.estimate)}, {ratio:.3g}-fold"
        )
        if comparison.judging.replicates == 1:
            return f"{text}."
        spreads = [np.ptp(one.judged.log_errors) for one in ranked]
        text += f"; replicates of one architecture differ up to {10 ** max(spreads):.3g}-fold."
    return text


def _data(ranked: list[BestRate]) -> Table:
    head = ["architecture", Numeric("learning rate"), Numeric("estimate"), Numeric("low"), Numeric("high")]
    rows = []
    for one in ranked:
        error = one.judged.error
        numbers = [error.estimate, error.low, error.high] if one.exists else [np.nan] * 3
        errors = ", ".join(filter(None, map(words.number, np.sort(one.judged.true_errors)))) if one.exists else ""
        rows.append([one.cell.architecture, words.rate(one.cell.learning_rate), *map(words.number, numbers), errors])
    return Table([*head, "true errors of the replicates"], rows)
