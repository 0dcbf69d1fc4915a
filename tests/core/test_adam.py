import mpmath
import numpy as np
import pytest

from circlemlp.core.adam import Adam, AdamOptions
from circlemlp.core.streams import stream


def test_the_first_step_by_hand():
    # m / (1 - beta_1) = g and v / (1 - beta_2) = g^2, so the step is eta g / (|g| + epsilon).
    theta = np.array([1.0, 1.0, 1.0])
    gradient = np.array([2.0, -1e-8, 0.0])
    Adam(AdamOptions(learning_rate=0.1), theta).step(gradient)
    np.testing.assert_allclose(theta, [1 - 0.1 * 2 / (2 + 1e-8), 1 + 0.1 / 2, 1.0], rtol=1e-12)


def test_steps_agree_with_50_digits():
    options = AdamOptions(learning_rate=0.01, beta_1=0.8, beta_2=0.99, epsilon=1e-3)
    gradients = stream(0, "gradients").standard_normal(300)
    theta = np.array([0.5])
    adam = Adam(options, theta)
    with mpmath.workdps(50):
        exact, m, v = mpmath.mpf(0.5), mpmath.mpf(0), mpmath.mpf(0)
        b1, b2 = mpmath.mpf(options.beta_1), mpmath.mpf(options.beta_2)
        for t, g in enumerate(map(mpmath.mpf, gradients), start=1):
            adam.step(np.array([float(g)]))
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            root = mpmath.sqrt(v / (1 - b2**t))
            exact -= options.learning_rate * (m / (1 - b1**t)) / (root + options.epsilon)
            assert abs(theta[0] - exact) < 1e-15 * t


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_finds_the_bottom_of_a_parabola(dtype):
    theta = np.array([3.0, -2.0], dtype)
    adam = Adam(AdamOptions(learning_rate=0.05), theta)
    for _ in range(2000):
        adam.step(2 * (theta - np.array([1.0, 0.5], dtype)))
    np.testing.assert_allclose(theta, [1.0, 0.5], atol=1e-4)


def test_it_works_in_place_and_in_the_type_it_is_given():
    theta = np.ones((3, 4), np.float32)
    adam = Adam(AdamOptions(), theta)
    adam.step(np.ones((3, 4), np.float32))
    assert adam.parameters is theta
    assert adam.first_moment.dtype == adam.second_moment.dtype == np.float32
    assert (theta < 1).all()
