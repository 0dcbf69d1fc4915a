"""How a batch is cut: into tiles that fit a core's cache, and these into blocks.

A block is what a matrix product takes at a time. The gradient of a batch is the sum over its blocks, one after
another, wherever a tile ends and whichever replicates share it. So the blocks decide the order of summation and with
it the bits; they depend on the architecture and the size of the batch alone. Tiles divide the work and decide nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.parameters import Floats, Layout, aligned_zeros

SMALL_PRODUCT = 10**6
"""OpenBLAS's AVX-512 kernels form a product of up to so many multiplications from the operands where they lie; larger
ones from copies, at two thirds of the rate."""

SMALLEST_BLOCK, LARGEST_BLOCK = 48, 128
"""How many samples a block may have where its products are small."""

LARGE_BLOCK = 512
"""How many it has about, where they cannot be."""

INPUT_ROWS = 4
"""The inputs of a tile have a multiple of so many rows, since matrix products take their rows by fours."""

TILE_BYTES = 13 * 2**16
"""What a tile's activations and errors may take, to stay in the second-level cache. Inputs and what an activation other
than ReLU keeps come on top."""


def input_rows(features: int) -> int:
    """Return how many rows the inputs of a tile have: the features, ones, and zeros up to a multiple."""
    return -(-(features + 1) // INPUT_ROWS) * INPUT_ROWS


def augmented(replicates: int, features: int, samples: int, dtype: DTypeLike) -> Floats:
    """Return inputs to be: zeros but for a row of ones below the features, (replicates, inputs, samples)."""
    inputs = aligned_zeros((replicates, input_rows(features), samples), dtype)
    inputs[:, features] = 1
    return inputs


def augment(x: NDArray[np.float64], dtype: DTypeLike) -> Floats:
    """Return samples x of shape (n, features) as columns over a row of ones and rows of zeros: (1, inputs, n)."""
    inputs = augmented(1, x.shape[1], len(x), dtype)
    inputs[0, : x.shape[1]] = x.T
    return inputs


def block_size(layout: Layout, batch_size: int) -> int:
    """Return how many samples a block has: all of a small batch, else a divisor of the batch if one is near."""
    products = [(fan_in + 1) * fan_out for fan_in, fan_out in pairwise(layout.layer_sizes[1:-1])]
    most = min(LARGEST_BLOCK, SMALL_PRODUCT // max(products, default=1))
    if most < SMALLEST_BLOCK:
        most = LARGE_BLOCK
    if batch_size <= most:
        return max(1, batch_size)
    return next((size for size in range(most, most // 2, -1) if batch_size % size == 0), most)


@dataclass(frozen=True)
class Cut:
    """How batches of some size are cut.

    A batch is whole blocks, in tiles of about the same number of them, and what is left, a smaller block, in a tile of
    its own.

    Attributes
    ----------
    block : int
        The samples of a block.
    tile : int
        The samples of a whole tile of one replicate: a multiple of ``block``.
    """

    block: int
    tile: int

    @classmethod
    def of(cls, layout: Layout, dtype: DTypeLike, replicates: int, batch_size: int) -> "Cut":
        """Return the cut for an architecture, so many replicates side by side, and a batch size."""
        block = block_size(layout, batch_size)
        hidden = layout.layer_sizes[1:-1]
        floats_a_sample = (1 if len(hidden) == 1 else 2) * sum(nodes + 1 for nodes in hidden)
        most = max(1, TILE_BYTES // (floats_a_sample * np.dtype(dtype).itemsize * block * replicates))
        blocks = max(1, batch_size // block)
        tiles = -(-blocks // most)
        return cls(block, -(-blocks // tiles) * block)

    def stop(self, start: int, batch_size: int) -> int:
        """Return where the tile ends that starts at some sample of a batch."""
        whole_blocks = batch_size // self.block * self.block
        return min(start + self.tile, whole_blocks) if start < whole_blocks else batch_size

    def tiles(self, batch_size: int) -> Iterator[tuple[int, int]]:
        """Yield where each tile of a batch starts and ends."""
        start = 0
        while start < batch_size:
            stop = self.stop(start, batch_size)
            yield start, stop
            start = stop

    def blocked(self, tile: Floats) -> Floats:
        """View a tile's samples block by block.

        Parameters
        ----------
        tile : ndarray of shape (replicates, samples) or (replicates, rows, samples)

        Returns
        -------
        ndarray of shape (replicates, blocks, block) or (replicates, blocks, rows, block)
        """
        *leading, samples = tile.shape
        block = self.block if samples % self.block == 0 else samples
        view = tile.reshape(*leading, samples // block, block)
        return view if len(leading) == 1 else view.swapaxes(1, 2)
