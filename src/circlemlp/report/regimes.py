"""What the curves of a cell show: whether it still improves, its cost, and which regime its learning rate is in."""

import math

import numpy as np
from numpy.typing import NDArray

from circlemlp.store.trained import Trained

Floats = NDArray[np.float64]

IMPROVING = 0.98
"""A loss still falls if the median of the last tenth of the epochs is below this share of that of the tenth before."""
SPIKE = 1.5
"""The last loss of a late spike, over the median of the last tenth."""
UNSTABLE = 0.1
"""The share of replicates with a bad run or a late spike from which a cell is unstable."""
GOAL = 0.99
"""The validation accuracy that counts as reached."""


def tenth(cell: Trained, *, before: bool = False) -> Floats:
    """Return each replicate's median validation loss in the last tenth of the epochs, or the tenth ``before`` it.

    NaN where a replicate diverged.
    """
    losses = cell.history.validation_loss
    length = max(1, cell.config.training.epochs // 10)
    last = losses.shape[1] - length * before
    medians = np.full(len(losses), np.nan)
    finished = cell.history.diverged_at < 0
    medians[finished] = np.median(losses[finished, last - length : last], axis=1)
    return medians


def still_improving(cell: Trained) -> bool:
    """Say whether the median replicate's validation loss falls by more than 2 % from one tenth to the last."""
    finished = cell.history.diverged_at < 0
    last, before = tenth(cell)[finished], tenth(cell, before=True)[finished]
    return bool(len(last)) and float(np.median(last - IMPROVING * before)) < 0


def late_spikes(cell: Trained) -> NDArray[np.bool_]:
    """Say which replicates end more than half above the median of their last tenth."""
    spikes: NDArray[np.bool_] = cell.history.validation_loss[:, -1] > SPIKE * tenth(cell)
    return spikes


def epochs_to_goal(cell: Trained) -> float:
    """Return the median number of epochs until 99 % validation accuracy; who never gets there takes infinitely many."""
    reached = cell.history.validation_accuracy >= GOAL
    return float(np.median(np.where(reached.any(axis=1), reached.argmax(axis=1), math.inf)))


def diverged(cell: Trained) -> bool:
    """Say whether more than a quarter of the replicates diverged."""
    return 4 * int((cell.history.diverged_at >= 0).sum()) > len(cell.history.diverged_at)


def too_slow(cell: Trained, *, higher_is_better: bool) -> bool:
    """Say whether a cell still improves while a higher learning rate, given the same epochs, ended better."""
    return higher_is_better and still_improving(cell)


def collapsed(true_errors: Floats, line: float) -> bool:
    """Say whether the median network does no better than the best straight line can."""
    known = true_errors[np.isfinite(true_errors)]
    return bool(len(known)) and float(np.median(known)) >= line


def unstable(cell: Trained, true_errors: Floats, bad_run_error: float) -> bool:
    """Say whether at least one replicate in ten is a bad run or ends in a spike."""
    return bool(((true_errors > bad_run_error) | late_spikes(cell)).mean() >= UNSTABLE)


def regime(cell: Trained, true_errors: Floats, *, higher_is_better: bool, line: float, bad_run_error: float) -> str:
    """Return the first that holds: diverged, too slow, collapsed, unstable, good.

    Parameters
    ----------
    cell : Trained
    true_errors : ndarray of shape (replicates,)
    higher_is_better : bool
        Whether a higher learning rate of the same architecture has a validation loss that is lower, and not
        practically equal.
    line : float
        The true error of the best straight line.
    bad_run_error : float
    """
    if diverged(cell):
        return "diverged"
    if too_slow(cell, higher_is_better=higher_is_better):
        return "too slow"
    if collapsed(true_errors, line):
        return "collapsed"
    return "unstable" if unstable(cell, true_errors, bad_run_error) else "good"
