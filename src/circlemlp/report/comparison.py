"""What the results say about architectures and learning rates: the judgements, as data.

Each architecture is judged at its own best learning rate: the one with the lowest mean validation loss,
where a cell with a diverged replicate has an infinite one. Replicates are paired across cells by their
number, which fixes their random streams.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from circlemlp.errors import UserError
from circlemlp.report.statistics import Interval, mean_interval
from circlemlp.store.records import Record
from circlemlp.wording import architecture


@dataclass(frozen=True)
class CellResult:
    """One cell's line of the comparison."""

    record: Record
    architecture: str
    hidden_layer_sizes: tuple[int, ...]
    learning_rate: float
    parameters: int
    true_error: Interval
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


def compare(records: Sequence[Record]) -> Comparison:
    """Judge the cells of a sweep; smaller architectures come first.

    An architecture is the sizes of the layers and their activation.

    Raises
    ------
    UserError
        If they differ in more than architecture and learning rate.
    """
    _check_comparable(records)
    cells = sorted(
        map(_cell, records),
        key=lambda cell: (cell.parameters, cell.hidden_layer_sizes, cell.architecture, cell.learning_rate),
    )
    names = list(dict.fromkeys(cell.architecture for cell in cells))
    best = [_best([cell for cell in cells if cell.architecture == name]) for name in names]
    pairs = list(combinations(best, 2))
    return Comparison(cells, best, [_difference(a, b, comparisons=len(pairs)) for a, b in pairs])


def _check_comparable(records: Sequence[Record]) -> None:
    """Refuse cells that differ in more than architecture and learning rate, and say in what."""
    first, *others = (dict(_ingredients(record.ingredients)) for record in records)
    keys = dict.fromkeys(key for other in others for key in first | other)
    differing = [key for key in keys if any(first.get(key) != other.get(key) for other in others)]
    if differing:
        raise UserError(
            "the report compares architectures and learning rates; these results differ in something else too: "
            + ", ".join(differing)
        )


def _ingredients(section: dict[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all that decided a result but what is compared, each under the key that a person knows it by."""
    names = {"data": "the points", "code": "the code of the core"}  # of which there are digests
    for key, value in section.items():
        full = "" if key == "config" else f"{name}{key}"
        if isinstance(value, dict) and full != "model":
            yield from _ingredients(value, f"{full}." if full else "")
        elif full not in ("model", "optimizer.learning_rate"):
            yield names.get(full, full), value


def _cell(record: Record) -> CellResult:
    config, summary = record.config, record.summary

    def interval(values: Sequence[float | None]) -> Interval:
        return mean_interval([value for value in values if value is not None])

    return CellResult(
        record=record,
        architecture=architecture(config.model),
        hidden_layer_sizes=tuple(config.model.hidden_layer_sizes),
        learning_rate=config.optimizer.learning_rate,
        parameters=summary.n_parameters,
        true_error=interval(summary.true_error),
        accuracy=interval(summary.validation_accuracy),
        loss=interval(summary.validation_loss),
        replicates=config.training.replicates,
        diverged=sum(epoch is not None for epoch in summary.diverged_at),
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
        losses = (one.cell.record.history.validation_loss[:, -1] for one in (first, second))
        paired = [float(a - b) for a, b in zip(*losses, strict=True)]
    return Difference(first.cell, second.cell, mean_interval(paired, comparisons=comparisons))
