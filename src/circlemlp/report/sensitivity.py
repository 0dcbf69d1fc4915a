"""How much an architecture loses at a learning rate that is not its best [1]_.

References
----------
.. [1] Wortsman et al. (2023), "Small-scale proxies for large-scale Transformer training instabilities",
   arXiv 2309.14322, section 2.2.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circlemlp.report.statistics import Interval, location
from circlemlp.store.trained import Trained

Floats = NDArray[np.float64]


def sensitivity(losses: ArrayLike, initial: ArrayLike) -> Floats:
    """Return, for each replicate, the mean over the learning rates of min(l, l0) - l*.

    l is the last validation loss at a rate, l0 that of the initial network, and l* the lowest l. So 0 is an
    architecture that learns equally well at every rate, and no rate counts as worse than not to train at all.

    The number depends on the grid: every rate has the same weight, so it is an expectation over the logarithm of the
    rate if the grid is even there, and more rates at which nothing is learnt make it larger. Only numbers of one grid
    can be compared.

    Parameters
    ----------
    losses : array_like of shape (rates, replicates)
        What is not finite, because the replicate diverged, counts as l0.
    initial : array_like of shape (replicates,)

    Returns
    -------
    ndarray of shape (replicates,)
        NaN where no rate brought the loss below l0, so that there is no best one.
    """
    start = np.asarray(initial, np.float64)
    kept = np.fmin(np.asarray(losses, np.float64), start)  # of NaN and a number, the number
    best = kept.min(axis=0)
    mean: Floats = np.where(best < start, kept.mean(axis=0) - best, np.nan)
    return mean


def of_architecture(cells: Sequence[Trained]) -> Interval:
    """Return the trimmed mean of the sensitivities of the replicates that all cells have, with its interval.

    Parameters
    ----------
    cells : sequence of Trained
        One architecture at each learning rate of the grid, at least one.
    """
    shared = reduce(np.intersect1d, [cell.numbers for cell in cells])
    curves = [cell.history.validation_loss[np.isin(cell.numbers, shared)] for cell in cells]
    # No step was taken yet, so the initial networks are the same at every rate.
    return location(sensitivity([curve[:, -1] for curve in curves], curves[0][:, 0]))
