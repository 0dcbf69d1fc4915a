"""Training of the replicates of one architecture, each on its own draw of the data or all on one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circlemlp.core.batches import Batches
from circlemlp.core.data import Dataset
from circlemlp.core.initialisation import initialise
from circlemlp.core.loss import LossSum, top_error
from circlemlp.core.network import Network, arithmetic
from circlemlp.core.optimizers import State
from circlemlp.core.parameters import Floats, Layout
from circlemlp.core.recipe import Recipe
from circlemlp.core.streams import stream
from circlemlp.core.tiles import Cut


@dataclass(frozen=True)
class History:
    """The curves of every replicate. Entry t of a curve is its value after t epochs, and entry 0 that before training.

    Attributes
    ----------
    training_loss : ndarray of shape (replicates, epochs + 1), float64
        The mean training loss. With the full batch, it is the loss of the parameters after t epochs. With mini-batches,
        it is the mean over the batches of epoch t, each with the parameters before its own step; entry 0 is the loss of
        the initial parameters.
    validation_loss, validation_accuracy : ndarray of shape (replicates, epochs + 1), float64
        The mean validation loss and the accuracy of the parameters after t epochs.
    diverged_at : ndarray of shape (replicates,), int64
        The first epoch with a loss that is not finite, or -1. From that entry on, the curves are NaN.
    stopped_at : ndarray of shape (replicates,), int64
        The epoch after which early stopping ended the training, or -1. From that entry on, the curves keep the values
        of the epoch whose parameters were restored. A replicate that diverges up to that epoch has not stopped.
    """

    training_loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    diverged_at: NDArray[np.int64]
    stopped_at: NDArray[np.int64]

    @classmethod
    def empty(cls, replicates: int, epochs: int) -> "History":
        """Return curves of NaN, with no replicate diverged or stopped."""
        curves = (np.full((replicates, epochs + 1), np.nan) for _ in range(3))
        return cls(*curves, *(np.full(replicates, -1, np.int64) for _ in range(2)))

    @property
    def curves(self) -> tuple[NDArray[np.float64], ...]:
        """Return the three curves."""
        return self.training_loss, self.validation_loss, self.validation_accuracy

    def rows(self, rows: slice) -> "History":
        """Return the history of some replicates, as views."""
        return History(**{name: array[rows] for name, array in vars(self).items()})

    def mask_divergence(self) -> None:
        """Find the first entry of each replicate that is not finite, and set its curves to NaN from there on."""
        finite = np.logical_and.reduce([np.isfinite(curve) for curve in self.curves])
        for row in np.flatnonzero(~finite.all(axis=1)):
            self.diverged_at[row] = np.argmin(finite[row])
            for curve in self.curves:
                curve[row, self.diverged_at[row] :] = np.nan

    def final(self) -> dict[str, list[float | None]]:
        """Return the last value of each curve for every replicate, or None for a replicate that diverged."""
        curves = {name: curve[:, -1] for name, curve in vars(self).items() if curve.ndim == 2}
        return {name: [float(value) if np.isfinite(value) else None for value in last] for name, last in curves.items()}


def pass_over(batches: Batches, network: Network, step: Callable[[], None], losses: LossSum) -> NDArray[np.float64]:
    """Pass once over the samples, and take one step of the optimizer for every batch.

    Parameters
    ----------
    batches : Batches
    network : Network
    step : callable
        It updates the network's parameters by its gradient.
    losses : LossSum

    Returns
    -------
    ndarray of shape (replicates,)
        The mean loss over the samples, each with the parameters before the step of its batch. The array is
        ``losses.loss``.
    """
    losses.start()
    with arithmetic():
        for window in batches.epoch():
            for (x, signs, logits), batch_size, starts_batch, ends_batch in window.tiles:
                network.forward(x, logits)
                top_error(logits, signs, batch_size, out=network.top_error(x))
                network.backward(x, starts_batch=starts_batch, ends_batch=ends_batch)
                if ends_batch:
                    step()
            losses.add_losses(window.logits, window.signs)
    return np.divide(losses.loss, batches.n, out=losses.loss)


class Trainer:
    """Trains some replicates side by side, epoch by epoch.

    From the second epoch on, it allocates no array.

    Parameters
    ----------
    dataset : Dataset
    recipe : Recipe
    replicates : range
        The numbers of the replicates, some of the recipe's.

    Attributes
    ----------
    parameters : ndarray of shape (replicates, n_parameters)
        The present parameters, which ``epoch`` updates in place. To continue from other parameters, overwrite them.
    state : State
        The state of the optimizer. It may be replaced as well.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, replicates: range) -> None:
        layout = Layout.of(recipe.hidden_layer_sizes, dataset.x_train.shape[2])
        first = recipe.first_replicate
        dataset = dataset.of_replicates(range(replicates.start - first, replicates.stop - first))
        self.parameters = initialise(
            layout,
            seed=recipe.seed,
            replicates=replicates,
            dtype=recipe.dtype,
            initialisation=recipe.initialisation,
        )
        self._recipe = recipe
        self._network = Network(layout, self.parameters, recipe.activation)
        self.state = State.of(self.parameters)

        def batches(x: NDArray[np.float64], y: NDArray[np.uint8], **options: Any) -> Batches:
            n = x.shape[1]
            cut = Cut.of(layout, recipe.dtype, len(replicates), min(options.get("batch_size") or n, n))
            return Batches(x, y, replicates=len(replicates), cut=cut, dtype=recipe.dtype, **options)

        rngs = [stream(recipe.seed, "shuffling", replicate) for replicate in replicates] if recipe.batch_size else []
        self._train = batches(dataset.x_train, dataset.y_train, batch_size=recipe.batch_size, shuffle=rngs)
        self._in_order = batches(dataset.x_train, dataset.y_train) if recipe.batch_size else self._train
        self._validation = batches(dataset.x_validation, dataset.y_validation)
        self._steps = recipe.epochs * self._train.n_batches
        most = max(batches.window for batches in (self._train, self._in_order, self._validation))
        self._sum = LossSum(len(replicates), most, recipe.dtype)

    def epoch(self) -> NDArray[np.float64]:
        """Pass once over the training data, and take one step of the optimizer for every batch.

        Returns
        -------
        ndarray of shape (replicates,)
            The mean loss over the samples, each with the parameters before the step of its batch. The next call of any
            method overwrites the array.
        """
        return pass_over(self._train, self._network, self._step, self._sum)

    def _step(self) -> None:
        factor = self._recipe.schedule.factor(self.state.steps + 1, self._steps)
        self._recipe.optimizer.step(self.state, self._network.gradient, self.parameters, factor)

    def _evaluate(self, batches: Batches) -> None:
        """Add up the losses and the right answers of the present parameters."""
        self._sum.start()
        with arithmetic():
            for window in batches.epoch():
                for tile in window.tiles:
                    self._network.forward(tile.samples.x, tile.samples.logits)
                self._sum.add_answers(window.logits, window.signs)
                self._sum.add_losses(window.logits, window.signs)

    def training_loss(self) -> NDArray[np.float64]:
        """Return the mean training loss of the present parameters, shape (replicates,)."""
        self._evaluate(self._in_order)
        return np.divide(self._sum.loss, self._in_order.n, out=self._sum.loss)

    def validate(self, loss: NDArray[np.float64], accuracy: NDArray[np.float64]) -> None:
        """Write mean validation loss and accuracy of the present parameters to arrays of shape (replicates,)."""
        self._evaluate(self._validation)
        np.divide(self._sum.loss, self._validation.n, out=loss)
        np.divide(self._sum.correct, self._validation.n, out=accuracy)


class _Stopper:
    """Watches the validation losses of a group of replicates, and keeps each one's best parameters."""

    def __init__(self, patience: int, min_delta: float, history: History, parameters: Floats) -> None:
        self._patience, self._min_delta, self._history = patience, min_delta, history
        self._best_loss = history.validation_loss[:, 0].copy()
        self._best_epoch = np.zeros(len(parameters), np.int64)
        self._best_parameters = parameters.copy()
        self._ended_at = np.full(len(parameters), -1, np.int64)

    def all_ended_after(self, epoch: int, parameters: Floats) -> bool:
        """Look at the losses after an epoch; return whether the patience of every replicate has ended."""
        loss, running = self._history.validation_loss[:, epoch], self._ended_at < 0
        better = running & (loss < self._best_loss - self._min_delta)
        self._best_loss[better], self._best_epoch[better] = loss[better], epoch
        self._best_parameters[better] = parameters[better]
        self._ended_at[running & (epoch - self._best_epoch >= self._patience)] = epoch
        return bool((self._ended_at >= 0).all())

    def restore_best(self, parameters: Floats) -> None:
        """Restore the best parameters of every replicate whose patience ended, once its curves reach that epoch.

        If its losses are finite up to that epoch, it stopped there, and its curves keep the values of the best epoch.
        Otherwise it diverged, and its curves stay as they are.
        """
        for row in np.flatnonzero(self._ended_at >= 0):
            end, best = self._ended_at[row], self._best_epoch[row]
            parameters[row] = self._best_parameters[row]
            if all(np.isfinite(curve[row, : end + 1]).all() for curve in self._history.curves):
                self._history.stopped_at[row] = end
                for curve in self._history.curves:
                    curve[row, end:] = curve[row, best]


MOST_TOGETHER = 32
"""The most replicates that are trained side by side."""


def replicates_together(layout: Layout, batch_size: int | None, dtype: DTypeLike) -> int:
    """Return how many replicates to train side by side: as many as fill two tiles with their batches.

    Small batches are faster side by side, but a single full batch fills the cache. The numbers of a replicate do not
    depend on the others.
    """
    if batch_size is None:
        return 1
    return min(max(1, 2 * Cut.of(layout, dtype, 1, 10**9).tile // batch_size), MOST_TOGETHER)


def train(dataset: Dataset, recipe: Recipe, on_epoch: Callable[[int], None] = lambda _: None) -> tuple[Floats, History]:
    """Train independent replicates and record their curves.

    Parameters
    ----------
    dataset : Dataset
        Its draws are those of the recipe's replicates, in their order, or the one that they share.
    recipe : Recipe
    on_epoch : callable
        It is called with the number of epochs done so far, summed over replicates.

    Returns
    -------
    parameters : ndarray of shape (replicates, n_parameters)
        The parameters after the last epoch, or the best ones if the patience ended before. Those of a replicate that
        diverged may not be finite.
    history : History

    Examples
    --------
    Two networks with sixteen nodes learn the same points; the rows are their first and last validation losses.

    >>> from circlemlp.core.data import sample_dataset
    >>> from circlemlp.core.optimizers import Adam
    >>> from circlemlp.core.recipe import Recipe
    >>> from circlemlp.core.training import train
    >>> numbers = {"draws": "shared", "n_train": 1000, "n_validation": 500, "label_noise": 0.0, "seed": 1}
    >>> dataset = sample_dataset({"shape": "quarter_circle", "radius": 1.0, **numbers})
    >>> parameters, history = train(dataset, Recipe((16,), Adam(0.01), epochs=200, replicates=2))
    >>> parameters.shape  # 3 for each of the 16 nodes, and 17 for the top
    (2, 65)
    >>> print(history.validation_loss[:, [0, -1]].round(2))
    [[0.65 0.1 ]
     [0.9  0.13]]
    """
    layout = Layout.of(recipe.hidden_layer_sizes, dataset.x_train.shape[2])
    parameters = np.empty((recipe.replicates, layout.n_parameters), recipe.dtype)
    history = History.empty(recipe.replicates, recipe.epochs)
    together = replicates_together(layout, recipe.batch_size, recipe.dtype)
    for start in range(0, recipe.replicates, together):
        rows = slice(start, start + together)
        trainer = Trainer(dataset, recipe, recipe.numbers[rows])
        _train_group(trainer, recipe, history.rows(rows), partial(_report, on_epoch, start * recipe.epochs))
        parameters[rows] = trainer.parameters
    history.mask_divergence()
    return parameters, history


def _report(on_epoch: Callable[[int], None], before: int, in_group: int) -> None:
    on_epoch(before + in_group)


def _train_group(trainer: Trainer, recipe: Recipe, history: History, on_epoch: Callable[[int], None]) -> None:
    """Train some replicates side by side and fill in their curves."""
    full_batch = recipe.batch_size is None
    replicates = len(trainer.parameters)
    training_loss, validation_loss = history.training_loss, history.validation_loss
    trainer.validate(validation_loss[:, 0], history.validation_accuracy[:, 0])
    if not full_batch:
        training_loss[:, 0] = trainer.training_loss()
    stopper = None
    rule = recipe.early_stopping
    if rule.patience is not None:
        stopper = _Stopper(rule.patience, rule.min_delta, history, trainer.parameters)
    for epoch in range(1, recipe.epochs + 1):
        # The loss of a full batch is that of the parameters before the step, which are those after epoch - 1 epochs.
        training_loss[:, epoch - full_batch] = trainer.epoch()
        trainer.validate(validation_loss[:, epoch], history.validation_accuracy[:, epoch])
        on_epoch(epoch * replicates)
        if stopper and stopper.all_ended_after(epoch, trainer.parameters):
            break
    if full_batch:
        training_loss[:, epoch] = trainer.training_loss()
    if stopper:
        stopper.restore_best(trainer.parameters)
        on_epoch(recipe.epochs * replicates)
