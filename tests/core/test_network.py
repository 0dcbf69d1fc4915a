import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import plain
from circlemlp.core.activations import relu, relu_backward
from circlemlp.core.initialisation import initialise
from circlemlp.core.loss import signs_of_labels
from circlemlp.core.network import Network, augment, columns_per_tile
from circlemlp.core.parameters import Layout
from circlemlp.core.streams import stream


def gradients(network, x, y, columns):
    """Return the mean losses and gradients of a stack, by tiles of so many columns."""
    dtype = network.parameters.dtype
    inputs, signs = augment(x, dtype), signs_of_labels(y, dtype)
    total = np.zeros(len(network.parameters))
    network.gradient.fill(0)
    for start in range(0, len(x), columns):
        tile = slice(start, start + columns)
        network.forward(inputs[:, tile], signs[tile]).add_losses(total)
        network.backward(inputs[:, tile], 1 / len(x))
    return total / len(x), network.gradient


def problem(hidden, n, replicates=1, seed=0, dtype="float64"):
    layout = Layout.of(hidden)
    parameters = initialise(layout, seed=seed, replicates=range(replicates), dtype=dtype)
    for matrix in layout.matrices(parameters):
        matrix[:, :, -1] = stream(seed, "biases").normal(0, 0.3, size=matrix.shape[:2])
    rng = stream(seed, "points")
    return layout, parameters, rng.uniform(-1, 1, (n, 2)), rng.integers(0, 2, n).astype(np.uint8)


networks = st.lists(st.integers(1, 64), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(hidden=networks, n=st.integers(1, 257), columns=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_the_gradient_is_that_of_the_plain_network(hidden, n, columns, seed):
    layout, parameters, x, y = problem(hidden, n, replicates=2, seed=seed)
    losses, gradient = gradients(Network(layout, parameters), x, y, columns)
    for replicate in range(2):
        flat = parameters[replicate]
        assert losses[replicate] == pytest.approx(plain.mean_loss(flat, layout.layer_sizes, x, y), rel=1e-12)
        expected = plain.gradient(flat, layout.layer_sizes, x, y)
        np.testing.assert_allclose(gradient[replicate], expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@settings(max_examples=40, deadline=None)
@given(hidden=networks, n=st.integers(1, 64), seed=st.integers(0, 2**32))
def test_the_gradient_is_the_slope_of_the_loss(hidden, n, seed):
    layout, parameters, x, y = problem(hidden, n, seed=seed)
    direction = stream(seed, "direction").standard_normal(layout.n_parameters)
    step = 1e-6

    def side(sign):
        theta = parameters[0] + sign * step * direction
        _, inputs = plain.forward(plain.unflatten(theta, layout.layer_sizes), x)
        return plain.mean_loss(theta, layout.layer_sizes, x, y), [h > 0 for h in inputs[1:]]

    sides, active = zip(side(1), side(-1), strict=True)
    # Where a node switches between the sides there is a kink, and no slope to compare with.
    assume(all((a == b).all() for a, b in zip(*active, strict=True)))
    _, gradient = gradients(Network(layout, parameters), x, y, columns=64)
    assert gradient[0] @ direction == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [[64], [64, 32], [5, 4, 3, 2]])
def test_a_stack_gives_each_replicate_the_bits_it_has_alone(hidden, dtype):
    layout, parameters, x, y = problem(hidden, 200, replicates=4, dtype=dtype)
    _, together = gradients(Network(layout, parameters), x, y, columns=64)
    for replicate in range(4):
        _, alone = gradients(Network(layout, parameters[replicate : replicate + 1].copy()), x, y, columns=64)
        np.testing.assert_array_equal(together[replicate], alone[0])


def test_logits_of_any_number_of_points():
    layout, parameters, x, _ = problem([16, 8], 5000, replicates=3)
    logits = Network(layout, parameters).logits(x)
    assert logits.shape == (3, 5000)
    for replicate in range(3):
        expected, _ = plain.forward(plain.unflatten(parameters[replicate], layout.layer_sizes), x)
        np.testing.assert_allclose(logits[replicate], expected, rtol=1e-11, atol=1e-13)


def test_probabilities_are_those_of_the_logits():
    layout, parameters, x, _ = problem([16, 8], 100, replicates=2)
    network = Network(layout, 5 * parameters)
    logits = network.logits(x)
    assert np.abs(logits).max() > 10
    np.testing.assert_allclose(network.probabilities(x), 1 / (1 + np.exp(-logits)), rtol=1e-14)


def test_relu_and_its_slope_at_and_around_the_kink():
    scores = np.array([-2.0, -0.0, 0.0, 1e-300, 3.0])
    relu(scores, np.zeros(5))
    np.testing.assert_array_equal(scores, [0, 0, 0, 1e-300, 3])
    for dtype, integers in (("float32", "int32"), ("float64", "int64")):
        activations = np.array([[0.0, -0.0, np.finfo(dtype).smallest_subnormal, 3.0, np.inf]], dtype)
        delta = np.array([[np.inf, -7.0, -7.5, 1e-40, np.nan]], dtype)
        expected = [[0.0, 0.0, delta[0, 2], delta[0, 3], np.nan]]
        relu_backward(delta, activations, np.empty((1, 5), integers))
        np.testing.assert_array_equal(delta, np.array(expected, dtype))


def test_tiles_depend_on_the_architecture_and_keep_within_bounds():
    for hidden in ([1], [64], [128, 64], [4096], [2048] * 8):
        columns = columns_per_tile(Layout.of(hidden), "float32")
        assert 64 <= columns <= 2560
        assert columns % 64 == 0


def test_the_layout_counts_weights_and_biases():
    assert [Layout.of(h).n_parameters for h in ([64], [128], [64, 32], [128, 64])] == [257, 513, 2305, 8705]


def test_initial_weights_have_the_variances_of_the_derivation():
    layout = Layout.of([400, 300])
    matrices = layout.matrices(initialise(layout, seed=3, replicates=range(20), dtype="float64"))
    for matrix, variance in zip(matrices, [2 / 2, 2 / 400, 1 / 300], strict=True):
        weights = matrix[:, :, :-1]
        assert weights.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / weights.size))
        assert abs(weights.mean()) < 5 * np.sqrt(variance / weights.size)
        assert not matrix[:, :, -1].any()


def test_replicates_start_differently_and_each_always_alike():
    layout = Layout.of([8])
    both = initialise(layout, seed=0, replicates=[4, 5], dtype="float64")
    assert (both[0] != both[1]).any()
    np.testing.assert_array_equal(both[1], initialise(layout, seed=0, replicates=[5], dtype="float64")[0])
    assert (both[0] != initialise(layout, seed=1, replicates=[4], dtype="float64")[0]).any()
