"""Which learning rate is the best of each architecture, and how sure that is: chosen by validation loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from circlemlp.config import Replicates, Report
from circlemlp.errors import UserError
from circlemlp.report import regimes, statistics
from circlemlp.report.cell_results import CellResult, by_architecture, numbered
from circlemlp.store.records import Record
from circlemlp.store.selection import Choice, Selection, common_settings

RULE = (
    "The best learning rate has the lowest 25% trimmed mean of the logarithm of the last validation loss; where more "
    "than a quarter of the replicates diverged, a rate is not chosen."
)

By = Literal["log_losses", "log_typical_losses"]
"""Which attribute of a cell chooses: a logarithm for every replicate."""


@dataclass(frozen=True, eq=False)
class BestRate:
    """An architecture at its best learning rate.

    Attributes
    ----------
    cell, judged : CellResult
        Whose validation losses chose it, and whose true errors judge it.
    lacks : {"rate", "confirmation"} or None
        Why nothing is claimed of it: at every rate more than a quarter of the replicates diverged, or no other
        replicates judge it where others should. ``cell`` and ``judged`` are then merely cells to show.
    edge : {"lowest", "highest"} or None
        Where the best rate is the end of the grid, so that a better one may lie beyond.
    """

    cell: CellResult
    judged: CellResult
    lacks: Literal["rate", "confirmation"] | None
    edge: Literal["lowest", "highest"] | None

    @property
    def exists(self) -> bool:
        """Whether there is a best rate, and who judges it."""
        return self.lacks is None

    @property
    def rank(self) -> tuple[bool, float]:
        """The true error as a key for sorting; what is not known comes last."""
        estimate = self.judged.error.estimate
        return not self.exists or math.isnan(estimate), estimate


@dataclass(frozen=True)
class Doubt:
    """How sure the choice of a learning rate is.

    Attributes
    ----------
    not_separated : list of float or None
        Other rates whose loss may be as low as that of the best; None if there are too few replicates to tell.
    frequencies : dict of float to float
        How often resampled replicates choose each rate; those that are never chosen are left out.
    """

    not_separated: list[float] | None
    frequencies: dict[float, float]


def choose(group: Sequence[CellResult], by: By = "log_losses") -> BestRate:
    """Choose among the cells of an architecture, by rising learning rate; the replicates that choose judge too."""
    possible = _possible(group)
    among = possible or group
    best = among[statistics.lowest([getattr(cell, by) for cell in among])]
    edge: Literal["lowest", "highest"] | None = None
    if possible and len(group) > 1 and best in (group[0], group[-1]):
        edge = "lowest" if best is group[0] else "highest"
    return BestRate(best, best, None if possible else "rate", edge)


def _possible(group: Sequence[CellResult]) -> list[CellResult]:
    """Return the cells whose rate can be chosen."""
    return [cell for cell in group if not regimes.diverged(cell.trained)]


def doubt(group: Sequence[CellResult], best: CellResult) -> Doubt:
    """Say which other rates may be as good as the best one, and how often replicates like these choose each."""
    possible = _possible(group)
    if not possible:
        return Doubt(None, {})
    losses = np.array([cell.log_losses for cell in possible])
    frequencies = statistics.choice_frequencies(losses, best.architecture)
    chosen = {cell.learning_rate: float(f) for cell, f in zip(possible, frequencies, strict=True) if f}
    if best.replicates < statistics.FEWEST_PAIRED:
        return Doubt(None, chosen)
    others = [cell for cell in possible if cell is not best]
    differences = [cell.log_losses - best.log_losses for cell in others]
    found = statistics.simultaneous(differences, flips=statistics.FLIPS)  # of each architecture, so never all of 2^20
    # Where two rates are always equal, both ends are 0.
    near = [cell.learning_rate for cell, one in zip(others, found.intervals, strict=True) if one.low <= 0]
    return Doubt(near, chosen)


def select(records: Sequence[Record], settings: Report) -> Selection:
    """Choose each architecture's learning rate, as the report does.

    Parameters
    ----------
    records : sequence of Record
        Of the tuning.
    settings : Report

    Raises
    ------
    UserError
        If the cells cannot be compared, as in ``by_architecture``, or their replicates do not follow each other.
    """
    groups = by_architecture(records, settings)
    numbers = groups[0][0].trained.numbers
    first, after = int(numbers[0]), int(numbers[-1]) + 1
    if after - first != len(numbers):
        raise UserError(f"these results have {numbered(numbers)}; a selection takes replicates without a gap")
    return Selection(
        rule=RULE,
        settings=common_settings(records[0].config),
        tuned=Replicates(first_replicate=first, replicates=len(numbers)),
        choices=[_choice(group) for group in groups],
    )


def _choice(group: Sequence[CellResult]) -> Choice:
    best, typical = choose(group), choose(group, "log_typical_losses")
    doubts = doubt(group, best.cell)
    return Choice(
        architecture=best.cell.architecture,
        model=best.cell.trained.config.model,
        learning_rate=best.cell.learning_rate if best.exists else None,
        by_typical_loss=typical.cell.learning_rate if typical.exists else None,
        # Four digits, because the last ones of a logarithm are the C library's.
        validation_loss=float(f"{best.cell.loss.estimate:.4g}") if best.exists else None,
        edge=best.edge,
        not_separated=doubts.not_separated,
        chosen_by_resamples={str(rate): round(share, 3) for rate, share in doubts.frequencies.items()},
    )
