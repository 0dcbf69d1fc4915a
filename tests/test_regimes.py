import math

import numpy as np

from circlemlp.report import regimes
from circlemlp.store.trained import join
from made_up import made_up, with_losses


def cell(losses, curves=None):
    """Return a cell whose replicates end with these losses, or with these curves of them."""
    record = made_up((4,), 0.1, list(losses))
    (one,) = join([record if curves is None else with_losses(record, curves)])
    return one


def flat(losses, epochs=20):
    return cell(losses, np.outer(losses, np.ones(epochs + 1)))


def falling(by):
    """Return a cell whose losses fall by a share from one tenth of twenty epochs to the last."""
    return cell([1.0] * 3, np.outer(np.ones(3), [1.0] * 19 + [1 - by] * 2))


def test_tenths_and_whether_a_loss_still_falls():
    assert list(regimes.tenth(falling(0.2))) == [0.8] * 3
    assert list(regimes.tenth(falling(0.2), before=True)) == [1.0] * 3
    assert regimes.still_improving(falling(0.03))
    assert not regimes.still_improving(falling(0.01))
    assert not regimes.still_improving(cell([None]))
    assert regimes.still_improving(cell([0.1]))  # six epochs: a tenth is one


def test_too_slow_is_to_improve_while_a_higher_rate_ended_better():
    assert regimes.too_slow(falling(0.2), higher_is_better=True)
    assert not regimes.too_slow(falling(0.2), higher_is_better=False)
    assert not regimes.too_slow(falling(0.0), higher_is_better=True)


def test_diverged_is_more_than_a_quarter():
    assert not regimes.diverged(cell([None, 0.1, 0.1, 0.1]))
    assert regimes.diverged(cell([None, 0.1, 0.1]))


def test_collapsed_is_no_better_than_a_straight_line():
    assert regimes.collapsed(np.array([0.04, 0.04, 0.01]), 0.0365)
    assert not regimes.collapsed(np.array([0.04, 0.03, 0.01]), 0.0365)
    assert not regimes.collapsed(np.array([np.nan]), 0.0365)


def test_unstable_is_a_bad_run_or_a_late_spike_in_ten():
    calm = flat([0.1] * 10)
    spiked = cell([0.1] * 10, np.where(np.arange(10)[:, None] == 3, [1.0] * 20 + [4.0], 1.0))
    assert list(np.flatnonzero(regimes.late_spikes(spiked))) == [3]
    assert regimes.unstable(spiked, np.full(10, 0.01), 0.03)
    assert regimes.unstable(calm, np.array([0.04] + [0.01] * 9), 0.03)
    assert not regimes.unstable(calm, np.full(10, 0.01), 0.03)
    assert not regimes.unstable(flat([0.1] * 11), np.array([0.04] + [0.01] * 10), 0.03)


def test_the_cost_counts_who_never_gets_there_as_infinite():
    slow = cell([0.1] * 3)
    slow.history.validation_accuracy[:] = 0.9
    assert regimes.epochs_to_goal(slow) == math.inf
    slow.history.validation_accuracy[0, 2:] = 0.99
    assert regimes.epochs_to_goal(slow) == math.inf
    slow.history.validation_accuracy[1, 5] = 1.0
    assert regimes.epochs_to_goal(slow) == 5
