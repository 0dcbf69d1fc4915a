import numpy as np
import pytest

from circlemlp.core.data import Boundary, sample_dataset
from circlemlp.core.streams import stream

QUARTER = Boundary(0.0, 1.0, 0.0, 1.0)
RING = Boundary(-1.0, 1.0, 0.4, 0.9)


def sample(boundary=QUARTER, *, n_train=5000, n_validation=2000, label_noise=0.0, seed=2024):
    return sample_dataset(boundary, n_train=n_train, n_validation=n_validation, label_noise=label_noise, seed=seed)


def test_the_default_data_are_the_same_bytes_for_ever():
    assert sample().digest() == "64a531caaa166f377bc259732301e27ea0bd48a49c4987c74721f4e1b97480db"


def test_noisy_data_are_the_same_bytes_for_ever():
    noisy = sample(RING, n_train=50, n_validation=20, label_noise=0.2)
    assert noisy.digest() == "2c31f5a9228c366aa0b99f8a2d66871f352b5e79d4e69b2730db40b823a145eb"


@pytest.mark.parametrize(
    ("boundary", "point", "label"),
    [
        (QUARTER, (0.0, 0.0), 1),
        (QUARTER, (0.6, 0.8), 0),  # 0.36 + 0.64 rounds to 1.0: on the arc is outside
        (QUARTER, (0.6, 0.7999), 1),
        (QUARTER, (0.99, 0.99), 0),
        (RING, (0.0, 0.0), 0),
        (RING, (0.4, 0.0), 1),  # on the inner circle is inside the ring
        (RING, (0.0, -0.5), 1),
        (RING, (-0.9, 0.0), 0),
    ],
)
def test_a_point_has_the_class_of_its_side(boundary, point, label):
    assert boundary.classify(np.array([point])) == [label]


@pytest.mark.parametrize(
    ("boundary", "share"),
    [
        (QUARTER, np.pi / 4),
        (Boundary(-1, 1, 0, 0.8), np.pi * 0.64 / 4),
        (RING, np.pi * (0.81 - 0.16) / 4),
        (Boundary(-2, 2, 0, 1.5), np.pi * 2.25 / 16),
    ],
)
def test_the_share_of_ones_is_the_area(boundary, share):
    data = sample(boundary, n_train=100_000)
    assert abs(data.y_train.mean() - share) < 4 * np.sqrt(share * (1 - share) / 100_000)
    for coordinate in data.x_train.T:
        assert boundary.low <= coordinate.min() < boundary.low + 0.001
        assert boundary.high - 0.001 < coordinate.max() < boundary.high


def test_noise_flips_its_share_of_labels_and_moves_no_point():
    clean, noisy = sample(n_train=100_000), sample(n_train=100_000, label_noise=0.1)
    np.testing.assert_array_equal(clean.x_train, noisy.x_train)
    assert abs((clean.y_train != noisy.y_train).mean() - 0.1) < 0.004
    assert (
        abs(
            (
                sample(n_validation=100_000, label_noise=0.1).y_validation != sample(n_validation=100_000).y_validation
            ).mean()
            - 0.1
        )
        < 0.004
    )


def test_the_splits_are_different_points():
    data = sample(n_train=500, n_validation=500)
    assert not set(map(tuple, data.x_train)) & set(map(tuple, data.x_validation))


def test_the_digest_tells_data_sets_apart():
    digests = {sample(n_train=50, seed=s, label_noise=p).digest() for s in (0, 1) for p in (0.0, 0.4)}
    assert len(digests) == 4


def test_a_stream_depends_on_seed_and_name_alone():
    draws = [stream(seed, *name).random() for seed in (0, 1) for name in (("a", 1), ("a", 2), ("b", 1))]
    assert len(set(draws)) == 6
    assert stream(0, "a", 1).random() == draws[0]
