"""Means over replicates, with what they leave open."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and how far from it the true mean may lie.

    Attributes
    ----------
    mean : float
        NaN of no values.
    half_width : float
        Of the 95 % confidence interval by Student's t; NaN of fewer than two values.
    n : int
        Number of values.
    """

    mean: float
    half_width: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly above or below zero; False where there is none."""
        return abs(self.mean) > self.half_width  # a comparison with NaN is False


def mean_interval(values: Sequence[float], *, comparisons: int = 1) -> Interval:
    """Return the mean of independent values and its confidence interval.

    Parameters
    ----------
    values : sequence of float
        Finite.
    comparisons : int
        How many intervals are to hold together; each is widened by Bonferroni's correction.
    """
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, 0)
    if n == 1:
        return Interval(float(values[0]), math.nan, 1)
    quantile = student_t.ppf(1 - (1 - CONFIDENCE) / (2 * comparisons), n - 1)
    return Interval(float(np.mean(values)), float(quantile * np.std(values, ddof=1) / math.sqrt(n)), n)
