"""How files are read, written and locked: every other module leaves that to this one.

What is written appears under its name whole or not at all. It is made in a temporary folder beside its place, an
*aside*, flushed to disk and renamed. Whoever makes an aside holds a lock on it, so that what a killed process left
behind can be told from what a living one is still writing.
"""

import contextlib
import errno
import fcntl
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from circlemlp.errors import UserError

SECONDS_TO_WAIT_SILENTLY = 2.0
SECONDS_BETWEEN_TRIES = 0.05
SECONDS_TO_LOCK_AN_ASIDE = 60.0
"""Far longer than it takes from making an aside to locking it."""


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file.

    Parameters
    ----------
    path : Path
    limit : int
        The most bytes it may have.

    Raises
    ------
    ValueError
        If it is a pipe, a device or the like, which could keep the reader waiting for ever, or is larger.
    OSError
        If it cannot be read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        if status.st_size > limit:
            raise ValueError(f"{path.name} has {status.st_size} bytes, more than the {limit} it may have")
        return file.read(status.st_size)


@contextlib.contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """Make a temporary folder inside a folder, and remove it at the end with whatever is left in it."""
    made = folder / Path(tempfile.mkdtemp(prefix=".aside-", dir=folder)).name  # relative if the folder is
    try:
        with open(made / "lock", "wb") as held:
            _flock(held.fileno(), made / "lock", fcntl.LOCK_EX)
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def clear_abandoned(folder: Path) -> None:
    """Remove the asides in a folder whose makers are gone."""
    for left in folder.glob(".aside-*"):
        with contextlib.suppress(OSError, UserError):
            young = time.time() - left.lstat().st_mtime < SECONDS_TO_LOCK_AN_ASIDE
            if not (young or is_locked(left / "lock")):
                shutil.rmtree(left)


def write(path: Path, content: bytes) -> None:
    """Write a new file and flush it to disk."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in place of the one that is there, if any.

    Raises
    ------
    UserError
        If the disk is full or does not let it be written; the file that was there is still there.
    """
    with _making(path) as made:
        write(made, content)
        made.replace(path)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; at the end it takes the place of the one that is there, if any.

    Whoever else replaces the same folder waits.

    Raises
    ------
    UserError
        If the disk is full or does not let it be written; the folder that was there is still there.
    """
    with lock(path.parent / ".locks" / path.name), _making(path) as made:
        for left in path.parent.glob(".aside-*"):
            if (left / path.name).is_dir():  # its maker had the lock and is gone, however young it is
                shutil.rmtree(left, ignore_errors=True)
        made.mkdir()
        yield made
        flush_folder(made)
        if path.exists():
            path.rename(made.with_name("before"))
        made.rename(path)


@contextlib.contextmanager
def _making(path: Path) -> Iterator[Path]:
    """Yield where to make what is then renamed to a path, and flush the renaming to disk."""
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(path.parent)
        with aside(path.parent) as temporary:
            yield temporary / path.name
            flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Flush what was renamed inside a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file, which is made if it is not there; other processes that want it wait.

    It is freed when the process ends, however it ends. Whoever waits for longer than a moment says so, and for whom.

    Raises
    ------
    UserError
        If the lock file cannot be made, or its file system has no locks.
    """
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        say_at = time.monotonic() + SECONDS_TO_WAIT_SILENTLY
        while not _flock(handle, path, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if time.monotonic() > say_at:
                holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
                print(f"waiting for {path}, which {holder} holds", file=sys.stderr, flush=True)
                say_at = float("inf")
            time.sleep(SECONDS_BETWEEN_TRIES)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Say whether a process holds a lock file."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _flock(handle, path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(handle)


def _flock(handle: int, path: Path, operation: int) -> bool:
    """Lock an open file; return False where another process holds it and the operation does not wait."""
    try:
        fcntl.flock(handle, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{path}: cannot be locked ({error.strerror}); keep it on a file system that has locks"
        ) from None
    return True


@contextlib.contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a folder that may not be written and the like into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: no space left on the disk; free some and run again") from None
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
