import math

import numpy as np
import pytest

from circlemlp.report.statistics import Interval, mean_interval


def test_the_interval_of_a_textbook_sample():
    interval = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    # t(0.975, 4) = 2.776445, s = 1.581139
    assert interval.mean == 3
    assert interval.half_width == pytest.approx(2.776445 * 1.581139 / math.sqrt(5), rel=1e-6)


def test_it_covers_the_true_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(7, 2, size=(4000, 10))
    intervals = [mean_interval(list(sample)) for sample in samples]
    covered = np.mean([abs(one.mean - 7) <= one.half_width for one in intervals])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_more_comparisons_make_it_wider():
    assert mean_interval([1, 2, 3], comparisons=6).half_width > mean_interval([1, 2, 3]).half_width


def test_few_values_leave_everything_open():
    assert math.isnan(mean_interval([]).mean)
    assert mean_interval([0.5]).mean == 0.5
    assert math.isnan(mean_interval([0.5]).half_width)
    assert not mean_interval([0.5]).excludes_zero


@pytest.mark.parametrize(("mean", "half_width", "excludes"), [(1, 0.5, True), (-1, 0.5, True), (0.4, 0.5, False)])
def test_excluding_zero(mean, half_width, excludes):
    assert Interval(mean, half_width, 5).excludes_zero is excludes
