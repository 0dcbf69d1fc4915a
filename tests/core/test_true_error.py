import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exact
from circlemlp.core import geometry
from circlemlp.core.activations import LeakyRelu
from circlemlp.core.data import Boundary, sample_dataset
from circlemlp.core.network import Network
from circlemlp.core.optimizers import Adam
from circlemlp.core.parameters import Layout
from circlemlp.core.recipe import Recipe
from circlemlp.core.training import train
from circlemlp.core.true_error import decide, true_error, true_errors
from circlemlp.report.rulers import best_chain_error

QUARTER, DISK, RING = Boundary(0.0, 1.0, 0.0, 1.0), Boundary(-1.0, 1.0, 0.0, 0.8), Boundary(-1.0, 1.0, 0.4, 0.9)
BOUNDARIES = (QUARTER, DISK, RING)
CONSTANT = {QUARTER: 1 - math.pi / 4, DISK: 1 - math.pi * 0.64 / 4, RING: 1 - math.pi * (0.81 - 0.16) / 4}
"""The error of always answering 1."""


def random_parameters(rng, layout, kind):
    """Return float32 parameters, small ones so that lines cross the square often, some of them degenerate."""
    parameters = rng.normal(size=layout.n_parameters).astype(np.float32)
    matrices = layout.matrices(parameters)
    match kind:
        case "dead nodes":
            matrices[0][-1, ::2] = -9
        case "duplicate lines":
            matrices[0][:, 1:] = matrices[0][:, :1]
        case "no biases":  # every line of the first layer passes through the origin
            for matrix in matrices:
                matrix[-1] = 0
        case "constant":
            matrices[-1][:-1] = 0
        case "all zero":
            parameters[:] = 0
        case "lines along the sides":
            matrices[0][:2] = np.round(matrices[0][:2])
            matrices[0][-1] = 0
    return parameters


KINDS = ("any", "dead nodes", "duplicate lines", "no biases", "constant", "all zero", "lines along the sides")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", [(5,), (4, 3), (3, 3, 2)], ids=str)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_it_is_what_rational_numbers_give(kind, hidden, activation):
    layout = Layout.of(hidden)
    rng = np.random.default_rng([len(hidden), KINDS.index(kind)])
    slope = float(np.float32(LeakyRelu.SLOPE)) if activation == "leaky_relu" else 0
    for number in range(6):
        parameters = random_parameters(rng, layout, kind)
        boundary = BOUNDARIES[number % 3]
        layers = [(matrix[:-1].T.tolist(), matrix[-1].tolist()) for matrix in layout.matrices(parameters)]
        sides = boundary.low, boundary.high, boundary.inner_radius, boundary.outer_radius
        expected = exact.true_error(*sides, layers, slope)
        assert true_error(boundary, layout, parameters, activation) == pytest.approx(expected, abs=1e-12)


def trained(data, hidden, activation, epochs=300):
    dataset = sample_dataset(
        {"draws": "shared", "n_train": 1000, "n_validation": 10, "label_noise": 0.0, "seed": 5, **data}
    )
    parameters, _ = train(dataset, Recipe(hidden, Adam(0.01), activation, epochs=epochs))
    return Layout.of(hidden), parameters[0]


def counted(boundary, layout, parameters, activation, side=1000):
    """Return the share of the points of a fine grid that the network answers wrongly."""
    ticks = boundary.low + (boundary.high - boundary.low) * (np.arange(side) + 0.5) / side
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    answers = Network(layout, parameters[np.newaxis], activation).logits(points)[0] > 0
    return np.mean(answers != boundary.classify(points))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "gelu"])
@pytest.mark.parametrize(
    "data",
    [
        {"shape": "quarter_circle", "radius": 1.0},
        {"shape": "disk", "radius": 0.8},
        {"shape": "rings", "inner_radius": 0.4, "outer_radius": 0.9},
    ],
    ids=lambda data: data["shape"],
)
def test_it_is_what_counting_on_a_fine_grid_approaches(data, activation):
    boundary = Boundary.of(data)
    layout, parameters = trained(data, (16, 8), activation)
    counts = counted(boundary, layout, parameters, activation)
    assert true_error(boundary, layout, parameters, activation) == pytest.approx(counts, abs=2e-4)
    assert 0 < counts < 0.2


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=["quarter circle", "disk", "ring"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_constant_answer_has_the_error_of_the_other_class(boundary, activation):
    layout = Layout.of((3,))
    parameters = np.zeros(layout.n_parameters, np.float32)
    assert true_error(boundary, layout, parameters, activation) == pytest.approx(1 - CONSTANT[boundary], abs=1e-12)
    parameters[-1] = 1
    assert true_error(boundary, layout, parameters, activation) == pytest.approx(CONSTANT[boundary], abs=1e-12)


def test_the_parts_cover_the_square_once_and_the_segments_are_where_the_logit_is_zero():
    layout, parameters = trained({"shape": "disk", "radius": 0.8}, (16, 8), "relu")
    decision = decide(DISK, layout, parameters, "relu")
    network = Network(layout, parameters[np.newaxis].astype(np.float64))
    for polygons, answer in ((decision.zeros, False), (decision.ones, True)):
        for corners in polygons:
            starts, ends = geometry.edges([corners])
            if geometry.area(starts, ends) > 1e-9:
                assert (network.logits(corners.mean(axis=0, keepdims=True))[0, 0] > 0) == answer
    starts, ends = geometry.edges(decision.zeros + decision.ones)
    assert geometry.area(starts, ends) == pytest.approx(4, abs=1e-12)
    assert np.abs(network.logits(np.concatenate(decision.segments))).max() < 1e-9
    assert len(decision.segments) >= 4


@pytest.mark.parametrize("hidden", [(1,), (3,), (6,), (8, 4)], ids=str)
def test_no_boundary_of_k_segments_is_better_than_k_segments_can_be(hidden):
    layout, parameters = trained({"shape": "quarter_circle", "radius": 1.0}, hidden, "relu", epochs=1000)
    segments = len(decide(QUARTER, layout, parameters, "relu").segments)
    assert true_error(QUARTER, layout, parameters, "relu") >= best_chain_error(segments)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_a_network_whose_scores_are_not_finite_has_no_error(activation, value):
    layout = Layout.of((3, 3))
    assert math.isnan(true_error(QUARTER, layout, np.full(layout.n_parameters, value), activation))


def test_a_replicate_that_diverged_has_no_error():
    config = {
        "data": {
            "shape": "disk",
            "draws": "fresh",
            "radius": 0.8,
            "n_train": 5,
            "n_validation": 5,
            "label_noise": 0.0,
            "seed": 0,
        },
        "model": {"hidden_layer_sizes": [3], "activation": "relu", "initialisation": "he"},
    }
    parameters = np.ones((2, Layout.of((3,)).n_parameters), np.float32)
    errors = true_errors(config, parameters, np.array([4, -1]))
    assert math.isnan(errors[0])
    assert errors[1] == true_error(DISK, Layout.of((3,)), parameters[1], "relu")


def test_a_boundary_that_would_need_too_many_boxes_is_given_up(monkeypatch):
    layout, parameters = trained({"shape": "quarter_circle", "radius": 1.0}, (8,), "tanh")
    assert true_error(QUARTER, layout, parameters, "tanh") > 0
    monkeypatch.setattr("circlemlp.core.true_error.MOST_BOXES", 4096)
    assert math.isnan(true_error(QUARTER, layout, parameters, "tanh"))


def test_areas_that_do_not_add_up_are_an_error(monkeypatch):
    layout, parameters = trained({"shape": "quarter_circle", "radius": 1.0}, (8,), "relu")
    whole = geometry.cut

    def loses_a_part(corners, values):
        above, below, between = whole(corners, values)
        return above, below[:0], between

    monkeypatch.setattr(geometry, "cut", loses_a_part)
    with pytest.raises(ArithmeticError, match="add up"):
        true_error(QUARTER, layout, parameters, "relu")


coordinates = st.integers(-2000, 2000).map(lambda number: number / 1000)


@settings(max_examples=200)
@given(st.tuples(*[coordinates] * 6), st.integers(0, 2000).map(lambda number: number / 1000))
def test_a_triangle_in_a_circle_has_the_area_that_angles_of_the_c_library_give(numbers, radius):
    corners = np.reshape(numbers, (3, 2))
    ours = geometry.area_in_circle(*geometry.edges([corners]), radius)
    assert ours == pytest.approx(in_circle(corners, radius), abs=1e-12)


def in_circle(corners, radius):
    return exact.area_in_circle([tuple(map(exact.Fraction, corner)) for corner in corners], radius)


@given(st.lists(coordinates, min_size=4, max_size=4))
def test_a_cut_square_has_the_area_of_its_parts(heights):
    a, b, c, _ = heights
    values = np.array([a, b, c, a + c - b])  # affine: opposite corners have the same sum
    above, below, _ = geometry.cut(geometry.square(0, 1), values)
    areas = [geometry.area(*geometry.edges([part])) for part in (above, below)]
    if values.any():
        assert sum(areas) == pytest.approx(1, abs=1e-12)
    assert min(areas) >= -1e-15
