"""The recipe of a training: everything that decides its result except the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import DTypeLike

from circlemlp.core.optimizers import OPTIMIZERS, Optimizer
from circlemlp.core.schedules import Schedule


@dataclass(frozen=True)
class EarlyStopping:
    """The rule by which a replicate stops before the last epoch; it then restores its best parameters.

    Attributes
    ----------
    patience : int or None
        A replicate stops when its validation loss has not improved for this number of epochs in a row. None: it never
        stops early.
    min_delta : float
        A loss is an improvement if it is below the best one by more than this number, >= 0.
    """

    patience: int | None = None
    min_delta: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """What is done to a data set.

    Attributes
    ----------
    hidden_layer_sizes : sequence of int
        Numbers of nodes, bottom layer first.
    optimizer : Optimizer
    activation : str
        A key of ``activations.ACTIVATIONS``.
    initialisation : str
        A key of ``initialisation.INITIALISATIONS``.
    schedule : Schedule
        It scales the learning rate of the optimizer.
    epochs : int
        At least 1.
    batch_size : int or None
        None: the full batch, in the order of the data. Otherwise mini-batches, which are shuffled every epoch; the
        last one of an epoch takes the samples that are left.
    early_stopping : EarlyStopping
    dtype : str
        The type of parameters and arithmetic, float32 or float64. Losses are summed in float64.
    replicates : int
        How many independent networks are trained, at least 1.
    first_replicate : int
        The number of the first one, >= 0; the others follow. The number names a replicate's random streams, so the
        replicates 0 to 9 and 10 to 19 of a recipe are the replicates 0 to 19.
    seed : int
        The seed of the streams for initialisation and shuffling.
    """

    hidden_layer_sizes: Sequence[int]
    optimizer: Optimizer
    activation: str = "relu"
    initialisation: str = "he"
    schedule: Schedule = field(default_factory=Schedule)
    epochs: int = 1000
    batch_size: int | None = None
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    dtype: DTypeLike = "float32"
    replicates: int = 1
    first_replicate: int = 0
    seed: int = 0

    @property
    def numbers(self) -> range:
        """The numbers of the replicates."""
        return range(self.first_replicate, self.first_replicate + self.replicates)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Recipe":
        """Read the recipe from a configuration, the very mapping that is hashed into the identity of a run.

        Every key of every section becomes an argument here, so a key that decides nothing cannot go unnoticed.

        Parameters
        ----------
        config : mapping
            The sections ``model``, ``optimizer``, ``schedule``, ``training`` and ``early_stopping``, which are read
            here, and ``data``, which ``data.sample_dataset`` reads.

        Raises
        ------
        KeyError
            If a section is missing.
        TypeError
            If a section or a key is unknown, or if a key without a default is missing.
        """
        unknown = config.keys() - {"data", "model", "optimizer", "schedule", "training", "early_stopping"}
        if unknown:
            raise TypeError(f"The core reads no such section: {', '.join(sorted(unknown))}")
        optimizer = dict(config["optimizer"])
        return cls(
            **config["model"],
            **config["training"],
            optimizer=OPTIMIZERS[optimizer.pop("name")](**optimizer),
            schedule=Schedule(**config["schedule"]),
            early_stopping=EarlyStopping(**config["early_stopping"]),
        )
