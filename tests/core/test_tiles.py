import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circlemlp.core.initialisation import initialise
from circlemlp.core.network import Network
from circlemlp.core.parameters import Layout
from circlemlp.core.tiles import (
    LARGE_BLOCK,
    LARGEST_BLOCK,
    SMALL_PRODUCT,
    SMALLEST_BLOCK,
    TILE_BYTES,
    Cut,
    augment,
    block_size,
)

SHIPPED = ([64], [128], [64, 32], [128, 64])


def test_blocks_are_those_the_committed_results_were_made_with():
    # Other blocks add up in another order: other bits, so a change is meant or a mistake.
    assert [block_size(Layout.of(hidden), 5000) for hidden in SHIPPED] == [125, 125, 125, 100]
    assert [block_size(Layout.of(hidden), 2000) for hidden in SHIPPED] == [125, 125, 125, 100]
    assert [block_size(Layout.of([64, 32]), size) for size in (1, 32, 128, 200, 512)] == [1, 32, 128, 100, 128]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(1, 100_000))
def test_blocks_keep_within_bounds(hidden, batch_size):
    block = block_size(Layout.of(hidden), batch_size)
    products = [(a + 1) * b for a, b in pairwise(hidden)]
    most = LARGEST_BLOCK if max([1, *products]) * SMALLEST_BLOCK <= SMALL_PRODUCT else LARGE_BLOCK
    assert 1 <= block <= min(most, batch_size)
    if block > LARGEST_BLOCK or batch_size <= block:
        return
    assert block * max([1, *products]) <= SMALL_PRODUCT or most == LARGE_BLOCK


def test_a_divisor_of_the_batch_is_preferred_if_it_is_no_less_than_half():
    layout = Layout.of([8])
    assert block_size(layout, 2 * 101) == 101
    assert block_size(layout, 5 * 65) == 65
    assert block_size(layout, 7 * 61) == LARGEST_BLOCK  # 61 is less than half of it
    assert block_size(Layout.of([256, 256]), 5000) == 500
    assert block_size(Layout.of([78, 100]), 10**6 + 3) == 126  # 126 * 79 * 100 is less than a million, 127 times is not


@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 5000))
def test_tiles_are_whole_blocks_and_one_for_the_rest(block, blocks, batch_size):
    cut = Cut(block, block * blocks)
    tiles = list(cut.tiles(batch_size))
    assert [start for start, _ in tiles] == [0, *(stop for _, stop in tiles[:-1])]
    assert tiles[-1][1] == batch_size
    sizes = [stop - start for start, stop in tiles]
    assert max(sizes) <= cut.tile
    rest = batch_size % block
    assert [size % block for size in sizes] == [0] * (len(sizes) - bool(rest)) + [rest] * bool(rest)
    if rest:
        assert sizes[-1] == rest


def test_a_view_by_blocks_is_the_memory_of_the_tile():
    cut = Cut(block=4, tile=12)
    tile = np.arange(2 * 3 * 12).reshape(2, 3, 12)
    blocked = cut.blocked(tile)
    assert blocked.shape == (2, 3, 3, 4)
    assert np.shares_memory(blocked, tile)
    for block in range(3):
        np.testing.assert_array_equal(blocked[:, block], tile[:, :, 4 * block : 4 * block + 4])
    assert cut.blocked(tile[..., :3]).shape == (2, 1, 3, 3)
    assert cut.blocked(tile[:, 0]).shape == (2, 3, 4)


@pytest.mark.parametrize("replicates", [1, 3, 1000])
@pytest.mark.parametrize("hidden", SHIPPED)
def test_tiles_of_a_batch_are_about_equal_and_fit_the_cache(hidden, replicates):
    layout = Layout.of(hidden)
    cut = Cut.of(layout, "float32", replicates, 5000)
    floats = sum(n + 1 for n in hidden) * (1 if len(hidden) == 1 else 2)
    assert 4 * floats * replicates * cut.tile <= TILE_BYTES or cut.tile == cut.block
    sizes = [stop - start for start, stop in cut.tiles(5000)]
    assert max(sizes) - min(sizes) < cut.block * len(sizes)


def test_tiles_are_as_wide_as_was_measured_to_be_fast():
    assert [Cut.of(Layout.of(hidden), "float32", 1, 5000).tile for hidden in SHIPPED] == [5000, 2500, 2500, 1300]
    assert [Cut.of(Layout.of(hidden), "float64", 1, 5000).tile for hidden in SHIPPED] == [2500, 1750, 1250, 600]
    assert Cut.of(Layout.of([64, 32]), "float32", 10, 32).tile == 32
    # Of 1-node layers, 2 numbers a sample and layer: 2 MiB are 2048 blocks of 128 samples of 8 bytes.
    assert Cut.of(Layout.of([1]), "float32", 1, 3 * 2048 * 128).tile == 2048 * 128
    assert Cut.of(Layout.of([1, 1]), "float32", 1, 3 * 2048 * 128).tile == 512 * 128


@pytest.mark.parametrize("hidden", [[128, 64], [128, 128, 128], [64]])
def test_a_tile_takes_the_memory_it_is_cut_for(hidden):
    layout = Layout.of(hidden)
    parameters = initialise(layout, seed=0, replicates=[0], dtype="float32")
    cut = Cut.of(layout, "float32", 1, 10**6)
    inputs = cut.blocked(augment(np.ones((cut.tile, 2)), "float32"))
    logits = np.empty((1, *inputs.shape[1::2]), "float32")
    tracemalloc.start()
    try:
        network = Network(layout, parameters)
        network.forward(inputs, logits)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Besides, the inputs, the weights transposed, the gradients of its blocks, and constants.
    allowed = 1.15 * TILE_BYTES + (3 + inputs.shape[1]) * parameters.nbytes + 400_000
    print(f"{hidden}: {taken / allowed:.2f}")
    assert 0.5 * TILE_BYTES < taken < allowed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("features", [1, 2, 3, 4, 7, 8])
def test_inputs_are_features_ones_and_zeros_up_to_a_multiple_of_four(features, dtype):
    x = np.random.default_rng(0).standard_normal((5, features)).astype(dtype)
    inputs = augment(x, dtype)
    assert inputs.dtype == dtype
    assert inputs.shape[0] == 1
    assert inputs.shape[1] % 4 == 0
    assert features < inputs.shape[1] <= features + 4
    np.testing.assert_array_equal(inputs[0, :features], x.T)
    assert (inputs[0, features] == 1).all()
    assert not inputs[0, features + 1 :].any()
