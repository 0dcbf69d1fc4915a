"""The report: what was run, what came out, and what that supports. Every number in it is computed here.

``report.md`` and its figures are the same bytes for the same results; wall times, which are not, go to
``timing.md`` beside it.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from circlemlp.config import Data, Report
from circlemlp.core.data import sample_dataset
from circlemlp.errors import UserError
from circlemlp.report import words
from circlemlp.report.commands import commands
from circlemlp.report.comparison import Comparison, compare
from circlemlp.report.document import Block, Bullets, Heading, Picture, as_markdown, as_page
from circlemlp.report.figures import MOST_PANELS, MOST_REPLICATES, POINTS_SHOWN, draw_all
from circlemlp.report.tables import (
    best_cell,
    best_table,
    by_cell,
    cells_table,
    choice_table,
    differences,
    facts,
    metrics,
    timing,
)
from circlemlp.store import disk
from circlemlp.store.records import Record, Store
from circlemlp.store.tables import CURVES, curve_rows, replicate_rows


def write_report(
    folder: Path,
    title: str,
    records: Sequence[Record],
    data: Data,
    store: Store,
    settings: Report,
    confirmation: Sequence[Record] | None = None,
) -> None:
    """Write report.md, report.html, metrics.json, best_cell.csv, timing.md and the figures into a folder.

    All are written aside first, so that a full disk does not leave new figures beside an old report.

    Parameters
    ----------
    folder : Path
    title : str
    records : sequence of Record
        The results. The data that they were trained on are drawn again.
    data : Data
        A data set whose file the commands in the report are to name.
    store : Store
        Where the training times are found, if they are known here.
    settings : Report
    confirmation : sequence of Record, optional
        As in ``compare``.

    Raises
    ------
    UserError
        If the results cannot be compared or their data cannot be drawn, or the folder cannot be written.
    """
    comparison = compare(records, settings, confirmation)
    config = records[0].ingredients["config"]
    dataset = sample_dataset(config["data"], config["training"]["replicates"])
    if dataset.digest() != records[0].ingredients["data"]:
        raise UserError("these results' points are those that an earlier version drew; train the cells again")
    how = commands([cell.record for cell in comparison.cells], data)
    rows = replicate_rows(records), curve_rows(records)
    replicates, curves = (pd.DataFrame(one).astype(dict.fromkeys(CURVES, float)) for one in rows)
    with disk.plain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with disk.lock(folder / ".lock"):
            disk.clear_abandoned(folder)
            with disk.aside(folder) as temporary:
                made = temporary / "report"
                made.mkdir()
                pictures = draw_all(made / "figures", comparison, replicates, curves, dataset)
                blocks = list(report(comparison, pictures, how))
                _write(made / "report.md", as_markdown(title, blocks))
                _write(made / "report.html", as_page(title, blocks, made / "figures"))
                _write(made / "metrics.json", json.dumps(metrics(comparison), indent=2) + "\n")
                _write(made / "best_cell.csv", best_cell(comparison, curves))
                _write(made / "timing.md", as_markdown("Training times", timing(comparison, store)))
                (folder / "figures").mkdir(exist_ok=True)
                for path in [path for path in made.rglob("*") if path.is_file()]:
                    path.replace(folder / path.relative_to(made))


def _write(path: Path, text: str) -> None:
    disk.write(path, text.encode())


def report(comparison: Comparison, pictures: dict[str, Picture], how: Sequence[str]) -> Iterator[Block]:
    """Yield the parts of the report; ``how`` are the commands that train its cells."""
    single = comparison.cells[0].replicates == 1
    settings, data = comparison.settings, comparison.cells[0].record.config.data
    whose = "its" if data.draws == "fresh" and not single else "the"
    yield " ".join(words.headline(comparison))
    yield words.population(comparison)
    yield from words.what_was_run(comparison)
    yield Heading("What else the numbers support")
    yield Bullets([(sentence,) for sentence in words.findings(comparison)])
    yield pictures["boundaries"]
    panels = f"The first {MOST_PANELS} architectures. " if len(comparison.best) > MOST_PANELS else ""
    yield (
        panels
        + ("" if single else "Each panel is the replicate with the median validation loss. ")
        + f"Colour is p(y = 1 | x); the points are {whose} "
        f"first {min(POINTS_SHOWN, data.n_validation)} validation points, by their label."
    )
    yield Heading("Each architecture at its best learning rate")
    yield (
        "The true error is the area where the network answers wrongly, as a share of the square; it is computed from "
        "the parameters, in real arithmetic and not from samples, and flipped labels do not count. Errors and losses "
        "are 25% trimmed means on the scale of the logarithm, accuracies 25% trimmed means"
        + (", with 95% intervals (Tukey and McLaughlin's). " if comparison.best[0].judged.accuracy.exists else ". ")
        + f"A bad run diverged or has a true error above {settings.bad_run_error:g}; in parentheses is the 95% "
        "interval of their share (Wilson's). A replicate that diverged counts as the worst possible. Epochs to 99% "
        "validation accuracy are medians."
    )
    yield best_table(comparison.best)
    yield Heading("Learning rates")
    yield (
        "The best learning rate has the lowest trimmed mean of the logarithm of the validation loss; where more than a "
        "quarter of the replicates diverged, a rate is not chosen."
    )
    if len(comparison.cells) > len(comparison.best) and any(one.exists for one in comparison.best):
        yield choice_table(comparison)
    yield pictures["learning_rates"]
    yield (
        f"Points are replicates (at most {MOST_REPLICATES} of a cell), a little aside for each architecture; lines are "
        "medians, without those that diverged."
    )
    yield pictures["heatmap"]
    yield "Framed: the best learning rate of each architecture."
    yield Heading("Loss curves")
    yield pictures["loss_curves"]
    yield (
        f"{panels}Each architecture at its best learning rate"
        + ("" if single else ": mean over replicates and band from the lowest to the highest")
        + ". Epoch 0 is before training; at most 101 epochs are drawn."
    )
    yield Heading("Differences between architectures")
    yield from differences(comparison)
    yield Heading("Every cell")
    yield words.rules(comparison)
    yield cells_table(comparison.cells)
    yield Heading("How to reproduce a cell")
    yield "Each command trains one cell, or finds its record, and prints its means."
    yield by_cell(comparison, "command", how)
    yield Heading("What decided these numbers")
    yield facts(comparison.cells[0].record)
    yield by_cell(comparison, "record", [cell.record.identity[:12] for cell in comparison.cells])
