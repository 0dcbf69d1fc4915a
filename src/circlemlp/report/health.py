"""What could make the answer doubtful: a table of checks, each with its number and what it found, in words."""

import math

import numpy as np

from circlemlp.report import regimes, statistics, words
from circlemlp.report.choosing import BestRate
from circlemlp.report.comparison import Comparison
from circlemlp.report.document import Numeric, Table

OVERFITTING = 1.5
"""The validation loss over the training loss above which a network overfits."""
SURE = 0.8
"""The share of resampled choices from which a choice is called sure."""
ONE = "one replicate does not tell"


def checks(comparison: Comparison) -> Table:
    """Return a line for each check; all but the first two are about the networks that judge."""
    judged = [one for one in comparison.best if one.exists]
    rows = [_edge(comparison), _choice(comparison)]
    if judged:
        rows += [_bad_runs(judged), _improving(judged), _overfitting(judged), _spikes(judged)]
    return Table(["check", "what is counted", Numeric("found"), "in words"], rows)


def _row(check: str, counted: str, found: str, where: list[str]) -> list[str]:
    return [check, counted, found, f"look at {words.some(where)}" if where else "nothing to see"]


def _edge(comparison: Comparison) -> list[str]:
    chosen = [one for one in comparison.best if one.lacks != "rate"]
    at_edge = [one.cell.architecture for one in chosen if one.edge]
    return _row(
        "edge of the grid",
        "chosen rates that are the lowest or the highest of the grid, so that a better one may lie beyond",
        f"{len(at_edge)} of {len(chosen)}",
        at_edge,
    )


def _choice(comparison: Comparison) -> list[str]:
    """Say how sure the choices of rates are, or why that is not known."""
    check, counted = (
        "choice of the rate",
        f"the lowest share of resampled tuning replicates that choose the same rate; from {SURE:.0%} it is sure",
    )
    found = {
        best.cell.architecture: doubt.frequencies.get(best.cell.learning_rate, 0.0)
        for best, doubt in zip(comparison.best, comparison.doubts, strict=True)
        if best.lacks != "rate"
    }
    if not found or len(comparison.cells) == len(comparison.best):
        return [check, counted, "", "no rate could be chosen" if not found else "there was no rate to choose"]
    if comparison.cells[0].replicates == 1:
        return [check, counted, "", ONE]
    unsure = [name for name, share in found.items() if share < SURE]
    return _row(check, counted, f"{min(found.values()):.0%}", unsure)


def _bad_runs(judged: list[BestRate]) -> list[str]:
    bad, all_ = sum(one.judged.bad_runs for one in judged), sum(one.judged.replicates for one in judged)
    share = statistics.proportion(bad, all_)
    return _row(
        "bad runs",
        "networks that diverged or have a large true error, with Wilson's interval of their share",
        f"{bad} of {all_} ({share.low:.0%} to {share.high:.0%})",
        [one.cell.architecture for one in judged if one.judged.bad_runs],
    )


def _improving(judged: list[BestRate]) -> list[str]:
    names = [one.cell.architecture for one in judged if regimes.still_improving(one.judged.trained)]
    return _row(
        "still improving",
        f"architectures whose median validation loss falls by more than {1 - regimes.IMPROVING:.0%} from one tenth of "
        "the epochs to the last, so that more epochs may lower it",
        f"{len(names)} of {len(judged)}",
        names,
    )


def overfitting(one: BestRate) -> float:
    """Return the median of the last validation losses over the training losses; NaN if no network finished."""
    history = one.judged.trained.history
    finished = history.diverged_at < 0
    if not finished.any():
        return math.nan
    return float(np.median(history.validation_loss[finished, -1] / history.training_loss[finished, -1]))


def _overfitting(judged: list[BestRate]) -> list[str]:
    ratios = {one.cell.architecture: overfitting(one) for one in judged if math.isfinite(overfitting(one))}
    check, counted = (
        "overfitting",
        f"the highest median of the last validation loss over the training loss; above {OVERFITTING:g} it is much",
    )
    if not ratios:
        return [check, counted, "", "no network finished"]
    return _row(
        check,
        counted,
        f"{max(ratios.values()):.3g}",
        [name for name, ratio in ratios.items() if ratio > OVERFITTING],
    )


def _spikes(judged: list[BestRate]) -> list[str]:
    spikes = {one.cell.architecture: int(regimes.late_spikes(one.judged.trained).sum()) for one in judged}
    return _row(
        "spikes at the end",
        f"networks that end more than {regimes.SPIKE:g} times above their median of the last tenth of the epochs",
        f"{sum(spikes.values())} of {sum(one.judged.replicates for one in judged)}",
        [name for name, n in spikes.items() if n],
    )
