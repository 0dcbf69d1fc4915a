"""The SQLite database that an index is in: made if it is not there, opened safely, and written by one at a time."""

import contextlib
import errno
import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from circlemlp.errors import UserError, first_line
from circlemlp.store import disk
from circlemlp.tracking import schema

ARTIFACTS = "mlflow-artifacts:/"
"""Where MLflow finds artifacts: wherever its server is told that they are."""

_TURN, _WRITING = threading.Lock(), threading.Lock()

ELSEWHERE = "choose another place with tracking.database=..."
AGAIN = f"move it away, and it is made again from the records, or {ELSEWHERE}"
REMEDIES = {
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_READONLY: f"allow yourself to write it, or {ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"allow yourself to write it and its folder, or {ELSEWHERE}",
    sqlite3.SQLITE_BUSY: "end the program that keeps it locked",
}
"""What helps against an error of SQLite; against any other, a new database does."""

LONGEST_FOLDER = 512 - len("/.aside-12345678/made.db")  # SQLite opens no longer path


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Keep other threads of this process from writing, so that one of them can end it between two runs.

    Whoever waits has the turn, so the thread that writes run after run lets it in after the present one.
    """
    with _TURN:
        _WRITING.acquire()
    try:
        yield
    finally:
        _WRITING.release()


class Database:
    """A database of MLflow's.

    Attributes
    ----------
    path : Path
        Where it is.
    uri : str
        The same, as MLflow takes it.

    Raises
    ------
    UserError
        If it cannot be where it is to be. The line says what helps.
    """

    def __init__(self, path: Path) -> None:
        if set(str(path)) & set("%?"):
            raise UserError(f"tracking.database={path}: MLflow opens no path with % or ?; choose another")
        check_place(path, path.parent, "database")
        self.path, self.uri = path, _uri(path)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process writes to it, and raise UserError for whatever goes wrong then."""
        with disk.lock(Path(f"{self.path}.lock")):
            try:
                yield
            except UserError:
                raise
            except Exception as error:  # MLflow, SQLAlchemy and Alembic have none in common
                raise UserError(f"{self.path}: the index cannot be written ({_in_one_line(error)}") from None

    def pushing(self) -> contextlib.AbstractContextManager[None]:
        """Wait until no other process on this machine copies it to a server."""
        return disk.lock(Path(f"{self.path}.push.lock"))

    def open(self) -> Any:
        """Return MLflow's store of it; whoever opens it is ``alone``.

        It is made if it is not there, and brought to the schema of this MLflow.

        Raises
        ------
        UserError
            If there is something else in its place.
        """
        disk.clear_abandoned(self.path.parent)
        if self.path.exists() and not self.path.is_file():
            raise UserError(f"{self.path}: is not a regular file; {AGAIN}")
        if self.path.exists() and self.path.stat().st_size:
            self._look()
            if upgraded := schema.upgrade(self.path, AGAIN):
                print(upgraded, file=sys.stderr)
        else:
            self._make()
        return SqlAlchemyStore(self.uri, ARTIFACTS)

    def analyze(self) -> None:
        """Let SQLite look at some rows of each table's index: MLflow's page of 10,000 cells is then sorted at once."""
        with contextlib.closing(sqlite3.connect(self.path.absolute(), timeout=20)) as connection, connection:
            connection.execute("PRAGMA analysis_limit = 400")
            connection.execute("ANALYZE")

    def _look(self) -> None:
        """Find what is wrong with it before MLflow does, which would try for minutes and log every time."""
        opened = sqlite3.connect(self.path.absolute(), timeout=2, isolation_level=None)
        with contextlib.closing(opened) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchall()
            if not tables:
                raise UserError(f"{self.path}: is a database, but not one of MLflow's; {AGAIN}")
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE alembic_version SET version_num = version_num")
            connection.rollback()

    def _make(self) -> None:
        """Make a new one aside, since one whose making was interrupted cannot be opened again."""
        with writing(), disk.aside(self.path.parent) as aside:
            made = aside / "made.db"
            SqlAlchemyStore(_uri(made), ARTIFACTS).engine.dispose()
            made.replace(self.path)


def _uri(database: Path) -> str:
    """Return a database's URI. A relative path stays one, as characters in the project's could have a meaning here."""
    return f"sqlite:///{os.path.join(os.curdir, database)}"


def check_place(path: Path, folder: Path, key: str) -> None:
    """Make a folder, of the database or of artifacts, if it is not there, and see that a file can be made in it."""
    try:
        str(folder).encode()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if key == "database" and len(os.fsencode(folder.absolute())) > LONGEST_FOLDER:
            raise OSError(errno.ENAMETOOLONG, "SQLite opens no path of more than 512 bytes")
    except (OSError, UnicodeEncodeError) as error:
        why = getattr(error, "strerror", "its name is not UTF-8")
        raise UserError(f"{path}: cannot be written ({why}); choose another place with tracking.{key}=...") from None


def _in_one_line(error: BaseException) -> str:
    """Say what went wrong and what helps, from the error of SQLite or the system that libraries wrapped in theirs."""
    chain = [error]
    while under := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(under)
    error = next((one for one in chain if isinstance(one, (sqlite3.Error, OSError))), error)
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = REMEDIES[sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_READONLY]
    else:
        remedy = REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, AGAIN)
    return f"{type(error).__name__}: {first_line(error)}); {remedy}"
