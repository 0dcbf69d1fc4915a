import tracemalloc

import numpy as np
import pytest

from circlemlp.core.data import CHUNK, Boundary, Dataset, is_drawn_from, sample_dataset
from circlemlp.core.streams import stream

QUARTER = {"shape": "quarter_circle", "radius": 1.0}
DISK = {"shape": "disk", "radius": 0.8}
RINGS = {"shape": "rings", "inner_radius": 0.4, "outer_radius": 0.9}


def described(shape=QUARTER, draws="shared", **changes):
    numbers = {"n_train": 5000, "n_validation": 2000, "label_noise": 0.0, "seed": 2024}
    return {**shape, "draws": draws, **numbers, **changes}


def sample(shape=QUARTER, **changes):
    return sample_dataset(described(shape, **changes))


@pytest.mark.change_detector
def test_shared_data_are_the_same_bytes_for_ever():
    # Since before there were draws: the digest of the only one without its axis.
    one = Dataset(**{name: array[0] for name, array in vars(sample()).items()})
    assert one.digest() == "64a531caaa166f377bc259732301e27ea0bd48a49c4987c74721f4e1b97480db"
    noisy = sample(RINGS, n_train=50, n_validation=20, label_noise=0.2)
    one = Dataset(**{name: array[0] for name, array in vars(noisy).items()})
    assert one.digest() == "2c31f5a9228c366aa0b99f8a2d66871f352b5e79d4e69b2730db40b823a145eb"


@pytest.mark.change_detector
def test_fresh_data_are_the_same_bytes_for_ever():
    few = {"n_train": 50, "n_validation": 20, "label_noise": 0.2}
    assert (
        sample_dataset(described(RINGS, "fresh", **few), 3).digest()
        == "3f58e067e0b82bc8c0674469daafc58ce18c711d94bc762d376e0abbb6425c35"
    )


@pytest.mark.parametrize(
    ("shape", "point", "label"),
    [
        (QUARTER, (0.0, 0.0), 1),
        (QUARTER, (0.6, 0.8), 0),  # 0.36 + 0.64 rounds to 1.0: on the arc is outside
        (QUARTER, (0.6, 0.7999), 1),
        (QUARTER, (0.99, 0.99), 0),
        (RINGS, (0.0, 0.0), 0),
        (RINGS, (0.4, 0.0), 1),  # on the inner circle is inside the ring
        (RINGS, (0.0, -0.5), 1),
        (RINGS, (-0.9, 0.0), 0),
    ],
)
def test_a_point_has_the_class_of_its_side(shape, point, label):
    assert Boundary.of(described(shape)).classify(np.array([point])) == [label]


@pytest.mark.parametrize(
    ("shape", "share"),
    [(QUARTER, np.pi / 4), (DISK, np.pi * 0.64 / 4), (RINGS, np.pi * (0.81 - 0.16) / 4)],
)
def test_the_share_of_ones_is_the_area(shape, share):
    data, boundary = sample(shape, n_train=100_000), Boundary.of(described(shape))
    assert abs(data.y_train.mean() - share) < 4 * np.sqrt(share * (1 - share) / 100_000)
    for coordinate in data.x_train[0].T:
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


@pytest.mark.parametrize(
    "data",
    [
        described(DISK, inner_radius=0.1),
        described(RINGS, radius=0.5),
        described(file="data.npz"),
        {**described(), "shape": "triangle"},
        {key: value for key, value in described().items() if key != "radius"},
        {key: value for key, value in described().items() if key != "seed"},
        {key: value for key, value in described().items() if key != "draws"},
    ],
    ids=["inner radius of a disk", "radius of rings", "file", "unknown shape", "no radius", "no seed", "no draws"],
)
def test_a_description_that_is_not_one_is_refused(data):
    with pytest.raises((TypeError, KeyError)):
        sample_dataset(data)


MANY = described(RINGS, n_train=2 * CHUNK + 7, n_validation=CHUNK, label_noise=0.2)


FRESH = {**MANY, "draws": "fresh"}


@pytest.mark.parametrize(("data", "numbers"), [(MANY, [()]), (FRESH, [(0,), (1,), (2,)])])
def test_points_drawn_in_chunks_are_those_drawn_at_once(data, numbers):
    drawn, boundary = sample_dataset(data, 3), Boundary(-1.0, 1.0, 0.4, 0.9)
    assert drawn.draws == len(numbers)
    for split, xs, ys in (
        ("train", drawn.x_train, drawn.y_train),
        ("validation", drawn.x_validation, drawn.y_validation),
    ):
        for number, x, y in zip(numbers, xs, ys, strict=True):
            points = stream(2024, "data", split, "points", *number).uniform(-1, 1, size=(len(x), 2))
            flipped = stream(2024, "data", split, "flips", *number).random(len(x)) < 0.2
            np.testing.assert_array_equal(x, points)
            np.testing.assert_array_equal(y, boundary.classify(points) ^ flipped)


def test_every_draw_is_another_one_and_stays_the_same_beside_more():
    three, five = (sample_dataset(described(draws="fresh", n_train=50, n_validation=20), n) for n in (3, 5))
    for name, array in vars(five).items():
        if name.startswith("x"):
            assert len(np.unique(array.reshape(-1, 2), axis=0)) == array.shape[0] * array.shape[1]
        np.testing.assert_array_equal(getattr(three, name), array[:3])
    assert five.of_replicates(range(3)).digest() == three.digest() != five.digest()


def test_a_replicate_has_its_own_draw_or_the_only_one_as_a_view():
    fresh, shared = (sample(draws=draws, n_train=50, n_validation=20) for draws in ("fresh", "shared"))
    assert shared.of_replicates(range(7, 9)) is shared
    fresh = sample_dataset(described(draws="fresh", n_train=50, n_validation=20), 4)
    for name, array in vars(fresh.of_replicates(range(1, 3))).items():
        assert array.base is getattr(fresh, name)
        np.testing.assert_array_equal(array, getattr(fresh, name)[1:3])
    with pytest.raises(ValueError, match="there are 4 draws of the data, fewer than 5 replicates need"):
        fresh.of_replicates(range(3, 5))


def test_a_data_set_is_recognised_as_drawn_from_its_description():
    assert is_drawn_from(sample_dataset(MANY), MANY)
    assert not is_drawn_from(sample_dataset(MANY), {**MANY, "seed": 2025})
    assert not is_drawn_from(sample_dataset(MANY), {**MANY, "label_noise": 0.21})
    assert not is_drawn_from(sample_dataset(MANY), {**MANY, "outer_radius": 0.91})
    assert not is_drawn_from(sample_dataset(MANY), {**MANY, "n_validation": CHUNK - 1})
    assert not is_drawn_from(sample_dataset(MANY), FRESH)
    for draws in (1, 2):
        assert is_drawn_from(sample_dataset(FRESH, draws), FRESH)
        assert not is_drawn_from(sample_dataset(FRESH, draws), MANY)
    shared = sample_dataset(MANY)
    twice = Dataset(**{name: np.concatenate([array, array]) for name, array in vars(shared).items()})
    assert not is_drawn_from(twice, MANY)
    later = sample_dataset(FRESH, 3).of_replicates(range(1, 3))
    assert later.digest() == sample_dataset(FRESH, 2, first=1).digest()
    assert [is_drawn_from(later, FRESH, first) for first in range(3)] == [False, True, False]
    assert is_drawn_from(shared, MANY, first=1)


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_validation", "y_validation"])
@pytest.mark.parametrize("where", [0, CHUNK - 1, -1])
def test_a_single_changed_bit_is_noticed(name, where):
    for data, draw in ((MANY, 0), (FRESH, 0), (FRESH, 1)):
        arrays = vars(sample_dataset(data, 2))
        array = arrays[name][draw]
        array.view(np.uint8).reshape(len(array), -1)[where, 0] ^= 1
        assert not is_drawn_from(Dataset(**arrays), data)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x.astype(np.float32), y),
        lambda x, y: (x.astype(">f8"), y),
        lambda x, y: (np.asfortranarray(x), y),
        lambda x, y: (x.reshape(-1), y),
        lambda x, y: (x, y.astype(np.int8)),
        lambda x, y: (x, y.astype(bool)),
        lambda x, y: (x, y[:, np.newaxis]),
        lambda x, y: (x[0], y[0]),
        lambda x, y: (x[:, :-1], y[:, :-1]),
        lambda x, y: (np.concatenate([x, x]), y),
        lambda x, y: (x, np.concatenate([y, y])),
    ],
)
def test_another_type_shape_or_order_is_noticed(change):
    data = sample(n_train=100, n_validation=50)
    assert is_drawn_from(data, described(n_train=100, n_validation=50))
    changed = Dataset(*change(data.x_train, data.y_train), data.x_validation, data.y_validation)
    assert not is_drawn_from(changed, described(n_train=100, n_validation=50))


@pytest.mark.parametrize(("n", "draws"), [(1_000_000, 1), (100_000, 10)])
def test_recognising_a_data_set_takes_little_memory(n, draws):
    description = described(draws="fresh", n_train=n)
    data = sample_dataset(description, draws)
    tracemalloc.start()
    try:
        assert is_drawn_from(data, description)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{peak / 1e6:.1f} MB at the most, of 17")
    assert peak < 3e6


def test_the_splits_are_different_points():
    data = sample(n_train=500, n_validation=500)
    assert not set(map(tuple, data.x_train[0])) & set(map(tuple, data.x_validation[0]))


def test_the_digest_tells_data_sets_apart():
    digests = {sample(n_train=50, seed=s, label_noise=p).digest() for s in (0, 1) for p in (0.0, 0.4)}
    assert len(digests) == 4


def test_a_stream_depends_on_seed_and_name_alone():
    draws = [stream(seed, *name).random() for seed in (0, 1) for name in (("a", 1), ("a", 2), ("b", 1))]
    assert len(set(draws)) == 6
    assert stream(0, "a", 1).random() == draws[0]
