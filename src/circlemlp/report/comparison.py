"""What the results say about architectures and learning rates: the judgements, as data.

Validation loss chooses each architecture's learning rate, and true error, on the scale of its logarithm, judges it
there: of other replicates where there are some, else of the same ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from circlemlp.config import Report
from circlemlp.errors import UserError
from circlemlp.report import regimes, statistics
from circlemlp.report.cell_results import (
    CellResult,
    Floats,
    by_architecture,
    check_comparable,
    numbered,
    with_regimes,
)
from circlemlp.report.choosing import BestRate, By, Doubt, choose, doubt
from circlemlp.report.statistics import Interval
from circlemlp.store.records import Record

MOST_COMPARED = 100
"""Architectures; of more there are too many pairs to look at."""

Verdict = Literal["first", "second", "equal", "open", "edge", "none"]
"""Which of two has the lower error; they are practically equal; it is not decided; nothing is claimed, because a best
rate is at an edge of the grid; there is nothing to compare."""


@dataclass(frozen=True)
class Difference:
    """Two architectures, each at its best rate, compared replicate by replicate.

    Attributes
    ----------
    ratio : Interval
        Of what is judged, the first over the second. The intervals of all pairs hold together.
    wins, losses : int
        In how many replicates the first one is lower, is higher.
    to_decide : int or None
        About how many replicates would decide what is open.
    """

    first: BestRate
    second: BestRate
    ratio: Interval
    verdict: Verdict
    wins: int = 0
    losses: int = 0
    to_decide: int | None = None

    @property
    def lower(self) -> BestRate | None:
        """The one with the lower error, if there is one."""
        return {"first": self.first, "second": self.second}.get(self.verdict)


@dataclass(frozen=True)
class Judgement:
    """The best rates, and every two architectures there. ``flips``: how many gave the intervals; 0: there are none."""

    best: list[BestRate]
    differences: list[Difference]
    flips: int = 0


@dataclass(frozen=True)
class Comparison:
    """Everything the report states.

    Attributes
    ----------
    cells : list of CellResult
        Those that choose the learning rates.
    last, typical : Judgement
        Of the networks after the last epoch, which are what a recipe delivers; of the median validation losses of the
        last tenth of the epochs.
    doubts : list of Doubt
        About the choice of each best rate in ``last``.
    confirmation : list of CellResult
        The other replicates of the chosen cells, which judge them; empty where those that chose judge too.
    """

    cells: list[CellResult]
    last: Judgement
    typical: Judgement
    doubts: list[Doubt]
    confirmation: list[CellResult]
    settings: Report

    @property
    def best(self) -> list[BestRate]:
        """The architectures at their best rates."""
        return self.last.best

    @property
    def judging(self) -> CellResult:
        """One of the cells that judge; all have the same replicates."""
        return (self.confirmation or self.cells)[0]


Judges = Mapping[tuple[str, float], CellResult]


def compare(records: Sequence[Record], settings: Report, confirmation: Sequence[Record] | None = None) -> Comparison:
    """Judge the cells of a sweep; smaller architectures come first.

    Parameters
    ----------
    records : sequence of Record
        They choose each architecture's learning rate.
    settings : Report
    confirmation : sequence of Record, optional
        Other replicates of the chosen cells, which judge them; of other cells they are left out. Without them, the
        replicates that chose judge too.

    Raises
    ------
    UserError
        If the results differ in more than architecture and learning rate, or replicates of the confirmation chose too,
        or it has none of the chosen cells.
    """
    groups = [with_regimes(group, settings) for group in by_architecture(records, settings)]
    judges = _judges(groups[0][0], confirmation, settings) if confirmation else None
    last = _judge(_best(groups, judges), settings, judged_by="log_errors")
    typical = _judge(_best(groups, judges, "log_typical_losses"), settings, judged_by="log_typical_losses")
    chosen = {one.cell.key for one in (*last.best, *typical.best) if one.lacks != "rate"}
    confirmed = [cell for key, cell in (judges or {}).items() if key in chosen]
    if judges is not None and chosen and not confirmed:
        raise UserError("the confirmation has none of the chosen cells; train those that the selection names")
    doubts = [doubt(group, best.cell) for group, best in zip(groups, last.best, strict=True)]
    return Comparison([cell for group in groups for cell in group], last, typical, doubts, confirmed, settings)


def best_rates(records: Sequence[Record], settings: Report, confirmation: Sequence[Record]) -> list[BestRate]:
    """Return the architectures at their best rates, as ``compare`` does, without comparing any two of them."""
    groups = by_architecture(records, settings)
    return _best(groups, _judges(groups[0][0], confirmation, settings))


def _judges(tuned: CellResult, confirmation: Sequence[Record], settings: Report) -> Judges:
    """Return the cells of a confirmation by what tells them apart."""
    cells = [cell for group in by_architecture(confirmation, settings) for cell in group]
    check_comparable([tuned.trained, cells[0].trained], ignored=("training.replicates",))
    both = np.intersect1d(tuned.trained.numbers, cells[0].trained.numbers)
    if len(both):
        raise UserError(
            f"{numbered(both)} of the confirmation chose the learning rates too, and so cannot judge them; train "
            f"others with training.first_replicate={tuned.trained.numbers[-1] + 1}"
        )
    return {cell.key: cell for cell in cells}


def _best(groups: Sequence[Sequence[CellResult]], judges: Judges | None, by: By = "log_losses") -> list[BestRate]:
    """Choose each architecture's best rate, and say who judges it."""
    return [_judged(choose(group, by), judges) for group in groups]


def _judge(best: list[BestRate], settings: Report, *, judged_by: str) -> Judgement:
    """Judge by an attribute of a cell, a logarithm for every replicate."""
    if len(best) > MOST_COMPARED:
        return Judgement(best, [])
    values = {one.cell.key: _values(one.judged, judged_by) for one in best}
    paired = {
        (a, b): values[a.cell.key] - values[b.cell.key] for a, b in combinations(best, 2) if a.exists and b.exists
    }
    known = {pair: differences for pair, differences in paired.items() if np.isfinite(differences).all()}
    found = statistics.simultaneous(list(known.values()))
    intervals = dict(zip(known, found.intervals, strict=True))
    margin = math.log10(1 + settings.practically_equal)
    differences = [
        _difference(pair, known[pair], intervals[pair], found.critical, margin)
        if pair in known
        else Difference(*pair, Interval(math.nan), "none")
        for pair in combinations(best, 2)
    ]
    return Judgement(best, differences, found.flips)


def _values(cell: CellResult, judged_by: str) -> Floats:
    """Return what judges a cell; NaN where its middle half has losses of diverged replicates, which have no bound.

    True errors end at 1, so theirs have one.
    """
    values: Floats = getattr(cell, judged_by)
    unbounded = judged_by != "log_errors" and regimes.diverged(cell.trained)
    return np.full_like(values, np.nan) if unbounded else values


def _judged(best: BestRate, judges: Judges | None) -> BestRate:
    """Return a best rate with who judges it."""
    if judges is None or best.lacks:
        return best
    judged = judges.get(best.cell.key)
    return replace(best, judged=judged) if judged else replace(best, lacks="confirmation")


def _difference(
    pair: tuple[BestRate, BestRate], values: Floats, interval: Interval, critical: float, margin: float
) -> Difference:
    found: Verdict = "edge" if pair[0].edge or pair[1].edge else verdict(interval, margin)
    enough = statistics.replicates_to_decide(interval, critical, len(values), margin) if found == "open" else None
    wins, losses = int((values < 0).sum()), int((values > 0).sum())
    return Difference(*pair, interval.to_powers_of_ten(), found, wins, losses, enough)


def verdict(interval: Interval, margin: float) -> Verdict:
    """Read an interval of a difference, of which less than the margin is practically none."""
    if not interval.exists:
        return "none"
    if interval.high < 0:
        return "first"
    if interval.low > 0:
        return "second"
    return "equal" if -margin < interval.low and interval.high < margin else "open"
