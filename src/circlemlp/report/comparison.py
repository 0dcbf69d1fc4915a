"""What the results say about architectures and learning rates: the judgements, as data.

Each architecture is judged at its own best learning rate: the one with the lowest mean validation loss,
where a cell with a diverged replicate has an infinite one. Replicates are paired across cells by their
number, which fixes their random streams.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from circlemlp.run.cells import architecture
from circlemlp.errors import UserError
from circlemlp.store.records import Record
from circlemlp.report.statistics import Interval, mean_interval


@dataclass(frozen=True)
class CellResult:
    """One cell's line of the comparison."""

    record: Record
    command: str
    architecture: str
    hidden_layer_sizes: tuple[int, ...]
    learning_rate: float
    parameters: int
    accuracy: Interval
    loss: Interval
    replicates: int
    diverged: int

    @property
    def ranking_loss(self) -> float:
        """The mean validation loss, infinite if any replicate diverged: a miss is not dropped."""
        return math.inf if self.diverged else self.loss.mean


@dataclass(frozen=True)
class BestRate:
    """An architecture at its best learning rate.

    Where a replicate diverged at every rate, none is best: ``exists`` is False, and ``cell`` is merely one to show.
    """

    cell: CellResult
    exists: bool
    edge: str | None
    """``"lowest"`` or ``"highest"`` where the best rate is the end of the grid, so a better one may lie beyond."""


@dataclass(frozen=True)
class Difference:
    """Two architectures, each at its best rate, compared replicate by replicate."""

    first: CellResult
    second: CellResult
    loss: Interval
    """Of the validation loss of the first minus that of the second; of no values unless both exist."""


@dataclass(frozen=True)
class Comparison:
    """Everything the report states."""

    cells: list[CellResult]
    best: list[BestRate]
    differences: list[Difference]


def compare(records: Sequence[Record], commands: Sequence[str]) -> Comparison:
    """Judge the cells of a sweep; smaller architectures come first.

    An architecture is the sizes of the layers and their activation.

    Raises
    ------
    UserError
        If they differ in more than architecture and learning rate.
    """
    _check_comparable(records)
    cells = sorted(
        (_cell(record, command) for record, command in zip(records, commands, strict=True)),
        key=lambda cell: (cell.parameters, cell.hidden_layer_sizes, cell.architecture, cell.learning_rate),
    )
    names = list(dict.fromkeys(cell.architecture for cell in cells))
    best = [_best([cell for cell in cells if cell.architecture == name]) for name in names]
    pairs = list(combinations(best, 2))
    return Comparison(cells, best, [_difference(a, b, comparisons=len(pairs)) for a, b in pairs])


def _check_comparable(records: Sequence[Record]) -> None:
    """Refuse cells that differ in more than architecture and learning rate."""

    def rest(record: Record) -> dict[str, Any]:
        of = copy.deepcopy(record.ingredients)
        del of["config"]["model"], of["config"]["optimizer"]["learning_rate"]
        return of

    if any(rest(record) != rest(records[0]) for record in records[1:]):
        raise UserError(
            "the report compares architectures and learning rates; these results differ in something else too"
        )


def _cell(record: Record, command: str) -> CellResult:
    config, summary = record.ingredients["config"], record.summary
    sizes = config["model"]["hidden_layer_sizes"]

    def interval(name: str) -> Interval:
        return mean_interval([value for value in summary[name] if value is not None])

    return CellResult(
        record=record,
        command=command,
        architecture=architecture(config["model"]),
        hidden_layer_sizes=tuple(sizes),
        learning_rate=config["optimizer"]["learning_rate"],
        parameters=summary["n_parameters"],
        accuracy=interval("validation_accuracy"),
        loss=interval("validation_loss"),
        replicates=len(summary["diverged_at"]),
        diverged=sum(epoch is not None for epoch in summary["diverged_at"]),
    )


def _best(cells: Sequence[CellResult]) -> BestRate:
    best = min(cells, key=lambda cell: (cell.ranking_loss, cell.learning_rate))
    exists = math.isfinite(best.ranking_loss)
    rates = [cell.learning_rate for cell in cells]
    edge = None
    if exists and len(rates) > 1 and best.learning_rate in (min(rates), max(rates)):
        edge = "lowest" if best.learning_rate == min(rates) else "highest"
    return BestRate(best, exists, edge)


def _difference(first: BestRate, second: BestRate, *, comparisons: int) -> Difference:
    paired: list[float] = []
    if first.exists and second.exists:
        losses = (one.cell.record.summary["validation_loss"] for one in (first, second))
        paired = [a - b for a, b in zip(*losses, strict=True)]
    return Difference(first.cell, second.cell, mean_interval(paired, comparisons=comparisons))
