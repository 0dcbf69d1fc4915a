"""What the results say about architectures and learning rates: the judgements, as data.

Validation loss chooses each architecture's learning rate, and true error, on the scale of its logarithm, judges it
there. A replicate that diverged counts as the worst possible, and is never dropped. Replicates are paired across cells
by their number, which fixes their random streams.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from circlemlp import wording
from circlemlp.config import Report
from circlemlp.errors import UserError
from circlemlp.report import regimes, statistics
from circlemlp.report.boundary import true_boundary
from circlemlp.report.rulers import best_line_error
from circlemlp.report.statistics import Interval
from circlemlp.store.records import Record

Floats = NDArray[np.float64]

MOST_COMPARED = 100
"""Architectures; of more there are too many pairs to look at."""
LEAST, MOST = 1e-12, 1e12
"""Where losses and errors end, so that each has a logarithm. An area is no more certain than the first."""


@dataclass(frozen=True, eq=False)
class CellResult:
    """One cell's line of the comparison.

    Attributes
    ----------
    true_errors : ndarray of shape (replicates,)
        1 where a replicate diverged, NaN where it is not known.
    log_errors, log_losses, log_typical_losses : ndarray of shape (replicates,)
        Logarithms of the true errors, of the last validation losses, and of their medians over the last tenth.
    error, accuracy, loss : Interval
        True error and validation scores. Those of error and loss are trimmed means of logarithms, given back.
    unknown, bad_runs, diverged : int
        How many replicates have no known true error; diverged or have a large one; diverged.
    regime : str
        As in ``regimes.regime``.
    """

    record: Record
    architecture: str
    learning_rate: float
    true_errors: Floats
    log_errors: Floats
    log_losses: Floats
    log_typical_losses: Floats
    error: Interval
    accuracy: Interval
    loss: Interval
    unknown: int
    bad_runs: int
    diverged: int
    regime: str = ""

    @property
    def replicates(self) -> int:
        """How many there are."""
        return len(self.true_errors)

    @property
    def key(self) -> tuple[str, float]:
        """What tells it from the other cells."""
        return self.architecture, self.learning_rate


@dataclass(frozen=True, eq=False)
class BestRate:
    """An architecture at its best learning rate.

    Attributes
    ----------
    cell, judged : CellResult
        Whose validation losses chose it, and whose true errors judge it; where it does not exist, merely one to show.
    exists : bool
        Whether at some rate no more than a quarter of the replicates diverged.
    edge : {"lowest", "highest"} or None
        Where the best rate is the end of the grid, so that a better one may lie beyond.
    """

    cell: CellResult
    judged: CellResult
    exists: bool
    edge: str | None

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


Verdict = Literal["first", "second", "equal", "open", "none"]
"""Which of two has the lower error; they are practically equal; it is not decided; nothing can be claimed."""


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
    confirmed : bool
        Whether other replicates judge than those that chose.
    """

    cells: list[CellResult]
    last: Judgement
    typical: Judgement
    doubts: list[Doubt]
    confirmed: bool
    settings: Report

    @property
    def best(self) -> list[BestRate]:
        """The architectures at their best rates."""
        return self.last.best


def compare(records: Sequence[Record], settings: Report, confirmation: Sequence[Record] | None = None) -> Comparison:
    """Judge the cells of a sweep; smaller architectures come first.

    An architecture is the sizes of the layers, their activation and how their weights are drawn.

    Parameters
    ----------
    records : sequence of Record
        They choose each architecture's learning rate.
    settings : Report
    confirmation : sequence of Record, optional
        Other replicates of the chosen cells, which judge them. Without them, the replicates that chose judge too.

    Raises
    ------
    UserError
        If they differ in more than architecture and learning rate.
    """
    _check_comparable(records)
    groups = [list(group) for _, group in groupby(_cells(records, settings), key=lambda cell: cell.architecture)]
    groups = [_with_regimes(group, settings) for group in groups]
    judges = None
    if confirmation:
        _check_comparable(confirmation)
        _check_comparable([records[0], confirmation[0]], ignored=("training.replicates", "the points"))
        judges = {cell.key: cell for cell in _cells(confirmation, settings)}
    last = _judge(groups, judges, settings, chosen_by="log_losses", judged_by="log_errors")
    if missing := [one.cell for one in last.best if judges is not None and one.cell.key not in judges]:
        raise UserError(f"the confirmation has no {missing[0].architecture} at {missing[0].learning_rate:g}")
    typical = _judge(groups, judges, settings, chosen_by="log_typical_losses", judged_by="log_typical_losses")
    doubts = [_doubt(group, best) for group, best in zip(groups, last.best, strict=True)]
    return Comparison([cell for group in groups for cell in group], last, typical, doubts, judges is not None, settings)


def _check_comparable(records: Sequence[Record], ignored: Sequence[str] = ()) -> None:
    """Refuse cells that differ in more than architecture and learning rate, and say in what."""
    first, *others = (dict(_ingredients(record.ingredients)) for record in records)
    keys = dict.fromkeys(key for other in others for key in first | other if key not in ignored)
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


def _cells(records: Sequence[Record], settings: Report) -> list[CellResult]:
    """Return cells in order: small architectures and low learning rates first."""

    def order(record: Record) -> tuple[int, list[int], str, float]:
        model = record.config.model
        n_parameters, rate = record.summary.n_parameters, record.config.optimizer.learning_rate
        return n_parameters, model.hidden_layer_sizes, wording.architecture(model), rate

    return [_cell(record, settings) for record in sorted(records, key=order)]


def _cell(record: Record, settings: Report) -> CellResult:
    history = record.history
    diverged = history.diverged_at >= 0
    true_errors = np.where(diverged, 1.0, record.true_error)
    errors, losses = _logarithms(true_errors), _logarithms(history.validation_loss[:, -1], diverged)
    return CellResult(
        record=record,
        architecture=wording.architecture(record.config.model),
        learning_rate=record.config.optimizer.learning_rate,
        true_errors=true_errors,
        log_errors=errors,
        log_losses=losses,
        log_typical_losses=_logarithms(regimes.tenth(record), diverged),
        error=_share(statistics.location(errors).to_powers_of_ten()),
        accuracy=_share(statistics.location(np.where(diverged, 0.0, history.validation_accuracy[:, -1]))),
        loss=statistics.location(losses).to_powers_of_ten(),
        unknown=int(np.isnan(true_errors).sum()),
        bad_runs=int((diverged | (true_errors > settings.bad_run_error)).sum()),
        diverged=int(diverged.sum()),
    )


def _share(interval: Interval) -> Interval:
    """Return an interval of a share, which is in [0, 1]."""
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 1.0)) if interval.exists else interval


def _logarithms(values: Floats, worst: NDArray[np.bool_] | bool = False) -> Floats:
    logarithms: Floats = np.log10(np.clip(np.where(worst, MOST, values), LEAST, MOST))
    return logarithms


def _with_regimes(group: Sequence[CellResult], settings: Report) -> list[CellResult]:
    """Return an architecture's cells, by rising learning rate, with their regimes."""
    line = best_line_error(true_boundary(group[0].record))
    means = [float(statistics.trimmed_mean(cell.log_losses)) for cell in group]
    margin = math.log10(1 + settings.practically_equal)
    return [
        replace(
            cell,
            regime=regimes.regime(
                cell.record,
                cell.true_errors,
                higher_is_better=min(means[place:]) < means[place] - margin,
                line=line,
                bad_run_error=settings.bad_run_error,
            ),
        )
        for place, cell in enumerate(group)
    ]


def _judge(
    groups: Sequence[Sequence[CellResult]],
    judges: Mapping[tuple[str, float], CellResult] | None,
    settings: Report,
    *,
    chosen_by: str,
    judged_by: str,
) -> Judgement:
    """Choose and judge by attributes of a cell, each a logarithm for every replicate."""
    best = [_choose(group, judges, chosen_by) for group in groups]
    if len(best) > MOST_COMPARED:
        return Judgement(best, [])
    values = {one.cell.key: getattr(one.judged, judged_by) for one in best}
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


def _choose(
    group: Sequence[CellResult], judges: Mapping[tuple[str, float], CellResult] | None, chosen_by: str
) -> BestRate:
    possible = _possible(group)
    means = {cell.learning_rate: float(statistics.trimmed_mean(getattr(cell, chosen_by))) for cell in group}
    best = min(possible or group, key=lambda cell: (means[cell.learning_rate], cell.learning_rate))
    edge = None
    if possible and len(means) > 1 and best.learning_rate in (min(means), max(means)):
        edge = "lowest" if best.learning_rate == min(means) else "highest"
    judged = best if judges is None else judges.get(best.key)
    return BestRate(best, judged or best, bool(possible) and judged is not None, edge)


def _possible(group: Sequence[CellResult]) -> list[CellResult]:
    """Return the cells whose rate can be chosen."""
    return [cell for cell in group if not regimes.diverged(cell.record)]


def _difference(
    pair: tuple[BestRate, BestRate], values: Floats, interval: Interval, critical: float, margin: float
) -> Difference:
    found = verdict(interval, margin)
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


def _doubt(group: Sequence[CellResult], best: BestRate) -> Doubt:
    possible = _possible(group)
    if not possible:
        return Doubt(None, {})
    losses = np.array([cell.log_losses for cell in possible])
    frequencies = statistics.choice_frequencies(losses, best.cell.architecture)
    chosen = {cell.learning_rate: float(f) for cell, f in zip(possible, frequencies, strict=True) if f}
    if best.cell.replicates < statistics.FEWEST_PAIRED:
        return Doubt(None, chosen)
    others = [cell for cell in possible if cell is not best.cell]
    found = statistics.simultaneous([cell.log_losses - best.cell.log_losses for cell in others])
    # Where two rates are always equal, both ends are 0.
    near = [cell.learning_rate for cell, one in zip(others, found.intervals, strict=True) if one.low <= 0]
    return Doubt(near, chosen)


def grid(cells: Sequence[CellResult]) -> tuple[Floats, list[float]]:
    """Return the logarithms of the true errors, and the learning rates at which every architecture's are all known.

    Returns
    -------
    ndarray of shape (architectures, rates, replicates)
    list of float
    """
    names = dict.fromkeys(cell.architecture for cell in cells)
    known = {cell.key: cell.log_errors for cell in cells if not cell.unknown}
    rates = [
        rate for rate in sorted({cell.learning_rate for cell in cells}) if all((name, rate) in known for name in names)
    ]
    return np.array([[known[name, rate] for rate in rates] for name in names]), rates
