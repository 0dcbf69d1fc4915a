"""The one engine behind every door: a cell in, its record out.

A cell is one architecture at one learning rate, trained as several replicates. ``dvc repro``, a sweep by
hand and any other launcher end here and meet in the same store, so no cell is trained twice.
"""

import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from circlemlp.config import Config
from circlemlp.core.data import Dataset
from circlemlp.core.optimizers import OPTIMIZERS
from circlemlp.core.parameters import Layout
from circlemlp.core.schedules import Schedule
from circlemlp.core.training import EarlyStopping, Recipe, train
from circlemlp.store.datafile import read_dataset
from circlemlp.errors import UserError
from circlemlp.store.identity import identity_of, ingredients
from circlemlp.store.notes import PROGRESS, Notes
from circlemlp.store.records import Record, Store


@dataclass(frozen=True)
class Cell:
    """What is to be trained, and the identity its record will have."""

    config: Config
    dataset: Dataset
    ingredients: dict[str, Any]

    @classmethod
    def of(cls, config: Config, environment: dict[str, Any]) -> "Cell":
        """Make the cell of a configuration in a numeric environment; reads the data file.

        Raises
        ------
        UserError
            If the data file is missing, damaged or another one.
        """
        dataset = read_dataset(config.data)
        if config.training.dtype == "float64":
            # NumPy takes float64 exponentials and logarithms from the C library where there is no AVX-512.
            environment = {**environment, "libc": " ".join(platform.libc_ver())}
        return cls(config, dataset, ingredients(config.deciding(), dataset.digest(), environment))

    @property
    def identity(self) -> str:
        """The identity of the cell's record."""
        return identity_of(self.ingredients)


def architecture(model: Mapping[str, Any]) -> str:
    """Return the name a network goes by, from its configuration: ``2-64-32-1``, or ``2-64-32-1 tanh``."""
    name = "-".join(map(str, Layout.of(model["hidden_layer_sizes"]).layer_sizes))
    return name if model["activation"] == "relu" else f"{name} {model['activation']}"


def run(cell: Cell, store: Store) -> None:
    """Train a cell unless its record is there, and leave the record in the store.

    Whoever asks for a cell that is being trained elsewhere waits for it. A failure is noted beside the
    store, for the door to show, and raised; a cell with such a note is not tried again until a door clears it.
    """
    notes = Notes(store, cell.identity)
    try:
        with store.lock(cell.identity):
            if not (store.is_good(cell.identity) or notes.failed()):
                try:
                    store.save(_train(cell, notes.progress))
                finally:
                    notes.clear(PROGRESS)
    except Exception as error:  # whatever it is, the table at the end has to say it
        notes.failure(error)
        raise


def recipe(config: Config) -> Recipe:
    """Turn a configuration into what the core does with the data."""
    optimizer = config.optimizer.model_dump()
    training = config.training
    stopping = config.early_stopping
    return Recipe(
        hidden_layer_sizes=config.model.hidden_layer_sizes,
        activation=config.model.activation,
        optimizer=OPTIMIZERS[optimizer.pop("name")](**optimizer),
        schedule=Schedule(**config.schedule.model_dump()),
        epochs=training.epochs,
        batch_size=training.batch_size,
        early_stopping=None if stopping.patience is None else EarlyStopping(stopping.patience, stopping.min_delta),
        dtype=training.dtype,
        seed=training.seed,
    )


def _train(cell: Cell, progress: Callable[[int, int], None]) -> Record:
    config = cell.config
    code = git_state()
    started, wall, cpu = datetime.now(UTC), time.perf_counter(), time.process_time()
    total = config.training.epochs * config.training.replicates
    progress(0, total)
    parameters, history = train(
        cell.dataset, recipe(config), config.training.replicates, lambda done: progress(done, total)
    )
    if cell.dataset.digest() != cell.ingredients["data"]:  # it is read from its file all the while
        raise UserError(f"{config.data.file}: changed while the cell was being trained")
    return Record(
        ingredients=cell.ingredients,
        summary={
            "n_parameters": parameters.shape[1],
            "diverged_at": [int(epoch) if epoch >= 0 else None for epoch in history.diverged_at],
            "stopped_at": [int(epoch) if epoch >= 0 else None for epoch in history.stopped_at],
            **history.final(),
        },
        arrays={"parameters": parameters, **vars(history)},
        volatile={
            "started_at": started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.perf_counter() - wall, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "host": platform.node(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in ("hydra-core", "numpy", "pydantic", "threadpoolctl")},
            **code,
        },
    )


def git_state() -> dict[str, Any]:
    """Return the commit checked out and whether the tree differs from it; None outside a repository."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ("git", "--no-optional-locks", *arguments),
                cwd=Path(__file__).parent,
                capture_output=True,
                text=True,
                timeout=30,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
