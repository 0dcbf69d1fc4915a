"""The simulation of docs/calibration.md, small."""

import importlib.util
import re

import numpy as np
import pytest

from circlemlp.store.results import export
from conftest import SOURCE
from made_up import made_up

spec = importlib.util.spec_from_file_location("calibrate", SOURCE / "benchmarks/calibrate.py")
calibrate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(calibrate)
NORMAL = calibrate.SHAPES["normal"]


def test_new_replicates_keep_the_levels_and_those_that_chose_do_not():
    """Of 400 experiments: 0.05 and 0.95 have a standard error of 0.011."""
    good = [9, 9, 1, 1]
    alarms, judged = calibrate.experiments(good, NORMAL, n=10, fresh=12, rounds=400)
    assert alarms < 0.1
    assert calibrate.coverage(judged, 0.0) > 0.91
    _, judged = calibrate.experiments(good, NORMAL, n=30, rounds=400)
    assert calibrate.coverage(judged, 0.0) < 0.91


def test_an_architecture_whose_errors_are_lower_is_told_apart(monkeypatch):
    monkeypatch.setattr(calibrate, "outcomes", better_first)
    assert calibrate.experiments([1, 1], NORMAL, n=12, rounds=20)[0] > 0.9


def better_first(rng, good, shape, n):
    errors = shape(rng, (len(good), calibrate.RATES, n))
    errors[0] -= 4
    return errors, errors


@pytest.mark.parametrize("n", [10, 30])
def test_intervals_hold_the_location_as_often_as_they_say(n):
    assert 0.92 < calibrate.coverage(NORMAL(np.random.default_rng(0), (1000, n)), 0.0) < 0.98


def test_the_shipped_replicates_are_resampled_from_the_results(tmp_path):
    # The true errors that are made up are a tenth of the losses; a replicate that diverged counts 1.
    export(tmp_path / "own", [made_up((4,), 0.03, [0.1, 1.0, None]), made_up((4,), 0.03, [0.01], first=3)])
    own = calibrate.shipped(tmp_path / "own")
    assert {name: list(values) for name, values in own.items()} == {"2-4-1 at 0.03": pytest.approx([-2, -1, 0, -3])}
    assert calibrate.shipped(tmp_path / "nothing") == {}
    drawn = calibrate.resampled(own["2-4-1 at 0.03"])(np.random.default_rng(0), (5, 100))
    assert (drawn.shape, set(drawn.flat)) == ((5, 100), set(own["2-4-1 at 0.03"]))


def test_the_location_of_a_population_of_six_values():
    # A quarter of six is one and a half.
    assert calibrate.population_location(np.array([9.0, 1, 2, 4, -7, 5])) == pytest.approx((1 / 2 + 2 + 4 + 5 / 2) / 3)


@pytest.mark.parametrize("n", [10, 20, 30])
def test_intervals_hold_the_location_of_resampled_replicates(n):
    """As the shipped ones are: thirty, lumpy and skew. With 20, Tukey and McLaughlin's interval held 88 % of these."""
    values = np.random.default_rng(3).exponential(size=30) ** 1.5
    samples = calibrate.resampled(values)(np.random.default_rng(0), (1000, n))
    assert 0.92 < calibrate.coverage(samples, calibrate.population_location(values)) < 0.98


def test_the_page_has_a_table_of_every_case():
    measured = (SOURCE / "docs/calibration.md").read_text().partition("## Measured")[2]
    for name in (*calibrate.SHAPES, *calibrate.GOOD_RATES):
        assert f"| {name} |" in measured
    assert bool(re.search(r"\| 2-[\d-]+-1 at 0\.\d+ \|", measured)) != ("own replicates were not there" in measured)
    assert f"Seed {calibrate.SEED}, {calibrate.ROUNDS} experiments" in measured
    assert re.search(r"One core took \d+ minutes", measured)


def test_the_intervals_of_shares_hold_those_of_a_grid_that_scatters_normally(monkeypatch):
    """Of 200 samples: 0.95 has a standard error of 0.015."""
    monkeypatch.setattr(calibrate, "ROUNDS", 200)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, 3, 10)) + np.array([[0], [2]])[..., np.newaxis] + [[[0], [1], [4]]]
    cells = {f"2-{x}-1 at 0.{y}": values[x, y] for x in range(2) for y in range(3)}
    grid = calibrate.in_a_grid(dict(reversed(cells.items())))
    assert np.array_equal(grid, values)
    rows = {name: [float(share) for share in covered] for name, *covered in calibrate.shares_of_the_grid(grid)}
    assert list(rows) == [*calibrate.SHAPES, "its own replicates"]
    assert all(90 < share < 99 for share in rows["normal"])
