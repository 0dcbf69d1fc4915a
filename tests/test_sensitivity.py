import math

import numpy as np
import pytest

from circlemlp.report.sensitivity import of_architecture, sensitivity
from circlemlp.report.statistics import location
from circlemlp.store.trained import join
from made_up import made_up


def test_sensitivity_by_hand():
    # The first replicate loses 0, 0.2 and 0.4 at its three rates; the second 0.1, 0 and 0.3, since 5 counts as 0.5.
    losses = [[0.1, 0.3], [0.3, 0.2], [0.5, 5.0]]
    assert sensitivity(losses, [0.7, 0.5]) == pytest.approx([0.6 / 3, 0.4 / 3])
    assert sensitivity([[0.2], [0.2]], [0.7]) == [0]


@pytest.mark.parametrize("lost", [math.nan, math.inf, 0.7, 9.0])
def test_a_diverged_replicate_counts_as_the_initial_network(lost):
    assert sensitivity([[0.1], [lost]], [0.7]) == pytest.approx([0.3])


def test_without_a_rate_that_learns_there_is_no_sensitivity():
    assert np.isnan(sensitivity([[math.nan], [0.8]], [0.7])).all()


def test_more_rates_at_which_nothing_is_learnt_make_it_larger():
    assert sensitivity([[0.1], [0.9]], [0.7]) < sensitivity([[0.1], [0.9], [0.9]], [0.7])


def test_an_architecture_has_an_interval_over_its_replicates():
    # The made-up losses begin at 0.7, which is what the diverged replicate counts.
    best, worse = [0.10, 0.11, 0.12, 0.13, 0.14], [0.2, 0.3, None, 0.4, 0.5]
    cells = join([made_up((4,), 0.1, best), made_up((4,), 0.01, worse)])
    found = of_architecture(cells)
    expected = location([0.05, 0.095, 0.29, 0.135, 0.18])
    assert found.estimate == pytest.approx((0.095 + 0.135 + 0.18) / 3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_replicates_that_a_rate_does_not_have_are_left_out():
    numbered = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    cells = join([made_up((4,), 0.1, [0.1] * 4, first=2), made_up((4,), 0.01, numbered)])
    assert of_architecture(cells).estimate == pytest.approx((0.15 + 0.2) / 2)  # the middle two of the last four
    apart = join([made_up((4,), 0.1, [0.1] * 4, first=6), made_up((4,), 0.01, numbered)])
    assert math.isnan(of_architecture(apart).estimate)
