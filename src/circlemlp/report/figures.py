"""The report's figures, as SVG: text that is the same for the same results, and sharp at any size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import pandas as pd
import seaborn as sns
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from circlemlp.core.data import Dataset
from circlemlp.report.boundary import LEARNED, TRUE, draw_boundary, median_replicate
from circlemlp.report.comparison import Comparison
from circlemlp.report.document import Picture

POINTS_SHOWN = 250
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
    folder: Path, comparison: Comparison, replicates: pd.DataFrame, curves: pd.DataFrame, dataset: Dataset
) -> dict[str, Picture]:
    """Write every figure into a folder, and return them by their names."""
    figures: dict[str, tuple[Callable[[], Figure], str]] = {
        "boundaries": (
            lambda: boundaries(comparison, dataset),
            "Decision boundaries of each architecture at its best learning rate",
        ),
        "learning_rates": (
            lambda: learning_rates(comparison, replicates),
            "Validation loss against the learning rate",
        ),
        "heatmap": (lambda: heatmap(comparison), "Validation accuracy and loss of every cell"),
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


def boundaries(comparison: Comparison, dataset: Dataset) -> Figure:
    """Draw probability contours, each of the replicate with the median validation loss."""
    n = len(comparison.best)
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(4.1 * columns + 0.6, 4.1 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    filled = None
    for axes, best in zip(panels, comparison.best, strict=False):
        record = best.cell.record
        replicate = median_replicate(record)
        filled = draw_boundary(axes, record, replicate) or filled
        x, y = dataset.x_validation[:POINTS_SHOWN], dataset.y_validation[:POINTS_SHOWN]
        for label, color in ((0, "#9f1d20"), (1, "#174a7c")):
            axes.scatter(*x[y == label].T, s=8, color=color, linewidth=0)
        accuracy = record.summary.validation_accuracy[replicate]
        shown = "diverged" if accuracy is None else f"accuracy {accuracy:.4f}"
        axes.set_title(f"{best.cell.architecture}, learning rate {best.cell.learning_rate:g}: {shown}")
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
    """Draw the validation loss against the learning rate, a colour for each architecture."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.subplots()
    names = [best.cell.architecture for best in comparison.best]
    finished = replicates.dropna(subset="validation_loss")
    if finished.empty:
        axes.set_title("every replicate diverged")
        return figure
    sns.lineplot(
        finished,
        x="learning_rate",
        y="validation_loss",
        hue="architecture",
        hue_order=names,
        style="architecture",
        style_order=names,
        markers=True,
        dashes=False,
        palette=_palette(len(names)),
        errorbar=RANGE,
        ax=axes,
    )
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="validation loss")
    axes.legend(title="architecture")
    return figure


def heatmap(comparison: Comparison) -> Figure:
    """Draw mean validation accuracy and loss, architecture by learning rate."""
    names = [best.cell.architecture for best in comparison.best]
    table = pd.DataFrame(
        [
            {
                "architecture": cell.architecture,
                "learning rate": cell.learning_rate,
                "accuracy": cell.accuracy.mean,
                "loss": cell.loss.mean,
            }
            for cell in comparison.cells
        ]
    )
    figure = Figure(figsize=(10.5, 1.3 + 0.62 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, value, cmap in ((left, "accuracy", "viridis"), (right, "loss", "viridis_r")):
        grid = table.pivot_table(index="architecture", columns="learning rate", values=value, dropna=False).loc[names]
        if not grid.notna().any(axis=None):
            axes.set_title("every replicate diverged")
            continue
        sns.heatmap(
            grid,
            annot=True,
            fmt=".4f",
            cmap=cmap,
            norm=LogNorm() if value == "loss" else None,
            linewidths=1.5,
            annot_kws={"size": 9},
            ax=axes,
            cbar=False,
        )
        axes.grid(False)
        axes.set(title=f"mean validation {value}", xlabel="learning rate", ylabel="")
        axes.set_xticklabels([f"{rate:g}" for rate in grid.columns], rotation=0)
        axes.tick_params(length=0)
        for best in comparison.best:
            column = list(grid.columns).index(best.cell.learning_rate)
            axes.add_patch(_frame(column, names.index(best.cell.architecture)))
        axes.set_yticklabels(names, rotation=0)
    return figure


def loss_curves(comparison: Comparison, curves: pd.DataFrame) -> Figure:
    """Draw mean curves over replicates, with a band from the lowest to the highest."""
    n = len(comparison.best)
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(4.5 * columns, 2.9 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    long = curves.melt(
        id_vars=["identity", "replicate", "epoch"],
        value_vars=["training_loss", "validation_loss"],
        var_name="split",
        value_name="loss",
    ).dropna()
    long["split"] = long["split"].str.replace("_loss", "")
    for axes, best in zip(panels, comparison.best, strict=False):
        own = long[long["identity"] == best.cell.record.identity[:12]]
        sns.lineplot(
            own,
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


def _palette(n: int) -> list[tuple[float, float, float]]:
    return list(sns.color_palette("colorblind", max(n, 2)))[:n]


def _frame(column: int, row: int) -> Rectangle:
    place, size = (column + 0.05, row + 0.07), (0.9, 0.86)  # inside its cell, so that it touches no other
    return Rectangle(place, *size, fill=False, edgecolor="#d6336c", linewidth=2.5, zorder=5)
