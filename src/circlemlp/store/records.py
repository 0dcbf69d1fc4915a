"""The store of records: one immutable folder a run, named by the run's identity.

A folder is written aside, flushed to disk and renamed into place, so it is there whole or not at all. On
reading, everything is checked against the digests in its manifest; a record that fails is named, never
used, and replaced when its cell is trained again.
"""

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import struct
import tempfile
import time
import tokenize
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circlemlp.errors import UserError
from circlemlp.store.identity import canonical, identity_of, sha256

MANIFEST, ARRAYS = "manifest.json", "arrays.npz"
_NAME_LENGTHS_AT = 26  # in the header of a ZIP member, APPNOTE.TXT section 4.3.7


class DamagedRecord(Exception):
    """A record that is not what was written. The message says what is wrong with it."""


@dataclass(frozen=True)
class Record:
    """What a run was and what came out of it.

    Attributes
    ----------
    ingredients : dict
        What decided the result; its digest is the identity.
    summary : dict
        A few numbers of each replicate, as plain values.
    arrays : mapping of str to ndarray
        Parameters and curves.
    volatile : dict
        What varies from one execution to the next: times, host, commit. Not part of the record's value.
    """

    ingredients: dict[str, Any]
    summary: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    volatile: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def identity(self) -> str:
        """The SHA-256 of the ingredients."""
        return identity_of(self.ingredients)


class Store:
    """A folder of records.

    Parameters
    ----------
    folder : Path
        Made when the first record is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, identity: str) -> Path:
        """Return where a record is, or would be."""
        return self.folder / identity

    def __contains__(self, identity: str) -> bool:
        return os.path.lexists(self.path(identity))

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
            If it is not what was written.
        UserError
            If the system does not let it be read.
        """
        if identity not in self:
            raise KeyError(identity)
        folder = self.path(identity)
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            packed = (folder / ARRAYS).read_bytes()
            if manifest.pop("seal") != sha256(canonical(manifest)) or identity_of(manifest["ingredients"]) != identity:
                raise DamagedRecord(f"{folder}: {MANIFEST} is not what was written")
            if manifest["arrays"] != sha256(packed):
                raise DamagedRecord(f"{folder}: {ARRAYS} is not what was written")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise DamagedRecord(f"{folder}: is not whole ({error.strerror})") from None
        except OSError as error:  # it may be whole, so it is not replaced
            raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedRecord(f"{folder}: cannot be read ({type(error).__name__}: {error})") from None
        return Record(manifest["ingredients"], manifest["summary"], unpack(packed), manifest.get("volatile", {}))

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
        manifest = {"ingredients": record.ingredients, "summary": record.summary, "arrays": sha256(packed)}
        if volatile:
            manifest["volatile"] = record.volatile
        manifest["seal"] = sha256(canonical(manifest))
        files = {MANIFEST: (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode(), ARRAYS: packed}
        with plain_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._put(record.identity, files)

    def _put(self, identity: str, files: dict[str, bytes]) -> Path:
        aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=self.folder))
        try:
            for name, content in files.items():
                with open(aside / name, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            aside.chmod(0o755)
            _fsync_folder(aside)
            self._replace(aside, identity)
            _fsync_folder(self.folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return self.path(identity)

    def _replace(self, aside: Path, identity: str) -> None:
        try:
            aside.rename(self.path(identity))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            if not self.is_good(identity):
                with tempfile.TemporaryDirectory(prefix=".aside-", dir=self.folder) as damaged:
                    self.path(identity).rename(Path(damaged) / identity)
                    aside.rename(self.path(identity))

    def is_good(self, identity: str) -> bool:
        """Say whether a record is there and what was written."""
        try:
            self.load(identity)
        except (KeyError, DamagedRecord):
            return False
        return True

    def open_for_writing(self) -> None:
        """Make the folder if it is not there, and check that it can be written.

        Raises
        ------
        UserError
        """
        with plain_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".aside-") as probe:
                probe.write(bytes(4096))
        self._clear_abandoned()

    def _clear_abandoned(self) -> None:
        """Remove what processes that were killed while writing left aside an hour ago or longer."""
        for aside in self.folder.glob(".aside-*"):
            with contextlib.suppress(OSError):
                if time.time() - aside.stat().st_mtime > 3600:
                    shutil.rmtree(aside)

    @contextlib.contextmanager
    def lock(self, identity: str) -> Iterator[None]:
        """Hold a run for oneself: whoever else wants to train it waits. Freed when the process ends."""
        with locked(self.folder / ".locks" / identity):
            yield


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a folder, or of a file that is made for it: other processes that want it wait.

    It is freed when the process ends, however it ends.
    """
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as the bytes of an ``.npz`` file: equal arrays, equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def unpack(packed: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file's bytes.

    Raises
    ------
    ValueError
        If they are not such a file, or it holds Python objects.
    """
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile) as error:  # what zipfile raises of damage
        raise ValueError(str(error)) from None


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file as views of the file, read when they are used.

    So the file may be larger than memory. NumPy maps ``.npy`` files; an uncompressed ``.npz`` is a ZIP of those, one
    after another.

    Raises
    ------
    ValueError
        If it is not such a file, or it is compressed, or it holds Python objects.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{member.filename} is compressed")
                file.seek(member.header_offset + _NAME_LENGTHS_AT)
                # The lengths of the member's name and of the extra field, which lie between its header and its content.
                lengths = struct.unpack("<HH", file.read(4))
                file.seek(sum(lengths), os.SEEK_CUR)
                major, _ = np.lib.format.read_magic(file)
                read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[major]
                shape, fortran_order, dtype = read_header(file)
                if dtype.hasobject:
                    raise ValueError(f"{member.filename} holds Python objects")
                mapped = np.memmap(
                    file, dtype, "r", offset=file.tell(), shape=shape, order="F" if fortran_order else "C"
                )
                arrays[member.filename.removesuffix(".npy")] = np.asarray(mapped)
    except (EOFError, KeyError, RuntimeError, struct.error, tokenize.TokenError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from None
    return arrays


@contextlib.contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a folder that may not be written into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: no space left on the disk; free some and run again") from None
        if error.errno in (
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
            errno.EISDIR,
            errno.EEXIST,
            errno.EFBIG,
        ):
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None
        raise


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
