import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circlemlp.core.batches import WINDOW, Batches
from circlemlp.core.streams import stream
from circlemlp.core.tiles import Cut

CUT = Cut(block=64, tile=640)


def numbered(n):
    """Return points that tell their own number, and labels that are its parity; all replicates share them."""
    numbers = np.arange(n)
    return np.stack([numbers, -numbers], axis=-1)[np.newaxis].astype(np.float64), (numbers[np.newaxis] % 2).astype("u1")


def epoch(batches, cut):
    """Return the batches of an epoch as arrays of numbers, a row a replicate, after checking their tiles."""
    result, parts = [], []
    for window in batches.epoch():
        seen = 0
        for (x, signs, logits), batch_size, starts_batch, ends_batch in window.tiles:
            of_each, blocks, inputs, samples = x.shape
            assert blocks * samples <= cut.tile
            assert samples == cut.block or (blocks == 1 and ends_batch and samples < cut.block)
            assert signs.shape == (of_each, blocks, samples)
            assert logits.shape[1:] == (blocks, samples)
            numbers = x[:, :, 0].astype(int)
            np.testing.assert_array_equal(x[:, :, 1], -numbers)
            assert (x[:, :, 2] == 1).all()
            assert inputs == 4
            assert not x[:, :, 3].any()
            np.testing.assert_array_equal(signs, 2 * (numbers % 2) - 1)
            logits[:] = numbers
            flat = numbers.reshape(of_each, -1)
            assert (window.logits[:, seen : seen + flat.shape[1]] == flat).all()
            assert starts_batch == (not parts)
            parts.append(flat)
            seen += flat.shape[1]
            if ends_batch:
                result.append(np.hstack(parts))
                assert result[-1].shape[1] == batch_size
                parts = []
        assert window.signs.shape[-1] == window.logits.shape[-1] == seen <= batches.window
    assert not parts
    return result


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 50_000),
    cut=st.builds(lambda block, blocks: Cut(block, block * blocks), st.integers(16, 700), st.integers(4, 20)),
    batch_size=st.none() | st.integers(1, 60_000).map(lambda b: max(b, 50)),
    shuffled=st.booleans(),
)
def test_an_epoch_has_every_sample_once_in_batches_of_the_right_size(n, cut, batch_size, shuffled):
    replicates = 2
    rngs = [stream(0, "shuffling", replicate) for replicate in range(replicates)] if shuffled else []
    batches = Batches(
        *numbered(n), replicates=replicates, cut=cut, dtype="float64", batch_size=batch_size, shuffle=rngs
    )
    assert batches.window <= max(WINDOW, cut.tile)
    expected = np.arange(n)
    for _ in range(2):
        got = epoch(batches, cut)
        assert len(got) == batches.n_batches
        assert [batch.shape[1] for batch in got[:-1]] == [batch_size] * (len(got) - 1)
        for row in np.hstack(got):
            np.testing.assert_array_equal(np.sort(row) if shuffled else row, expected)


@pytest.mark.parametrize("batch_size", [16_500, 20_050, 16_384 + 640, 40_000])
def test_batches_larger_than_a_window_and_no_multiple_of_a_tile(batch_size):
    batches = Batches(*numbered(50_000), replicates=1, cut=CUT, dtype="float64", batch_size=batch_size)
    assert batches.window < batch_size
    got = epoch(batches, CUT)
    assert [batch.shape[1] for batch in got] == [
        min(batch_size, 50_000 - start) for start in range(0, 50_000, batch_size)
    ]
    np.testing.assert_array_equal(np.hstack(got)[0], np.arange(50_000))


def test_each_replicate_has_an_order_of_its_own_and_a_new_one_every_epoch():
    rngs = [stream(0, "shuffling", replicate) for replicate in range(3)]
    batches = Batches(*numbered(100), replicates=3, cut=CUT, dtype="float64", batch_size=10, shuffle=rngs)
    orders = [tuple(row) for _ in range(2) for row in np.hstack(epoch(batches, CUT))]
    assert len(set(orders)) == 6
    again = np.arange(100)
    rng = stream(0, "shuffling", 1)
    rng.shuffle(again)
    np.testing.assert_array_equal(orders[1], again)


@pytest.mark.parametrize(
    ("n", "replicates", "batch_size", "window"),
    [
        (50_000, 1, None, 16_300),  # whole blocks of 100
        (50_000, 1, 20_000, 16_300),
        (50_000, 1, 16_384, 16_384),  # or whole batches
        (50_000, 1, 5000, 15_000),
        (50_000, 9, 5000, 15_000),  # for any number of replicates
        (700, 1, 100, 700),
    ],
)
def test_a_window_is_whole_batches_or_else_whole_blocks(n, replicates, batch_size, window):
    batches = Batches(*numbered(n), replicates=replicates, cut=Cut(100, 1000), dtype="float32", batch_size=batch_size)
    assert batches.window == window


@pytest.mark.parametrize(("batch_size", "window"), [(32, 2048), (100, 2000), (2048, 2048), (5000, 2000)])
def test_windows_of_shuffled_samples_are_smaller(batch_size, window):
    for replicates in (1, 9):
        batches = Batches(
            *numbered(10_000),
            replicates=replicates,
            cut=Cut(100, 1000),
            dtype="float32",
            batch_size=batch_size,
            shuffle=[stream(0, "shuffling", replicate) for replicate in range(replicates)],
        )
        assert batches.window == window


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shuffled_samples_are_taken_from_memory_that_is_not_aligned(dtype):
    # As in a file that begins with something else.
    x, y = numbered(20_000)
    x = x.astype(dtype)
    odd = np.frombuffer(b"!" + x.tobytes(), np.uint8)[1:].view(dtype).reshape(x.shape)
    assert not odd.flags.aligned

    def batches(x):
        shuffle = [stream(0, "shuffling", 0)]
        return Batches(x, y, replicates=1, cut=CUT, dtype="float64", batch_size=640, shuffle=shuffle)

    np.testing.assert_array_equal(np.hstack(epoch(batches(odd), CUT)), np.hstack(epoch(batches(x), CUT)))
    unaligned = batches(odd)
    for window in unaligned.epoch():
        list(window.tiles)
    tracemalloc.start()
    try:
        for window in unaligned.epoch():
            list(window.tiles)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000  # a copy of the data would be 160,000 or more


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("given", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_have_the_type_asked_for(dtype, given, shuffled):
    x, y = numbered(300)
    rngs = [stream(0, "a")] if shuffled else []
    batches = Batches(x.astype(given), y, replicates=1, cut=CUT, dtype=dtype, batch_size=100, shuffle=rngs)
    for window in batches.epoch():
        assert {array.dtype for tile in window.tiles for array in tile.samples} == {np.dtype(dtype)}


def test_data_that_fit_one_window_are_copied_once():
    x, y = numbered(300)
    batches = Batches(x, y, replicates=1, cut=CUT, dtype="float64")
    before = epoch(batches, CUT)
    x[:] = 0
    np.testing.assert_array_equal(epoch(batches, CUT), before)


def test_an_order_is_a_function_of_the_generator_alone():
    def orders(rng, epochs):
        batches = Batches(*numbered(50), replicates=1, cut=CUT, dtype="float64", batch_size=10, shuffle=[rng])
        return [np.hstack(epoch(batches, CUT)) for _ in range(epochs)]

    at_once, rng = orders(stream(0, "a"), 3), stream(0, "a")
    np.testing.assert_array_equal(at_once, orders(rng, 2) + orders(rng, 1))


@pytest.mark.parametrize("batch_size", [None, 7000])
def test_data_in_a_file_are_read_window_by_window(tmp_path, batch_size):
    x, y = numbered(50_000)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    in_memory = Batches(x, y, replicates=1, cut=CUT, dtype="float64", batch_size=batch_size)
    in_file = Batches(mapped, y, replicates=1, cut=CUT, dtype="float64", batch_size=batch_size)
    for one, other in zip(epoch(in_memory, CUT), epoch(in_file, CUT), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch_size", [None, 640, 17_000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_replicates_with_data_of_their_own_take_those_as_if_alone(shuffled, batch_size):
    x, y = numbered(20_000)
    x, y = (
        np.concatenate([x, x[:, ::-1], np.roll(x, 7, axis=1)]),
        np.concatenate([y, y[:, ::-1], np.roll(y, 7, axis=1)]),
    )

    def batches(replicates):
        rows = slice(replicates.start, replicates.stop)
        return Batches(
            x[rows],
            y[rows],
            replicates=len(replicates),
            cut=CUT,
            dtype="float64",
            batch_size=batch_size,
            shuffle=[stream(0, "shuffling", replicate) for replicate in replicates] if shuffled else (),
        )

    together, *alone = (
        np.hstack(epoch(batches(group), CUT)) for group in (range(3), *(range(r, r + 1) for r in range(3)))
    )
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert len(set(map(tuple, together))) == 3
