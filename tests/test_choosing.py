import numpy as np
import pytest

from circlemlp.errors import UserError
from circlemlp.report.cell_results import numbered
from circlemlp.report.choosing import RULE, select
from circlemlp.report.comparison import compare
from circlemlp.store import selection
from made_up import GRID, SETTINGS, made_up, with_losses

TEN = np.linspace(0.9, 1.1, 10)


def test_it_says_what_was_chosen_and_why():
    found = select(GRID, SETTINGS)
    assert found.rule == RULE
    assert found.tuned.numbers == range(3)
    assert found.settings == selection.common_settings(GRID[-1].config)
    small, large = found.choices
    assert (small.architecture, small.learning_rate, small.edge) == ("2-4-1", 0.1, "highest")
    assert (large.architecture, large.learning_rate, large.edge) == ("2-6-3-1", 0.03, None)
    assert large.model == GRID[2].config.model
    assert large.validation_loss == pytest.approx(0.25, rel=1e-2)
    assert len(repr(large.validation_loss)) <= 6
    assert large.not_separated is None  # of three replicates nothing can be told
    assert set(large.chosen_by_resamples) <= {"0.01", "0.03"}
    assert sum(large.chosen_by_resamples.values()) == pytest.approx(1, abs=2e-3)


def test_the_report_chooses_the_same():
    for records in (GRID, [made_up((4,), rate, list(rate * TEN)) for rate in (0.1, 0.3, 0.2)]):
        compared = compare(records, SETTINGS)
        chosen = [choice.learning_rate for choice in select(records, SETTINGS).choices]
        assert chosen == [one.cell.learning_rate for one in compared.best]


def test_the_rate_that_the_last_tenth_chooses_is_confirmed_too():
    falling = with_losses(made_up((4,), 0.1, [0.1] * 10), np.outer(TEN, [1.0] * 19 + [0.9, 0.1]))
    steady = with_losses(made_up((4,), 0.01, [0.3] * 10), np.outer(TEN, [1.0] * 19 + [0.3, 0.3]))
    (choice,) = select([falling, steady], SETTINGS).choices
    assert (choice.learning_rate, choice.by_typical_loss) == (0.1, 0.01)
    assert choice.learning_rates == [0.1, 0.01]


def test_the_rates_that_may_be_as_good_are_named():
    losses = {0.1: 0.1 * TEN, 0.01: 0.1 * TEN[::-1] + 0.001, 0.03: 0.9 * TEN}
    (choice,) = select([made_up((4,), rate, list(one)) for rate, one in losses.items()], SETTINGS).choices
    assert choice.not_separated == [0.01]


def test_an_architecture_that_always_diverged_has_no_rate():
    (choice,) = select([made_up((4,), rate, [None] * 3) for rate in (0.1, 0.2)], SETTINGS).choices
    assert (choice.learning_rate, choice.by_typical_loss, choice.validation_loss, choice.edge) == (None,) * 4
    assert choice.learning_rates == []
    assert choice.chosen_by_resamples == {}


def test_ranges_that_follow_each_other_choose_together():
    ranges = [made_up((4,), 0.1, [0.1] * n, first=first) for first, n in ((7, 3), (5, 2))]
    assert select(ranges, SETTINGS).tuned.numbers == range(5, 10)
    with pytest.raises(UserError, match=r"^these results have replicates 5 to 6, 9; a selection takes .* a gap$"):
        select([made_up((4,), 0.1, [0.1], first=9), ranges[1]], SETTINGS)


def test_replicates_are_named_by_their_numbers():
    for numbers, text in (
        ([3], "replicate 3"),
        (range(10), "replicates 0 to 9"),
        ([0, 2, 3, 4], "replicates 0, 2 to 4"),
        (range(0, 16, 2), "8 replicates between 0 and 14"),
    ):
        assert numbered(np.array(numbers)) == text


def test_it_is_written_and_read_back(tmp_path):
    found = select(GRID, SETTINGS)
    selection.write(tmp_path / "selection.json", found)
    assert selection.read(tmp_path / "selection.json") == found
    assert [found.wants(record.config) for record in GRID] == [True, False, False, False, True]
