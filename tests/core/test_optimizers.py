from functools import partial

import mpmath
import numpy as np
import pytest

from circlemlp.core.optimizers import FLUSH_EVERY, SGD, Adam, AdamW, State
from circlemlp.core.streams import stream

ULP = np.finfo(np.float64).eps


def descend(optimizer, theta, gradient, steps):
    """Take steps down a function with this gradient, in place."""
    state = State.of(theta)
    for _ in range(steps):
        optimizer.step(state, gradient(theta), theta)
    return state


def test_the_first_step_of_adam_by_hand():
    # m / (1 - beta_1) = g and v / (1 - beta_2) = g^2, so the step is eta g / (|g| + epsilon).
    theta = np.array([1.0, 1.0, 1.0])
    gradient = np.array([2.0, -1e-8, 0.0])
    descend(Adam(learning_rate=0.1), theta, lambda _: gradient, 1)
    np.testing.assert_allclose(theta, [1 - 0.1 * 2 / (2 + 1e-8), 1 + 0.1 / 2, 1.0], rtol=1e-12)


def test_the_first_step_of_the_epsilon_hat_form_by_hand():
    # Here epsilon is added to sqrt(v) = sqrt(1 - beta_2) |g|.
    theta = np.array([1.0, 1.0])
    gradient = np.array([2.0, -1e-8])
    descend(Adam(learning_rate=0.1, epsilon_hat=True), theta, lambda _: gradient, 1)
    weight = 1e-8 / np.sqrt(0.001)
    np.testing.assert_allclose(theta, [1 - 0.1 * 2 / (2 + weight), 1 + 0.1e-8 / (1e-8 + weight)], rtol=1e-12)


@pytest.mark.parametrize("epsilon_hat", [False, True])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_ten_thousand_steps_of_adam_stay_within_two_ulp_a_step_of_50_digits(epsilon_hat, scale):
    # The reference goes its own way from the same start; the gradients are given, so it is never corrected.
    steps = 10_000
    optimizer = Adam(learning_rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-8, epsilon_hat=epsilon_hat)
    gradients = scale * stream(0, "gradients").standard_normal((steps, 3))
    start = np.array([0.5, -3.0, 100.0])
    theta, state = start.copy(), State.of(start)
    with mpmath.workdps(50):
        b1, b2 = mpmath.mpf(optimizer.beta_1), mpmath.mpf(optimizer.beta_2)
        eta, epsilon = mpmath.mpf(optimizer.learning_rate), mpmath.mpf(optimizer.epsilon)
        exact, m, v = [mpmath.mpf(float(x)) for x in start], [mpmath.mpf(0)] * 3, [mpmath.mpf(0)] * 3
        worst = 0.0
        for t in range(1, steps + 1):
            optimizer.step(state, gradients[t - 1], theta)
            c1, c2 = 1 - b1**t, 1 - b2**t
            for i in range(3):
                g = mpmath.mpf(float(gradients[t - 1, i]))
                m[i] = b1 * m[i] + (1 - b1) * g
                v[i] = b2 * v[i] + (1 - b2) * g * g
                if epsilon_hat:
                    step = eta * mpmath.sqrt(c2) / c1 * m[i] / (mpmath.sqrt(v[i]) + epsilon)
                else:
                    step = eta * (m[i] / c1) / (mpmath.sqrt(v[i] / c2) + epsilon)
                exact[i] -= step
                # The unit is that of the larger of the parameter and the start, which the differences are taken from.
                unit = ULP * max(abs(float(exact[i])), abs(start[i]))
                worst = max(worst, float(abs(mpmath.mpf(float(theta[i])) - exact[i])) / (unit * t))
    print(f"largest error: {worst:.2f} ulp a step")
    assert worst <= 2


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_running_products_are_powers(beta):
    theta = np.zeros(1)
    state = State.of(theta)
    for t in range(1, 10_001):
        Adam(beta_1=beta, beta_2=beta).step(state, theta, theta)
        if t % 1000 == 1:
            assert state.first_decay == state.second_decay == pytest.approx(beta**t, rel=1e-13)


def parabola(theta):
    return 2 * (theta - np.array([1.0, 0.5], theta.dtype))


def rosenbrock(theta):
    x, y = theta
    return np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer",
    [
        Adam(learning_rate=0.05),
        Adam(learning_rate=0.05, epsilon_hat=True),
        AdamW(learning_rate=0.05, weight_decay=0.0),
        SGD(learning_rate=0.01, momentum=0.9),
        SGD(learning_rate=0.01, momentum=0.9, nesterov=True),
        SGD(learning_rate=0.05, momentum=0.0),
    ],
    ids=str,
)
def test_it_finds_the_bottom_of_a_parabola(optimizer, dtype):
    theta = np.array([3.0, -2.0], dtype)
    descend(optimizer, theta, parabola, 2000)
    np.testing.assert_allclose(theta, [1.0, 0.5], atol=1e-4)


@pytest.mark.parametrize(
    ("optimizer", "steps"),
    [(Adam(learning_rate=0.01), 20_000), (SGD(learning_rate=5e-4, momentum=0.9, nesterov=True), 20_000)],
    ids=str,
)
def test_it_follows_the_valley_of_rosenbrock(optimizer, steps):
    theta = np.array([-1.2, 1.0])
    descend(optimizer, theta, rosenbrock, steps)
    np.testing.assert_allclose(theta, [1.0, 1.0], atol=1e-3)


def test_weight_decay_is_decoupled():
    # With no gradient Adam changes nothing, so all that happens is the decay.
    theta = np.array([2.0, -1.0])
    descend(AdamW(learning_rate=0.1, weight_decay=0.5), theta, np.zeros_like, 3)
    np.testing.assert_allclose(theta, np.array([2.0, -1.0]) * 0.95**3, rtol=1e-15)


def test_decay_comes_before_the_step_and_leaves_the_moments_alone():
    plain, decayed = np.array([2.0]), np.array([2.0])
    optimizer = AdamW(learning_rate=0.1, weight_decay=0.5)
    states = descend(Adam(learning_rate=0.1), plain, np.ones_like, 1), descend(optimizer, decayed, np.ones_like, 1)
    np.testing.assert_allclose(decayed, plain - 0.1 * 0.5 * 2.0, rtol=1e-15)
    np.testing.assert_array_equal(states[0].first_moment, states[1].first_moment)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_by_hand(nesterov):
    theta = np.array([1.0])
    gradients = [0.3, -0.2, 0.5]
    state = State.of(theta)
    velocity, expected = 0.0, 1.0
    for g in gradients:
        SGD(0.1, momentum=0.8, nesterov=nesterov).step(state, np.array([g]), theta)
        velocity = 0.8 * velocity + g
        expected -= 0.1 * (g + 0.8 * velocity if nesterov else velocity)
        assert theta[0] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("optimizer", [Adam, AdamW, SGD, partial(SGD, nesterov=True)], ids=str)
def test_a_factor_scales_the_learning_rate(optimizer):
    scaled, plain = np.array([0.7, -2.0]), np.array([0.7, -2.0])
    states = State.of(scaled), State.of(plain)
    for gradient in stream(0, "gradients").standard_normal((5, 2)):
        optimizer(0.3).step(states[0], gradient, scaled, 0.25)
        optimizer(0.3 * 0.25).step(states[1], gradient, plain)
    np.testing.assert_array_equal(scaled, plain)


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), SGD(), SGD(nesterov=True)], ids=str)
def test_a_step_is_a_function_of_state_gradient_and_parameters(optimizer):
    rng = stream(0, "steps")
    first = rng.standard_normal((3, 4)).astype(np.float32)
    second, before = first.copy(), first.copy()
    one, other = State.of(first), State.of(second)
    other.scratch.fill(np.nan)  # it holds nothing between steps
    for _ in range(3):
        gradient = rng.standard_normal((3, 4)).astype(np.float32)
        kept = gradient.copy()
        optimizer.step(one, gradient, first, 0.5)
        optimizer.step(other, gradient, second, 0.5)
        np.testing.assert_array_equal(gradient, kept)
    np.testing.assert_array_equal(first, second)
    assert (first != before).all()
    assert one.steps == 3
    assert first.dtype == one.first_moment.dtype == one.second_moment.dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [Adam(), AdamW(weight_decay=0.0), SGD(momentum=0.9)], ids=str)
def test_sums_that_fade_become_zero_and_not_subnormal(optimizer, dtype):
    # Without help, rounding keeps 0.9 times the smallest numbers where they are.
    tiny = np.finfo(dtype).tiny
    theta = np.array([1.0, -1.0, 1.0, 1.0], dtype)
    state = State.of(theta)
    first = np.array([1, -1, 1, 0], dtype) * (2 * tiny)
    optimizer.step(state, first, theta)
    for _ in range(2 * FLUSH_EVERY):
        optimizer.step(state, np.array([0, 0, tiny, 1], dtype), theta)
    assert not state.first_moment[:2].any()
    assert state.first_moment[2] >= tiny
    assert state.first_moment[3] > 1
    for sums in (state.first_moment, state.second_moment):
        assert ((sums == 0) | (np.abs(sums) >= tiny)).all()


def test_what_is_not_finite_is_not_made_finite():
    theta = np.zeros(3)
    state = State.of(theta)
    with np.errstate(invalid="ignore"):
        for _ in range(FLUSH_EVERY):
            Adam().step(state, np.array([np.nan, np.inf, 1.0]), theta)
    assert np.isnan(theta[:2]).all()
    assert np.isfinite(theta[2])
