import math

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circlemlp.core.schedules import Schedule, cosine


def test_constant_is_one():
    assert {Schedule().factor(step, 50) for step in range(1, 51)} == {1.0}


def test_warm_up_rises_in_equal_steps_to_the_full_rate():
    factors = [Schedule(warmup_fraction=0.1).factor(step, 40) for step in range(1, 41)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, *[1.0] * 36])


def test_a_cosine_falls_from_one_towards_its_end():
    factors = [Schedule("cosine", final_fraction=0.2).factor(step, 8) for step in range(1, 9)]
    assert factors == pytest.approx([0.2 + 0.8 * (1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)], abs=1e-11)


def test_a_cosine_after_a_warm_up_starts_at_one():
    factors = [Schedule("cosine", warmup_fraction=0.25).factor(step, 8) for step in range(1, 9)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert factors[5] == pytest.approx(0.5)


@given(st.floats(0, math.pi))
def test_the_series_of_the_cosine_is_exact_to_a_few_roundings(angle):
    with mpmath.workdps(30):
        assert abs(cosine(angle) - mpmath.cos(mpmath.mpf(angle))) < 1e-15


def test_a_factor_has_twelve_digits():
    factors = [Schedule("cosine").factor(step, 97) for step in range(1, 98)]
    assert factors == [round(factor, 12) for factor in factors]
    assert sum(factor != round(factor, 11) for factor in factors) > 80


@given(
    st.sampled_from(["constant", "cosine"]),
    st.floats(0, 0.99),
    st.floats(0, 1),
    st.integers(1, 10_000),
    st.floats(0, 1),
)
def test_every_factor_lies_between_zero_and_one(decay, warmup, final, steps, where):
    step = 1 + round(where * (steps - 1))
    factor = Schedule(decay, warmup, final).factor(step, steps)
    assert 0 <= factor <= 1
