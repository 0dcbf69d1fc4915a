"""All that was trained of a cell: the records of some ranges of its replicates, as one."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circlemlp.config import CellConfig
from circlemlp.core.training import History
from circlemlp.store.identity import canonical, sha256
from circlemlp.store.records import Record, Summary


@dataclass(frozen=True, eq=False)
class Trained:
    """The replicates of a cell in the order of their numbers. One that several records have is there once.

    Attributes
    ----------
    records : tuple of Record
        Each has a range of the replicates, in their order; they differ in nothing else.
    """

    records: tuple[Record, ...]

    @property
    def config(self) -> CellConfig:
        """The configuration of the cell, with the range of the first record."""
        return self.records[0].config

    @property
    def settings(self) -> dict[str, Any]:
        """What decided it, as in ``CellConfig.deciding``, but for the range of replicates."""
        return _settings(self.records[0])

    @property
    def identity(self) -> str:
        """What tells it from other cells, whichever of its replicates it has."""
        return sha256(_cell(self.records[0]))

    @cached_property
    def _kept(self) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """The numbers of the replicates, and each one's row in the joined arrays of the records."""
        numbers = [number for record in self.records for number in record.config.training.numbers]
        return np.unique(np.array(numbers), return_index=True)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The numbers of the replicates, rising, shape (replicates,)."""
        return self._kept[0]

    @cached_property
    def parameters(self) -> NDArray[Any]:
        """Their parameters, shape (replicates, n_parameters)."""
        return self._joined([record.parameters for record in self.records])

    @cached_property
    def true_error(self) -> NDArray[np.float64]:
        """Their true errors, shape (replicates,)."""
        return self._joined([record.true_error for record in self.records])

    @cached_property
    def history(self) -> History:
        """Their curves."""
        histories = [vars(record.history) for record in self.records]
        return History(**{name: self._joined([one[name] for one in histories]) for name in histories[0]})

    @cached_property
    def summary(self) -> Summary:
        """A few numbers of each replicate."""
        return Summary.of(self.parameters, self.history, self.true_error)

    def _joined(self, arrays: list[NDArray[Any]]) -> NDArray[Any]:
        joined: NDArray[Any] = np.concatenate(arrays)[self._kept[1]]
        return joined


def join(records: Iterable[Record]) -> list[Trained]:
    """Join the records that differ in nothing but the range of replicates; cells come as their first records do."""
    cells: dict[str, list[Record]] = {}
    for record in records:
        cells.setdefault(_cell(record), []).append(record)
    by_number = attrgetter("config.training.first_replicate")
    return [Trained(tuple(sorted(ranges, key=by_number))) for ranges in cells.values()]


def _cell(record: Record) -> str:
    """Return what decided a record's result but the range: with it, the configuration says which points were drawn."""
    return canonical([_settings(record), record.ingredients["code"], record.ingredients["numerics"]])


def _settings(record: Record) -> dict[str, Any]:
    config: dict[str, Any] = record.ingredients["config"]
    training = {key: value for key, value in config["training"].items() if key not in ("first_replicate", "replicates")}
    return config | {"training": training}
