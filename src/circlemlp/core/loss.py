"""The loss and the top error, from logits.

For a label y in {0, 1} and a logit s, p = 1 / (1 + exp(-s)) and -log p(y|s) = log(1 + exp(s)) - y s. With
the signed margin z = (2y - 1) s both the loss and its derivative are functions of z alone:

    -log p(y|s)       = log(1 + exp(-z)) = log(1 + exp(-|z|)) - min(z, 0)
    -d log p(y|s)/ds  = p - y = -(2y - 1) / (1 + exp(z))

No probability is formed, so none is clipped, and small losses and errors keep their relative precision.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.parameters import Floats

MARGIN_OF_RANGE = 2.0**27
"""The ratio of the smallest error to the smallest normal number. It keeps products of errors normal as well, because
processors take tens of times longer over subnormal numbers."""


def top_error(logits: Floats, signs: Floats, n: int, out: Floats) -> None:
    """Write the top error of a mean over n samples, (p - y) / n = -(2y - 1) / (n (1 + exp(z))), to ``out``.

    Where n (1 + exp(z)) times ``MARGIN_OF_RANGE`` overflows, the error becomes 0. In float32 that is where it would be
    below 4e-31, which is too small to change the sum over the samples, unless all errors are that small. The caller has
    to prevent NumPy's warning of the overflow.

    Parameters
    ----------
    logits, out : ndarray of shape (replicates, ...)
    signs : ndarray that broadcasts with them
        The labels as 2y - 1.
    n : int
        The number of samples, at least 1.
    """
    np.multiply(logits, signs, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, -n * MARGIN_OF_RANGE, out=out)
    np.multiply(out, 1 / MARGIN_OF_RANGE, out=out)
    np.divide(signs, out, out=out)


class LossSum:
    """For each replicate, the sum of the losses and the number of right answers over any number of samples.

    Parameters
    ----------
    replicates : int
    most : int
        The most samples that are added by one call.
    dtype : dtype
        The type of the logits, float32 or float64. The sums are always float64.

    Attributes
    ----------
    loss, correct : ndarray of shape (replicates,), float64
        The sums since ``start``.
    """

    def __init__(self, replicates: int, most: int, dtype: DTypeLike) -> None:
        shape = replicates, most
        self.loss, self.correct = np.zeros(replicates), np.zeros(replicates)
        self._decay, self._u, self._losses = (np.empty(shape, dtype) for _ in range(3))
        self._zeros = np.zeros(shape, dtype)
        self._answer, self._label = (np.empty(shape, bool) for _ in range(2))
        self._terms = np.empty(shape, np.float64)
        self._sums = np.empty(replicates, np.float64)

    def start(self) -> None:
        """Set the sums to zero."""
        self.loss.fill(0)
        self.correct.fill(0)

    def add_answers(self, logits: Floats, signs: Floats) -> None:
        """Count the right answers. The answer is 1 where s > 0, so a logit of exactly 0 answers 0.

        Parameters
        ----------
        logits : ndarray of shape (replicates, columns)
        signs : ndarray of shape (1 or replicates, columns)
            The labels as 2y - 1.
        """
        place = slice(logits.shape[1])
        answer, label = self._answer[:, place], self._label[:, place]
        np.greater(logits, 0, out=answer)
        np.greater(signs, 0, out=label)
        np.equal(answer, label, out=answer)
        self._add_sums(answer, self.correct)

    def add_losses(self, logits: Floats, signs: Floats) -> None:
        """Add up log(1 + exp(-z)) = log(1 + e) - min(z, 0), where e = exp(-|z|) cannot overflow.

        Let u be 1 + e, rounded. Then log(1 + e) = log(u) + (e - (u - 1)) / u, up to the square of the rounding error.
        Leaving out the division by u costs at most half a rounding error more, since 1 < u <= 2. So log(1 + e) is
        computed by NumPy's vectorised logarithm, without the C library's log1p.

        Parameters
        ----------
        logits : ndarray of shape (replicates, columns)
            They are overwritten.
        signs : ndarray of shape (1 or replicates, columns)
            The labels as 2y - 1.
        """
        place = slice(logits.shape[1])
        e, u, loss = self._decay[:, place], self._u[:, place], self._losses[:, place]
        margins = np.multiply(logits, signs, out=logits)
        np.abs(margins, out=e)
        np.multiply(e, -1, out=e)  # np.negative of NumPy 2.4 has a bug for float64 with a stride of 64 bytes
        np.exp(e, out=e)
        np.add(e, 1, out=u)
        np.log(u, out=loss)
        np.minimum(margins, self._zeros[:, place], out=margins)
        np.subtract(loss, margins, out=loss)
        rounded = np.subtract(u, 1, out=margins)
        np.subtract(e, rounded, out=e)
        np.add(loss, e, out=loss)
        self._add_sums(loss, self.loss)

    def _add_sums(self, terms: NDArray[Any], total: NDArray[np.float64]) -> None:
        """Add the sums over the samples to ``total``, computed in float64 for terms of any type."""
        doubles = self._terms[:, : terms.shape[-1]]
        np.copyto(doubles, terms)
        np.add.reduce(doubles, axis=-1, out=self._sums)
        np.add(total, self._sums, out=total)
