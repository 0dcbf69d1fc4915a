import hashlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import plain
from circlemlp.core.activations import ACTIVATIONS, LEAST_ROW, LONGEST_ROW, in_rows
from circlemlp.core.initialisation import initialise
from circlemlp.core.loss import LossSum, top_error
from circlemlp.core.network import Network
from circlemlp.core.parameters import CACHE_LINE, Layout, aligned_zeros
from circlemlp.core.passes import HiddenLayers, Memory, OneHiddenLayer, Weights
from circlemlp.core.streams import stream
from circlemlp.core.tiles import Cut, augment

KINKED = ("relu", "leaky_relu")


CUT = Cut(block=32, tile=64)


def gradients(network, x, y, cut=CUT):
    """Return the mean losses and gradients of a stack."""
    parameters = network.parameters
    inputs, signs = augment(x, parameters.dtype), plain.signs_of_labels(y, parameters.dtype)[np.newaxis]
    logits = np.empty((len(parameters), len(x)), parameters.dtype)
    for start, stop in cut.tiles(len(x)):
        tile, part = (cut.blocked(array[..., start:stop]) for array in (inputs, signs))
        scores = cut.blocked(logits[:, start:stop])
        network.forward(tile, scores)
        top_error(scores, part, len(x), network.top_error(tile))
        network.backward(tile, starts_batch=start == 0, ends_batch=stop == len(x))
    total = LossSum(len(parameters), len(x), parameters.dtype)
    total.add_losses(logits, signs)
    return total.loss / len(x), network.gradient


def problem(hidden, n, replicates=1, seed=0, dtype="float64", features=2):
    layout = Layout.of(hidden, features)
    parameters = initialise(layout, seed=seed, replicates=range(replicates), dtype=dtype)
    for matrix in layout.matrices(parameters):
        matrix[:, -1] = stream(seed, "biases").normal(0, 0.3, size=matrix[:, -1].shape)
    rng = stream(seed, "points")
    return layout, parameters, rng.uniform(-1, 1, (n, features)), rng.integers(0, 2, n).astype(np.uint8)


def scores(layout, theta, x, activation):
    return plain.forward(plain.unflatten(theta, layout.layer_sizes), x, activation)[2]


networks = st.lists(st.integers(1, 64), min_size=1, max_size=5)
activations = st.sampled_from(sorted(ACTIVATIONS))
seeds = st.integers(0, 2**32)
cuts = st.builds(lambda block, blocks: Cut(block, block * blocks), st.integers(1, 300), st.integers(1, 5))


@settings(max_examples=100, deadline=None)
@given(networks, activations, st.integers(1, 257), cuts, st.integers(1, 8), seeds)
def test_the_gradient_is_that_of_the_plain_network(hidden, activation, n, cut, features, seed):
    layout, parameters, x, y = problem(hidden, n, replicates=2, seed=seed, features=features)
    losses, gradient = gradients(Network(layout, parameters, activation), x, y, cut)
    for replicate in range(2):
        flat = parameters[replicate]
        expected = plain.mean_loss(flat, layout.layer_sizes, x, y, activation)
        assert losses[replicate] == pytest.approx(expected, rel=1e-12)
        expected = plain.gradient(flat, layout.layer_sizes, x, y, activation)
        np.testing.assert_allclose(gradient[replicate], expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@settings(max_examples=100, deadline=None)
@given(networks, activations, st.integers(1, 257), st.sampled_from([1, 3]), st.booleans(), seeds)
def test_the_gradient_is_the_slope_of_the_loss(hidden, activation, n, replicates, along_one_parameter, seed):
    layout, parameters, x, y = problem(hidden, n, replicates, seed)
    rng = stream(seed, "direction")
    direction = rng.standard_normal(layout.n_parameters)
    if along_one_parameter:
        direction = np.eye(1, layout.n_parameters, rng.integers(layout.n_parameters))[0]
    direction /= np.linalg.norm(direction)
    step = 1e-5
    sides = [parameters[-1] + sign * step * direction for sign in (1, -1)]
    if activation in KINKED:
        # Where a node switches between the sides there is a kink, and no slope to compare with.
        active = [[s > 0 for s in scores(layout, theta, x, activation)] for theta in sides]
        assume(all((a == b).all() for a, b in zip(*active, strict=True)))
    high, low = (plain.mean_loss(theta, layout.layer_sizes, x, y, activation) for theta in sides)
    _, gradient = gradients(Network(layout, parameters, activation), x, y)
    size = np.linalg.norm(gradient[-1])
    assert gradient[-1] @ direction == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=1e-7 * max(1, size))


@settings(max_examples=60, deadline=None)
@given(networks, activations, st.integers(1, 257), seeds)
def test_the_gradient_is_that_of_a_complex_step(hidden, activation, n, seed):
    # Im f(x + i h) / h is the derivative without any subtraction, so h can be tiny and the result exact.
    layout, parameters, x, y = problem(hidden, n, seed=seed)
    if activation in KINKED:
        # Rounding must not be able to put a node on the other side.
        assume(all(np.abs(s).min() > 1e-9 for s in scores(layout, parameters[0], x, activation)))
    _, gradient = gradients(Network(layout, parameters, activation), x, y)
    direction = stream(seed, "direction").standard_normal(layout.n_parameters)
    tiny = 1e-100
    loss = plain.mean_loss(parameters[0] + 1j * tiny * direction, layout.layer_sizes, x, y, activation)
    # Relative to the sum's terms: the inner product itself may cancel.
    assert abs(gradient[0] @ direction - loss.imag / tiny) <= 1e-12 * (np.abs(gradient[0]) @ np.abs(direction))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("hidden", "replicates"), [([7], 1), ([64, 32], 3), ([5, 4, 3, 2, 6], 2)])
def test_the_gradient_is_that_of_jax(activation, hidden, replicates):
    import jax

    jax.config.update("jax_enable_x64", True)
    functions = {
        "relu": jax.nn.relu,
        "leaky_relu": lambda s: jax.nn.leaky_relu(s, 0.01),
        "tanh": jax.numpy.tanh,
        "gelu": lambda s: jax.nn.gelu(s, approximate=True),
    }
    layout, parameters, x, y = problem(hidden, 50, replicates)

    def mean_loss(flat):
        h, start = jax.numpy.asarray(x), 0
        for level, (rows, columns) in enumerate(layout.shapes):
            matrix = flat[start : start + rows * columns].reshape(rows, columns)
            s = h @ matrix[:-1] + matrix[-1]
            h = functions[activation](s) if level < len(hidden) else s
            start += rows * columns
        return jax.numpy.mean(jax.numpy.logaddexp(0, h[:, 0]) - y * h[:, 0])

    losses, gradient = gradients(Network(layout, parameters, activation), x, y)
    for replicate in range(replicates):
        loss, expected = jax.value_and_grad(mean_loss)(jax.numpy.asarray(parameters[replicate]))
        assert losses[replicate] == pytest.approx(float(loss), rel=1e-13)
        np.testing.assert_allclose(
            gradient[replicate], expected, rtol=1e-11, atol=1e-13 * float(jax.numpy.abs(expected).max())
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("hidden", [[64], [64, 32], [5, 4, 3, 2]])
def test_a_stack_gives_each_replicate_the_bits_it_has_alone(hidden, activation, dtype):
    layout, parameters, x, y = problem(hidden, 200, replicates=4, dtype=dtype)
    _, together = gradients(Network(layout, parameters, activation), x, y)
    for replicate in range(4):
        network = Network(layout, parameters[replicate : replicate + 1].copy(), activation)
        _, alone = gradients(network, x, y)
        np.testing.assert_array_equal(together[replicate], alone[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 5000, 10_007])
def test_logits_of_any_number_of_points(n, dtype):
    layout, parameters, x, _ = problem([16, 8], n, replicates=3, dtype=dtype)
    logits = Network(layout, parameters).logits(x)
    assert logits.shape == (3, n)
    assert logits.dtype == dtype
    tolerance = 1e4 * np.finfo(dtype).eps
    for replicate in range(3):
        theta = parameters[replicate].astype("float64")
        expected, _, _ = plain.forward(plain.unflatten(theta, layout.layer_sizes), x)
        np.testing.assert_allclose(logits[replicate], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_are_those_of_the_logits(dtype):
    layout, parameters, x, _ = problem([16, 8], 100, replicates=2, dtype=dtype)
    network = Network(layout, 5 * parameters)
    logits, p = network.logits(x).astype("float64"), network.probabilities(x)
    assert np.abs(logits).max() > 10
    assert p.dtype == dtype
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-logits)), rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(Network(layout, 0 * parameters).probabilities(x), 0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_have_their_values_and_slopes(name, dtype):
    points = np.r_[np.linspace(-6, 6, 1001), -40, 40, 0].astype(dtype)
    exact, tolerance = points.astype(np.float64), 8 * np.finfo(dtype).eps
    for shape in ((4, 1, 251), (1, 2, 1, 502)):
        block = points.reshape(shape).copy()
        activation = ACTIVATIONS[name](block)
        activation.forward()
        np.testing.assert_allclose(block.ravel(), plain.ACTIVATIONS[name](exact), rtol=tolerance, atol=tolerance)
        error = np.full_like(block, -1.5)
        activation.error_below(error)
        np.testing.assert_allclose(error.ravel(), -1.5 * plain.SLOPES[name](exact), rtol=tolerance, atol=4 * tolerance)
        block[:] = points.reshape(shape)
        activation.forward()
        activation.slope()
        slopes = block.ravel() / activation.unit
        np.testing.assert_allclose(slopes, plain.SLOPES[name](exact), rtol=tolerance, atol=4 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_slopes_of_large_scores_are_those_of_a_line(name, dtype):
    scores = np.array([[1.0, 1e6, 1e13, 1e18, np.finfo(dtype).max / 2]], dtype).T
    for sign, slope in ((1, 1), (-1, ACTIVATIONS[name].SLOPE if name == "leaky_relu" else 0)):
        block = sign * scores
        activation = ACTIVATIONS[name](block)
        with np.errstate(over="ignore"):
            activation.forward()
            activation.slope()
        np.testing.assert_allclose(block[1:] / activation.unit, 0 if name == "tanh" else slope, rtol=1e-6)


def test_an_error_that_would_be_copied_is_refused():
    activation = ACTIVATIONS["relu"](np.ones((3, 4)))
    with pytest.raises(ValueError, match="copy"):
        activation.error_below(np.ones((4, 3)).T)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_what_is_called_homogeneous_is(name):
    s = np.linspace(-3, 3, 61)
    f = plain.ACTIVATIONS[name]
    assert np.allclose(f(2.5 * s), 2.5 * f(s)) == ACTIVATIONS[name].homogeneous
    assert np.allclose(s * plain.SLOPES[name](s), f(s)) == ACTIVATIONS[name].homogeneous


@pytest.mark.parametrize("n", [37, 2 * LONGEST_ROW + 5, 3 * LEAST_ROW])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relu_at_and_around_its_kink(dtype, n):
    tiny = np.finfo(dtype).smallest_subnormal
    scores = np.array([-np.inf, -2.0, -tiny, -0.0, 0.0, tiny, 3.0, np.inf], dtype)
    active = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    # Long enough for vector instructions, and a remainder; short rows and long.
    scores, active = (np.tile(array, n)[: 2 * n].reshape(2, 1, n) for array in (scores, active))
    for value in (np.inf, -7.5, 1e-40, -tiny):
        block = scores.copy()
        activation = ACTIVATIONS["relu"](block)
        activation.forward()
        np.testing.assert_array_equal(block, np.where(active, scores, 0))
        error = np.full(block.shape, value, dtype)
        activation.error_below(error)
        np.testing.assert_array_equal(error, np.where(active, np.dtype(dtype).type(value), 0))
        block[:] = np.where(scores == tiny, activation.unit, scores)  # alone, slopes nearer than that are less than 1
        activation.forward()
        activation.slope()
        np.testing.assert_array_equal(block / activation.unit, active)


@pytest.mark.parametrize(("dtype", "smallest"), [("float32", 1.1e-19), ("float64", 1.5e-154)])
def test_the_slope_of_relu_alone_is_exact_from_a_tiny_score_on(dtype, smallest):
    block = np.array([-smallest, -0.0, 0.0, smallest / 4, smallest, 1, 1e30], dtype)
    activation = ACTIVATIONS["relu"](block)
    activation.forward()
    activation.slope()
    expected = [0, 0, 0, smallest / 4 / activation.unit, 1, 1, 1]
    np.testing.assert_allclose(block / activation.unit, expected, rtol=2 * np.finfo(dtype).eps)


def test_rows_divide_a_block_or_are_all_of_it():
    for size in (1, 4095, 4096, 16_384, 16_385, 8125 * 10, 100_003):
        block = np.arange(float(size))
        rows = in_rows(block)
        assert np.shares_memory(rows, block)
        assert rows.size == size
        assert len(rows) == 1 or LEAST_ROW <= rows.shape[1] <= LONGEST_ROW
    assert in_rows(np.zeros((10, 125, 65))).shape == (5, 16_250)
    assert in_rows(np.zeros(5 * LEAST_ROW)).shape == (2, 10_240)
    assert in_rows(np.zeros(10_007)).shape == (1, 10_007)
    assert in_rows(np.zeros(5 * 4099)).shape == (5, 4099)  # 4099 is a prime number
    assert in_rows(np.zeros(5 * 4093)).shape == (1, 20_465)  # and so is 4093, which is too short


def both_ways(layout, parameters, activation, x, y):
    """Return logits and gradient of 90 samples, in three blocks, the short way and the long way."""
    dtype = parameters.dtype
    weights, shape = Weights(layout, parameters), (len(parameters), 3, 30)
    inputs = Cut(30, 90).blocked(augment(x, dtype))
    signs = plain.signs_of_labels(y, dtype).reshape(1, 3, 30)
    results = []
    for passes in (OneHiddenLayer, HiddenLayers):
        way = passes(Memory(dtype), weights, ACTIVATIONS[activation], shape)
        parts, logits = np.zeros((len(parameters), 3, layout.n_parameters), dtype), np.empty(shape, dtype)
        way.start_batch()
        way.forward(inputs, logits)
        with np.errstate(over="ignore"):  # of the error of a sample that is right beyond doubt
            top_error(logits, signs, 90, way.top_error)
        way.backward(inputs, layout.matrices(parts))
        total = parts.sum(axis=1, keepdims=True)
        way.finish(layout.matrices(total))
        results.append((logits, total))
    return results


@pytest.mark.parametrize("features", [1, 2, 3, 7])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_short_way_through_one_hidden_layer_is_the_long_one(activation, features):
    layout, parameters, x, y = problem([16], 90, replicates=2, features=features)
    short, long = both_ways(layout, parameters, activation, x, y)
    np.testing.assert_array_equal(short[0], long[0])
    np.testing.assert_allclose(short[1], long[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("scale", [1e-15, 1e-8, 1, 1e8, 1e15])
def test_the_short_way_holds_at_every_scale(activation, scale):
    layout, parameters, x, y = problem([16], 90, replicates=2, dtype="float32")
    layout.matrices(parameters)[0][:, -1] = 0  # so that the scores have the scale of the inputs
    short, long = both_ways(layout, parameters, activation, scale * x, y)
    for one, other in zip(layout.matrices(short[1]), layout.matrices(long[1]), strict=True):
        np.testing.assert_allclose(one[..., :-1, :], other[..., :-1, :], rtol=1e-5, atol=1e-6 * np.abs(other).max())


@pytest.mark.parametrize("offset", [0, 10, 1000])
def test_the_short_way_is_as_exact_as_the_terms_it_adds(offset):
    # Its terms are of the size of |d| |[W b]| |[x 1]|, which for inputs far from zero is larger than that of |d| h.
    layout, parameters, x, y = problem([64], 1000, dtype="float32")
    x = (x + offset).astype(np.float32)
    with np.errstate(over="ignore"):  # of the error of a sample that is right beyond doubt
        _, gradient = gradients(Network(layout, parameters), x, y)
    flat = parameters[0].astype(np.float64)
    exact = plain.gradient(flat, layout.layer_sizes, x.astype(np.float64), y)
    s, _, (scores,) = plain.forward(plain.unflatten(flat, layout.layer_sizes), x.astype(np.float64))
    d = 1 / (1 + np.exp((2.0 * y - 1) * s)) / len(y)
    theta, inputs = np.abs(layout.matrices(flat[np.newaxis])[0][0]), np.abs(np.c_[x, np.ones(len(x))])
    size = d @ ((scores > 0) * (inputs @ theta))
    error = np.abs(layout.matrices(gradient)[-1][0, :-1, 0] - layout.matrices(exact[np.newaxis])[-1][0, :-1, 0])
    print(f"offset {offset}: {(error[size > 0] / size[size > 0]).max() / np.finfo(np.float32).eps:.2f} eps")
    assert (error <= 4 * np.finfo(np.float32).eps * size + 1e-30).all()


@pytest.mark.parametrize("hidden", [[64], [64, 32], [128, 64]])
@pytest.mark.parametrize("n", [90, 640, 700])
def test_tiles_and_other_replicates_change_no_bit(hidden, n):
    layout, parameters, x, y = problem(hidden, n, replicates=3, dtype="float32")
    block = 64
    _, one_by_one = gradients(Network(layout, parameters), x, y, Cut(block, block))
    for blocks in (2, 3, 10):
        _, gradient = gradients(Network(layout, parameters), x, y, Cut(block, blocks * block))
        np.testing.assert_array_equal(gradient, one_by_one)
    _, alone = gradients(Network(layout, parameters[1:2].copy()), x, y, Cut(block, 5 * block))
    np.testing.assert_array_equal(alone[0], one_by_one[1])


def test_workspaces_begin_at_a_cache_line():
    for shape in ((3,), (5, 7), (1, 2, 3)):
        for dtype in ("float32", "float64"):
            array = aligned_zeros(shape, dtype)
            assert array.ctypes.data % CACHE_LINE == 0
            assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
            assert not array.any()


def test_workspaces_of_one_name_share_memory():
    memory = Memory(np.dtype("float32"))
    first, second, other = memory.array("a", 3, 4), memory.array("a", 5), memory.array("b", 3, 4)
    assert np.shares_memory(first, second)
    assert not np.shares_memory(first, other)
    assert memory.array("a", 100).shape == (100,)


def test_an_undefined_score_is_an_undefined_logit():
    # A NaN that a layer swallowed would be a divergence that nobody sees.
    for name in ACTIVATIONS:
        layout, parameters, x, _ = problem([4, 3], 5, replicates=1)
        layout.matrices(parameters)[0][0, 0, 1] = np.nan
        for sign in (1, -1):
            assert np.isnan(Network(layout, sign * parameters, name).logits(x)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("hidden", [[16], [16, 8]])
def test_parameters_that_diverged_have_probabilities_without_a_warning(hidden, activation, dtype):
    layout, parameters, x, _ = problem(hidden, 500, replicates=3, dtype=dtype)
    parameters[0] *= np.finfo(dtype).max / 10
    parameters[1, ::3] = np.inf
    parameters[2] = np.nan
    p = Network(layout, parameters, activation).probabilities(x)
    assert p.shape == (3, 500)
    assert np.isnan(p[2]).all()
    assert not ((p < 0) | (p > 1)).any()


def test_the_layout_counts_weights_and_biases():
    assert [Layout.of(h).n_parameters for h in ([64], [128], [64, 32], [128, 64])] == [257, 513, 2305, 8705]


def test_initial_weights_have_the_variances_of_the_derivation():
    layout = Layout.of([400, 300])
    matrices = layout.matrices(initialise(layout, seed=3, replicates=range(20), dtype="float64"))
    for matrix, variance in zip(matrices, [2 / 2, 2 / 400, 1 / 300], strict=True):
        weights = matrix[:, :-1]
        assert weights.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / weights.size))
        assert abs(weights.mean()) < 5 * np.sqrt(variance / weights.size)
        assert not matrix[:, -1].any()


def test_glorot_s_weights_are_uniform_within_his_bounds():
    layout = Layout.of([400, 300])
    drawn = initialise(layout, seed=3, replicates=range(20), dtype="float64", initialisation="glorot")
    for matrix, (fan_in, fan_out) in zip(layout.matrices(drawn), [(2, 400), (400, 300), (300, 1)], strict=True):
        weights, bound = matrix[:, :-1], np.sqrt(6 / (fan_in + fan_out))
        assert np.abs(weights).max() <= bound
        assert np.abs(weights).max() > 0.99 * bound
        assert weights.var() == pytest.approx(bound**2 / 3, rel=5 * np.sqrt(0.8 / weights.size))
        assert not matrix[:, -1].any()


@pytest.mark.change_detector
def test_initial_weights_are_the_same_bytes_for_ever():
    parameters = initialise(Layout.of([8, 4]), seed=2024, replicates=[0, 3], dtype="float64")
    assert (
        hashlib.sha256(parameters.tobytes()).hexdigest()
        == "a5f98c0a2de00bbd6324c13266746bb65fffa1f6d36a72dfb0787c5a6150bb31"
    )


def test_replicates_start_differently_and_each_always_alike():
    layout = Layout.of([8])
    both = initialise(layout, seed=0, replicates=[4, 5], dtype="float64")
    assert (both[0] != both[1]).any()
    np.testing.assert_array_equal(both[1], initialise(layout, seed=0, replicates=[5], dtype="float64")[0])
    assert (both[0] != initialise(layout, seed=1, replicates=[4], dtype="float64")[0]).any()
