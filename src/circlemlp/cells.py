"""The one engine behind every door: a cell in, its record out.

A cell is one architecture at one learning rate, trained as several replicates. ``dvc repro``, a sweep by
hand and any other launcher end here and meet in the same store, so no cell is trained twice.
"""

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from circlemlp.config import Config
from circlemlp.core.data import Dataset
from circlemlp.core.optimizers import OPTIMIZERS
from circlemlp.core.parameters import Layout
from circlemlp.core.schedules import Schedule
from circlemlp.core.training import EarlyStopping, Recipe, train
from circlemlp.datafile import read_dataset
from circlemlp.errors import UserError, first_line
from circlemlp.identity import identity_of, ingredients
from circlemlp.records import Record, Store

PROGRESS, FAILURES = ".progress", ".failures"
SECONDS_BETWEEN_NOTES = 0.5


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
                store.save(_train(cell, notes.progress))
    except Exception as error:  # whatever it is, the table at the end has to say it
        notes.failure(error)
        raise
    finally:
        notes.clear(PROGRESS)


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

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


class Notes:
    """What a running cell tells whoever watches: small files beside the records.

    Files, so that they work alike for every launcher that shares the store's folder.
    """

    def __init__(self, store: Store, identity: str) -> None:
        self._store = store
        self._identity = identity
        self._last = -math.inf

    def _path(self, kind: str) -> Path:
        return self._store.folder / kind / f"{self._identity}.json"

    def progress(self, done: int, total: int) -> None:
        """Note how many epochs of all replicates are done, now and then."""
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_NOTES:
            self._last = now
            with contextlib.suppress(OSError):  # a note is not worth a cell
                self._write(PROGRESS, {"done": done, "total": total})

    def failure(self, error: Exception) -> None:
        """Note why a cell could not be trained."""
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
        try:
            self._write(FAILURES, {"reason": reason, "traceback": traceback.format_exc()})
        except OSError:  # the disk may be what failed
            print(f"error: {self._identity[:12]}: {reason}", file=sys.stderr)

    def read(self, kind: str) -> dict[str, Any] | None:
        """Return a note, or None."""
        try:
            content: dict[str, Any] = json.loads(self._path(kind).read_text())
        except (OSError, ValueError):
            return None
        return content

    def failed(self) -> bool:
        """Say whether a failure is noted."""
        return self._path(FAILURES).exists()

    def clear(self, *kinds: str) -> None:
        """Remove notes: all, or those of some kinds."""
        for kind in kinds or (PROGRESS, FAILURES):
            with contextlib.suppress(OSError):
                self._path(kind).unlink()

    def _write(self, kind: str, content: dict[str, Any]) -> None:
        path = self._path(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(content))
        aside.replace(path)


def print_lines(record: Record, every: int) -> Iterator[str]:
    """Yield a line for every so many epochs of a record, averaged over the replicates that did not diverge."""
    curves = [record.arrays[name] for name in ("training_loss", "validation_loss", "validation_accuracy")]
    epochs = curves[0].shape[1] - 1
    yield architecture(record.ingredients["config"]["model"])
    for epoch in sorted({*range(every, epochs + 1, every), epochs}):
        now = [curve[:, epoch] for curve in curves]
        alive = np.isfinite(now[0])
        if not alive.any():
            yield f"  epoch {epoch:5d}  every replicate has diverged"
            continue
        training, validation, accuracy = (float(np.mean(values[alive])) for values in now)
        yield (
            f"  epoch {epoch:5d}  training loss {training:.4f}  "
            f"validation loss {validation:.4f}  validation accuracy {accuracy:.4f}"
        )
