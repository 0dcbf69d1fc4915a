"""The picture of the costs: true error against floating-point operations and against parameters."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from circlemlp.report import operations, regimes, style, words
from circlemlp.report.boundary import true_boundary
from circlemlp.report.choosing import BestRate
from circlemlp.report.colors import light, of_architecture
from circlemlp.report.comparison import Comparison
from circlemlp.report.document import Numeric, Table
from circlemlp.report.statistics import Interval

PANEL, LETTER, HEIGHT = (155, 170), 5, 11
"""About how many points a panel, a letter of a name, and a line of it have."""


def draw(comparison: Comparison) -> style.Drawing | None:
    """Draw the estimate of each architecture against what it costs, or nothing where none is known."""
    known = [one for one in comparison.best if not one.rank[0]]
    if not known:
        return None
    figure = Figure(figsize=(style.WIDTH, 2.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    gigaflop = [operations.of_training(one.judged.trained) / 1e9 for one in known]
    parameters = [float(one.judged.trained.summary.n_parameters) for one in known]
    costs = {"floating-point operations of a training, 10⁹": gigaflop, "parameters": parameters}
    for axes, (name, places) in zip(panels, costs.items(), strict=True):
        for one, place in zip(known, places, strict=True):
            color, error = of_architecture(one.cell.architecture), one.judged.error
            if error.exists:
                axes.plot([place] * 2, [error.low, error.high], color=color, linewidth=2, solid_capstyle="butt")
            axes.plot(place, error.estimate, "o", color=color, markersize=5)
        axes.set(xscale="log", yscale="log", xlabel=name, xlim=(min(places) / 2, max(places) * 2))
        style.plain_logarithms(axes.xaxis)
    ends = [end for one in known for end in _ends(one.judged.error)]
    low, high = min(ends) / 1.25, max(ends) * 1.25
    panels[0].set(ylabel="true error", ylim=(low, high))
    named = [_write_names(axes, known, places) for axes, places in zip(panels, costs.values(), strict=True)]
    rulers = style.rulers(list(panels), true_boundary(known[0].judged.trained.config), low, high)
    style.plain_logarithms(panels[0].yaxis)
    panels[1].tick_params(axis="y", labelleft=False)
    note = "Each architecture at its best learning rate" + (
        "; the bar is the 95% interval." if any(one.judged.error.exists for one in known) else "."
    )
    if min(named) < len(known):
        note += " Names that would hide another are left out; the table has all."
    head = ["architecture", *map(Numeric, ["GFLOP", "parameters", "true error"])]
    rows = [
        [one.cell.architecture, words.gigaflop(1e9 * cost), f"{n:.0f}", words.interval(one.judged.error)]
        for one, cost, n in zip(known, gigaflop, parameters, strict=True)
    ]
    return style.Drawing(figure, finding(known), note + rulers, Table(head, rows))


def _write_names(axes: Axes, known: list[BestRate], places: list[float]) -> int:
    """Write each name above or below its bar, where it hides none that is there, and return how many found a place."""
    (x_low, x_high), (y_low, y_high) = np.log(axes.get_xlim()), np.log(axes.get_ylim())
    scale = np.array([PANEL[0] / (x_high - x_low), PANEL[1] / (y_high - y_low)])
    taken: list[tuple[NDArray[np.float64], float]] = []
    for one, place in sorted(zip(known, places, strict=True), key=lambda item: item[0].rank):
        name, ends = one.cell.architecture, _ends(one.judged.error)
        width = LETTER * len(name)
        for above in (True, False):
            middle = scale * np.log([place, ends[above]]) + [0, 9 if above else -9]
            if all(abs(x - middle[0]) > (width + w) / 2 or abs(y - middle[1]) > HEIGHT for (x, y), w in taken):
                taken.append((middle, width))
                axes.annotate(
                    name,
                    (place, ends[above]),
                    xytext=(0, 4 if above else -4),
                    textcoords="offset points",
                    ha="center",
                    va="bottom" if above else "top",
                    fontsize=8,
                    color=of_architecture(name),
                    bbox={"facecolor": light("paper"), "alpha": 0.7, "linewidth": 0, "pad": 0.3},
                )
                break
    return len(taken)


def _ends(error: Interval) -> tuple[float, float]:
    return (error.low, error.high) if error.exists else (error.estimate, error.estimate)


def finding(known: list[BestRate]) -> str:
    """Say what the lowest error costs beside the cheapest training, and how many reach the goal."""
    lowest = min(known, key=lambda one: one.rank)
    cheapest = min(known, key=lambda one: operations.of_training(one.judged.trained))
    reached = sum(math.isfinite(regimes.epochs_to_goal(one.judged.trained)) for one in known)
    goal = (
        f"the median network of {reached} of {words.count(len(known), 'architecture')} reaches "
        f"{regimes.GOAL:.0%} validation accuracy."
    )
    if lowest is cheapest:
        return f"The cheapest training, of {lowest.cell.architecture}, also has the lowest estimate; {goal}"
    times = operations.of_training(lowest.judged.trained) / operations.of_training(cheapest.judged.trained)
    errors = cheapest.judged.error.estimate / lowest.judged.error.estimate
    return (
        f"The estimate of {lowest.cell.architecture} is lower by a factor of {errors:.3g} than that of "
        f"{cheapest.cell.architecture}, at {times:.3g} times the floating-point operations; {goal}"
    )
