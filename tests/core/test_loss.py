import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

import plain
from circlemlp.core.loss import MARGIN_OF_RANGE, LossSum, top_error


def evaluate(logit, label, dtype):
    """Return the loss and the top error of one sample."""
    logits, signs = np.array([[logit]], dtype), plain.signs_of_labels(np.array([label], np.uint8), dtype)
    total, delta = LossSum(1, 1, dtype), np.empty((1, 1), dtype)
    with np.errstate(over="ignore"):
        top_error(logits, signs, 1, delta)
    total.add_losses(logits, signs)
    return total.loss[0], delta[0, 0]


logits = st.floats(-1e4, 1e4) | st.floats(-40, 40) | st.floats(-1e-3, 1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(logit=logits, label=st.sampled_from([0, 1]))
def test_loss_and_top_error_agree_with_50_digits(dtype, logit, label):
    s = float(np.dtype(dtype).type(logit))
    info = np.finfo(dtype)
    with mpmath.workdps(50):
        z = mpmath.mpf(s) * (2 * label - 1)
        loss = mpmath.log1p(mpmath.exp(-z))
        error = -(2 * label - 1) / (1 + mpmath.exp(z))
        got_loss, got_error = (mpmath.mpf(float(computed)) for computed in evaluate(s, label, dtype))
        assert abs(got_loss - loss) <= 5 * info.eps * loss + 4 * float(info.tiny)
        assert abs(got_error - error) <= 5 * info.eps * abs(error) or (
            got_error == 0 and abs(error) < float(info.tiny) * MARGIN_OF_RANGE
        )


def test_terms_are_computed_in_the_type_of_the_logits():
    # A sum of one float32 term is a float32 number; one of float64 arithmetic would not be.
    losses = [evaluate(logit, 1, "float32")[0] for logit in np.linspace(-3, 3, 50)]
    assert losses == [float(np.float32(loss)) for loss in losses]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logit", [0.0, -0.0, 1e4, -1e4, 88.8, -88.8, 745.2, -745.2])
def test_extreme_logits_give_finite_numbers(dtype, logit):
    assert np.isfinite([evaluate(logit, label, dtype) for label in (0, 1)]).all()


@pytest.mark.parametrize("n", [1, 7, 5000, 10**7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_errors_are_normal_numbers_or_zero(dtype, n):
    logits = np.linspace(0, 800, 20_001).astype(dtype)[np.newaxis]
    delta, signs = np.empty_like(logits), np.ones((1, logits.size), dtype)
    with np.errstate(over="ignore"):
        top_error(logits, signs, n, delta)
    smallest = float(np.finfo(dtype).tiny) * MARGIN_OF_RANGE
    assert (delta[delta != 0] <= -smallest / 8).all()
    assert delta[0, -1] == 0
    # Nothing large is lost, and a mean over n has the n-th part of the error.
    assert (delta[0, logits[0] < -np.log(smallest * n) - 2] != 0).all()
    assert delta[0, 0] == pytest.approx(-0.5 / n, rel=4 * float(np.finfo(dtype).eps))


def test_the_top_error_is_the_symbolic_derivative_of_the_loss():
    s, y = sympy.symbols("s y", real=True)
    negative_log_likelihood = sympy.log(1 + sympy.exp(s)) - y * s
    p = 1 / (1 + sympy.exp(-s))
    assert sympy.simplify(sympy.diff(negative_log_likelihood, s) - (p - y)) == 0
    for label in (0, 1):
        derivative = sympy.lambdify(s, sympy.diff(negative_log_likelihood, s).subs(y, label))
        for logit in (-3.0, -0.5, 0.0, 0.25, 4.0):
            assert evaluate(logit, label, "float64")[1] == pytest.approx(derivative(logit), rel=1e-14)


def test_the_sign_form_is_the_loss_of_the_derivation():
    s = sympy.symbols("s", real=True)
    for label in (0, 1):
        z = (2 * label - 1) * s
        difference = sympy.log(1 + sympy.exp(-z)) - (sympy.log(1 + sympy.exp(s)) - label * s)
        for value in (-2, 0, 3):
            assert sympy.simplify(difference.subs(s, value).evalf(30)) == pytest.approx(0, abs=1e-25)


def test_sums_and_counts_are_per_replicate():
    signs = plain.signs_of_labels(np.array([1, 0, 0], np.uint8), "float64")
    total = LossSum(2, 5, "float64")
    for times in (1, 2):
        logits = np.array([[2.0, -1.0, 0.0], [-2.0, 1.0, 0.0]])
        total.add_answers(logits, signs)
        total.add_losses(logits, signs)
        expected = [np.log1p(np.exp([-2, -1, 0])).sum(), np.log1p(np.exp([2, 1, 0])).sum()]
        np.testing.assert_allclose(total.loss, times * np.array(expected), rtol=1e-15)
        # A logit of exactly 0 answers 0, which is right here.
        np.testing.assert_array_equal(total.correct, [times * 3, times])
    total.start()
    assert not total.loss.any()
    assert not total.correct.any()
