"""The store of records: one immutable folder a run, named by the run's identity.

A folder is made aside, flushed to disk and renamed into place, so it is there whole or not at all. On reading, its
bytes are checked against the digests in its manifest and its content against its own configuration; a record that
fails is named, never used, and replaced when its cell is trained again.
"""

import errno
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from circlemlp.config import CONFIRMED, LONGEST_NAME, CellConfig, Section
from circlemlp.core.parameters import Layout
from circlemlp.core.training import History
from circlemlp.errors import UserError
from circlemlp.store import disk
from circlemlp.store.identity import canonical, identity_of, sha256
from circlemlp.store.npz import pack, unpack

FORMAT = 3
MANIFEST, ARRAYS = "manifest.json", "arrays.npz"
MANIFEST_LIMIT = 1_000_000
"""The most bytes of a manifest; one has a few thousand."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DamagedRecord(Exception):
    """A record that is not what a training writes. The message says what is wrong with it."""


class OtherFormat(DamagedRecord):
    """A record that another version wrote, in a format that this one does not read."""


class Blas(Section):
    """A BLAS library as threadpoolctl describes it."""

    internal_api: str
    version: str | None
    architecture: str | None
    num_threads: int


class Environment(Section):
    """The numeric environment of a run.

    It is what ``numerics.read_back`` returns, ``core.elementary``'s digest, and in float64 the C library's version.
    """

    mode: Literal["portable", "native"]
    machine: str
    numpy: str
    simd: list[str]
    blas: list[Blas]
    elementary: Digest
    c_library: str | None = None


class Ingredients(Section):
    """What a run is a function of, as ``identity.ingredients`` gathers it."""

    config: CellConfig
    data: Digest
    code: Digest
    numerics: Environment


class Volatile(Section):
    """What varies from one execution to the next. It is no part of a record's value."""

    started_at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")] | None = None
    wall_seconds: Annotated[float, Field(ge=0)] | None = None
    cpu_seconds: Annotated[float, Field(ge=0)] | None = None
    host: str | None = None
    python: str | None = None
    packages: dict[str, str] | None = None
    commit: str | None = None
    dirty: bool | None = None
    experiment: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME + len(CONFIRMED))] | None = None


@dataclass(frozen=True)
class Summary:
    """A few numbers of each replicate; None where a replicate diverged, or did not.

    Attributes
    ----------
    n_parameters : int
        Of one network.
    training_loss, validation_loss, validation_accuracy : list of float or None
        After the last epoch.
    true_error : list of float or None
        None also where it could not be computed.
    diverged_at, stopped_at : list of int or None
        Epochs, as in ``History``.
    """

    n_parameters: int
    training_loss: list[float | None]
    validation_loss: list[float | None]
    validation_accuracy: list[float | None]
    true_error: list[float | None]
    diverged_at: list[int | None]
    stopped_at: list[int | None]

    @classmethod
    def of(cls, parameters: NDArray[Any], history: History, true_error: NDArray[np.float64]) -> Self:
        """Summarise what a training gave, as in ``Record``."""

        def epochs(values: NDArray[np.int64]) -> list[int | None]:
            return [int(epoch) if epoch >= 0 else None for epoch in values]

        return cls(
            n_parameters=parameters.shape[1],
            true_error=[float(error) if np.isfinite(error) else None for error in true_error],
            diverged_at=epochs(history.diverged_at),
            stopped_at=epochs(history.stopped_at),
            **history.final(),
        )


@dataclass(frozen=True)
class Record:
    """What a run was and what came out of it.

    Attributes
    ----------
    ingredients : dict
        What decided the result, as plain values; its digest is the identity.
    parameters : ndarray of shape (replicates, n_parameters)
    history : History
    true_error : ndarray of shape (replicates,), float64
        As ``core.true_error`` computes it.
    volatile : Volatile
    """

    ingredients: dict[str, Any]
    parameters: NDArray[Any]
    history: History
    true_error: NDArray[np.float64]
    volatile: Volatile = field(default_factory=Volatile, compare=False)

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the ingredients."""
        return identity_of(self.ingredients)

    @cached_property
    def _typed(self) -> Ingredients:
        return Ingredients.model_validate(self.ingredients)

    @property
    def config(self) -> CellConfig:
        """The configuration of the cell."""
        return self._typed.config

    @property
    def numerics(self) -> Environment:
        """The numeric environment that it was trained in."""
        return self._typed.numerics

    @cached_property
    def summary(self) -> Summary:
        """A few numbers of each replicate."""
        return Summary.of(self.parameters, self.history, self.true_error)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays, as they are stored."""
        return {"parameters": self.parameters, "true_error": self.true_error, **vars(self.history)}

    def check(self) -> None:
        """Check that a training with this configuration can have given this.

        Raises
        ------
        ValueError
            Saying what cannot be.
        """
        config, history = self.config, self.history
        if canonical(config.deciding()) != canonical(self.ingredients["config"]):
            raise ValueError("the configuration is not in the spelling that is hashed")
        expected = _expected_arrays(config)
        for name, array in self.arrays.items():
            if (array.shape, array.dtype) != expected[name]:
                raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}, not {expected[name]}")
        _check_history(history, config)
        if not np.isfinite(self.parameters[history.diverged_at < 0]).all():
            raise ValueError("the parameters of a replicate that did not diverge are not finite")
        error = self.true_error
        if (np.isfinite(error) & ((history.diverged_at >= 0) | (error < 0) | (error > 1))).any():
            raise ValueError("a true error is no share of the square")


def _expected_arrays(config: CellConfig) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return the shape and type of each array of a record."""
    training = config.training
    curve = ((training.replicates, training.epochs + 1), np.dtype(np.float64))
    epochs = ((training.replicates,), np.dtype(np.int64))
    n_parameters = Layout.of(config.model.hidden_layer_sizes).n_parameters
    return {
        "parameters": ((training.replicates, n_parameters), np.dtype(training.dtype)),
        "true_error": ((training.replicates,), np.dtype(np.float64)),
        **dict.fromkeys(("training_loss", "validation_loss", "validation_accuracy"), curve),
        **dict.fromkeys(("diverged_at", "stopped_at"), epochs),
    }


def _check_history(history: History, config: CellConfig) -> None:
    """Raise ValueError where curves and epochs contradict the configuration or each other."""
    last = config.training.epochs
    for epochs in (history.diverged_at, history.stopped_at):
        if ((epochs < -1) | (epochs > last)).any():
            raise ValueError("an epoch is out of range")
    stopped = history.stopped_at >= 0
    if (stopped & (history.diverged_at >= 0)).any() or (stopped.any() and config.early_stopping.patience is None):
        raise ValueError("a replicate cannot have stopped")
    ends = np.where(history.diverged_at < 0, last + 1, history.diverged_at)
    finite = np.arange(last + 1) < ends[:, np.newaxis]
    for curve in history.curves:
        if (np.isfinite(curve) != finite).any() or (curve[finite] < 0).any():
            raise ValueError("a curve has other values than losses or accuracies up to its end")
    accuracy, n = history.validation_accuracy[finite], config.data.n_validation
    if ((np.rint(accuracy * n) / n != accuracy) | (accuracy > 1)).any():
        raise ValueError("an accuracy is no share of the validation points")


class Store:
    """A folder of records.

    Parameters
    ----------
    folder : Path
        It is made when the first record is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, identity: str) -> Path:
        """Return where a record is, or would be."""
        return self.folder / identity

    def identities(self) -> list[str]:
        """Return the identities of all records, sorted, damaged ones among them."""
        if not self.folder.is_dir():
            return []
        return sorted(p.name for p in self.folder.iterdir() if len(p.name) == 64)

    def load(self, identity: str) -> Record:
        """Read a record and check it.

        Raises
        ------
        KeyError
            If there is none.
        DamagedRecord
            If it is not what a training writes; ``OtherFormat`` if another version wrote it.
        UserError
            If the system does not let it be read.
        """
        folder = self.path(identity)
        if not (folder.is_symlink() or folder.exists()):
            raise KeyError(identity)
        try:
            record = _read(folder)
            if record.identity != identity:
                raise ValueError(f"{MANIFEST} is another record's")
            record.check()
        except DamagedRecord:
            raise
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise DamagedRecord(f"{folder}: is not whole ({error.strerror})") from None
        except OSError as error:  # it may be whole, so it is not replaced
            raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise DamagedRecord(f"{folder}: {MANIFEST} is not what was written ({where})") from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DamagedRecord(f"{folder}: {error or type(error).__name__}") from None
        return record

    def noted(self, identity: str) -> str | None:
        """Return the experiment that a record's note names, if it can be read; nothing else is read or checked."""
        try:
            manifest = json.loads(disk.read_regular(self.path(identity) / MANIFEST, MANIFEST_LIMIT))
            return Volatile.model_validate(manifest["volatile"]).experiment
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def save(self, record: Record, *, volatile: bool = True) -> Path:
        """Write a record; a damaged one in its place is replaced, a good one is left as it is.

        Parameters
        ----------
        record : Record
        volatile : bool
            Whether to write what varies between executions. Without it, equal records are equal bytes.

        Returns
        -------
        Path
            The record's folder.
        """
        packed = pack(record.arrays)
        manifest = {"format": FORMAT, "ingredients": record.ingredients, "arrays": sha256(packed)}
        if volatile:
            manifest["volatile"] = record.volatile.model_dump(exclude_none=True)
        manifest["seal"] = sha256(canonical(manifest))
        path = self.path(record.identity)
        with disk.plain_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with disk.aside(self.folder) as temporary:
                made = temporary / record.identity
                made.mkdir()
                disk.write(made / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
                disk.write(made / ARRAYS, packed)
                disk.flush_folder(made)
                self._put(made, temporary / "damaged", record.identity)
                disk.flush_folder(self.folder)
        return path

    def _put(self, made: Path, damaged: Path, identity: str) -> None:
        try:
            made.rename(self.path(identity))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            if not self.is_good(identity):
                self.path(identity).rename(damaged)
                made.rename(self.path(identity))

    def is_good(self, identity: str) -> bool:
        """Say whether a record is there and what a training writes."""
        try:
            self.load(identity)
        except (KeyError, DamagedRecord):
            return False
        return True

    def open_for_writing(self) -> None:
        """Make the folder if it is not there, check that it can be written, and clear it of what was abandoned.

        Raises
        ------
        UserError
        """
        with disk.plain_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with disk.aside(self.folder) as temporary:
                disk.write(temporary / "probe", bytes(4096))
        disk.clear_abandoned(self.folder)

    def _lock_file(self, identity: str) -> Path:
        return self.folder / ".locks" / identity

    def lock(self, identity: str) -> AbstractContextManager[None]:
        """Hold the lock of a run: other processes that want to train it wait. It is freed when this one ends."""
        return disk.lock(self._lock_file(identity))

    def is_locked(self, identity: str) -> bool:
        """Say whether a process holds the lock of a run."""
        return disk.is_locked(self._lock_file(identity))


def _read(folder: Path) -> Record:
    """Read a record whose bytes are what its manifest says; its content is not checked yet.

    Raises
    ------
    OtherFormat, DamagedRecord, OSError, ValidationError, ValueError, KeyError, TypeError, AttributeError
    """
    manifest = json.loads(disk.read_regular(folder / MANIFEST, MANIFEST_LIMIT))
    seal = manifest.pop("seal")
    if manifest.get("format") != FORMAT:
        raise OtherFormat(f"{folder}: has format {manifest.get('format', 1)}; this version reads format {FORMAT}")
    if seal != sha256(canonical(manifest)):
        raise ValueError(f"{MANIFEST} is not what was written")
    ingredients = manifest["ingredients"]
    expected = _expected_arrays(Ingredients.model_validate(ingredients).config)
    limit = sum(int(np.prod(shape, dtype=object)) * dtype.itemsize + 1000 for shape, dtype in expected.values())
    packed = disk.read_regular(folder / ARRAYS, limit)
    if manifest["arrays"] != sha256(packed):
        raise ValueError(f"{ARRAYS} is not what was written")
    arrays = unpack(packed)
    if arrays.keys() != expected.keys():
        raise ValueError(f"{ARRAYS} has other arrays than a record's")
    parameters, true_error = arrays.pop("parameters"), arrays.pop("true_error")
    volatile = Volatile.model_validate(manifest.get("volatile", {}))
    return Record(ingredients, parameters, History(**arrays), true_error, volatile)
