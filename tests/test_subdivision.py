import re

import matplotlib as mpl
import numpy as np
import pytest

import plain
from circlemlp.core import geometry
from circlemlp.core.data import Boundary, sample_dataset
from circlemlp.core.optimizers import Adam
from circlemlp.core.parameters import Layout
from circlemlp.core.recipe import Recipe
from circlemlp.core.training import train
from circlemlp.core.true_error import true_error
from circlemlp.report import subdivision
from circlemlp.report.subdivision import draw_regions, linear_regions

RINGS = {"shape": "rings", "inner_radius": 0.4, "outer_radius": 0.9}
DRAWING = {"draws": "shared", "n_train": 1000, "n_validation": 10, "label_noise": 0.0, "seed": 5}
BOUNDARY, LAYOUT = Boundary.of(RINGS), Layout.of((12, 6))


def config(activation):
    return {
        "data": {**RINGS, **DRAWING},
        "model": {"hidden_layer_sizes": [12, 6], "activation": activation, "initialisation": "he"},
    }


@pytest.fixture(scope="module")
def trained():
    """Parameters in float64, whose slopes below zero are the plain network's."""
    dataset = sample_dataset({**RINGS, **DRAWING})
    recipes = (Recipe((12, 6), Adam(0.01), name, epochs=300, dtype="float64") for name in ("relu", "leaky_relu"))
    return {recipe.activation: train(dataset, recipe)[0][0] for recipe in recipes}


def logits_and_signs(parameters, points, activation):
    """Return the logits of points, and which hidden nodes' scores are above zero there."""
    logits, _, scores = plain.forward(plain.unflatten(parameters, LAYOUT.layer_sizes), points, activation)
    return logits, np.hstack(scores) > 0


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_every_pattern_of_signs_has_one_region_and_together_they_cover_the_square(trained, activation):
    regions, cuts = linear_regions(BOUNDARY, LAYOUT, trained[activation], activation)
    assert geometry.area(*geometry.edges(regions)) == pytest.approx(4, abs=1e-9)
    assert min(geometry.area(*geometry.edges([region])) for region in regions) > 0
    centers = np.array([region.mean(axis=0) for region in regions])
    patterns = set(map(bytes, logits_and_signs(trained[activation], centers, activation)[1]))
    assert len(patterns) == len(regions) > 50
    points = np.random.default_rng(0).uniform(-1, 1, (20_000, 2))
    assert set(map(bytes, logits_and_signs(trained[activation], points, activation)[1])) <= patterns
    assert len(cuts) >= 12 - 1


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_the_caption_counts_what_an_independent_count_gives(trained, activation, tmp_path):
    parameters = trained[activation]
    caption = draw_regions(config(activation), parameters, tmp_path / "regions.svg").finding
    regions, _ = linear_regions(BOUNDARY, LAYOUT, parameters, activation)
    logits = [logits_and_signs(parameters, region, activation)[0] for region in regions]
    crossed = sum(min(values) < -1e-12 and max(values) > 1e-12 for values in logits)
    total, enough, bounded, by_the_boundary = map(
        int,
        re.search(
            r"of (\d+) polygons.*, (\d+) are enough.* in (\d+) a bound .* and (\d+) are crossed", caption
        ).groups(),
    )
    assert (total, by_the_boundary) == (len(regions), crossed)
    assert enough == bounded + crossed < total
    assert caption.startswith("A 2-12-6-1 network")
    assert f"error is {true_error(BOUNDARY, LAYOUT, parameters, activation):.3g}." in caption


def test_the_file_has_the_same_bytes_whatever_the_users_settings_and_no_date(trained, tmp_path, monkeypatch):
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    draw_regions(config("relu"), trained["relu"], first)
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 9)
    monkeypatch.setitem(mpl.rcParams, "font.size", 30)
    draw_regions(config("relu"), trained["relu"], second)
    assert first.read_bytes() == second.read_bytes()
    assert "dc:date" not in first.read_text()
    assert first.stat().st_size < 300_000


def test_without_regions_or_a_boundary_or_with_too_many_regions_nothing_is_drawn(trained, tmp_path, monkeypatch):
    path, zero = tmp_path / "regions.svg", np.zeros(LAYOUT.n_parameters)
    assert draw_regions(config("tanh"), trained["relu"], path) is None
    assert draw_regions(config("relu"), zero, path) is None
    for value in (np.nan, np.inf, 1e200):
        assert draw_regions(config("relu"), zero + value, path) is None
    count = len(linear_regions(BOUNDARY, LAYOUT, trained["relu"], "relu")[0])
    monkeypatch.setattr(subdivision, "MOST_REGIONS", count - 1)
    assert draw_regions(config("relu"), trained["relu"], path) is None
    assert not path.exists()
    monkeypatch.setattr(subdivision, "MOST_REGIONS", count)
    assert draw_regions(config("relu"), trained["relu"], path)
