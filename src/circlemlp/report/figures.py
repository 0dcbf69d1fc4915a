"""The report's figures, as SVG: text that is the same for the same results, and sharp at any size."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from circlemlp.report import answer, learned, rates, style, words
from circlemlp.report.cell_results import numbered
from circlemlp.report.colors import light, of_architecture
from circlemlp.report.comparison import Comparison
from circlemlp.report.document import Numeric, Picture, Table
from circlemlp.report.tables import rows_of

MOST_PANELS = 12
"""Architectures in the picture of the curves."""


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
        }
        return {name: write(drawing, folder / f"{name}.svg") for name, drawing in drawings.items() if drawing}


def write(drawing: style.Drawing, path: Path) -> Picture:
    """Write one figure, and return what a document needs to know of it."""
    style.save(drawing.figure, path)
    return Picture(path.name, drawing.finding, drawing.note, drawing.data, drawing.wide)


def loss_curves(comparison: Comparison, curves: pd.DataFrame) -> style.Drawing:
    """Draw mean curves over replicates, with a band from the lowest to the highest."""
    n = min(len(comparison.best), MOST_PANELS)
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(style.WIDTH, 2.1 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    data = []
    for axes, best in zip(panels, comparison.best[:n], strict=False):
        own, name = rows_of(best.judged, curves), best.cell.architecture
        ends = []
        for split, color in (("training", "soft"), ("validation", "ink")):
            loss = own.dropna(subset=f"{split}_loss").groupby("epoch")[f"{split}_loss"]
            mean = loss.mean()
            axes.fill_between(mean.index, loss.min(), loss.max(), color=light(color), alpha=0.15, linewidth=0)
            dashes = (0, (3, 1.5)) if split == "training" else "-"
            axes.plot(mean.index, mean, color=light(color), linewidth=1.3, linestyle=dashes, label=split)
            ends.append(f"{mean.iloc[-1]:.3g}" if len(mean) else "")
        axes.set_title(f"{name} at {words.rate(best.cell.learning_rate)}", color=of_architecture(name))
        axes.set(yscale="log")
        data.append([name, words.rate(best.cell.learning_rate), *ends])
    style.plain_logarithms(panels[0].yaxis)
    panels[0].legend(fontsize=8)
    for axes in panels[n:]:
        axes.set_axis_off()
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    judged = numbered(comparison.judging.trained.replicates)
    note = ("The first 12 architectures. " if n < len(comparison.best) else "") + (
        f"Each architecture at its best learning rate, {judged}"
        if comparison.judging.replicates == 1
        else f"Each architecture at its best learning rate: mean over {judged} and band from the lowest to the highest"
    )
    if comparison.confirmation and any(best.lacks for best in comparison.best):
        tuned = numbered(comparison.cells[0].trained.replicates)
        note += f". Of architectures that are not judged, {tuned} are shown"
    head = ["architecture", Numeric("learning rate"), Numeric("last training loss"), Numeric("last validation loss")]
    note += ". Epoch 0 is before training; at most 101 epochs are drawn."
    return style.Drawing(figure, _overfitting(comparison), note, Table(head, data))


def _overfitting(comparison: Comparison) -> str:
    """Say how the last validation losses compare with the training losses."""
    ratios = {}
    for best in comparison.best:
        history = best.judged.trained.history
        finished = history.diverged_at < 0
        if finished.any():
            last = history.validation_loss[finished, -1] / history.training_loss[finished, -1]
            ratios[best.cell.architecture] = float(np.median(last))
    if not ratios:
        return "No network finished, so there is no last loss."
    highest = max(ratios, key=lambda name: ratios[name])
    return (
        f"At the end the median network's validation loss is {min(ratios.values()):.3g} to {max(ratios.values()):.3g} "
        f"times its training loss, most with {highest}."
        if len(ratios) > 1
        else f"At the end the median network's validation loss is {ratios[highest]:.3g} times its training loss."
    )
