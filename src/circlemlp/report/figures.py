"""The report's figures, as SVG: text that is the same for the same results, and sharp at any size."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from circlemlp.report import answer, costs, health, learned, rates, style, words
from circlemlp.report.cell_results import numbered
from circlemlp.report.colors import light, of_architecture
from circlemlp.report.comparison import Comparison
from circlemlp.report.document import Numeric, Picture, Table
from circlemlp.report.tables import rows_of

MOST_PANELS = 12
"""Architectures in the picture of the curves."""
LISTED = 11
"""Epochs in the table of the curves."""
RANGE = ("pi", 100)  # a band from the lowest to the highest replicate


def draw_all(folder: Path, comparison: Comparison, curves: pd.DataFrame) -> dict[str, Picture]:
    """Write every figure into a folder, and return them by their names; what cannot be shown is not there."""
    folder.mkdir()
    with style.context():
        drawings = {
            "answer": answer.draw(comparison),
            "learning_rates": rates.draw(comparison),
            "boundaries": learned.draw_grid(comparison),
            "replicates": learned.draw_overlay(comparison),
            "loss_curves": loss_curves(comparison, curves),
            "costs": costs.draw(comparison),
        }
        return {name: write(drawing, folder / f"{name}.svg") for name, drawing in drawings.items() if drawing}


def write(drawing: style.Drawing, path: Path) -> Picture:
    """Write one figure, and return what a document needs to know of it."""
    style.save(drawing.figure, path)
    return Picture(path.name, drawing.finding, drawing.note, drawing.data, drawing.wide)


def loss_curves(comparison: Comparison, curves: pd.DataFrame) -> style.Drawing:
    """Draw the median curves of replicates, with a band from the lowest to the highest."""
    n = min(len(comparison.best), MOST_PANELS)
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(style.WIDTH, 2.1 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    data = []
    epochs = np.unique(curves["epoch"])
    listed = epochs[np.unique(np.linspace(0, len(epochs) - 1, LISTED).round().astype(int))]
    for axes, best in zip(panels, comparison.best[:n], strict=False):
        own, name = rows_of(best.judged, curves), best.cell.architecture
        for split, color in (("training", "soft"), ("validation", "ink")):
            known = own.dropna(subset=f"{split}_loss")
            dashes = (0, (3, 1.5)) if split == "training" else "-"
            sns.lineplot(
                known,
                x="epoch",
                y=f"{split}_loss",
                estimator="median",
                errorbar=RANGE,
                err_kws={"linewidth": 0},
                color=light(color),
                linewidth=1.3,
                linestyle=dashes,
                label=split,
                legend=False,
                ax=axes,
            )
            medians = known.groupby("epoch")[f"{split}_loss"].median().reindex(listed)
            data.append([name, words.rate(best.cell.learning_rate), split, *map(words.number, medians)])
        axes.set(xlabel="", ylabel="")
        axes.set_title(f"{name} at {words.rate(best.cell.learning_rate)}", color=of_architecture(name))
        axes.set(yscale="log")
    style.plain_logarithms(panels[0].yaxis)
    panels[0].legend(fontsize=8)
    for axes in panels[n:]:
        axes.set_axis_off()
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    judged = numbered(comparison.judging.trained.numbers)
    note = (f"The first {MOST_PANELS} architectures. " if n < len(comparison.best) else "") + (
        f"Each architecture at its best learning rate, {judged}"
        if comparison.judging.replicates == 1
        else f"Each architecture at its best learning rate: median of {judged}, without those "
        "that diverged, and band from the lowest to the highest"
    )
    if comparison.confirmation and any(best.lacks for best in comparison.best):
        tuned = numbered(comparison.cells[0].trained.numbers)
        note += f". Of architectures that are not judged, {tuned} are shown"
    head = ["architecture", Numeric("learning rate"), "median loss", *(Numeric(f"epoch {epoch}") for epoch in listed)]
    note += ". Epoch 0 is before training; at most 101 epochs are drawn."
    return style.Drawing(figure, _overfitting(comparison), note, Table(head, data))


def _overfitting(comparison: Comparison) -> str:
    """Say how the last validation losses compare with the training losses."""
    found = {best.cell.architecture: health.overfitting(best) for best in comparison.best}
    ratios = {name: ratio for name, ratio in found.items() if math.isfinite(ratio)}
    if not ratios:
        return "No network finished, so there is no last loss."
    highest = max(ratios, key=lambda name: ratios[name])
    return (
        f"At the end the median network's validation loss is {min(ratios.values()):.3g} to {max(ratios.values()):.3g} "
        f"times its training loss, most with {highest}."
        if len(ratios) > 1
        else f"At the end the median network's validation loss is {ratios[highest]:.3g} times its training loss."
    )
