"""The loss and the top error, from logits.

For a label y in {0, 1} and a logit s, p = 1 / (1 + exp(-s)) and -log p(y|s) = log(1 + exp(s)) - y s. With
the signed margin z = (2y - 1) s both the loss and its derivative are functions of z alone:

    -log p(y|s)       = log(1 + exp(-z))
    -d log p(y|s)/ds  = p - y = -(2y - 1) / (1 + exp(z))

Both are computed through e = exp(-|z|), which cannot overflow. No probability is formed, so none is
clipped, and small losses and errors keep their relative precision.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.parameters import Floats


def signs_of_labels(y: NDArray[np.uint8], dtype: DTypeLike) -> Floats:
    """Return 2y - 1: labels 0 and 1 as -1 and +1, shape kept."""
    return 2 * y.astype(dtype) - 1


class LogisticLoss:
    """The loss, its derivative and the right answers on a tile of samples, in preallocated workspaces.

    Parameters
    ----------
    shape : tuple of int
        (replicates, columns) of the tile.
    dtype : dtype
        float32 or float64.
    """

    def __init__(self, shape: tuple[int, int], dtype: DTypeLike) -> None:
        self._signs, self._margin, self._decay, self._one_plus_decay = (np.empty(shape, dtype) for _ in range(4))
        self._loss, self._scratch, self._mask = (np.empty(shape, dtype) for _ in range(3))
        self._zeros = np.zeros(shape, dtype)
        self._flag, self._answer = (np.empty(shape, bool) for _ in range(2))
        self._terms = np.empty(shape, np.float64)
        self._sums = np.empty(shape[0], np.float64)

    def evaluate(self, logits: Floats, signs: Floats) -> None:
        """Take in a tile: the methods below speak of the tile last taken in.

        Parameters
        ----------
        logits : ndarray of shape (replicates, columns)
        signs : ndarray of shape (columns,) or (replicates, columns)
            The labels as 2y - 1.
        """
        self._logits = logits
        np.copyto(self._signs, signs)
        np.multiply(logits, self._signs, out=self._margin)
        np.abs(self._margin, out=self._decay)
        np.negative(self._decay, out=self._decay)
        np.exp(self._decay, out=self._decay)
        np.add(self._decay, 1, out=self._one_plus_decay)

    def add_losses(self, total: NDArray[np.float64]) -> None:
        """Add each replicate's summed loss to ``total`` of shape (replicates,).

        log(1 + exp(-z)) = log(1 + e) - min(z, 0). For log(1 + e), with u = 1 + e rounded, log(u) e / (u - 1)
        is right to a few units in the last place, and e itself where u = 1 [1]_. So NumPy's own vectorised
        logarithm serves, and the C library's log1p is not needed.

        References
        ----------
        .. [1] Goldberg (1991), "What every computer scientist should know about floating-point
           arithmetic", theorem 4.
        """
        e, u, loss, scratch = self._decay, self._one_plus_decay, self._loss, self._scratch
        np.log(u, out=loss)
        np.multiply(loss, e, out=loss)
        np.subtract(u, 1, out=scratch)
        np.equal(scratch, self._zeros, out=self._flag)
        np.copyto(self._mask, self._flag)
        np.add(scratch, self._mask, out=scratch)
        np.divide(loss, scratch, out=loss)
        np.multiply(e, self._mask, out=scratch)
        np.add(loss, scratch, out=loss)
        np.minimum(self._margin, self._zeros, out=scratch)
        np.subtract(loss, scratch, out=loss)
        self._add_sums(loss, total)

    def top_error(self, scale: float, delta: Floats) -> None:
        """Write the top error, (p - y) * scale, to ``delta`` of shape (replicates, columns).

        1 / (1 + exp(z)) is e / (1 + e) for z >= 0 and 1 / (1 + e) for z < 0.
        """
        np.less(self._margin, self._zeros, out=self._flag)
        np.copyto(delta, self._decay)
        np.copyto(delta, 1, where=self._flag)
        np.divide(delta, self._one_plus_decay, out=delta)
        np.multiply(delta, self._signs, out=delta)
        np.multiply(delta, -scale, out=delta)

    def add_correct(self, total: NDArray[np.float64]) -> None:
        """Add each replicate's number of right answers to ``total`` of shape (replicates,).

        The answer is 1 where s > 0, so a logit of exactly 0 answers 0.
        """
        np.greater(self._logits, self._zeros, out=self._answer)
        np.greater(self._signs, self._zeros, out=self._flag)
        np.equal(self._answer, self._flag, out=self._flag)
        self._add_sums(self._flag, total)

    def _add_sums(self, terms: NDArray[Any], total: NDArray[np.float64]) -> None:
        """Add sums over samples to ``total``, in float64 whatever the terms are."""
        np.copyto(self._terms, terms)
        np.add.reduce(self._terms, axis=-1, out=self._sums)
        np.add(total, self._sums, out=total)
