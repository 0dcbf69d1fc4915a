"""How a batch is cut: into tiles that fit a core's cache, and each tile into blocks.

Each matrix product takes one block of samples. The gradient of a batch is the sum over its blocks, which are added one
after another, wherever a tile ends and whichever replicates are trained side by side. So the blocks decide the order of
summation and with it the bits; they depend on nothing but the architecture and the size of the batch. Tiles divide the
work and decide no bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.parameters import Floats, Layout, aligned_zeros

SMALL_PRODUCT = 10**6
"""The most multiplications of a small matrix product. OpenBLAS's AVX-512 kernels read the operands of small products
in place; they copy those of larger products first, and reach two thirds of the rate."""

SMALLEST_BLOCK, LARGEST_BLOCK = 48, 128
"""The bounds on the number of samples in a block whose products are small."""

LARGE_BLOCK = 512
"""About how many samples a block has if its products cannot be small."""

INPUT_ROWS = 4
"""The number of rows of a tile's inputs is a multiple of this, since matrix products process four rows at a time."""

TILE_BYTES = 2**21
"""The most memory for a tile's activations and errors, so that they stay in a core's caches: about its second level and
its share of the third. Smaller tiles take more calls of NumPy. The inputs are not counted, and neither is what
activations other than ReLU keep."""


def input_rows(features: int) -> int:
    """Return the number of rows of a tile's inputs: the features, a row of ones, and zeros up to the multiple."""
    return -(-(features + 1) // INPUT_ROWS) * INPUT_ROWS


def augmented(replicates: int, features: int, samples: int, dtype: DTypeLike) -> Floats:
    """Return inputs to write features to: zeros, and ones in the row below the features.

    The shape is (replicates, inputs, samples).
    """
    inputs = aligned_zeros((replicates, input_rows(features), samples), dtype)
    inputs[:, features] = 1
    return inputs


def augment(x: NDArray[np.float64], dtype: DTypeLike) -> Floats:
    """Return samples x of shape (n, features) as columns above a row of ones and rows of zeros: (1, inputs, n)."""
    inputs = augmented(1, x.shape[1], len(x), dtype)
    inputs[0, : x.shape[1]] = x.T
    return inputs


def block_size(layout: Layout, batch_size: int) -> int:
    """Return the number of samples in a block: all of a small batch, otherwise a divisor of its size if one is near."""
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

    A batch is cut into tiles of about the same number of whole blocks. The samples that are left over form a smaller
    block, which is a tile of its own.

    Attributes
    ----------
    block : int
        The number of samples in a whole block.
    tile : int
        The number of samples, for each replicate, in a whole tile. It is a multiple of ``block``.
    """

    block: int
    tile: int

    @classmethod
    def of(cls, layout: Layout, dtype: DTypeLike, replicates: int, batch_size: int) -> "Cut":
        """Return the cut for an architecture, a number of replicates trained side by side, and a batch size."""
        block = block_size(layout, batch_size)
        hidden = layout.layer_sizes[1:-1]
        floats_a_sample = (1 if len(hidden) == 1 else 2) * sum(nodes + 1 for nodes in hidden)
        most = max(1, TILE_BYTES // (floats_a_sample * np.dtype(dtype).itemsize * block * replicates))
        blocks = max(1, batch_size // block)
        tiles = -(-blocks // most)
        return cls(block, -(-blocks // tiles) * block)

    def stop(self, start: int, batch_size: int) -> int:
        """Return the end of the tile that starts at the sample ``start`` of a batch."""
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
        """View the samples of a tile as blocks.

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
