"""Training: replicates of one architecture on one data set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.adam import Adam, AdamOptions
from circlemlp.core.data import Dataset
from circlemlp.core.initialisation import initialise
from circlemlp.core.loss import signs_of_labels
from circlemlp.core.network import Network, augment, columns_per_tile
from circlemlp.core.parameters import Floats, Layout
from circlemlp.core.streams import stream


@dataclass(frozen=True)
class History:
    """Curves of every replicate. Row t of an axis of length epochs + 1 is after t epochs; row 0, before any.

    Attributes
    ----------
    training_loss : ndarray of shape (replicates, epochs + 1), float64
        Mean loss. Full batch: of the parameters after t epochs. Mini-batches: of epoch t's batches, each
        before its own step; row 0 is of the initial parameters.
    validation_loss, validation_accuracy : ndarray of shape (replicates, epochs + 1), float64
        Of the parameters after t epochs.
    diverged_at : ndarray of shape (replicates,), int64
        The epoch whose loss was the first not to be finite, or -1. From that row on, the curves are NaN.
    """

    training_loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    diverged_at: NDArray[np.int64]

    def final(self) -> dict[str, list[float | None]]:
        """Return each curve's last values, one a replicate; None for a replicate that diverged."""
        curves = {name: curve[:, -1] for name, curve in vars(self).items() if name != "diverged_at"}
        return {name: [float(value) if np.isfinite(value) else None for value in last] for name, last in curves.items()}


class _Split:
    """One split of the data as the network takes it: augmented columns and signs, tile by tile."""

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.uint8], columns: int, dtype: DTypeLike) -> None:
        self.n = len(x)
        self.x = augment(x, dtype)
        self.signs = signs_of_labels(y, dtype)
        self.tiles = [
            (self.x[:, start : start + columns], self.signs[start : start + columns])
            for start in range(0, self.n, columns)
        ]


class _Shuffler:
    """Mini-batches in an order of each replicate's own, gathered into preallocated tiles.

    The order of an epoch depends on the seed and the replicate number alone, so cells that share them see
    the same batches.
    """

    def __init__(self, split: _Split, replicates: range, batch_size: int, columns: int, seed: int) -> None:
        self._split = split
        self._batch_size = min(batch_size, split.n)
        self._columns = min(columns, self._batch_size)
        self._rngs = [stream(seed, "shuffling", replicate) for replicate in replicates]
        self._order = np.tile(np.arange(split.n, dtype=np.intp), (len(replicates), 1))
        self._tiles: dict[int, tuple[Floats, Floats]] = {}

    def epoch(self) -> Iterator[tuple[int, Iterator[tuple[Floats, Floats]]]]:
        """Yield each batch as its number of samples and its tiles."""
        for rng, order in zip(self._rngs, self._order, strict=True):
            rng.shuffle(order)
        for start in range(0, self._split.n, self._batch_size):
            stop = min(start + self._batch_size, self._split.n)
            yield stop - start, self._gather(start, stop)

    def _gather(self, start: int, stop: int) -> Iterator[tuple[Floats, Floats]]:
        for first in range(start, stop, self._columns):
            last = min(first + self._columns, stop)
            x, signs = self._tile(last - first)
            for replicate, order in enumerate(self._order):
                np.take(self._split.x, order[first:last], axis=1, out=x[replicate], mode="clip")
                np.take(self._split.signs, order[first:last], out=signs[replicate], mode="clip")
            yield x, signs

    def _tile(self, columns: int) -> tuple[Floats, Floats]:
        if columns not in self._tiles:
            shape, dtype = (len(self._order), len(self._split.x), columns), self._split.x.dtype
            self._tiles[columns] = np.empty(shape, dtype), np.empty((shape[0], columns), dtype)
        return self._tiles[columns]


class Trainer:
    """Some replicates of one architecture, trained epoch by epoch.

    No array is allocated from the second epoch on.

    Parameters
    ----------
    dataset : Dataset
    hidden_layer_sizes : sequence of int
    adam : AdamOptions
    batch_size : int or None
        None: the full batch, in the order of the data. Otherwise mini-batches, shuffled every epoch; the
        last one of an epoch takes what is left.
    dtype : dtype
        float32 or float64, of parameters and arithmetic. Losses are summed in float64.
    replicates : range
        The replicate numbers.
    seed : int
        Of the streams for initialisation and shuffling.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        hidden_layer_sizes: Sequence[int],
        adam: AdamOptions,
        batch_size: int | None,
        dtype: DTypeLike,
        replicates: range,
        seed: int,
    ) -> None:
        layout = Layout.of(hidden_layer_sizes, dataset.x_train.shape[1])
        columns = columns_per_tile(layout, dtype)
        self.parameters = initialise(layout, seed=seed, replicates=replicates, dtype=dtype)
        self._network = Network(layout, self.parameters)
        self._adam = Adam(adam, self.parameters)
        self._train = _Split(dataset.x_train, dataset.y_train, columns, dtype)
        self._validation = _Split(dataset.x_validation, dataset.y_validation, columns, dtype)
        self._shuffler = None
        if batch_size is not None:
            self._shuffler = _Shuffler(self._train, replicates, batch_size, columns, seed)
        self._loss = np.zeros(len(replicates), np.float64)
        self._correct = np.zeros(len(replicates), np.float64)

    def _batches(self) -> Iterator[tuple[int, Iterator[tuple[Floats, Floats]]]]:
        if self._shuffler is None:
            return iter([(self._train.n, iter(self._train.tiles))])
        return self._shuffler.epoch()

    def epoch(self) -> NDArray[np.float64]:
        """Pass once over the training data, with one Adam step a batch.

        Returns
        -------
        ndarray of shape (replicates,)
            The mean loss over the samples, each under the parameters before its batch's step. Valid until
            the next call of any method.
        """
        self._loss.fill(0)
        for batch_size, tiles in self._batches():
            self._network.gradient.fill(0)
            for x, signs in tiles:
                loss = self._network.forward(x, signs)
                loss.add_losses(self._loss)
                self._network.backward(x, 1 / batch_size)
            self._adam.step(self._network.gradient)
        return np.divide(self._loss, self._train.n, out=self._loss)

    def training_loss(self) -> NDArray[np.float64]:
        """Return the mean training loss of the present parameters; shape (replicates,)."""
        self._loss.fill(0)
        for x, signs in self._train.tiles:
            self._network.forward(x, signs).add_losses(self._loss)
        return np.divide(self._loss, self._train.n, out=self._loss)

    def validate(self, loss: NDArray[np.float64], accuracy: NDArray[np.float64]) -> None:
        """Write mean validation loss and accuracy to arrays of shape (replicates,)."""
        self._loss.fill(0)
        self._correct.fill(0)
        for x, signs in self._validation.tiles:
            evaluated = self._network.forward(x, signs)
            evaluated.add_losses(self._loss)
            evaluated.add_correct(self._correct)
        np.divide(self._loss, self._validation.n, out=loss)
        np.divide(self._correct, self._validation.n, out=accuracy)


def replicates_together(layout: Layout, batch_size: int | None, dtype: DTypeLike) -> int:
    """Return how many replicates to train side by side: as many as fill a tile with their batches.

    Small batches gain from company; a full batch fills the cache alone. No replicate's numbers depend on
    its company.
    """
    return 1 if batch_size is None else max(1, columns_per_tile(layout, dtype) // batch_size)


def train(
    dataset: Dataset,
    *,
    hidden_layer_sizes: Sequence[int],
    adam: AdamOptions,
    epochs: int,
    batch_size: int | None,
    dtype: DTypeLike,
    replicates: int,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> tuple[Floats, History]:
    """Train independent replicates and record their curves.

    Parameters
    ----------
    epochs, replicates : int
        Each at least 1.
    on_epoch : callable
        Called with the number of epochs done so far, summed over replicates.
    dataset, hidden_layer_sizes, adam, batch_size, dtype, seed
        See ``Trainer``.

    Returns
    -------
    parameters : ndarray of shape (replicates, n_parameters)
        After the last epoch. A diverged replicate's may be non-finite.
    history : History
    """
    layout = Layout.of(hidden_layer_sizes, dataset.x_train.shape[1])
    parameters = np.empty((replicates, layout.n_parameters), dtype)
    training_loss, validation_loss, accuracy = (np.empty((replicates, epochs + 1)) for _ in range(3))
    together = replicates_together(layout, batch_size, dtype)
    for first in range(0, replicates, together):
        group = range(first, min(first + together, replicates))
        rows = slice(group.start, group.stop)
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is a result, found below
            trainer = Trainer(
                dataset,
                hidden_layer_sizes=hidden_layer_sizes,
                adam=adam,
                batch_size=batch_size,
                dtype=dtype,
                replicates=group,
                seed=seed,
            )
            trainer.validate(validation_loss[rows, 0], accuracy[rows, 0])
            if batch_size is not None:
                training_loss[rows, 0] = trainer.training_loss()
            for epoch in range(1, epochs + 1):
                # A full batch's loss is that of the parameters before the step, so after epoch - 1 epochs.
                training_loss[rows, epoch - (batch_size is None)] = trainer.epoch()
                trainer.validate(validation_loss[rows, epoch], accuracy[rows, epoch])
                on_epoch(first * epochs + epoch * len(group))
            if batch_size is None:
                training_loss[rows, epochs] = trainer.training_loss()
        parameters[rows] = trainer.parameters
    diverged_at = _mask_divergence(training_loss, validation_loss, accuracy)
    return parameters, History(training_loss, validation_loss, accuracy, diverged_at)


def _mask_divergence(*curves: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find each replicate's first non-finite row, and set all curves to NaN from there on."""
    finite = np.logical_and.reduce([np.isfinite(curve) for curve in curves])
    diverged = ~finite.all(axis=1)
    diverged_at = np.where(diverged, np.argmin(finite, axis=1), -1).astype(np.int64)
    for row in np.flatnonzero(diverged):
        for curve in curves:
            curve[row, diverged_at[row] :] = np.nan
    return diverged_at
