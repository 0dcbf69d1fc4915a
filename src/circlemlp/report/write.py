"""The report: what was run, what came out, and what that supports. Every number in it is computed here.

``report.md`` and its figures are the same bytes for the same results; wall times, which are not, go to
``timing.md`` beside it.
"""

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from circlemlp import wording
from circlemlp.report.comparison import BestRate, CellResult, Comparison, Difference, compare
from circlemlp.core.data import Dataset
from circlemlp.errors import UserError
from circlemlp.report.figures import POINTS_SHOWN, draw_all
from circlemlp.report.page import html
from circlemlp.store.records import DamagedRecord, Store, locked, plain_disk_errors
from circlemlp.store.results import Results
from circlemlp.report.statistics import Interval

THRESHOLD = 0.95
"""The accuracy that the first version of this experiment claimed for every model without looking."""


def write_report(folder: Path, title: str, results: Results, dataset: Dataset, store: Store) -> None:
    """Write report.md, report.html, metrics.json, best_cell.csv, timing.md and the figures into a folder.

    All are written aside first, so that a full disk does not leave new figures beside an old report.

    ``store`` is where the training times are found, if they are known here.

    Raises
    ------
    UserError
        If the data set is not the one that the results were trained on.
    """
    if any(record.ingredients["data"] != dataset.digest() for record in results.records):
        raise UserError("the data file is not the one these results were trained on; run dvc repro")
    comparison = compare(results.records, results.commands)
    with plain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder), tempfile.TemporaryDirectory(prefix=".aside-", dir=folder) as temporary:
            aside = Path(temporary)
            figures = draw_all(aside / "figures", results, comparison, dataset)
            text = markdown(title, comparison, dataset, figures)
            (aside / "report.md").write_text(text, encoding="utf-8")
            (aside / "report.html").write_text(html(title, text, aside), encoding="utf-8")
            (aside / "metrics.json").write_text(json.dumps(metrics(comparison), indent=2) + "\n")
            (aside / "best_cell.csv").write_text(best_cell(comparison, results.curves))
            (aside / "timing.md").write_text(timing(comparison, store), encoding="utf-8")
            (folder / "figures").mkdir(exist_ok=True)
            for made in (path for path in aside.rglob("*") if path.is_file()):
                made.replace(folder / made.relative_to(aside))


def markdown(title: str, comparison: Comparison, dataset: Dataset, figures: dict[str, str]) -> str:
    """Return the report as Markdown."""
    single = all(cell.replicates == 1 for cell in comparison.cells)

    def figure(name: str) -> str:
        return f"![{figures[name]}](figures/{name})"

    sections = [
        f"# {title}",
        what_was_run(comparison, dataset),
        "## What the numbers support",
        "\n".join(f"- {sentence}" for sentence in findings(comparison, dataset)),
        figure("boundaries.svg"),
        ("" if single else "Each panel is the replicate with the median validation loss. ")
        + "Colour is p(y = 1 | x); the points are the "
        f"first {min(POINTS_SHOWN, len(dataset.y_validation))} validation points, by their label.",
        "## Each architecture at its best learning rate",
        "The best learning rate is the one with the lowest mean validation loss; a cell with a diverged replicate "
        "cannot be best. " + interval_note(comparison),
        best_table(comparison.best),
        "## Learning rates",
        figure("learning_rates.svg"),
        *([] if single else ["Lines are means over replicates; bands reach from the lowest to the highest."]),
        figure("heatmap.svg"),
        "Framed: the best learning rate of each architecture.",
        "## Loss curves",
        figure("loss_curves.svg"),
        "Each architecture at its best learning rate"
        + ("" if single else ": mean over replicates and band from the lowest to the highest")
        + ". Epoch 0 is before training; at most 101 epochs are drawn.",
        "## Differences between architectures",
        *differences(comparison),
        "## Every cell",
        cells_table(comparison.cells),
        "## How to reproduce a cell",
        "Each command trains one cell, or finds its record, and prints its means.",
        commands(comparison.cells),
        "## What decided these numbers",
        provenance(comparison),
    ]
    return "\n\n".join(sections) + "\n"


def what_was_run(comparison: Comparison, dataset: Dataset) -> str:
    """Say what the experiment was."""
    config = comparison.cells[0].record.ingredients["config"]
    training, data = config["training"], config["data"]
    rates = sorted({cell.learning_rate for cell in comparison.cells})
    batches = "the full batch" if training["batch_size"] is None else f"mini-batches of {training['batch_size']}"
    chosen = (
        " The validation points also choose the best learning rates, so the scores at those rates are a little "
        "optimistic; there is no separate test set."
        if len(rates) > 1
        else ""
    )
    share = max(dataset.y_validation.mean(), 1 - dataset.y_validation.mean())
    up_to = "up to " if config["early_stopping"]["patience"] is not None else ""
    return (
        f"{_count(len(comparison.best), 'architecture')}, {_count(len(rates), 'learning rate')} "
        f"({', '.join(f'{rate:g}' for rate in rates)}), {_count(training['replicates'], 'replicate')} of each cell: "
        f"{_count(sum(cell.replicates for cell in comparison.cells), 'network')}. "
        f"Each was trained by {wording.NAMES[config['optimizer']['name']]} on {batches} for {up_to}"
        f"{_count(training['epochs'], 'epoch')} in {training['dtype']}.{_departures(comparison)}\n\n"
        f"Data: {_shape(data)}, {data['n_train']} training and {data['n_validation']} validation points, "
        f"label noise {data['label_noise']:g}. "
        f"Always giving the more frequent answer scores {share:.4f} on the validation points." + chosen
    )


def _departures(comparison: Comparison) -> str:
    """Say what differs from a constant learning rate and the last epoch's parameters."""
    config = comparison.cells[0].record.ingredients["config"]
    text = ""
    if schedule := wording.schedule(config):
        text += f" Schedule: {schedule}."
    if rule := wording.early_stopping(config):
        stopped = [epoch for cell in comparison.cells for epoch in cell.record.summary["stopped_at"]]
        text += (
            f" Early stopping: after {rule} a replicate ends and takes back its best parameters, chosen on the "
            f"validation points; {sum(epoch is not None for epoch in stopped)} of {len(stopped)} did."
        )
    return text


def findings(comparison: Comparison, dataset: Dataset) -> list[str]:
    """Return sentences, each with what it rests on."""
    best = min(comparison.best, key=lambda one: one.cell.ranking_loss)
    sentences = []
    if best.exists:
        sentences.append(
            f"The lowest mean validation loss is that of **{best.cell.architecture}** at learning rate "
            f"{best.cell.learning_rate:g}: {_interval(best.cell.loss)}, with accuracy {_interval(best.cell.accuracy)}."
        )
    sentences.append(_above_threshold(comparison.best))
    for one in comparison.best:
        if not one.exists:
            sentences.append(f"{one.cell.architecture} has no best learning rate: a replicate diverged at every one.")
        if one.edge:
            sentences.append(
                f"The best learning rate of {one.cell.architecture}, {one.cell.learning_rate:g}, is the {one.edge} of "
                "the grid: a better one may lie beyond it."
            )
    diverged = sum(cell.diverged for cell in comparison.cells)
    total = sum(cell.replicates for cell in comparison.cells)
    sentences.append(
        f"{diverged} of {_count(total, 'network')} diverged."
        if diverged
        else f"None of {_count(total, 'network')} diverged."
    )
    majority = max(dataset.y_validation.mean(), 1 - dataset.y_validation.mean())
    stuck = [cell for cell in comparison.cells if cell.accuracy.mean <= majority + 1e-12]
    if stuck:
        names = ", ".join(f"{cell.architecture} at {cell.learning_rate:g}" for cell in stuck)
        sentences.append(f"On average no better than always giving the more frequent answer: {names}.")
    return sentences


def _above_threshold(best: Sequence[BestRate]) -> str:
    lowest = [
        min((v for v in one.cell.record.summary["validation_accuracy"] if v is not None), default=0.0) for one in best
    ]
    above = [one.exists and value > THRESHOLD for one, value in zip(best, lowest, strict=True)]
    if all(above):
        return (
            f"Every architecture exceeds {THRESHOLD:.0%} validation accuracy at its best learning rate, "
            f"in every replicate (the lowest: {min(lowest):.4f})."
        )
    names = ", ".join(one.cell.architecture for one, passed in zip(best, above, strict=True) if not passed)
    return (
        f"{sum(above)} of {len(best)} architectures exceed {THRESHOLD:.0%} validation accuracy "
        f"at their best learning rates, in every replicate; not: {names}."
    )


def best_table(best: Sequence[BestRate]) -> str:
    """Return a line for each architecture."""
    rows = [
        [
            one.cell.architecture,
            str(one.cell.parameters),
            *_best_cells(one),
        ]
        for one in best
    ]
    return _table(["architecture", "parameters", "best learning rate", "validation accuracy", "validation loss"], rows)


def _best_cells(one: BestRate) -> list[str]:
    if not one.exists:
        return ["none: a replicate diverged at every rate", "", ""]
    rate = f"{one.cell.learning_rate:g}" + (f" ({one.edge} of the grid)" if one.edge else "")
    return [rate, _interval(one.cell.accuracy), _interval(one.cell.loss)]


def cells_table(cells: Sequence[CellResult]) -> str:
    """Return a line for each cell."""
    rows = [
        [
            cell.architecture,
            str(cell.parameters),
            f"{cell.learning_rate:g}",
            _interval(cell.accuracy),
            _interval(cell.loss),
            f"{cell.diverged} of {cell.replicates}",
        ]
        for cell in cells
    ]
    head = ["architecture", "parameters", "learning rate", "validation accuracy", "validation loss", "diverged"]
    return _table(head, rows)


def differences(comparison: Comparison) -> list[str]:
    """Compare every two architectures, each at its best learning rate."""
    if not comparison.differences:
        return ["There is only one architecture."]
    if all(one.loss.n == 1 for one in comparison.differences):
        return ["One replicate of each cell does not tell chance from a difference, so none is claimed."]
    rows = [
        [
            f"{one.first.architecture} − {one.second.architecture}",
            _interval(one.loss, signed=True),
            _verdict(one),
        ]
        for one in comparison.differences
    ]
    return [
        "Differences of validation loss, each architecture at its best learning rate, replicate by replicate "
        "(a replicate's number fixes its random streams), with "
        f"intervals that hold together at 95 % (Bonferroni over {_count(len(rows), 'pair')}).",
        _table(["architectures", "difference of validation loss", "verdict"], rows),
    ]


def _verdict(one: Difference) -> str:
    if one.loss.n == 0:
        return "not comparable: a replicate diverged at every rate"
    if not one.loss.excludes_zero:
        return "not distinguishable"
    lower = one.first if one.loss.mean < 0 else one.second
    return f"{lower.architecture} is lower"


def commands(cells: Sequence[CellResult]) -> str:
    """Return the command behind each cell."""
    return _table(
        ["architecture", "learning rate", "command"],
        [[cell.architecture, f"{cell.learning_rate:g}", f"`{cell.command}`"] for cell in cells],
    )


def provenance(comparison: Comparison) -> str:
    """Name everything the identities are made of, and the identities."""
    of = comparison.cells[0].record.ingredients
    blas = ", ".join(
        f"{pool['internal_api']} {pool['version']} {pool['architecture']}" for pool in of["numerics"]["blas"]
    )
    facts = [
        ["data", f"`{of['data']}`"],
        ["code of the core", f"`{of['code']}`"],
        [
            "numeric environment",
            f"{of['numerics']['mode']}: NumPy {of['numerics']['numpy']}, {of['numerics']['simd'][-1]}, "
            f"BLAS {blas or 'of the system'}, one thread",
        ],
        ["optimizer", wording.optimizer(of["config"])],
        ["seeds", f"data {of['config']['data']['seed']}, training {of['config']['training']['seed']}"],
    ]
    records = [
        [cell.architecture, f"{cell.learning_rate:g}", f"`{cell.record.identity[:12]}`"] for cell in comparison.cells
    ]
    return (
        _table(["what", "SHA-256 or value"], facts)
        + "\n\n"
        + _table(["architecture", "learning rate", "record"], records)
    )


def interval_note(comparison: Comparison) -> str:
    """Say what ± means, where there is one."""
    if all(cell.accuracy.n < 2 for cell in comparison.cells):
        return "There is one replicate of each cell, so there are no intervals."
    return "± is the 95 % confidence interval of the mean over replicates (Student's t)."


def metrics(comparison: Comparison) -> dict[str, Any]:
    """Return what ``dvc metrics`` shows: each architecture at its best learning rate, and the best of these."""

    def numbers(one: BestRate) -> dict[str, float | None]:
        return {
            "best_learning_rate": one.cell.learning_rate if one.exists else None,
            "validation_accuracy": one.cell.accuracy.mean if one.exists else None,
            "validation_loss": one.cell.loss.mean if one.exists else None,
        }

    best = min(comparison.best, key=lambda one: one.cell.ranking_loss)
    return {"best": numbers(best)} | {one.cell.architecture: numbers(one) for one in comparison.best}


def best_cell(comparison: Comparison, curves: pd.DataFrame) -> str:
    """Return, as CSV, the mean curves of the cell with the lowest loss: what ``dvc plots`` overlays."""
    best = min(comparison.best, key=lambda one: one.cell.ranking_loss)
    own = curves[curves["identity"] == best.cell.record.identity[:12]]
    means: str = own.groupby("epoch")[["training_loss", "validation_loss"]].mean().to_csv(lineterminator="\n")
    return means


def timing(comparison: Comparison, store: Store) -> str:
    """Return the training times as Markdown: facts of one execution, not of the result."""
    rows, wall, cpu = [], 0.0, 0.0
    for cell in comparison.cells:
        try:
            volatile = store.load(cell.record.identity).volatile
        except (KeyError, DamagedRecord):
            volatile = {}
        if "wall_seconds" not in volatile:
            rows.append([cell.architecture, f"{cell.learning_rate:g}", "not known here", "", "", ""])
            continue
        wall, cpu = wall + volatile["wall_seconds"], cpu + volatile["cpu_seconds"]
        epochs = cell.record.ingredients["config"]["training"]["epochs"] * cell.replicates
        rows.append(
            [
                cell.architecture,
                f"{cell.learning_rate:g}",
                f"{volatile['wall_seconds']:.1f}",
                f"{volatile['cpu_seconds']:.1f}",
                f"{1000 * volatile['wall_seconds'] / epochs:.3f}",
                f"{volatile['started_at']} on {volatile['host']}",
            ]
        )
    head = ["architecture", "learning rate", "wall s", "CPU s", "ms per epoch and replicate", "trained"]
    total = f"All cells: {wall:.1f} s of wall time in workers, {cpu:.1f} s of CPU time."
    return f"# Training times\n\n{total}\n\n{_table(head, rows)}\n"


def _shape(data: dict[str, Any]) -> str:
    if data["shape"] == "quarter_circle":
        return f"uniform on the unit square, y = 1 inside the arc of radius {data['radius']:g}"
    if data["shape"] == "disk":
        return f"uniform on [-1, 1]², y = 1 inside the circle of radius {data['radius']:g}"
    radii = f"{data['inner_radius']:g} and {data['outer_radius']:g}"
    return f"uniform on [-1, 1]², y = 1 between the circles of radius {radii}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _interval(interval: Interval, *, signed: bool = False) -> str:
    if interval.n == 0:
        return "none finished"
    mean = f"{interval.mean:+.4f}" if signed else f"{interval.mean:.4f}"
    return mean if math.isnan(interval.half_width) else f"{mean} ± {interval.half_width:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
