import itertools
import math

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, trim_mean
from scipy.stats import t as student_t
from scipy.stats.mstats import trimmed_mean_ci, trimmed_stde

from circlemlp.core.streams import stream
from circlemlp.report import statistics
from circlemlp.report.statistics import (
    Interval,
    choice_frequencies,
    location,
    lowest,
    mean_and_error,
    proportion,
    replicates_to_decide,
    shares,
    shares_of_replicates,
    simultaneous,
    trimmed_mean,
)

RNG = np.random.default_rng(0)
SAMPLES = RNG.lognormal(size=(3, 11))


def test_the_trimmed_mean_of_ten_values_is_that_of_the_middle_six():
    assert trimmed_mean([100, 3, 1, 2, 4, 5, 6, 7, 8, -50]) == pytest.approx((2 + 3 + 4 + 5 + 6 + 7) / 6)
    assert trimmed_mean(SAMPLES) == pytest.approx(trim_mean(SAMPLES, 0.25, axis=1))
    assert math.isnan(trimmed_mean([]))


def test_its_standard_error_by_hand_and_by_scipy():
    # Eight values: 1 and 2 count as 3, 7 and 90 as 6.
    winsorised = np.array([3, 3, 3, 4, 5, 6, 6, 6])
    by_hand = math.sqrt(np.square(winsorised - 4.5).sum() / 7) / (0.5 * math.sqrt(8))
    assert mean_and_error([1, 90, 3, 4, 5, 6, 7, 2]) == (4.5, pytest.approx(by_hand))
    assert mean_and_error(SAMPLES)[1] == pytest.approx(
        [float(trimmed_stde(sample, limits=(0.25, 0.25))) for sample in SAMPLES]
    )
    assert math.isnan(mean_and_error([1.0])[1])


def test_the_interval_of_a_location_is_scipy_s_bootstrap_with_expanded_percentiles():
    sample = np.sort(SAMPLES[1])  # 11 values
    below = norm.cdf(-student_t.ppf(0.975, 10))
    assert below == pytest.approx(norm.cdf(-2.228), abs=1e-5)  # of a table
    expected = bootstrap(
        (sample,),
        lambda resamples, axis: trim_mean(resamples, 0.25, axis=axis),
        n_resamples=10_000,
        confidence_level=1 - 2 * below,
        method="percentile",
        rng=stream(0, "statistics", "resamples", 11),
    ).confidence_interval
    interval = location(SAMPLES[1])
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.estimate in interval
    assert location(sample[::-1]) == interval


def test_the_interval_of_very_many_values_is_that_of_the_normal_distribution():
    sample = RNG.normal(size=3000)
    half = 1.96 * mean_and_error(sample)[1]
    interval = location(sample)
    assert (interval.low, interval.high) == pytest.approx(
        (interval.estimate - half, interval.estimate + half), abs=0.01
    )


def test_too_few_values_have_no_interval():
    assert location([1.0, 2.0, 4.5]).estimate == 2.5
    assert not location([1.0, 2.0, 3.0, 4.0]).exists
    assert location([1.0, 2.0, 3.0, 4.0, 5.0]).exists
    assert location([0.1] * 5) == Interval(*[pytest.approx(0.1)] * 3)
    assert math.isnan(location([1.0, 2.0, 3.0, 4.0, np.nan]).estimate)
    assert math.isnan(location([]).estimate)


@pytest.mark.parametrize(("n", "infinite"), [(10, 2), (30, 7), (12, 3), (5, 1)])
def test_an_end_that_rests_on_an_infinite_value_is_infinite(n, infinite):
    """The estimate is as where the worst values are merely bad."""
    bad = np.sort(RNG.normal(size=n))
    interval = location([*bad[:-infinite], *[np.inf] * infinite])
    assert interval.estimate == location(bad).estimate
    assert bad[0] <= interval.low < interval.estimate
    assert interval.high == math.inf
    assert interval.exists
    assert interval.to_powers_of_ten() == Interval(10**interval.estimate, 10**interval.low, math.inf)


def test_an_infinite_value_that_no_end_rests_on_does_no_harm_and_very_many_take_the_estimate_along():
    values = np.sort(RNG.normal(size=30))
    assert location([*values[:-1], np.inf]) == location([*values[:-1], 1e3])
    assert location([*values[:22], *[np.inf] * 8]).estimate == math.inf
    assert location([np.inf] * 5) == Interval(math.inf, math.inf, math.inf)
    assert location([1.0, 2.0, np.inf]).estimate == math.inf


def test_wilson_s_interval_solves_its_equation():
    interval, z = proportion(3, 10), norm.ppf(0.975)
    assert interval.estimate == 0.3
    for p in (interval.low, interval.high):
        assert abs(0.3 - p) == pytest.approx(z * math.sqrt(p * (1 - p) / 10))
    assert proportion(0, 10).low == 0
    assert 0.2 < proportion(0, 10).high < 0.3


def slow_critical(differences):
    """Return the critical value with loops over all 2^n rows of signs."""
    largest = []
    for signs in itertools.product([1, -1], repeat=differences.shape[1]):
        flipped = [(row - trim_mean(row, 0.25)) * signs for row in differences]
        largest.append(max(abs(trim_mean(f, 0.25)) / float(trimmed_stde(f, limits=(0.25, 0.25))) for f in flipped))
    kept = differences.shape[1] - 2 * int(differences.shape[1] / 4)
    return sorted(largest)[math.ceil(0.95 * (len(largest) - 1))] * math.sqrt(kept / (kept - 1))


def test_simultaneous_intervals_agree_with_a_second_implementation():
    differences = RNG.normal(0.3, 1, (3, 8))
    found = simultaneous(differences)
    assert found.flips == 2**8
    assert found.critical == pytest.approx(slow_critical(differences))
    assert found.critical > student_t.ppf(0.975, 3)
    for row, interval in zip(differences, found.intervals, strict=True):
        half = found.critical * float(trimmed_stde(row, limits=(0.25, 0.25)))
        assert (interval.low, interval.high) == pytest.approx(
            (trim_mean(row, 0.25) - half, trim_mean(row, 0.25) + half)
        )


def test_random_flips_give_nearly_what_all_give_and_always_the_same(monkeypatch):
    differences = RNG.normal(size=(6, 14))
    every = simultaneous(differences)
    some = simultaneous(differences, flips=4000)
    assert (every.flips, some.flips) == (2**14, 4000)
    assert some.critical == pytest.approx(every.critical, rel=0.05)
    assert simultaneous(differences, flips=4000) == some
    assert simultaneous(RNG.normal(size=(1, 21))).flips == 100_000
    monkeypatch.setattr(statistics, "NUMBERS", 84 * 1500)
    assert simultaneous(differences).flips == 1500


@pytest.mark.parametrize(("pairs", "n", "flips"), [(9, 20, 2**20), (10, 20, 100_000), (45, 30, 74_074)])
def test_the_number_of_flips_is_bounded_by_the_time_that_they_take(pairs, n, flips):
    assert simultaneous(RNG.normal(size=(pairs, n))).flips == flips


def test_a_single_difference_has_at_least_the_interval_of_tukey_and_mclaughlin():
    for _ in range(20):
        row = RNG.normal(size=9)
        (interval,) = simultaneous([row]).intervals
        low, high = trimmed_mean_ci(row, limits=(0.25, 0.25))
        assert interval.low <= low + 1e-12
        assert interval.high >= high - 1e-12


def test_with_seven_pairs_nothing_can_be_told():
    found = simultaneous(np.arange(1.0, 8.0)[np.newaxis])
    assert (found.flips, found.intervals[0].exists, found.intervals[0].estimate) == (0, False, 4.0)
    assert simultaneous(np.empty((0, 10))).intervals == []


@pytest.mark.parametrize("value", [0.5, 0.1, -0.7])
def test_differences_that_do_not_vary_are_certain_and_widen_no_other_interval(value):
    """The mean of ten times 0.1 is not 0.1 to the last digit."""
    other = RNG.normal(size=10)
    interval, widest = simultaneous([np.full(10, value), other]).intervals
    assert (interval.low, interval.high) == pytest.approx((value, value))
    assert [widest] == simultaneous([other]).intervals


def test_differences_with_two_values_leave_everything_open():
    """Flipped, they often become equal, and have no error."""
    (interval,) = simultaneous(np.array([[0.01, -0.01] * 5])).intervals
    assert interval.low < -1e3
    assert interval.high > 1e3
    assert interval.to_powers_of_ten() == Interval(1.0, 1e-300, 1e300)


@pytest.mark.parametrize("n", [10, 30])
def test_equal_architectures_are_told_apart_in_about_one_in_twenty_experiments(n):
    rng, alarms, rounds = np.random.default_rng(7), 0, 400
    for _ in range(rounds):
        outcomes = rng.normal(size=(4, n)) + 0.5 * rng.normal(size=n)
        differences = np.array([a - b for a, b in itertools.combinations(outcomes, 2)])
        alarms += any(0 not in interval for interval in simultaneous(differences, flips=199).intervals)
    assert 0.02 < alarms / rounds < 0.09  # 0.05 and four standard errors


def test_the_number_of_replicates_that_would_decide_has_its_power():
    # One interval, estimate 0.5, standard error 0.25 from 10, critical value 2; z(0.8) = 0.8416.
    interval = Interval(0.5, 0.0, 1.0)
    assert replicates_to_decide(interval, 2, 10, 0.1) == math.ceil(10 * (2.8416 * 0.25 / 0.5) ** 2)
    # A difference of 0.02 is nearer to 0 than to the margin, 0.1, and would be called practically equal.
    assert replicates_to_decide(Interval(0.02, -0.48, 0.52), 2, 10, 0.1) == math.ceil(10 * (2.8416 * 0.25 / 0.08) ** 2)
    # With so many replicates, the interval leaves out 0 in four of five experiments.
    rng, n = np.random.default_rng(1), replicates_to_decide(Interval(0.5, 0.0, 1.0), 2, 10, 0.1)
    means = rng.normal(0.5, 0.25 * math.sqrt(10), (4000, n)).mean(axis=1)
    assert 0.77 < np.mean(means > 2 * 0.25 * math.sqrt(10 / n)) < 0.83


def test_the_shares_of_few_replicates_have_those_of_many_in_their_intervals():
    random = np.random.default_rng(0)
    cells = np.array([[0.0, 3.0, 5.0], [2.0, 4.0, 9.0]])[..., np.newaxis]
    many = shares(cells + random.normal(size=(2, 3, 20_000)))
    draws = [cells + random.normal(size=(2, 3, 10)) for _ in range(400)]
    for name in ("rows", "columns"):
        found = [shares_of_replicates(values)[name] for values in draws]
        assert 0.9 <= np.mean([many[name] in one for one in found]) <= 0.99
        assert [one.estimate for one in found] == [shares(values)[name] for values in draws]
        assert all(0 <= one.low <= one.estimate <= one.high <= 1 for one in found)
    uneven = [shares_of_replicates(cells + random.normal(size=(2, 3, 30)))["columns"] for _ in range(200)]
    assert 0.9 <= np.mean([many["columns"] in one for one in uneven]) <= 0.99
    grouped = shares_of_replicates(cells + random.normal(size=(2, 3, 4000)))["columns"]
    assert many["columns"] in grouped
    assert grouped.high - grouped.low < 0.03
    assert not shares_of_replicates(draws[0][..., :4])["rows"].exists
    assert math.isnan(shares_of_replicates(np.full((2, 2, 9), 0.1))["rows"].estimate)


def test_the_interval_of_a_share_is_that_of_pseudovalues():
    values = np.random.default_rng(1).normal(size=(2, 3, 10)) + np.arange(6).reshape(2, 3, 1)
    whole = shares(values)["columns"]
    pseudo = [10 * whole - 9 * shares(np.delete(values, one, axis=2))["columns"] for one in range(10)]
    half = 2.2621572 * np.std(pseudo, ddof=1) / math.sqrt(10)  # Student's quantile of 97.5 % with 9 degrees of freedom
    found = shares_of_replicates(values)["columns"]
    assert (found.low, found.high) == pytest.approx((whole - half, whole + half), abs=1e-7)


def test_shares_by_hand_and_that_they_add_up():
    # Rows differ by 2, columns by 4, nothing else: 8 values, sums of squares 8 and 32.
    table = np.array([[0.0, 4.0], [2.0, 6.0]])[..., np.newaxis] + np.zeros(2)
    assert shares(table) == pytest.approx({"rows": 0.2, "columns": 0.8, "interaction": 0, "replicates": 0})
    assert shares(table + np.array([-1, 1]))["replicates"] == pytest.approx(8 / 48)
    assert shares(np.array([[[1.0], [0.0]], [[0.0], [1.0]]]))["interaction"] == 1
    values = RNG.normal(size=(4, 7, 10))
    assert sum(shares(values).values()) == pytest.approx(1)
    total = np.square(values - values.mean()).sum()
    assert shares(values)["rows"] * total == pytest.approx(
        70 * np.square(values.mean(axis=(1, 2)) - values.mean()).sum()
    )
    assert all(math.isnan(share) for share in shares(np.full((2, 2, 2), 0.1)).values())


def test_the_lowest_row_is_that_of_the_lowest_location_and_of_equal_ones_the_first():
    assert lowest([[1, 1, 1, 1], [0, 0, 0, 9], [0, 0, 0, 0]]) == 1


def test_resampling_two_values_chooses_as_their_draws_do():
    # Of two replicates, the first row is lower in one and far higher in the other: it is lowest only if the first is
    # drawn twice, a quarter of the time.
    frequencies = choice_frequencies(np.array([[0.0, 9.0], [1.0, 1.0]]), "a test")
    assert frequencies[0] == pytest.approx(0.25, abs=0.06)
    assert frequencies.sum() == pytest.approx(1)
    assert list(choice_frequencies(np.zeros((3, 5)), "a test")) == [1, 0, 0]
    assert list(choice_frequencies(np.array([[2.0], [1.0]]), "a test")) == [0, 1]


def test_resampling_is_scipy_s_bootstrap():
    values = RNG.normal(size=(7, 10))

    def lowest(*rows, axis):  # noqa: ARG001
        return trim_mean(np.array(rows), 0.25, axis=-1).argmin(axis=0).astype(float)

    draws = bootstrap(
        values,
        lowest,
        paired=True,
        vectorized=True,
        n_resamples=1000,
        method="percentile",
        rng=stream(0, "statistics", "choice", "a test"),
    ).bootstrap_distribution
    assert list(choice_frequencies(values, "a test")) == [np.mean(draws == row) for row in range(7)]
