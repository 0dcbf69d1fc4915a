"""How data reach the network: window by window, batch by batch, tile by tile.

A window is some thousand samples, copied out of the data into the type and shape the network takes; batches
and tiles are views of it. So the data may lie in a file that is larger than memory, shuffled samples are
gathered in one go, and losses are evaluated in one go. If all samples fit one window, it is filled once.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.parameters import Floats
from circlemlp.core.tiles import Cut, augmented

WINDOW, SHUFFLED_WINDOW = 16_384, 2048
"""The most samples in a window, or else a block's: large enough that what is done once a window costs next to nothing
beside the training. Shuffled samples, of which every replicate has its own, are to stay in the second-level cache.
Whatever the company, so that losses are added up in the same order."""


class Samples(NamedTuple):
    """The samples of a tile, block by block.

    Attributes
    ----------
    x : ndarray of shape (1 or replicates, blocks, inputs, samples)
        Inputs as ``tiles.augment`` makes them: the same for all replicates, or each its own.
    signs : ndarray of shape (1 or replicates, blocks, samples)
        The labels as 2y - 1.
    logits : ndarray of shape (replicates, blocks, samples)
        For the network to write to.
    """

    x: Floats
    signs: Floats
    logits: Floats


class Tile(NamedTuple):
    """Some samples of a batch for one pass through the network.

    Attributes
    ----------
    samples : Samples
    batch_size : int
        How many samples the batch has.
    starts_batch, ends_batch : bool
        Whether it is the first, the last tile of the batch.
    """

    samples: Samples
    batch_size: int
    starts_batch: bool
    ends_batch: bool


class Window(NamedTuple):
    """Some samples, and the tiles they are cut into; signs and logits are those of all tiles.

    Attributes
    ----------
    signs : ndarray of shape (1 or replicates, samples)
    logits : ndarray of shape (replicates, samples)
    tiles : iterator of Tile
    """

    signs: Floats
    logits: Floats
    tiles: Iterator[Tile]


class Batches:
    """One split of the data, in order, or shuffled for each replicate.

    Parameters
    ----------
    x : ndarray of shape (n, features)
        In C order.
    y : ndarray of shape (n,)
        Labels, 0 or 1.
    replicates : int
    cut : Cut
        How batches are cut into tiles.
    dtype : dtype
        float32 or float64.
    batch_size : int or None
        None: all samples are one batch. The last batch of an epoch takes what is left.
    shuffle : sequence of numpy.random.Generator
        One for each replicate, which then has an order of its own every epoch, a function of the generator's
        state alone; empty: all replicates take the samples in order.

    Attributes
    ----------
    n : int
        The number of samples.
    window : int
        The most samples in a window: whole batches, unless one is larger; then whole blocks.
    """

    def __init__(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.uint8],
        *,
        replicates: int,
        cut: Cut,
        dtype: DTypeLike,
        batch_size: int | None = None,
        shuffle: Sequence[np.random.Generator] = (),
    ) -> None:
        self.n = len(x)
        self._x, self._y, self._cut, self._rngs = x, y, cut, shuffle
        self._batch_size = min(batch_size or self.n, self.n)
        most = max(SHUFFLED_WINDOW if shuffle else WINDOW, cut.block)
        unit = self._batch_size if self._batch_size <= most else cut.block
        self.window = min(most // unit * unit, self.n)
        of_each = replicates if shuffle else 1
        self._window_x = augmented(of_each, x.shape[1], self.window, dtype)
        self._window_signs = np.ones((of_each, self.window), dtype)
        self._window_logits = np.zeros((replicates, self.window), dtype)
        self._points = np.empty((self.window, x.shape[1]), x.dtype)
        self._labels = np.empty(self.window, y.dtype)
        self._orders = [np.empty(self.n, np.uint32) for _ in shuffle]
        self._chosen = np.empty(self.window if shuffle else 0, np.intp)
        self._filled: int | None = None
        self._samples: dict[tuple[int, int], Samples] = {}

    @property
    def n_batches(self) -> int:
        """The number of batches in an epoch."""
        return -(-self.n // self._batch_size)

    def epoch(self) -> Iterator[Window]:
        """Yield every sample once. A window is good until the next is asked for."""
        for rng, order in zip(self._rngs, self._orders, strict=True):
            order.fill(1)
            order[0] = 0
            np.cumsum(order, dtype=order.dtype, out=order)  # 0, 1, 2, ... where it stands
            rng.shuffle(order)
        for start, stop in self._windows():
            self._fill(start, stop)
            size = stop - start
            yield Window(self._window_signs[:, :size], self._window_logits[:, :size], self._tiles(start, stop))

    def _windows(self) -> Iterator[tuple[int, int]]:
        """Yield where each window starts and ends: at whole batches, or inside a large one at whole blocks."""
        span = self.n if self._batch_size <= self.window else self._batch_size
        for first in range(0, self.n, span):
            end = min(first + span, self.n)
            for start in range(first, end, self.window):
                yield start, min(start + self.window, end)

    def _tiles(self, start: int, stop: int) -> Iterator[Tile]:
        left = start
        while left < stop:
            batch = left // self._batch_size * self._batch_size
            batch_size = min(self._batch_size, self.n - batch)
            right = min(batch + self._cut.stop(left - batch, batch_size), stop)
            ends_batch = right == batch + batch_size
            yield Tile(self._views(left - start, right - start), batch_size, left == batch, ends_batch)
            left = right

    def _views(self, left: int, right: int) -> Samples:
        """Return a part of the window, block by block; windows are cut alike, so most parts are met again."""
        if (left, right) not in self._samples:
            arrays = self._window_x, self._window_signs, self._window_logits
            self._samples[left, right] = Samples(*(self._cut.blocked(array[..., left:right]) for array in arrays))
        return self._samples[left, right]

    def _fill(self, start: int, stop: int) -> None:
        if self._orders:
            for order, x, signs in zip(self._orders, self._window_x, self._window_signs, strict=True):
                size = stop - start
                chosen = self._chosen[:size]
                np.copyto(chosen, order[start:stop])
                points = self._points[:size]
                # Every index is in range; "clip" only spares NumPy a buffer.
                np.take(_as_items(self._x), chosen, out=_as_items(points), mode="clip")
                labels = np.take(self._y, chosen, out=self._labels[:size], mode="clip")
                self._write(points, labels, x, signs)
        elif self._filled != start:
            self._write(self._x[start:stop], self._y[start:stop], self._window_x[0], self._window_signs[0])
            self._filled = start

    @staticmethod
    def _write(points: NDArray[np.float64], labels: NDArray[np.uint8], x: Floats, signs: Floats) -> None:
        """Copy samples to the first columns of a window, labels as 2y - 1."""
        size = len(points)
        np.copyto(x[: points.shape[1], :size], points.T)
        np.copyto(signs[:size], labels)
        np.multiply(signs[:size], 2, out=signs[:size])
        np.subtract(signs[:size], 1, out=signs[:size])


def _as_items(x: NDArray[Any]) -> NDArray[np.void]:
    """View samples of shape (n, features) as n items: bytes, which need no alignment.

    NumPy copies arrays that are not aligned before it takes anything from them, as those in a mapped file may not be.
    """
    item = np.dtype((np.void, x.shape[1] * x.itemsize))
    return x.view(item)[:, 0]
