"""The report's figures, as SVG: text that is the same for the same results, and sharp at any size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from circlemlp.core.data import sample_dataset
from circlemlp.report.boundary import LEARNED, TRUE, draw_boundary, median_replicate, true_boundary
from circlemlp.report.comparison import Comparison
from circlemlp.report.document import Picture
from circlemlp.report.regimes import diverged
from circlemlp.report.rulers import best_line_error, constant_error
from circlemlp.report.statistics import Interval
from circlemlp.report.tables import rows_of

POINTS_SHOWN = 250
MOST_PANELS, MOST_IN_LEGEND, MOST_ANNOTATED, MOST_REPLICATES = 12, 12, 12, 100
"""Architectures in a figure of panels and in a legend; learning rates whose numbers and names are all written out;
replicates of a cell that are drawn."""
STYLE: Any = {
    "svg.hashsalt": "circlemlp",  # ids in the file are hashes of their content, not random
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
}
RANGE = ("pi", 100)  # a band from the lowest to the highest replicate


def draw_all(
    folder: Path, comparison: Comparison, replicates: pd.DataFrame, curves: pd.DataFrame
) -> dict[str, Picture]:
    """Write every figure into a folder, and return them by their names."""
    figures: dict[str, tuple[Callable[[], Figure], str]] = {
        "boundaries": (
            lambda: boundaries(comparison),
            "Decision boundaries of each architecture at its best learning rate",
        ),
        "learning_rates": (
            lambda: learning_rates(comparison, replicates),
            "True error against the learning rate",
        ),
        "heatmap": (lambda: heatmap(comparison), "True error and validation loss of every cell"),
        "loss_curves": (
            lambda: loss_curves(comparison, curves),
            "Training and validation loss at the best learning rate",
        ),
    }
    folder.mkdir()
    with mpl.style.context(["default", STYLE]):  # nothing of the user's own settings
        for name, (draw, _) in figures.items():
            draw().savefig(folder / f"{name}.svg", metadata={"Date": None})
    return {name: Picture(f"{name}.svg", caption) for name, (_, caption) in figures.items()}


def boundaries(comparison: Comparison) -> Figure:
    """Draw probability contours and validation points, each of the judged replicate with the median true error."""
    n = min(len(comparison.best), MOST_PANELS)
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(4.1 * columns + 0.6, 4.1 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    filled = None
    for axes, best in zip(panels, comparison.best[:n], strict=False):
        cell = best.judged.trained
        row = median_replicate(cell)
        number = int(cell.replicates[row])
        filled = draw_boundary(axes, cell, row) or filled
        own = sample_dataset(cell.config.data.model_dump(), 1, number)
        x, y = own.x_validation[0, :POINTS_SHOWN], own.y_validation[0, :POINTS_SHOWN]
        for label, color in ((0, "#9f1d20"), (1, "#174a7c")):
            axes.scatter(*x[y == label].T, s=8, color=color, linewidth=0)
        error = best.judged.true_errors[row]
        known = "not known" if np.isnan(error) else f"{error:.3g}"
        shown = f"true error {known}" if cell.history.diverged_at[row] < 0 else "diverged"
        axes.set_title(
            f"{best.cell.architecture}, learning rate {best.cell.learning_rate:g}\nreplicate {number}: {shown}"
        )
        axes.grid(False)
    for axes in panels[n:]:
        axes.set_axis_off()
    if filled is not None:
        figure.colorbar(filled, ax=list(panels), label="p(y = 1 | x)", shrink=0.7, aspect=30, pad=0.03)
    lines = [
        Line2D([], [], **LEARNED, label="learned boundary, p = 0.5"),
        Line2D([], [], **TRUE, label="true boundary"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=2)
    return figure


def learning_rates(comparison: Comparison, replicates: pd.DataFrame) -> Figure:
    """Draw the true error of every replicate that chose against the learning rate, and medians.

    Each architecture has a colour. Where other replicates judge, their estimates and intervals are drawn too.
    """
    figure = Figure(figsize=(8.6, 4.6), layout="constrained")
    axes = figure.subplots()
    boundary = true_boundary(comparison.cells[0].trained.config)
    known = replicates[replicates["true_error"] > 0]
    if known.empty:
        axes.set_title("no true error is known")
        return figure
    colors = _colors(comparison)
    names = [best.cell.architecture for best in comparison.best]
    for place, name in enumerate(names):
        own = known[known["architecture"] == name]
        aside = 1.2 ** ((place + 0.5) / len(names) - 0.5)  # so that architectures do not hide each other
        some = own.groupby("learning_rate").head(MOST_REPLICATES)
        axes.scatter(
            some["learning_rate"] * aside, some["true_error"], s=9, color=colors[name], alpha=0.45, linewidth=0
        )
        medians = own.groupby("learning_rate")["true_error"].median()
        axes.plot(medians.index, medians, color=colors[name], label=name, linewidth=1.6)
        best = comparison.best[place]
        if comparison.confirmation and best.exists:
            _draw_estimate(axes, best.cell.learning_rate * aside, best.judged.error, colors[name])
    for error, text in (
        (constant_error(boundary), "constant answer"),
        (best_line_error(boundary), "best straight line"),
    ):
        axes.axhline(error, color="#555555", linewidth=0.9, linestyle=(0, (2, 2)), zorder=0)
        axes.annotate(
            f"{text}, {error:.3g}",
            (0.55, error),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color="#555555",
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
        )
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="true error")
    if len(comparison.best) <= MOST_IN_LEGEND:
        figure.legend(title="architecture", loc="outside right center")
    return figure


def _draw_estimate(axes: Axes, x: float, error: Interval, color: tuple[float, float, float]) -> None:
    """Draw an estimate of a true error as a diamond, and its interval where it has one."""
    if error.exists:
        axes.vlines(x, error.low, error.high, color=color, linewidth=2.2, zorder=4)
    axes.plot(x, error.estimate, "D", color=color, markersize=7, markeredgecolor="black", zorder=5)


def heatmap(comparison: Comparison) -> Figure:
    """Draw true error and validation loss, architecture by learning rate."""
    names = [best.cell.architecture for best in comparison.best]
    table = pd.DataFrame(
        [
            {
                "architecture": cell.architecture,
                "learning rate": cell.learning_rate,
                "true error": np.nan if diverged(cell.trained) else cell.error.estimate,
                "validation loss": np.nan if diverged(cell.trained) else cell.loss.estimate,
            }
            for cell in comparison.cells
        ]
    )
    rates = sorted(set(table["learning rate"]))
    annotated = len(rates) <= MOST_ANNOTATED
    size = (max(10.5, 1.5 * len(rates)) if annotated else 16, min(1.3 + 0.62 * len(names), 60))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, value in zip(panels, ("true error", "validation loss"), strict=True):
        wide = table.pivot_table(index="architecture", columns="learning rate", values=value, dropna=False)
        wide = wide.reindex(index=names, columns=rates)
        axes.grid(False)
        if wide.notna().any(axis=None):
            _shade(axes, wide, annotated=annotated)
            for best in comparison.best:
                if best.lacks != "rate":
                    axes.add_patch(_frame(rates.index(best.cell.learning_rate), names.index(best.cell.architecture)))
            axes.set(title=value, xlabel="learning rate", ylabel="")
        else:
            axes.set(title=f"{value}: not known of any cell", xticks=[], yticks=[])
    return figure


def _shade(axes: Axes, table: pd.DataFrame, *, annotated: bool) -> None:
    """Draw one table of positive numbers as colours; name every rate, or some of them where there are many."""
    sns.heatmap(
        table,
        annot=annotated,
        fmt=".3g",
        cmap="viridis_r",
        norm=LogNorm(),
        linewidths=1.5 if annotated else 0,
        annot_kws={"size": 9},
        ax=axes,
        cbar=False,
        xticklabels=False,
        yticklabels=False,
    )
    step = 1 if annotated else -(-len(table.columns) // MOST_ANNOTATED)
    shown = range(0, len(table.columns), step)
    axes.set_xticks([place + 0.5 for place in shown], [f"{table.columns[place]:.3g}" for place in shown], rotation=0)
    axes.set_yticks([place + 0.5 for place in range(len(table))], list(table.index), rotation=0)
    axes.tick_params(length=0)


def loss_curves(comparison: Comparison, curves: pd.DataFrame) -> Figure:
    """Draw mean curves over replicates, with a band from the lowest to the highest."""
    n = min(len(comparison.best), MOST_PANELS)
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(4.5 * columns, 2.9 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    long = curves.melt(
        id_vars=["architecture", "learning_rate", "replicate", "epoch"],
        value_vars=["training_loss", "validation_loss"],
        var_name="split",
        value_name="loss",
    ).dropna()
    long["split"] = long["split"].str.replace("_loss", "")
    for axes, best in zip(panels, comparison.best[:n], strict=False):
        sns.lineplot(
            rows_of(best.judged, long),
            x="epoch",
            y="loss",
            hue="split",
            hue_order=["training", "validation"],
            palette=_palette(2),
            errorbar=RANGE,
            legend=axes is panels[0],
            ax=axes,
        )
        axes.set(
            yscale="log",
            title=f"{best.cell.architecture}, learning rate {best.cell.learning_rate:g}",
            xlabel="epoch",
            ylabel="loss",
        )
        if axes.get_legend():
            axes.get_legend().set_title(None)
    for axes in panels[n:]:
        axes.set_axis_off()
    return figure


def _colors(comparison: Comparison) -> dict[str, tuple[float, float, float]]:
    """Return a colour for each architecture, by the order of their names."""
    names = sorted({cell.architecture for cell in comparison.cells})
    palette = _palette(len(names)) if len(names) <= 10 else list(sns.color_palette("husl", len(names)))
    return dict(zip(names, palette, strict=True))


def _palette(n: int) -> list[tuple[float, float, float]]:
    return list(sns.color_palette("colorblind", max(n, 2)))[:n]


def _frame(column: int, row: int) -> Rectangle:
    place, size = (column + 0.05, row + 0.07), (0.9, 0.86)  # inside its cell, so that it touches no other
    return Rectangle(place, *size, fill=False, edgecolor="#d6336c", linewidth=2.5, zorder=5)
