"""The report: what was run, what came out, and what that supports. Every number in it is computed here.

``report.md`` and its figures are the same bytes for the same results; wall times, which are not, go to
``timing.md`` beside it.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from circlemlp import wording
from circlemlp.config import Data
from circlemlp.core.data import Dataset, sample_dataset
from circlemlp.errors import UserError
from circlemlp.report.commands import commands
from circlemlp.report.comparison import BestRate, CellResult, Comparison, Difference, compare
from circlemlp.report.document import Block, Bullets, Code, Heading, Picture, Strong, Table, as_markdown, as_page
from circlemlp.report.figures import POINTS_SHOWN, draw_all
from circlemlp.report.statistics import Interval
from circlemlp.store import disk
from circlemlp.store.records import DamagedRecord, Record, Store, Volatile
from circlemlp.store.tables import CURVES, curve_rows, replicate_rows

THRESHOLD = 0.95
"""The accuracy that the first version of this experiment claimed for every model without looking."""


def write_report(folder: Path, title: str, records: Sequence[Record], data: Data, store: Store) -> None:
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

    Raises
    ------
    UserError
        If the results cannot be compared or their data cannot be drawn, or the folder cannot be written.
    """
    comparison = compare(records)
    dataset = sample_dataset(records[0].ingredients["config"]["data"])
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
                blocks = list(report(comparison, dataset, pictures, how))
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


def report(
    comparison: Comparison, dataset: Dataset, pictures: dict[str, Picture], how: Sequence[str]
) -> Iterator[Block]:
    """Yield the parts of the report; ``how`` are the commands that train its cells."""
    single = all(cell.replicates == 1 for cell in comparison.cells)
    yield from what_was_run(comparison, dataset)
    yield Heading("What the numbers support")
    yield Bullets(findings(comparison, dataset))
    yield pictures["boundaries"]
    yield (
        ("" if single else "Each panel is the replicate with the median validation loss. ")
        + "Colour is p(y = 1 | x); the points are the "
        f"first {min(POINTS_SHOWN, len(dataset.y_validation))} validation points, by their label."
    )
    yield Heading("Each architecture at its best learning rate")
    yield (
        "The best learning rate is the one with the lowest mean validation loss; a cell with a diverged replicate "
        "cannot be best. The true error is the area where the network answers wrongly, as a share of the square; it is "
        "computed from the parameters, not from samples, and flipped labels do not count. " + interval_note(comparison)
    )
    yield best_table(comparison.best)
    yield Heading("Learning rates")
    yield pictures["learning_rates"]
    if not single:
        yield "Lines are means over replicates; bands reach from the lowest to the highest."
    yield pictures["heatmap"]
    yield "Framed: the best learning rate of each architecture."
    yield Heading("Loss curves")
    yield pictures["loss_curves"]
    yield (
        "Each architecture at its best learning rate"
        + ("" if single else ": mean over replicates and band from the lowest to the highest")
        + ". Epoch 0 is before training; at most 101 epochs are drawn."
    )
    yield Heading("Differences between architectures")
    yield from differences(comparison)
    yield Heading("Every cell")
    yield cells_table(comparison.cells)
    yield Heading("How to reproduce a cell")
    yield "Each command trains one cell, or finds its record, and prints its means."
    yield _by_cell(comparison, "command", how)
    yield Heading("What decided these numbers")
    yield facts(comparison.cells[0].record)
    yield _by_cell(comparison, "record", [cell.record.identity[:12] for cell in comparison.cells])


def what_was_run(comparison: Comparison, dataset: Dataset) -> tuple[str, str]:
    """Say what the experiment was, and on what data."""
    config = comparison.cells[0].record.config
    training, data = config.training, config.data
    rates = sorted({cell.learning_rate for cell in comparison.cells})
    batches = "the full batch" if training.batch_size is None else f"mini-batches of {training.batch_size}"
    chosen = (
        " The validation points also choose the best learning rates, so the scores at those rates are a little "
        "optimistic; there is no separate test set."
        if len(rates) > 1
        else ""
    )
    up_to = "up to " if config.early_stopping.patience is not None else ""
    return (
        f"{_count(len(comparison.best), 'architecture')}, {_count(len(rates), 'learning rate')} "
        f"({', '.join(f'{rate:g}' for rate in rates)}), {_count(training.replicates, 'replicate')} of each cell: "
        f"{_count(sum(cell.replicates for cell in comparison.cells), 'network')}. "
        f"Each was trained by {wording.NAMES[config.optimizer.name]} on {batches} for {up_to}"
        f"{_count(training.epochs, 'epoch')} in {training.dtype}.{_departures(comparison)}",
        f"Data: {wording.shape(data)}, {data.n_train} training and {data.n_validation} validation points, "
        f"label noise {data.label_noise:g}. "
        f"Always giving the more frequent answer scores {_majority(dataset):.4f} on the validation points." + chosen,
    )


def _majority(dataset: Dataset) -> float:
    """Return the accuracy of always giving the more frequent answer."""
    share = float(dataset.y_validation.mean())
    return max(share, 1 - share)


def _departures(comparison: Comparison) -> str:
    """Say what differs from a constant learning rate and the last epoch's parameters."""
    config = comparison.cells[0].record.config
    text = ""
    if schedule := wording.schedule(config):
        text += f" Schedule: {schedule}."
    if rule := wording.early_stopping(config):
        stopped = [epoch for cell in comparison.cells for epoch in cell.record.summary.stopped_at]
        text += (
            f" Early stopping: after {rule} a replicate ends and takes back its best parameters, chosen on the "
            f"validation points; {sum(epoch is not None for epoch in stopped)} of {len(stopped)} did."
        )
    return text


def findings(comparison: Comparison, dataset: Dataset) -> list[tuple[str, ...]]:
    """Return sentences, in parts, each with what it rests on."""
    best = min(comparison.best, key=lambda one: one.cell.ranking_loss)
    lowest = []
    if best.exists:
        lowest.append(
            (
                "The lowest mean validation loss is that of ",
                Strong(best.cell.architecture),
                f" at learning rate {best.cell.learning_rate:g}: {_interval(best.cell.loss)}, "
                f"with accuracy {_interval(best.cell.accuracy)}.",
            )
        )
    sentences = [_above_threshold(comparison.best)]
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
    stuck = [cell for cell in comparison.cells if cell.accuracy.mean <= _majority(dataset) + 1e-12]
    if stuck:
        names = ", ".join(f"{cell.architecture} at {cell.learning_rate:g}" for cell in stuck)
        sentences.append(f"On average no better than always giving the more frequent answer: {names}.")
    return [*lowest, *((sentence,) for sentence in sentences)]


def _above_threshold(best: Sequence[BestRate]) -> str:
    lowest = [
        min((v for v in one.cell.record.summary.validation_accuracy if v is not None), default=0.0) for one in best
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


def best_table(best: Sequence[BestRate]) -> Table:
    """Return a line for each architecture."""
    rows = [[one.cell.architecture, str(one.cell.parameters), *_best_cells(one)] for one in best]
    head = ["architecture", "parameters", "best learning rate", "true error", "validation accuracy", "validation loss"]
    return Table(head, rows)


def _best_cells(one: BestRate) -> list[str]:
    if not one.exists:
        return ["none: a replicate diverged at every rate", "", "", ""]
    rate = f"{one.cell.learning_rate:g}" + (f" ({one.edge} of the grid)" if one.edge else "")
    return [rate, *(_interval(value) for value in (one.cell.true_error, one.cell.accuracy, one.cell.loss))]


def cells_table(cells: Sequence[CellResult]) -> Table:
    """Return a line for each cell."""
    rows = [
        [
            cell.architecture,
            str(cell.parameters),
            f"{cell.learning_rate:g}",
            _interval(cell.true_error),
            _interval(cell.accuracy),
            _interval(cell.loss),
            f"{cell.diverged} of {cell.replicates}",
        ]
        for cell in cells
    ]
    scores = ["true error", "validation accuracy", "validation loss"]
    return Table(["architecture", "parameters", "learning rate", *scores, "diverged"], rows)


def differences(comparison: Comparison) -> list[Block]:
    """Compare every two architectures, each at its best learning rate."""
    if not comparison.differences:
        return ["There is only one architecture."]
    if all(one.loss.n == 1 for one in comparison.differences):
        return ["One replicate of each cell does not tell chance from a difference, so none is claimed."]
    rows = [
        [f"{one.first.architecture} − {one.second.architecture}", _interval(one.loss, signed=True), _verdict(one)]
        for one in comparison.differences
    ]
    return [
        "Differences of validation loss, each architecture at its best learning rate, replicate by replicate "
        "(a replicate's number fixes its random streams), with "
        f"intervals that hold together at 95 % (Bonferroni over {_count(len(rows), 'pair')}).",
        Table(["architectures", "difference of validation loss", "verdict"], rows),
    ]


def _verdict(one: Difference) -> str:
    if one.loss.n == 0:
        return "not comparable: a replicate diverged at every rate"
    if not one.loss.excludes_zero:
        return "not distinguishable"
    lower = one.first if one.loss.mean < 0 else one.second
    return f"{lower.architecture} is lower"


def _by_cell(comparison: Comparison, name: str, values: Sequence[str]) -> Table:
    """Return a line for each cell with a value that is shown as code."""
    rows = [
        [cell.architecture, f"{cell.learning_rate:g}", Code(value)]
        for cell, value in zip(comparison.cells, values, strict=True)
    ]
    return Table(["architecture", "learning rate", name], rows)


def facts(record: Record) -> Table:
    """Name what the identities of all cells share."""
    config, numerics = record.config, record.numerics
    blas = ", ".join(f"{pool.internal_api} {pool.version} {pool.architecture}" for pool in numerics.blas)
    environment = f"{numerics.mode}: NumPy {numerics.numpy}, {', '.join(numerics.simd[-1:]) or 'no SIMD'}"
    rows = [
        ["data", Code(record.ingredients["data"])],
        ["code of the core", Code(record.ingredients["code"])],
        ["numeric environment", f"{environment}, BLAS {blas or 'of the system'}, one thread"],
        ["optimizer", wording.optimizer(config)],
        ["seeds", f"data {config.data.seed}, training {config.training.seed}"],
    ]
    return Table(["what", "SHA-256 or value"], rows)


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
            "true_error": one.cell.true_error.mean if one.exists and one.cell.true_error.n else None,
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


def timing(comparison: Comparison, store: Store) -> list[Block]:
    """Return the training times: facts of one execution, not of the result."""
    rows, wall, cpu = [], 0.0, 0.0
    for cell in comparison.cells:
        try:
            told = store.load(cell.record.identity).volatile
        except (KeyError, DamagedRecord):
            told = Volatile()
        row = [cell.architecture, f"{cell.learning_rate:g}"]
        if told.wall_seconds is None or told.cpu_seconds is None:
            rows.append([*row, "not known here", "", "", ""])
            continue
        wall, cpu = wall + told.wall_seconds, cpu + told.cpu_seconds
        epochs = cell.record.config.training.epochs * cell.replicates
        seconds = f"{told.wall_seconds:.1f}", f"{told.cpu_seconds:.1f}", f"{1000 * told.wall_seconds / epochs:.3f}"
        rows.append([*row, *seconds, f"{told.started_at} on {told.host}"])
    head = ["architecture", "learning rate", "wall s", "CPU s", "ms per epoch and replicate", "trained"]
    return [f"All cells: {wall:.1f} s of wall time in workers, {cpu:.1f} s of CPU time.", Table(head, rows)]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _interval(interval: Interval, *, signed: bool = False) -> str:
    if interval.n == 0:
        return "none finished"
    mean = f"{interval.mean:+.4f}" if signed else f"{interval.mean:.4f}"
    return mean if math.isnan(interval.half_width) else f"{mean} ± {interval.half_width:.4f}"
