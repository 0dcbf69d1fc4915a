"""What the results say about architectures and learning rates: the judgements, as data.

Validation loss chooses each architecture's learning rate, and true error, on the scale of its logarithm, judges it
there. A replicate that diverged counts as the worst possible, and is never dropped. Replicates are paired across cells
by their number, which fixes their random streams.
"""

import math
from collections.abc import Callable, Iterator, Sequence
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
    record : Record
    architecture : str
    learning_rate : float
    true_errors : ndarray of shape (replicates,)
        1 where a replicate diverged, NaN where it is not known.
    error, loss : Interval
        Trimmed means on the scale of the logarithm, given back as a true error and a validation loss.
    accuracy : Interval
        Of validation.
    bad_runs : int
        How many replicates diverged or have a large true error.
    regime : str
        As in ``regimes.regime``.
    """

    record: Record
    architecture: str
    learning_rate: float
    true_errors: Floats
    error: Interval
    accuracy: Interval
    loss: Interval
    bad_runs: int
    regime: str = ""

    @property
    def replicates(self) -> int:
        """How many there are."""
        return len(self.true_errors)

    @property
    def parameters(self) -> int:
        """How many a network has."""
        return self.record.summary.n_parameters

    @property
    def diverged(self) -> int:
        """How many replicates did."""
        return int((self.record.history.diverged_at >= 0).sum())

    @property
    def unknown(self) -> int:
        """How many replicates have no known true error."""
        return int(np.isnan(self.true_errors).sum())

    @property
    def median(self) -> float:
        """The median true error."""
        return float(np.median(self.true_errors))

    @property
    def worst(self) -> float:
        """The largest true error."""
        return float(self.true_errors.max())

    @property
    def log_errors(self) -> Floats:
        """The logarithms of the true errors."""
        return _log_errors(self.true_errors)

    @property
    def log_losses(self) -> Floats:
        """The logarithms of the last validation losses."""
        return _log_losses(self.record.history.validation_loss[:, -1])

    @property
    def log_typical_losses(self) -> Floats:
        """The logarithms of the median validation losses of the last tenth of the epochs."""
        return _log_losses(regimes.tenth(self.record))


@dataclass(frozen=True, eq=False)
class BestRate:
    """An architecture at its best learning rate.

    Attributes
    ----------
    cell : CellResult
        Whose validation losses chose it; where ``exists`` is False, merely one to show.
    exists : bool
        Whether at some rate no more than a quarter of the replicates diverged.
    edge : {"lowest", "highest"} or None
        Where the best rate is the end of the grid, so that a better one may lie beyond.
    judged : CellResult
        Whose true errors judge it.
    """

    cell: CellResult
    exists: bool
    edge: str | None
    judged: CellResult

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
    first, second : BestRate
    ratio : Interval
        Of what is judged, the first over the second. The intervals of all pairs hold together.
    verdict : Verdict
        Read from the interval alone.
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
    flips: int


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
    settings : Report
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

    @property
    def differences(self) -> list[Difference]:
        """The comparisons by true error."""
        return self.last.differences

    @property
    def replicates(self) -> int:
        """How many judge."""
        return self.best[0].judged.replicates


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
    cells = _in_order(records, settings)
    groups = [list(group) for _, group in groupby(cells, key=lambda cell: cell.architecture)]
    groups = [_with_regimes(group, settings) for group in groups]
    judges = None
    if confirmation:
        _check_comparable(confirmation)
        _check_comparable([records[0], confirmation[0]], ignored=("training.replicates", "the points"))
        judges = {_key(cell): cell for cell in _in_order(confirmation, settings)}

    def last_losses(cell: CellResult) -> Floats:
        return cell.log_losses

    def typical_losses(cell: CellResult) -> Floats:
        return cell.log_typical_losses

    def errors(cell: CellResult) -> Floats:
        return cell.log_errors

    last = _judge(groups, judges, chosen_by=last_losses, judged_by=errors, settings=settings)
    typical = _judge(groups, judges, chosen_by=typical_losses, judged_by=typical_losses, settings=settings)
    if missing := [one.cell for one in last.best if judges is not None and _key(one.cell) not in judges]:
        raise UserError(f"the confirmation has no {missing[0].architecture} at {missing[0].learning_rate:g}")
    doubts = [_doubt(group, best) for group, best in zip(groups, last.best, strict=True)]
    return Comparison([cell for group in groups for cell in group], last, typical, doubts, judges is not None, settings)


def _key(cell: CellResult) -> tuple[str, float]:
    return cell.architecture, cell.learning_rate


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


def _in_order(records: Sequence[Record], settings: Report) -> list[CellResult]:
    cells = [_cell(record, settings) for record in records]
    sizes = [cell.record.config.model.hidden_layer_sizes for cell in cells]
    order = sorted(
        range(len(cells)),
        key=lambda i: (cells[i].parameters, sizes[i], cells[i].architecture, cells[i].learning_rate),
    )
    return [cells[i] for i in order]


def _cell(record: Record, settings: Report) -> CellResult:
    history = record.history
    diverged = history.diverged_at >= 0
    true_errors = np.where(diverged, 1.0, record.true_error)
    return CellResult(
        record=record,
        architecture=wording.architecture(record.config.model),
        learning_rate=record.config.optimizer.learning_rate,
        true_errors=true_errors,
        error=_share(statistics.location(_log_errors(true_errors)).to_powers_of_ten()),
        accuracy=_share(statistics.location(np.where(diverged, 0.0, history.validation_accuracy[:, -1]))),
        loss=statistics.location(_log_losses(history.validation_loss[:, -1])).to_powers_of_ten(),
        bad_runs=int((diverged | (true_errors > settings.bad_run_error)).sum()),
    )


def _share(interval: Interval) -> Interval:
    """Return an interval of a share, which is in [0, 1]."""
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 1.0)) if interval.exists else interval


def _log_errors(errors: Floats) -> Floats:
    logarithms: Floats = np.log10(np.clip(errors, LEAST, 1))
    return logarithms


def _log_losses(losses: Floats) -> Floats:
    logarithms: Floats = np.log10(np.clip(np.where(np.isfinite(losses), losses, MOST), LEAST, MOST))
    return logarithms


def _with_regimes(group: Sequence[CellResult], settings: Report) -> list[CellResult]:
    """Return an architecture's cells, by rising learning rate, with their regimes."""
    line = best_line_error(true_boundary(group[0].record))
    means = [float(statistics.trimmed_mean(cell.log_losses)) for cell in group]
    return [
        replace(
            cell,
            regime=regimes.regime(
                cell.record,
                cell.true_errors,
                higher_is_better=min(means[place:]) < means[place],
                line=line,
                bad_run_error=settings.bad_run_error,
            ),
        )
        for place, cell in enumerate(group)
    ]


Measure = Callable[[CellResult], Floats]
"""A number of each replicate, the lower the better."""


def _judge(
    groups: Sequence[Sequence[CellResult]],
    judges: dict[tuple[str, float], CellResult] | None,
    *,
    chosen_by: Measure,
    judged_by: Measure,
    settings: Report,
) -> Judgement:
    best = [_choose(group, judges, chosen_by) for group in groups]
    known = [one for one in best if one.exists and np.isfinite(judged_by(one.judged)).all()]
    if len(best) > MOST_COMPARED:
        return Judgement(best, [], 0)
    pairs = [(a, b) for a, b in combinations(best, 2) if a in known and b in known]
    paired = [judged_by(a.judged) - judged_by(b.judged) for a, b in pairs]
    found = statistics.simultaneous(paired)
    margin = math.log10(1 + settings.practically_equal)
    compared = {
        (_key(a.cell), _key(b.cell)): _difference(a, b, values, interval, found.critical, margin)
        for (a, b), values, interval in zip(pairs, paired, found.intervals, strict=True)
    }
    differences = [
        compared.get((_key(a.cell), _key(b.cell)), Difference(a, b, Interval(math.nan), "none"))
        for a, b in combinations(best, 2)
    ]
    return Judgement(best, differences, found.flips)


def _choose(
    group: Sequence[CellResult], judges: dict[tuple[str, float], CellResult] | None, chosen_by: Measure
) -> BestRate:
    possible = _possible(group)
    best = min(possible or group, key=lambda c: (float(statistics.trimmed_mean(chosen_by(c))), c.learning_rate))
    exists = bool(possible)
    rates = [cell.learning_rate for cell in group]
    edge = None
    if exists and len(rates) > 1 and best.learning_rate in (min(rates), max(rates)):
        edge = "lowest" if best.learning_rate == min(rates) else "highest"
    if judges is None:
        return BestRate(best, exists, edge, best)
    return BestRate(best, exists and _key(best) in judges, edge, judges.get(_key(best), best))


def _possible(group: Sequence[CellResult]) -> list[CellResult]:
    """Return the cells whose rate can be chosen."""
    return [cell for cell in group if not regimes.diverged(cell.record)]


def _difference(
    first: BestRate, second: BestRate, values: Floats, interval: Interval, critical: float, margin: float
) -> Difference:
    found = verdict(interval, margin)
    return Difference(
        first,
        second,
        ratio=interval.to_powers_of_ten(),
        verdict=found,
        wins=int((values < 0).sum()),
        losses=int((values > 0).sum()),
        to_decide=statistics.replicates_to_decide(interval, critical, len(values), margin) if found == "open" else None,
    )


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
    others = [(cell, cell.log_losses) for cell in possible if cell is not best.cell]
    not_separated: list[float] | None = None
    if best.cell.replicates >= statistics.FEWEST_PAIRED:
        found = statistics.simultaneous([values - best.cell.log_losses for _, values in others])
        not_separated = [
            cell.learning_rate
            for (cell, _), interval in zip(others, found.intervals, strict=True)
            if interval.low <= 0  # where chance made two rates equal, both ends are 0
        ]
    rates = [cell.learning_rate for cell in possible]
    return Doubt(not_separated, {rate: float(f) for rate, f in zip(rates, frequencies, strict=True) if f})


def grid(cells: Sequence[CellResult]) -> tuple[Floats, list[float]]:
    """Return the logarithms of the true errors, and the learning rates at which every architecture's are all known.

    Returns
    -------
    ndarray of shape (architectures, rates, replicates)
    list of float
    """
    names = dict.fromkeys(cell.architecture for cell in cells)
    known = {_key(cell): cell.log_errors for cell in cells if not cell.unknown}
    rates = [
        rate for rate in sorted({cell.learning_rate for cell in cells}) if all((name, rate) in known for name in names)
    ]
    return np.array([[known[name, rate] for rate in rates] for name in names]), rates


def disagreements(comparison: Comparison) -> list[tuple[Difference, Difference]]:
    """Return the pairs of architectures on which the two judgements contradict each other, or only one decides."""
    pairs = zip(comparison.last.differences, comparison.typical.differences, strict=True)
    return [(a, b) for a, b in pairs if a.verdict != b.verdict]
