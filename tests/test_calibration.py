"""The simulation of docs/calibration.md, small."""

import importlib.util
import re

import pytest

from conftest import SOURCE

spec = importlib.util.spec_from_file_location("calibrate", SOURCE / "benchmarks/calibrate.py")
calibrate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(calibrate)
NORMAL = calibrate.SHAPES["normal"]


def test_new_replicates_keep_the_levels_and_those_that_chose_do_not():
    """Of 400 experiments: 0.05 and 0.95 have a standard error of 0.011."""
    good = [9, 9, 1, 1]
    alarms, covered = calibrate.experiments(good, NORMAL, n=10, fresh=12, rounds=400)
    assert alarms < 0.1
    assert covered > 0.91
    _, covered = calibrate.experiments(good, NORMAL, n=30, rounds=400)
    assert covered < 0.91


def test_an_architecture_whose_errors_are_lower_is_told_apart(monkeypatch):
    monkeypatch.setattr(calibrate, "outcomes", better_first)
    assert calibrate.experiments([1, 1], NORMAL, n=12, rounds=20)[0] > 0.9


def better_first(rng, good, shape, n):
    errors = shape(rng, (len(good), calibrate.RATES, n))
    errors[0] -= 4
    return errors, errors


@pytest.mark.parametrize("n", [10, 30])
def test_intervals_hold_the_location_as_often_as_they_say(n):
    assert 0.92 < calibrate.coverage(NORMAL, n, samples=1000) < 0.98


def test_the_page_has_a_table_of_every_case():
    measured = (SOURCE / "docs/calibration.md").read_text().partition("## Measured")[2]
    for name in (*calibrate.SHAPES, *calibrate.GOOD_RATES):
        assert f"| {name} |" in measured
    assert f"Seed {calibrate.SEED}, {calibrate.ROUNDS} experiments" in measured
    assert re.search(r"One core took \d+ minutes", measured)
