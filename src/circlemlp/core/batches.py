"""How data reach the network: window by window, batch by batch, tile by tile.

A window holds some thousand samples, copied from the data into the type and shape that the network takes. Batches and
tiles are views of it. So the data may be in a file that is larger than memory, one call gathers shuffled samples, and
one call computes losses. If all samples fit in one window, and are not shuffled, it is filled only once.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.parameters import Floats
from circlemlp.core.tiles import Cut, augmented

WINDOW, SHUFFLED_WINDOW = 16_384, 2048
"""The most samples in a window, unless a single block has more. Windows this large make the work per window negligible
beside the training. Windows of shuffled samples are smaller: every replicate has its own, and they have to fit in the
second-level cache. The sizes do not depend on the number of replicates, so that losses are always added up in the same
order."""


class Samples(NamedTuple):
    """The samples of a tile, block by block.

    Attributes
    ----------
    x : ndarray of shape (1 or replicates, blocks, inputs, samples)
        Inputs as ``tiles.augment`` makes them. The replicates share them, or each has its own.
    signs : ndarray of shape (1 or replicates, blocks, samples)
        The labels as 2y - 1.
    logits : ndarray of shape (replicates, blocks, samples)
        The network writes the logits here.
    """

    x: Floats
    signs: Floats
    logits: Floats


class Tile(NamedTuple):
    """The samples of a batch that pass through the network together.

    Attributes
    ----------
    samples : Samples
    batch_size : int
        The number of samples in the batch.
    starts_batch, ends_batch : bool
        Whether this is the first, and whether it is the last tile of the batch.
    """

    samples: Samples
    batch_size: int
    starts_batch: bool
    ends_batch: bool


class Window(NamedTuple):
    """Some thousand samples, and the tiles they are cut into.

    Attributes
    ----------
    signs : ndarray of shape (1 or replicates, samples)
        The labels of all tiles as 2y - 1.
    logits : ndarray of shape (replicates, samples)
        The logits of all tiles, once they have passed through the network.
    tiles : iterator of Tile
    """

    signs: Floats
    logits: Floats
    tiles: Iterator[Tile]


class Batches:
    """One split of the data, in order or shuffled.

    Parameters
    ----------
    x : ndarray of shape (1 or replicates, n, features)
        The samples, in C order. The replicates share them, or each has its own.
    y : ndarray of shape (1 or replicates, n)
        Labels, 0 or 1.
    replicates : int
    cut : Cut
        How batches are cut into tiles.
    dtype : dtype
        The type of the network, float32 or float64.
    batch_size : int or None
        None: all samples are one batch. The last batch of an epoch takes the samples that are left.
    shuffle : sequence of numpy.random.Generator
        One generator for each replicate. Every epoch, the replicate then takes the samples in a new order, which is a
        function of the generator's state alone. Empty: all replicates take the samples in order.

    Attributes
    ----------
    n : int
        The number of samples of each replicate.
    window : int
        The most samples in a window. They are whole batches, or whole blocks if a batch is larger than a window.
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
        self.n, features = int(x.shape[1]), x.shape[2]
        of_each = replicates if shuffle else len(x)
        # One draw that is taken in many orders is not copied: its replicates are views of it.
        self._x, self._y = np.broadcast_to(x, (of_each, self.n, features)), np.broadcast_to(y, (of_each, self.n))
        self._cut, self._rngs = cut, shuffle
        self._batch_size = min(batch_size or self.n, self.n)
        most = max(SHUFFLED_WINDOW if shuffle else WINDOW, cut.block)
        unit = self._batch_size if self._batch_size <= most else cut.block
        self.window = min(most // unit * unit, self.n)
        self._window_x = augmented(of_each, features, self.window, dtype)
        self._window_signs = np.ones((of_each, self.window), dtype)
        self._window_logits = np.zeros((replicates, self.window), dtype)
        self._points = np.empty((self.window, features), x.dtype)
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
        """Yield every sample once. The next window overwrites the one before."""
        for rng, order in zip(self._rngs, self._orders, strict=True):
            order.fill(1)
            order[0] = 0
            np.cumsum(order, dtype=order.dtype, out=order)  # 0, 1, 2, ... in place
            rng.shuffle(order)
        for start, stop in self._windows():
            self._fill(start, stop)
            size = stop - start
            yield Window(self._window_signs[:, :size], self._window_logits[:, :size], self._tiles(start, stop))

    def _windows(self) -> Iterator[tuple[int, int]]:
        """Yield the start and the end of each window: between batches, or between the blocks of a large batch."""
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
        """Return a part of the window as blocks. The views are kept, since most windows are cut at the same places."""
        if (left, right) not in self._samples:
            arrays = self._window_x, self._window_signs, self._window_logits
            self._samples[left, right] = Samples(*(self._cut.blocked(array[..., left:right]) for array in arrays))
        return self._samples[left, right]

    def _fill(self, start: int, stop: int) -> None:
        if self._orders:
            for order, data, answers, x, signs in zip(
                self._orders, self._x, self._y, self._window_x, self._window_signs, strict=True
            ):
                size = stop - start
                chosen = self._chosen[:size]
                np.copyto(chosen, order[start:stop])
                points = self._points[:size]
                # Every index is in range. The mode "clip" is for speed: with it NumPy needs no buffer.
                np.take(_as_items(data), chosen, out=_as_items(points), mode="clip")
                labels = np.take(answers, chosen, out=self._labels[:size], mode="clip")
                self._write(points, labels, x, signs)
        elif self._filled != start:
            for data, answers, x, signs in zip(self._x, self._y, self._window_x, self._window_signs, strict=True):
                self._write(data[start:stop], answers[start:stop], x, signs)
            self._filled = start

    @staticmethod
    def _write(points: NDArray[np.float64], labels: NDArray[np.uint8], x: Floats, signs: Floats) -> None:
        """Copy samples to the first columns of a window, and their labels as 2y - 1."""
        size = len(points)
        np.copyto(x[: points.shape[1], :size], points.T)
        np.copyto(signs[:size], labels)
        np.multiply(signs[:size], 2, out=signs[:size])
        np.subtract(signs[:size], 1, out=signs[:size])


def _as_items(x: NDArray[Any]) -> NDArray[np.void]:
    """View samples of shape (n, features) as n items of bytes.

    Arrays in a mapped file may not be aligned, and NumPy copies such an array before it takes elements from it. Bytes
    need no alignment.
    """
    item = np.dtype((np.void, x.shape[1] * x.itemsize))
    return x.view(item)[:, 0]
