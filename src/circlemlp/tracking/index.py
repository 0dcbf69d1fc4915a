"""The index itself: an MLflow experiment in an SQLite database, which can be deleted at any time.

It is brought up to date as often as one likes: what is indexed is left alone, what a killed writer left half done is
done again, and a deleted database comes back.
"""

import contextlib
import errno
import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from circlemlp.config import Tracking
from circlemlp.errors import UserError, first_line
from circlemlp.report.boundary import draw_record
from circlemlp.store import disk
from circlemlp.store.records import DamagedRecord, Record, Store
from circlemlp.tracking.runs import IDENTITY, KIND, Run

WRITING = threading.Lock()
"""Held while a run is written, so that another thread can end the process between two runs."""

ELSEWHERE = "choose another place with tracking.database=..."
AGAIN = f"move it away, and it is made again from the records, or {ELSEWHERE}"
REMEDIES = {
    sqlite3.SQLITE_FULL: "make room on its disk and run `make ui`",
    sqlite3.SQLITE_READONLY: f"allow yourself to write it, or {ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"allow yourself to write it and its folder, or {ELSEWHERE}",
    sqlite3.SQLITE_BUSY: "end the program that keeps it locked, and run `make ui`",
}
"""What helps against an error of SQLite; against any other, a new database does."""

LONGEST_FOLDER = 512 - len("/.aside-12345678/made.db")  # SQLite opens no longer path


class Index:
    """One MLflow experiment in one SQLite database; both are made if they are not there.

    Attributes
    ----------
    uri, artifacts : str
        Where the database and the pictures are.
    experiment_id : str

    Raises
    ------
    UserError
        If the database cannot be used. The line says what helps.
    """

    def __init__(self, tracking: Tracking) -> None:
        assert tracking.database is not None
        if set(tracking.database) & set("%?"):
            raise UserError(f"tracking.database={tracking.database}: MLflow opens no path with % or ?; choose another")
        self._points = tracking.curve_points
        self._database, pictures = Path(tracking.database), Path(tracking.artifacts).absolute()
        self._named: set[str] = set()
        self.artifacts = pictures.as_uri()
        self.uri = _uri(self._database)
        _check_place(self._database, self._database.parent, "database")
        _check_place(pictures, pictures, "artifacts")
        with self._alone():
            disk.clear_abandoned(self._database.parent)
            if self._database.exists() and not self._database.is_file():
                raise UserError(f"{self._database}: is not a regular file; {AGAIN}")
            if self._database.exists() and self._database.stat().st_size:
                self._look()
            else:
                self._make_database()
            self._client = MlflowClient(self.uri)
            self.experiment_id = self._find_experiment(tracking.experiment)

    def _look(self) -> None:
        """Find what is wrong with the database before MLflow does, which would try for minutes and log every time."""
        opened = sqlite3.connect(self._database.absolute(), timeout=2, isolation_level=None)
        with contextlib.closing(opened) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchall()
            if not tables:
                raise UserError(f"{self._database}: is a database, but not one of MLflow's; {AGAIN}")
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE alembic_version SET version_num = version_num")
            connection.rollback()

    def _make_database(self) -> None:
        """Make a new database aside, since one whose making was interrupted cannot be opened again."""
        with WRITING, disk.aside(self._database.parent) as aside:
            made = aside / "made.db"
            # With a place for artifacts that is no path, as MLflow puts one into SQL without escaping it.
            SqlAlchemyStore(_uri(made), "mlflow-artifacts:/").engine.dispose()
            made.replace(self._database)

    def _find_experiment(self, name: str) -> str:
        """Return the identifier of the experiment, after making it, or bringing a deleted one back."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, artifact_location=self.artifacts))
        if found.artifact_location != self.artifacts:  # the project was moved or copied, or the setting was changed
            raise UserError(f"{self._database}: keeps its pictures in {found.artifact_location}; {AGAIN}")
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process writes to this database, and raise UserError for whatever goes wrong then."""
        with disk.lock(Path(f"{self._database}.lock")):
            try:
                yield
            except UserError:
                raise
            except Exception as error:  # MLflow, SQLAlchemy and Alembic have none in common
                raise UserError(f"{self._database}: the index cannot be written ({_in_one_line(error)}") from None

    def bring_up_to_date(self, stores: Iterable[Store]) -> int:
        """Index the records that are not indexed yet, and return how many were added.

        A record in several stores is one record. Those that cannot be read are named and left out.
        """
        with self._alone():
            indexed, left_out = self._indexed(), []
            before = len(indexed)
            for store in stores:
                for identity in store.identities():
                    if identity in indexed:
                        continue
                    try:
                        record = store.load(identity)
                    except KeyError:  # removed in the meantime
                        continue
                    except (DamagedRecord, UserError) as error:
                        left_out.append(error)
                        continue
                    with WRITING:
                        self._add(record)
                    indexed.add(identity)
            self._name(left_out)
            return len(indexed) - before

    def _name(self, left_out: Iterable[Exception]) -> None:
        """Say once what is not indexed, in one line for each kind of reason."""
        fresh = [error for error in left_out if str(error) not in self._named]
        self._named.update(map(str, fresh))
        for kind in dict.fromkeys(map(type, fresh)):
            first, *others = (error for error in fresh if type(error) is kind)
            more = f" (and {len(others)} more like it)" if others else ""
            print(f"not indexed: {first}{more}", file=sys.stderr)

    def _indexed(self) -> set[str]:
        """Return the identities of the cells that are indexed, after removing what was left unfinished."""
        for run in self._search(f"attributes.status != 'FINISHED' and tags.`{KIND}` = 'cell'"):
            for child in self._search(f"tags.mlflow.parentRunId = '{run.info.run_id}'"):
                self._client.delete_run(child.info.run_id)
            self._client.delete_run(run.info.run_id)
        return {run.data.tags[IDENTITY] for run in self._search(f"tags.`{KIND}` = 'cell'")}

    def _search(self, condition: str) -> list[Any]:
        found, token = [], None
        while True:
            page = self._client.search_runs([self.experiment_id], condition, max_results=1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return found

    def _add(self, record: Record) -> None:
        """Write a record's runs. The cell's is finished last, so a finished cell is a whole one."""
        cell = Run.for_cell(record, self._points)
        cell_id = self._begin(cell)
        for replicate in range(record.config.training.replicates):
            child = Run.for_replicate(record, replicate, self._points)
            child.tags["mlflow.parentRunId"] = cell_id
            self._end(self._begin(child), child)
        with disk.aside(self._database.parent) as aside:
            picture = aside / "boundary.png"
            draw_record(record, picture)
            self._client.log_artifact(cell_id, str(picture))
        self._end(cell_id, cell)

    def _begin(self, run: Run) -> str:
        made = self._client.create_run(self.experiment_id, start_time=run.started_ms, tags=run.tags, run_name=run.name)
        run_id = str(made.info.run_id)
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, run.ended_ms, step) for name, value, step in run.metrics],
            params=[Param(name, str(value)) for name, value in run.parameters.items()],
        )
        return run_id

    def _end(self, run_id: str, run: Run) -> None:
        self._client.set_terminated(run_id, "FINISHED", end_time=run.ended_ms)


def _uri(database: Path) -> str:
    """Return a database's URI. A relative path stays one, as characters in the project's could have a meaning here."""
    return f"sqlite:///{os.path.join(os.curdir, database)}"


def _check_place(path: Path, folder: Path, key: str) -> None:
    """Make a folder if it is not there, and see that a file can be made in it."""
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
