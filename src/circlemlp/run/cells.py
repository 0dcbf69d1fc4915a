"""The one engine behind every door: a cell in, its record out.

A cell is one architecture at one learning rate, trained as several replicates. ``dvc repro``, a sweep by hand and any
launcher end here and meet in the same store, so no cell is trained twice. What is trained is made from the cell's
ingredients, which are what is hashed into its identity, and from nothing else.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property, lru_cache
from importlib.metadata import version
from typing import Any

from circlemlp.config import Config, Data
from circlemlp.core.data import Dataset
from circlemlp.core.elementary import elementary_digest
from circlemlp.core.recipe import Recipe
from circlemlp.core.training import train
from circlemlp.core.true_error import true_errors
from circlemlp.errors import UserError
from circlemlp.project import git_state
from circlemlp.store.datafile import read_dataset
from circlemlp.store.identity import identity_of, ingredients
from circlemlp.store.notes import RUNNING, Notes
from circlemlp.store.records import Record, Store, Volatile
from circlemlp.store.stages import Stage, name_of


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
            If the data file is missing, damaged or another one, or has too few draws.
        """
        dataset, digest = _read(config.data, config.training.replicates, config.training.first_replicate)
        environment = {**environment, "elementary": _elementary_digest(config.training.dtype)}
        if config.training.dtype == "float64":  # where a sample may miss how two versions of the C library differ
            environment["c_library"] = " ".join(platform.libc_ver())
        return cls(config, dataset, ingredients(config.deciding(), digest, environment))

    @cached_property
    def identity(self) -> str:
        """The identity of the cell's record."""
        return identity_of(self.ingredients)


_elementary_digest = cache(elementary_digest)


@lru_cache(maxsize=8)  # the cells of a sweep share few data sets
def _read(data: Data, draws: int, first: int) -> tuple[Dataset, str]:
    dataset = read_dataset(data, draws, first)
    return dataset, dataset.digest()


def run(cell: Cell, store: Store, stage: Stage = "tuning") -> None:
    """Train a cell unless its record is there, and leave the record in the store, with a note of its stage.

    If another process is training the cell, this one waits for it. A failure is noted beside the store, for the door to
    show, and raised; a cell with such a note is not tried again until a door clears it.
    """
    notes = Notes(store, cell.identity)
    try:
        with store.lock(cell.identity):
            if not (store.is_good(cell.identity) or notes.failed()):
                try:
                    store.save(_train(cell, stage, notes.running))
                finally:
                    notes.clear(RUNNING)
    except Exception as error:  # of any kind, since a person has to be told why this cell has no record
        notes.failure(error)
        raise


def _train(cell: Cell, stage: Stage, progress: Callable[[int, int], None]) -> Record:
    recipe = Recipe.of(cell.ingredients["config"])
    execution = _execution()
    started, wall, cpu = datetime.now(UTC), time.perf_counter(), time.process_time()
    total = recipe.epochs * recipe.replicates
    progress(0, total)
    parameters, history = train(cell.dataset, recipe, lambda done: progress(done, total))
    if cell.dataset.digest() != cell.ingredients["data"]:  # it is read from its file all the while
        raise UserError(f"{cell.config.data.file}: changed while the cell was being trained")
    true_error = true_errors(cell.ingredients["config"], parameters, history.diverged_at)
    volatile = Volatile(
        started_at=started.isoformat(timespec="seconds"),
        wall_seconds=round(time.perf_counter() - wall, 3),
        cpu_seconds=round(time.process_time() - cpu, 3),
        experiment=name_of(cell.config.tracking.experiment, stage),
        **execution,
    )
    return Record(cell.ingredients, parameters, history, true_error, volatile)


@cache
def _execution() -> dict[str, Any]:
    """Return where this process trains, and with what."""
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("hydra-core", "numpy", "pydantic", "threadpoolctl")},
        **git_state(),
    }
