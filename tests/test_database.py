"""The database of an index: made again whenever it is gone, and never in the way."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
import matplotlib as mpl

from circlemlp.errors import UserError
from circlemlp.store import disk
from circlemlp.store.records import Store
from circlemlp.tracking.index import Index
from indexes import (
    empty,  # noqa: F401
    exported,
    files_of,
    nowhere,  # noqa: F401
    place,  # noqa: F401
    respelled,
    runs_in,
    runs_of,
    up_to_date,
)
from made_up import GRID, SETTINGS

REBUILD = """
import sys
from pathlib import Path
from circlemlp.config import Report, Tracking
from circlemlp.store.records import Store
from circlemlp.tracking.index import Index
report = Report(bad_run_error=0.03, practically_equal=0.1)
print(Index(Tracking.model_validate_json(sys.argv[1]), report).bring_up_to_date(Store(Path(sys.argv[2]))))
"""


def rebuild(store, tracking):
    """Index in another process, as MLflow keeps its connection to a database that is no longer there."""
    command = [sys.executable, "-c", REBUILD, tracking.model_dump_json(), store.folder]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_indexing_again_adds_nothing_and_a_deleted_database_comes_back_the_same(nowhere, tmp_path):
    store, tracking = nowhere
    index = Index(tracking, SETTINGS)
    assert index.bring_up_to_date(store) == 5
    assert index.bring_up_to_date(store) == 0
    before = runs_in(tracking.database)
    for file in tmp_path.glob("mlflow.db*"):
        file.unlink()
    shutil.rmtree(tmp_path / "artifacts")
    assert rebuild(store, tracking) == "5"
    assert runs_in(tracking.database) == before
    assert not list(tmp_path.glob(".aside-*"))


def test_a_killed_writer_leaves_whole_cells_and_the_next_one_adds_the_others(place, tmp_path):
    store, tracking = place
    command = [sys.executable, "-c", REBUILD, tracking.model_dump_json(), store.folder]
    writer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("artifacts/*/*/.aside-*/artifacts")):  # it is writing the files of a cell
        assert writer.poll() is None
        time.sleep(0.001)
    writer.kill()
    writer.wait()
    cells = [name for _, name in runs_in(tracking.database) if "lr" in name]
    assert len(runs_in(tracking.database)) == 4 * len(cells) < 20
    assert up_to_date(tracking, store) == 5 - len(cells)
    _, cells, replicates = runs_of(tracking)
    assert (len(cells), len(replicates)) == (5, 15)
    assert all((files_of(tracking, cell) / "boundary.png").exists() for cell in cells)
    assert not list(tmp_path.rglob(".aside-*"))


def test_forgotten_environment_variables_redirect_nothing(nowhere, monkeypatch, tmp_path):
    store, tracking = nowhere
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    assert rebuild(store, tracking) == "5"
    assert not (tmp_path / "other.db").exists()


def test_damaged_records_are_named_once_and_left_out(place, capsys):
    store, tracking = place
    for record in GRID[:3]:
        (store.path(record.identity) / "arrays.npz").write_bytes(b"")
    index = Index(tracking, SETTINGS)
    assert index.bring_up_to_date(store) == 2
    first = min(record.identity for record in GRID[:3])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"not indexed: {store.path(first)}: arrays.npz is not what was written (and 2 more like it)"
    assert index.bring_up_to_date(store) == 0
    assert capsys.readouterr().err == ""
    shutil.rmtree(store.path(first))
    store.save(next(record for record in GRID if record.identity == first))
    assert index.bring_up_to_date(store) == 1


def test_records_of_another_format_are_named_and_left_out(place, capsys):
    store, tracking = place
    for record in GRID[:2]:
        manifest = store.path(record.identity) / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"format": 3', '"format": 1'))
    assert up_to_date(tracking, store) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "has format 1; this version reads format 3 (and 1 more like it)" in line


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def a_text(path):
    path.write_text("not a database, whatever its name says" * 100)


def a_database_of_another_kind(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE mine (number)")


def a_damaged_one(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("CREATE TABLE experiments (name)")
        connection.executemany("INSERT INTO experiments VALUES (?)", [("x" * 100,)] * 1000)
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 7 * 4096] = bytes(2 * 4096)
    path.write_bytes(content)


def one_of_another_mlflow(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('of the future')")


MAKERS = (a_folder, a_pipe, a_text, a_database_of_another_kind, a_damaged_one, one_of_another_mlflow)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_what_is_no_database_is_one_line_whose_remedies_work(make, nowhere, tmp_path, capfd):
    _, tracking = nowhere
    store = Store(tmp_path / "one")
    store.save(GRID[0])
    make(Path(tracking.database))
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        Index(tracking, SETTINGS)
    assert time.monotonic() - start < 30  # MLflow tries for minutes
    assert capfd.readouterr() == ("", "")
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).startswith(f"{tracking.database}: ")
    assert "move it away, and it is made again from the records, or" in str(caught.value)
    assert "choose another place with tracking.database=" in str(caught.value)
    if make is a_text:
        elsewhere = tracking.model_copy(update={"database": str(tmp_path / "new" / "other.db")})
        assert up_to_date(elsewhere, store) == 1
    Path(tracking.database).rename(tmp_path / "moved away")
    assert up_to_date(respelled(tracking), store) == 1


@pytest.mark.parametrize("key", ["database", "artifacts"])
def test_a_place_that_cannot_be_written_is_one_line(key, place, tmp_path):
    _, tracking = place
    (tmp_path / "file").touch()
    for where in (tmp_path / "file" / "inside", Path("/sys/inside")):
        with pytest.raises(UserError, match=rf"^{where}: .*; .* with tracking\.{key}=...$"):
            Index(tracking.model_copy(update={key: str(where)}), SETTINGS)


def test_a_refused_place_of_artifacts_leaves_no_database(nowhere):
    _, tracking = nowhere
    with pytest.raises(UserError, match=r"tracking\.artifacts="):
        Index(tracking.model_copy(update={"artifacts": "/sys/inside"}), SETTINGS)
    assert not Path(tracking.database).exists()


def test_every_character_in_a_setting_works_or_is_refused(place, tmp_path, monkeypatch):
    store, tracking = place
    monkeypatch.chdir(tmp_path)
    odd = "a:b'c\"d#e&f;g$h*i|<>[]{}\\j k@l=mü介"
    for name in (f"{odd}/{odd}.db", ":memory:"):
        works = tracking.model_copy(update={"database": name, "artifacts": odd})
        before = set(tmp_path.iterdir())
        assert up_to_date(works, store) == 5
        assert len(runs_in(tmp_path / name)) == 20
        assert set(tmp_path.iterdir()) - before <= {tmp_path / name for name in (odd, name, f"{name}.lock")}
    for name in ("e%41f.db", "q?r/my.db"):
        before = set(tmp_path.iterdir())
        with pytest.raises(UserError, match=r"MLflow opens no path with % or \?; choose another"):
            Index(tracking.model_copy(update={"database": name}), SETTINGS)
        assert set(tmp_path.iterdir()) == before


def test_an_empty_file_becomes_a_database(nowhere):
    store, tracking = nowhere
    Path(tracking.database).touch()
    assert up_to_date(tracking, store) == 5


def test_a_database_that_another_program_keeps_locked_is_one_line_whose_remedy_works(place):
    store, tracking = place
    Index(tracking, SETTINGS)
    with closing(sqlite3.connect(tracking.database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"database is locked\); end the program that keeps it locked$"):
            Index(tracking, SETTINGS)
    assert up_to_date(tracking, store) == 5


def test_a_database_whose_making_was_killed_is_made_again(nowhere, tmp_path):
    store, tracking = nowhere
    command = [sys.executable, "-c", REBUILD, tracking.model_dump_json(), store.folder]
    writer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    writer.send_signal(signal.SIGSTOP)
    while not any(made.stat().st_size for made in tmp_path.glob(".aside-*/*.db")):  # MLflow is filling it
        writer.send_signal(signal.SIGCONT)
        time.sleep(0.01)
        assert writer.poll() is None
        writer.send_signal(signal.SIGSTOP)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (left,) = tmp_path.glob(".aside-*")
    assert (left / "made.db").stat().st_size > 0
    assert not Path(tracking.database).exists()
    long_ago = time.time() - 2 * disk.SECONDS_TO_LOCK_AN_ASIDE
    os.utime(left, (long_ago, long_ago))
    assert up_to_date(tracking, store) == 5
    assert not left.exists()


def test_the_user_s_own_matplotlib_settings_stop_no_index(place, monkeypatch):
    store, tracking = place
    monkeypatch.setitem(mpl.rcParams, "text.usetex", True)
    assert up_to_date(tracking, store) == 5


def test_sqlite_knows_how_to_search_a_large_index(place):
    store, tracking = place
    up_to_date(tracking, store)
    with closing(sqlite3.connect(tracking.database)) as connection:
        known = {table for (table,) in connection.execute("SELECT tbl FROM sqlite_stat1")}
    assert known >= {"runs", "tags", "params", "metrics", "latest_metrics"}


def test_nothing_in_the_database_says_where_it_is(place, tmp_path, monkeypatch):
    store, tracking = place
    monkeypatch.chdir(tmp_path)
    tracking = tracking.model_copy(update={"database": "a/mlflow.db", "artifacts": "mlartifacts"})
    up_to_date(tracking, store, exported(tmp_path, monkeypatch, *GRID))
    with closing(sqlite3.connect("a/mlflow.db")) as connection:
        # MLflow's own experiment, which has no runs, is in a folder of this process.
        connection.execute("DELETE FROM experiments WHERE name = 'Default'")
        dump = "\n".join(connection.iterdump())
    assert "../mlartifacts" in dump
    assert str(tmp_path) not in dump
    assert "file:" not in dump


def test_another_place_of_artifacts_is_refused_in_one_line_whose_remedy_works(place, tmp_path):
    store, tracking = place
    up_to_date(tracking, store)
    moved = tracking.model_copy(update={"artifacts": str(tmp_path / "others")})
    with pytest.raises(UserError, match=r"keeps its artifacts in .*/artifacts, not in .*/others; move it away"):
        Index(moved, SETTINGS)
    assert not Path(moved.artifacts).exists()
    Path(tracking.database).unlink()
    assert up_to_date(respelled(moved), store) == 5
    assert len(list((tmp_path / "others").rglob("boundary.png"))) == 5
