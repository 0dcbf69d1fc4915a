"""The report's tables, and the numbers that DVC shows. Those that judge are sorted by true error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from circlemlp import wording
from circlemlp.errors import UserError
from circlemlp.report import headline, operations, regimes, sensitivity, sparks, words
from circlemlp.report.cell_results import CellResult, numbered
from circlemlp.report.choosing import BestRate
from circlemlp.report.commands import model_name
from circlemlp.report.comparison import Comparison, Difference
from circlemlp.report.document import Block, Code, Link, Numeric, Table
from circlemlp.report.statistics import Interval
from circlemlp.store.records import DamagedRecord, Record, Store, Volatile
from circlemlp.store.stages import Stage, run_id
from circlemlp.store.trained import Trained

MOST_PAIRS = 45
"""Pairs of architectures in a table; of more, those with the lowest error are shown."""


@dataclass(frozen=True)
class Runs:
    """Where ``make ui`` shows the MLflow runs of the cells in a report.

    Attributes
    ----------
    port : int
    experiments : mapping of str
        By the stages that there are, of which experiment their replicates are.
    """

    port: int
    experiments: Mapping[Stage, str]

    def address(self, stage: Stage, cell: Trained) -> str:
        """Return the address of a cell's run."""
        return f"http://127.0.0.1:{self.port}/#/runs/{run_id(self.experiments[stage], stage, cell)}"


def best_table(best: Sequence[BestRate]) -> Table:
    """Return a line for each architecture, the lowest true error first."""
    rows = [[one.cell.architecture, *_best_cells(one)] for one in _ranked(best)]
    numbers = ["best learning rate", "true error", "median", "worst", "bad runs"]
    return Table(["architecture", *map(Numeric, [*numbers, "validation accuracy", "validation loss"])], rows)


def _ranked(best: Sequence[BestRate]) -> list[BestRate]:
    return sorted(best, key=lambda one: one.rank)


def _best_cells(one: BestRate) -> list[str]:
    if one.lacks == "rate":
        return ["none: too many replicates diverged at every rate", *[""] * 6]
    judged = one.judged
    rate = words.rate(one.cell.learning_rate) + (f" ({one.edge} of the grid)" if one.edge else "")
    if one.lacks:
        return [rate, "not confirmed", *[""] * 5]
    errors = (
        ["", ""]
        if judged.unknown
        else [words.number(np.median(judged.true_errors)), words.number(judged.true_errors.max())]
    )
    scores = [words.score(judged, name) for name in ("error", "accuracy", "loss")]
    return [rate, scores[0], *errors, words.bad_runs(judged), *scores[1:]]


def costs_table(best: Sequence[BestRate]) -> Table:
    """Return a line for each architecture with what a training at its best learning rate costs."""
    rows = []
    for one in _ranked(best):
        cell = one.judged.trained
        known = [
            words.gigaflop(operations.of_training(cell)),
            words.epochs(regimes.epochs_to_goal(cell)),
            words.gigaflop(operations.to_goal(cell)),
        ]
        shown = known if one.exists else [""] * 3
        rows.append([one.cell.architecture, str(cell.summary.n_parameters), *shown])
    return Table(["architecture", *map(Numeric, ["parameters", "GFLOP", "epochs to 99%", "GFLOP to 99%"])], rows)


def choice_table(comparison: Comparison) -> Table:
    """Return a line for each architecture with the doubts about its best learning rate."""
    rows, sensitivities = [], _sensitivities(comparison.cells)
    for one, doubt in zip(comparison.best, comparison.doubts, strict=True):
        if one.lacks == "rate":
            continue
        tied = "too few replicates to tell" if doubt.not_separated is None else _rates(doubt.not_separated) or "none"
        chosen = sorted(doubt.frequencies.items(), key=lambda item: -item[1])
        often = words.some([f"{words.rate(rate)}: {share:.0%}" for rate, share in chosen])
        if one.cell.replicates == 1:
            often = "too few replicates to tell"
        sensitive = words.interval(sensitivities[one.cell.architecture])
        rows.append([one.cell.architecture, words.rate(one.cell.learning_rate), tied, often, sensitive])
    head = ["architecture", Numeric("best learning rate"), "not separated from it", "chosen by resampled replicates"]
    return Table([*head, Numeric("sensitivity")], rows)


def _sensitivities(cells: Sequence[CellResult]) -> dict[str, Interval]:
    """Return the sensitivity of each architecture, over the rates that all of them have: else they do not compare."""
    by_rate: dict[float, list[CellResult]] = {}
    for cell in cells:
        by_rate.setdefault(cell.learning_rate, []).append(cell)
    own: dict[str, list[Trained]] = {cell.architecture: [] for cell in cells}
    for cell in cells:
        if len(by_rate[cell.learning_rate]) == len(own):
            own[cell.architecture].append(cell.trained)
    return {
        name: sensitivity.of_architecture(trained) if len(trained) > 1 else Interval(math.nan)
        for name, trained in own.items()
    }


def _rates(rates: Sequence[float]) -> str:
    return words.some(list(map(words.rate, rates)))


def cells_table(comparison: Comparison, records: Sequence[Record], commands: Sequence[str], runs: Runs) -> Table:
    """Return a line for each cell, the lowest true error first, and more about it: of records, with their commands."""
    ranked = sorted(comparison.cells, key=_rank)
    rows = [
        [
            cell.architecture,
            words.rate(cell.learning_rate),
            *(words.score(cell, name) for name in ("error", "accuracy", "loss")),
            f"{cell.bad_runs} of {cell.replicates}",
            f"{cell.diverged} of {cell.replicates}",
            cell.regime,
        ]
        for cell in ranked
    ]
    numbers = ["learning rate", "true error", "validation accuracy", "validation loss", "bad runs", "diverged"]
    own: dict[tuple[str, float], list[tuple[Record, str]]] = {}
    for record, command in zip(records, commands, strict=True):
        key = wording.architecture(record.config.model), record.config.optimizer.learning_rate
        own.setdefault(key, []).append((record, command))
    links: dict[tuple[str, float], list[Link]] = {}
    stages: dict[Stage, Sequence[CellResult]] = {"tuning": comparison.cells, "confirmation": comparison.confirmation}
    for stage, judged in stages.items():
        for cell in judged:
            link = Link(f"MLflow run of the {stage}", runs.address(stage, cell.trained))
            links.setdefault(cell.key, []).append(link)
    low, high = sparks.limits(ranked)
    more = [
        [
            "True errors of the replicates:",
            sparks.strip(cell, low, high),
            "Median validation loss, from the first epoch to the last:",
            sparks.curve(cell) or "every replicate diverged",
            *(part for record, command in own[cell.key] for part in _reproduced(record, command)),
            *links[cell.key],
        ]
        for cell in ranked
    ]
    anchors = [wording.anchor_of_cell(*cell.key) for cell in ranked]
    return Table(["architecture", *map(Numeric, numbers), "regime"], rows, anchors, more=more)


def _reproduced(record: Record, command: str) -> list[str]:
    """Return which record it is, and what trains it again."""
    return [
        f"Record {record.identity[:12]}, of {numbered(np.array(record.config.training.numbers))}:",
        Markup('<code class="command">{}</code>').format(command),
    ]


def grid_table(comparison: Comparison) -> Table:
    """Return true errors and regimes, architecture by learning rate; the longer of the two goes down."""
    names = [best.cell.architecture for best in comparison.best]
    rates = sorted({cell.learning_rate for cell in comparison.cells})
    cells = {cell.key: cell for cell in comparison.cells}
    chosen = {best.cell.key for best in comparison.best if best.lacks != "rate" and len(rates) > 1}

    def shown(name: str, rate: float) -> tuple[str, str]:
        cell = cells.get((name, rate))
        if cell is None:
            return "", ""
        known = not cell.unknown and not regimes.diverged(cell.trained)
        text = f"{words.number(cell.error.estimate)} {cell.regime}" if known else cell.regime
        return Link(text + ", chosen" * (cell.key in chosen), f"#{wording.anchor_of_cell(*cell.key)}"), cell.regime

    if len(rates) >= len(names):
        head, first = [Numeric("learning rate"), *names], [words.rate(rate) for rate in rates]
        lines = [[shown(name, rate) for name in names] for rate in rates]
    else:
        head, first = ["architecture", *map(words.rate, rates)], names
        lines = [[shown(name, rate) for rate in rates] for name in names]
    rows = [[one, *(text for text, _ in line)] for one, line in zip(first, lines, strict=True)]
    return Table(head, rows, shades=[["", *(regime for _, regime in line)] for line in lines])


def _rank(cell: CellResult) -> tuple[bool, bool, float]:
    return regimes.diverged(cell.trained), cell.unknown > 0, cell.error.estimate


def differences(comparison: Comparison) -> list[Block]:
    """Compare every two architectures, each at its best learning rate."""
    if len(comparison.best) == 1:
        return ["There is only one architecture."]
    if reason := headline.nothing_claimed(comparison):
        return [f"{words.sentence(reason)}."]
    ranked, pairs = _ranked(comparison.best), comparison.last.differences
    shown = pairs if len(pairs) <= MOST_PAIRS else [one for one in pairs if ranked[0] in (one.first, one.second)]
    equal = comparison.settings.practically_equal
    compared = sum(one.verdict != "none" for one in pairs)
    flips = comparison.last.flips
    how = f" (the largest |t| of {words.count(compared, 'pair')}, by {flips} flips of signs)" if compared else ""
    text = (
        "Ratios of true errors, each architecture at its best learning rate, compared replicate by replicate, with "
        f"intervals that hold together at 95%{how}. An interval without 1 names "
        f"the lower error; one between {1 / (1 + equal):.3g} and {1 + equal:.3g} is practically equal; else nothing is "
        "decided, and the number of replicates is that which would decide with a power of 80%."
    )
    if shown is not pairs:
        text += f" Shown are the pairs with {ranked[0].cell.architecture}."
    if reason := words.without_bounds(pairs):
        text += f" {reason}"
    rows = [_difference_row(one, equal) for one in sorted(shown, key=lambda one: _order(one, ranked))]
    return [text, Table(["architectures", Numeric("ratio of errors"), Numeric("first lower in"), "verdict"], rows)]


def _order(one: Difference, ranked: Sequence[BestRate]) -> tuple[int, ...]:
    return tuple(sorted((ranked.index(one.first), ranked.index(one.second))))


def _difference_row(one: Difference, practically_equal: float) -> list[str]:
    names = f"{one.first.cell.architecture} / {one.second.cell.architecture}"
    if one.verdict == "none":
        return [names, "", "", words.verdict(one, practically_equal)]
    ties = one.first.judged.replicates - one.wins - one.losses
    wins = f"{one.wins} of {one.first.judged.replicates}" + (f", {ties} equal" if ties else "")
    return [names, words.interval(one.ratio), wins, words.verdict(one, practically_equal)]


def _numbers(record: Record) -> str:
    return numbered(np.array(record.config.training.numbers)).partition(" ")[2]


def _kind(record: Record) -> str:
    model = record.config.model
    return f"activation {model.activation}, initialisation {model.initialisation}"


def facts(records: Sequence[Record]) -> Table:
    """Name what the identities of all records share, and the points that they do not."""
    config, numerics = records[0].config, records[0].numerics
    blas = ", ".join(f"{pool.internal_api} {pool.version} {pool.architecture}" for pool in numerics.blas)
    environment = f"{numerics.mode}: NumPy {numerics.numpy}, {', '.join(numerics.simd[-1:]) or 'no SIMD'}"
    ranges = {record.ingredients["data"]: f" of replicates {_numbers(record)}" for record in reversed(records)}
    rows = [
        *([f"data{whose * (len(ranges) > 1)}", Code(digest)] for digest, whose in reversed(ranges.items())),
        ["code of the core", Code(records[0].ingredients["code"])],
        ["numeric environment", f"{environment}, BLAS {blas or 'of the system'}, one thread"],
        ["networks", "; ".join(sorted({_kind(record) for record in records}))],
        ["optimizer", wording.optimizer(config).replace("-", "\N{MINUS SIGN}")],
        ["seeds", f"data {config.data.seed}, training {config.training.seed}"],
    ]
    return Table(["what", "SHA-256 or value"], rows)


def true_errors(comparison: Comparison) -> dict[str, float | None]:
    """Return what ``dvc metrics`` shows: each architecture's true error, by the name of its file in conf/model/."""

    def rounded(one: BestRate) -> float | None:
        estimate = one.judged.error.estimate
        # Six digits, because the last ones of a logarithm are the C library's.
        return float(f"{estimate:.6g}") if one.exists and math.isfinite(estimate) else None

    return {model_name(one.cell.trained.config.model): rounded(one) for one in comparison.best}


def rows_of(cell: CellResult, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a tidy table that are about the replicates of a cell."""
    own = (table["architecture"] == cell.architecture) & (table["learning_rate"] == cell.learning_rate)
    return table[own & table["replicate"].isin(cell.trained.numbers)]


def timing(records: Sequence[Record], store: Store) -> list[Block]:
    """Return the training times: facts of one execution, not of the result."""
    rows, wall, cpu = [], 0.0, 0.0
    for record in records:
        try:
            told = store.load(record.identity).volatile
        except (KeyError, DamagedRecord, UserError):
            told = Volatile()
        training = record.config.training
        row = [
            wording.architecture(record.config.model),
            str(record.summary.n_parameters),
            words.rate(record.config.optimizer.learning_rate),
            _numbers(record),
            *(_mean(values) for values in (record.summary.validation_accuracy, record.summary.validation_loss)),
        ]
        if told.wall_seconds is None or told.cpu_seconds is None:
            rows.append([*row, "not known here", "", "", ""])
            continue
        wall, cpu = wall + told.wall_seconds, cpu + told.cpu_seconds
        per_epoch = 1000 * told.wall_seconds / (training.epochs * training.replicates)
        seconds = f"{told.wall_seconds:.1f}", f"{told.cpu_seconds:.1f}", f"{per_epoch:.3f}"
        rows.append([*row, *seconds, f"{told.started_at} on {told.host}"])
    scores = ["validation accuracy", "validation loss", "wall s", "CPU s", "ms per epoch and replicate"]
    head = ["architecture", Numeric("parameters"), Numeric("learning rate"), "replicates", *map(Numeric, scores)]
    text = (
        f"All cells: {wall:.1f} s of wall time in workers, {cpu:.1f} s of CPU time. Accuracy and loss are means over "
        "the replicates that did not diverge."
    )
    return [text, Table([*head, "trained"], rows)]


def _mean(values: Sequence[float | None]) -> str:
    finite = [value for value in values if value is not None]
    return f"{sum(finite) / len(finite):.4f}" if finite else "diverged"
