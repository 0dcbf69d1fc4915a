import dataclasses
import math

import numpy as np
import pytest

from circlemlp.errors import UserError
from circlemlp.report import comparison
from circlemlp.report.cell_results import grid
from circlemlp.report.comparison import best_rates, compare, verdict
from circlemlp.report.statistics import Interval
from made_up import GRID, SETTINGS, made_up, with_losses

TEN = np.linspace(0.9, 1.1, 10)


def cells(*losses, rates=(0.1, 0.01, 0.03), hidden=(4,)):
    """Return the cells of an architecture with these losses, one after another."""
    return [made_up(hidden, rate, list(one)) for rate, one in zip(rates, losses, strict=False)]


def test_cells_come_by_size_and_rate():
    found = compare(GRID, SETTINGS).cells
    assert [(c.architecture, c.learning_rate) for c in found] == [
        ("2-4-1", 0.01),
        ("2-4-1", 0.1),
        ("2-6-3-1", 0.01),
        ("2-6-3-1", 0.03),
        ("2-6-3-1", 0.1),
    ]


def test_the_best_rate_has_the_lowest_loss():
    small, large = compare(GRID, SETTINGS).best
    assert (small.cell.learning_rate, small.edge) == (0.1, "highest")
    assert (large.cell.learning_rate, large.edge) == (0.03, None)


def test_a_rate_at_which_more_than_a_quarter_diverged_is_never_chosen():
    good, worse = [0.1] * 8, [0.2] * 8
    two, three = [None] * 2 + good[2:], [None] * 3 + good[3:]
    assert compare(cells(two, worse), SETTINGS).best[0].cell.learning_rate == 0.1
    best = compare(cells(three, worse), SETTINGS).best[0]
    assert (best.cell.learning_rate, best.exists) == (0.01, True)
    assert not compare(cells(three, three), SETTINGS).best[0].exists


def test_a_diverged_replicate_ranks_worst_and_one_spike_of_many_does_not_decide():
    steady, spiked = [0.2] * 8, [9.0] + [0.1] * 7
    assert compare(cells(steady, spiked), SETTINGS).best[0].cell.learning_rate == 0.01
    diverged = compare(cells([None] + [0.1] * 7), SETTINGS).cells[0]
    assert (diverged.diverged, diverged.bad_runs, diverged.true_errors.max()) == (1, 1, 1)
    assert diverged.error.estimate == pytest.approx(0.01)


def test_the_lowest_rate_is_an_edge_and_the_only_one_is_none():
    assert compare(cells([0.4], [0.5], rates=(0.1, 0.2)), SETTINGS).best[0].edge == "lowest"
    assert compare(cells([0.4]), SETTINGS).best[0].edge is None


def test_location_is_that_of_the_logarithm():
    (cell,) = compare(cells(0.1 * TEN), SETTINGS).cells
    by_hand = 10 ** np.mean(np.log10(0.01 * np.sort(TEN)[2:8]))
    assert cell.error.estimate == pytest.approx(by_hand)
    assert cell.loss.estimate == pytest.approx(10 * by_hand)
    assert cell.error.low < by_hand < cell.error.high


def test_bad_runs_are_those_above_the_bound():
    (cell,) = compare(cells([0.29, 0.31, 0.4, None]), SETTINGS).cells  # true errors 0.029, 0.031, 0.04
    assert cell.bad_runs == 3
    assert compare(cell.trained.records, SETTINGS.model_copy(update={"bad_run_error": 0.035})).cells[0].bad_runs == 2


def test_differences_are_paired():
    # A ratio of about 0.9 in every pair, under noise that would drown it unpaired.
    noise = np.array([1.0, 2.0, 3.0, 4.0, 0.5, 0.1, 0.2, 0.7, 5.0, 6.0])
    records = [*cells(0.9 * noise * TEN**0.1), *cells(noise, hidden=(5,))]
    (one,) = compare(records, SETTINGS).last.differences
    assert (one.verdict, one.wins, one.losses) == ("first", 10, 0)
    assert one.ratio.estimate == pytest.approx(0.9, rel=0.02)
    assert one.lower is one.first


def test_what_the_replicates_do_not_support_is_not_decided_and_more_replicates_would():
    rng = np.random.default_rng(0)
    a, b = 0.1 * rng.lognormal(size=(2, 10))
    (one,) = compare([*cells(a), *cells(b, hidden=(5,))], SETTINGS).last.differences
    assert (one.verdict, one.lower) == ("open", None)
    assert one.to_decide > 10
    assert one.wins + one.losses == 10


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (-0.3, -0.1, "first"),
        (0.1, 0.3, "second"),
        (-0.04, 0.04, "equal"),
        (-0.05, 0.03, "open"),
        (-0.03, 0.05, "open"),
        (0.01, 0.02, "second"),
        (math.nan, math.nan, "none"),
    ],
)
def test_a_verdict_is_read_from_the_interval_alone(low, high, says):
    assert verdict(Interval((low + high) / 2, low, high), math.log10(1.1)) == says


def test_with_fewer_than_eight_replicates_nothing_is_claimed():
    records = [*cells([0.1] * 7), *cells([0.5] * 7, hidden=(5,))]
    assert compare(records, SETTINGS).last.differences[0].verdict == "none"
    records = [*cells([0.1] * 8), *cells([0.5] * 8, hidden=(5,))]
    assert compare(records, SETTINGS).last.differences[0].verdict == "first"


def test_an_error_that_is_not_known_is_not_compared():
    known, unknown = cells(0.1 * TEN), cells(0.2 * TEN, hidden=(5,))
    unknown[0].true_error[3] = np.nan
    found = compare([*known, *unknown], SETTINGS)
    assert found.last.differences[0].verdict == "none"
    assert found.cells[1].unknown == 1
    assert math.isnan(found.cells[1].error.estimate)
    assert grid(found.cells)[1] == []


def test_more_architectures_than_can_be_looked_at_are_not_compared(monkeypatch):
    records = [record for width in (4, 5, 6) for record in cells(0.1 * TEN, hidden=(width,))]
    assert len(compare(records, SETTINGS).last.differences) == 3
    monkeypatch.setattr(comparison, "MOST_COMPARED", 2)
    assert compare(records, SETTINGS).last.differences == []


def test_the_doubts_name_the_rates_that_may_be_as_good():
    best, near, far = 0.1 * TEN, 0.1 * TEN[::-1] + 0.001, 0.9 * TEN
    (doubt,) = compare(cells(best, near, far), SETTINGS).doubts
    assert doubt.not_separated == [0.01]
    assert set(doubt.frequencies) == {0.1, 0.01}
    assert doubt.frequencies[0.1] > doubt.frequencies[0.01]
    (doubt,) = compare(cells([0.1] * 3, [0.2] * 3), SETTINGS).doubts
    assert doubt.not_separated is None


def confirmed(losses, rate=0.1, hidden=(4,), **keys):
    return made_up(hidden, rate, list(losses), first=10, **keys)


TUNING = [*cells(0.1 * TEN, 0.3 * TEN), *cells(0.2 * TEN, 0.4 * TEN, hidden=(5,))]


def test_other_replicates_judge_if_there_are_some():
    found = compare(TUNING, SETTINGS, [confirmed([0.5] * 12), confirmed([0.1] * 12, hidden=(5,))])
    assert [one.cell.replicates for one in found.best] == [10, 10]
    assert [list(one.judged.trained.numbers) for one in found.best] == [list(range(10, 22))] * 2
    assert [cell.replicates for cell in found.confirmation] == [12, 12]
    (difference,) = found.last.differences
    assert (difference.wins, difference.losses) == (0, 12)
    alone = compare(TUNING, SETTINGS)
    assert (alone.last.differences[0].wins, alone.confirmation) == (10, [])


def test_the_best_rates_alone_are_those_of_the_comparison():
    confirmation = [confirmed([0.5] * 12), confirmed([0.1] * 12, rate=0.01, hidden=(5,))]
    alone, compared = best_rates(TUNING, SETTINGS, confirmation), compare(TUNING, SETTINGS, confirmation).best
    for one, other in zip(alone, compared, strict=True):
        assert (one.cell.key, one.lacks, one.edge) == (other.cell.key, other.lacks, other.edge)
        assert one.judged.error == other.judged.error


def test_replicates_that_chose_do_not_judge():
    overlapping = [made_up((4,), 0.1, [0.5] * 12, first=8), made_up((5,), 0.1, [0.5] * 12, first=8)]
    with pytest.raises(
        UserError, match=r"^replicates 8 to 9 of the confirmation chose .*training\.first_replicate=10$"
    ):
        compare(TUNING, SETTINGS, overlapping)


def test_who_judges_differs_in_nothing_but_the_replicates():
    with pytest.raises(UserError, match=r"else too: training\.seed$"):
        compare(TUNING, SETTINGS, [confirmed([0.5], seed=1)])
    with pytest.raises(UserError, match=r"else too: training\.replicates$"):
        compare(TUNING, SETTINGS, [confirmed([0.5] * 12), confirmed([0.1] * 11, hidden=(5,))])


def test_nothing_is_claimed_of_an_architecture_that_is_not_confirmed():
    found = compare(TUNING, SETTINGS, [confirmed([0.5] * 12), confirmed([0.1] * 12, rate=0.01, hidden=(5,))])
    assert [one.lacks for one in found.best] == [None, "confirmation"]
    assert [one.verdict for one in found.last.differences] == ["none"]
    assert [cell.key for cell in found.confirmation] == [("2-4-1", 0.1)]  # the other one was not chosen
    with pytest.raises(UserError, match=r"^the confirmation has none of the chosen cells"):
        compare(TUNING, SETTINGS, [confirmed([0.5] * 12, rate=0.01)])


def test_an_architecture_without_a_rate_needs_no_confirmation():
    tuning = [*cells([0.1] * 4), *cells([None] * 4, hidden=(5,))]
    assert [one.lacks for one in compare(tuning, SETTINGS, [confirmed([0.5] * 3)]).best] == [None, "rate"]
    diverged = confirmed([None] * 3)
    assert compare(tuning, SETTINGS, [diverged]).best[0].exists


def test_the_second_judgement_is_confirmed_too():
    falling = with_losses(made_up((4,), 0.1, [0.1] * 10), np.outer(TEN, [1.0] * 19 + [0.9, 0.1]))
    steady = with_losses(made_up((4,), 0.01, [0.3] * 10), np.outer(TEN, [1.0] * 19 + [0.3, 0.3]))
    judges = [with_losses(confirmed([0.2] * 9, rate=rate), np.full((9, 21), 0.2)) for rate in (0.01, 0.1)]
    found = compare([falling, steady], SETTINGS, judges)
    assert [one.best[0].judged.key for one in (found.last, found.typical)] == [("2-4-1", 0.1), ("2-4-1", 0.01)]
    assert len(found.confirmation) == 2
    found = compare([falling, steady], SETTINGS, judges[1:])
    assert [one.best[0].lacks for one in (found.last, found.typical)] == [None, "confirmation"]


def test_the_records_of_ranges_are_one_cell():
    whole = [made_up((4,), 0.1, list(0.1 * TEN)), made_up((5,), 0.1, list(0.2 * TEN))]
    ranges = [
        made_up((width,), 0.1, list(factor * TEN[start:stop]), first=start)
        for start, stop in ((4, 10), (0, 4))
        for width, factor in ((4, 0.1), (5, 0.2))
    ]
    one, joined = compare(whole, SETTINGS), compare(ranges, SETTINGS)
    assert [cell.true_errors.tolist() for cell in joined.cells] == [cell.true_errors.tolist() for cell in one.cells]
    assert joined.last.differences[0].ratio == one.last.differences[0].ratio
    with pytest.raises(UserError, match=r"else too: training\.replicates$"):
        compare(ranges[:3], SETTINGS)


def test_the_second_judgement_looks_at_the_last_tenth():
    """Of twenty epochs the last two decide: the last alone says 0.1, their median 0.01."""
    falling = with_losses(made_up((4,), 0.1, [0.1] * 10), np.outer(TEN, [1.0] * 19 + [0.9, 0.1]))
    steady = with_losses(made_up((4,), 0.01, [0.3] * 10), np.outer(TEN, [1.0] * 19 + [0.3, 0.3]))
    other = with_losses(made_up((5,), 0.1, [0.2] * 10), np.outer(TEN, [1.0] * 19 + [0.9, 0.9]))
    found = compare([falling, steady, other], SETTINGS)
    assert [found.last.best[0].cell.learning_rate, found.typical.best[0].cell.learning_rate] == [0.1, 0.01]
    worse = dataclasses.replace(falling, true_error=other.true_error * 2)
    found = compare([worse, other], SETTINGS)
    assert [one.differences[0].verdict for one in (found.last, found.typical)] == ["second", "first"]


def test_the_grid_leaves_out_rates_with_a_hole():
    values, rates = grid(compare(GRID, SETTINGS).cells)
    assert rates == [0.01, 0.1]
    assert values.shape == (2, 2, 3)
    assert values[1, 1, 1] == 0  # it diverged: true error 1
    assert values[0, 0, 0] == pytest.approx(math.log10(0.04))


def flat(rate, losses):
    return with_losses(made_up((4,), rate, losses), np.outer(losses, np.ones(21)))


def test_each_cell_of_a_sweep_has_its_regime():
    slow = with_losses(made_up((4,), 0.01, [0.1] * 3), np.outer(np.ones(3), [1.0] * 19 + [0.8] * 2))
    records = [
        slow,
        *(flat(rate, losses) for rate, losses in ((0.1, [0.1] * 3), (0.2, [0.5] * 3), (0.3, [0.2, 0.1, 0.31]))),
    ]
    found = compare(records, SETTINGS).cells
    assert [cell.regime for cell in found] == ["too slow", "good", "collapsed", "unstable"]
    assert compare([made_up((4,), 0.1, [None] * 3)], SETTINGS).cells[0].regime == "diverged"
    # A higher rate that ended less than a tenth lower does not make a cell too slow: 0.8 against 0.75.
    found = compare([slow, flat(0.1, [0.75] * 3)], SETTINGS).cells
    assert found[0].regime == "good"
