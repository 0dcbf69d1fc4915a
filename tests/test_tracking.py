import copy
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from circlemlp.config import Tracking
from circlemlp.errors import UserError
from circlemlp.store import disk
from circlemlp.store.records import Store, Volatile
from circlemlp.tracking.index import Index, MlflowClient
from circlemlp.tracking.runs import IDENTITY
from made_up import GRID


@pytest.fixture
def place(tmp_path):
    store = Store(tmp_path / "runs")
    for record in GRID:
        store.save(replace(record, volatile=Volatile(commit="abc", dirty=False)))
    tracking = Tracking(
        database=str(tmp_path / "mlflow.db"),
        artifacts=str(tmp_path / "artifacts"),
        experiment="test",
        curve_points=4,
        port=5000,
    )
    return store, tracking


def runs_of(tracking):
    client = MlflowClient(f"sqlite:///{tracking.database}")
    experiment = client.get_experiment_by_name(tracking.experiment)
    runs = client.search_runs([experiment.experiment_id])
    cells = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return client, cells, [run for run in runs if run not in cells]


def test_a_cell_is_a_run_with_a_child_for_every_replicate(place):
    store, tracking = place
    assert Index(tracking).bring_up_to_date([store]) == 5
    client, cells, replicates = runs_of(tracking)
    assert {run.data.tags[IDENTITY] for run in cells} == set(store.identities())
    assert sorted(run.info.run_name for run in cells) == [
        "2-4-1 lr 0.01 x 3, 6 epochs, full batch of 40",
        "2-4-1 lr 0.1 x 3, 6 epochs, full batch of 40",
        "2-6-3-1 lr 0.01 x 3, 6 epochs, full batch of 40",
        "2-6-3-1 lr 0.03 x 3, 6 epochs, full batch of 40",
        "2-6-3-1 lr 0.1 x 3, 6 epochs, full batch of 40",
    ]
    for cell in cells:
        own = [run for run in replicates if run.data.tags["mlflow.parentRunId"] == cell.info.run_id]
        assert sorted(run.info.run_name for run in own) == [f"replicate {r} of {cell.info.run_name}" for r in range(3)]
        assert [file.path for file in client.list_artifacts(cell.info.run_id)] == ["boundary.png"]
        assert cell.data.params["architecture"] == cell.info.run_name.split()[0]
        assert cell.data.params["optimizer.learning_rate"] == cell.info.run_name.split()[2]
        assert len(cell.data.tags["circlemlp.data_digest"]) == 64
        assert cell.data.tags["mlflow.source.git.commit"] == "abc"
        assert cell.data.tags["circlemlp.dirty"] == "False"
        assert len(cell.data.metrics) <= 12
    assert {run.info.status for run in cells + replicates} == {"FINISHED"}


def test_curves_are_thinned_and_nothing_that_is_not_finite_is_logged(place):
    store, tracking = place
    Index(tracking).bring_up_to_date([store])
    client, _, replicates = runs_of(tracking)
    for run in replicates:
        diverged = "circlemlp.diverged_at_epoch" in run.data.tags
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "validation_loss")]
        assert sorted(steps) == ([0, 2] if diverged else [0, 2, 4, 6])
        assert all(np.isfinite(value) and abs(value) < 1e300 for value in run.data.metrics.values())
    assert sum("circlemlp.diverged_at_epoch" in run.data.tags for run in replicates) == 1


def test_a_cell_that_diverged_altogether_is_indexed_without_a_warning(place):
    _, tracking = place
    record = copy.deepcopy(
        replace(GRID[2], parameters=np.full_like(GRID[2].parameters, 3e38), true_error=np.full(3, np.nan))
    )
    record.history.diverged_at[:] = 3
    for curve in record.history.curves:
        curve[:, 3:] = np.nan
    store = Store(Path(tracking.database).parent / "diverged")
    store.save(record)
    assert Index(tracking).bring_up_to_date([store]) == 1
    _, (cell,), _ = runs_of(tracking)
    assert cell.data.metrics["diverged_replicates"] == 3


REBUILD = """
import sys
from pathlib import Path
from circlemlp.config import Tracking
from circlemlp.store.records import Store
from circlemlp.tracking.index import Index
print(Index(Tracking.model_validate_json(sys.argv[1])).bring_up_to_date([Store(Path(sys.argv[2]))]))
"""


def rebuild(store, tracking):
    """Index in another process, as MLflow keeps its connection to a database that is no longer there."""
    command = [sys.executable, "-c", REBUILD, tracking.model_dump_json(), store.folder]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def respelled(tracking):
    """Spell the path of the database differently, as MLflow keeps a connection for each spelling."""
    path = Path(tracking.database)
    return tracking.model_copy(update={"database": str(path.parent / ".." / path.parent.name / path.name)})


def names_in(database):
    """Return the names of all runs, read without MLflow."""
    with closing(sqlite3.connect(database)) as connection:
        return sorted(name for (name,) in connection.execute("SELECT name FROM runs WHERE lifecycle_stage = 'active'"))


def test_indexing_again_adds_nothing_and_a_deleted_database_comes_back(place, tmp_path):
    store, tracking = place
    index = Index(tracking)
    assert index.bring_up_to_date([store, store]) == 5
    assert index.bring_up_to_date([store]) == 0
    names = names_in(tracking.database)
    for file in tmp_path.glob("mlflow.db*"):
        file.unlink()
    shutil.rmtree(tmp_path / "artifacts")
    assert rebuild(store, tracking) == "5"
    assert names_in(tracking.database) == names
    assert not list(tmp_path.glob(".aside-*"))


def test_what_a_killed_writer_left_is_done_again(place):
    store, tracking = place
    Index(tracking).bring_up_to_date([store])
    client, (cell, *_), replicates = runs_of(tracking)
    own = [run for run in replicates if run.data.tags["mlflow.parentRunId"] == cell.info.run_id]
    # As it would be after a kill: some children written, one not finished, nor the cell's own run.
    client.update_run(cell.info.run_id, status="RUNNING")
    client.update_run(own[0].info.run_id, status="RUNNING")
    client.delete_run(own[1].info.run_id)
    # Somebody's own run in the same experiment is not ours to touch.
    theirs = client.create_run(cell.info.experiment_id, run_name="theirs").info.run_id
    assert Index(tracking).bring_up_to_date([store]) == 1
    assert client.get_run(theirs).info.status == "RUNNING"
    client.delete_run(theirs)
    _, cells, children = runs_of(tracking)
    assert {run.info.status for run in cells + children} == {"FINISHED"}
    assert (len(cells), len(children)) == (5, 15)


def test_forgotten_environment_variables_redirect_nothing(place, monkeypatch, tmp_path):
    store, tracking = place
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    assert rebuild(store, tracking) == "5"
    assert not (tmp_path / "other.db").exists()


def test_damaged_records_are_named_once_and_left_out(place, capsys):
    store, tracking = place
    for record in GRID[:3]:
        (store.path(record.identity) / "arrays.npz").write_bytes(b"")
    index = Index(tracking)
    assert index.bring_up_to_date([store]) == 2
    first = min(record.identity for record in GRID[:3])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"not indexed: {store.path(first)}: arrays.npz is not what was written (and 2 more like it)"
    assert index.bring_up_to_date([store]) == 0
    assert capsys.readouterr().err == ""
    shutil.rmtree(store.path(first))
    store.save(next(record for record in GRID if record.identity == first))
    assert index.bring_up_to_date([store]) == 1


def test_records_of_another_format_are_named_and_left_out(place, capsys):
    store, tracking = place
    for record in GRID[:2]:
        manifest = store.path(record.identity) / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"format": 3', '"format": 1'))
    assert Index(tracking).bring_up_to_date([store]) == 3
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
def test_what_is_no_database_is_one_line_whose_remedies_work(make, place, tmp_path, capfd):
    _, tracking = place
    store = Store(tmp_path / "one")
    store.save(GRID[0])
    make(Path(tracking.database))
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        Index(tracking)
    assert time.monotonic() - start < 30  # MLflow tries for minutes
    assert capfd.readouterr() == ("", "")
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).startswith(f"{tracking.database}: ")
    assert "move it away, and it is made again from the records, or" in str(caught.value)
    assert "choose another place with tracking.database=" in str(caught.value)
    if make is a_text:
        elsewhere = tracking.model_copy(update={"database": str(tmp_path / "new" / "other.db")})
        assert Index(elsewhere).bring_up_to_date([store]) == 1
    Path(tracking.database).rename(tmp_path / "moved away")
    assert Index(respelled(tracking)).bring_up_to_date([store]) == 1


@pytest.mark.parametrize("key", ["database", "artifacts"])
def test_a_place_that_cannot_be_written_is_one_line(key, place, tmp_path):
    _, tracking = place
    (tmp_path / "file").touch()
    for where in (tmp_path / "file" / "inside", Path("/sys/inside")):
        with pytest.raises(UserError, match=rf"^{where}: .*; .* with tracking\.{key}=...$"):
            Index(tracking.model_copy(update={key: str(where)}))


def test_every_character_in_a_setting_works_or_is_refused(place, tmp_path, monkeypatch):
    store, tracking = place
    monkeypatch.chdir(tmp_path)
    odd = "a:b'c\"d#e&f;g$h*i|<>[]{}\\j k@l=mü介"
    for name in (f"{odd}/{odd}.db", ":memory:"):
        works = tracking.model_copy(update={"database": name, "artifacts": odd})
        before = set(tmp_path.iterdir())
        assert Index(works).bring_up_to_date([store]) == 5
        assert len(names_in(tmp_path / name)) == 20
        assert set(tmp_path.iterdir()) - before <= {tmp_path / name for name in (odd, name, f"{name}.lock")}
    for name in ("e%41f.db", "q?r/my.db"):
        before = set(tmp_path.iterdir())
        with pytest.raises(UserError, match=r"MLflow opens no path with % or \?; choose another"):
            Index(tracking.model_copy(update={"database": name}))
        assert set(tmp_path.iterdir()) == before


def test_an_empty_file_becomes_a_database(place):
    store, tracking = place
    Path(tracking.database).touch()
    assert Index(tracking).bring_up_to_date([store]) == 5


def test_a_database_that_another_program_keeps_locked_is_one_line_whose_remedy_works(place):
    store, tracking = place
    Index(tracking)
    with closing(sqlite3.connect(tracking.database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"database is locked\); end the program that keeps it locked, and run"):
            Index(tracking)
    assert Index(tracking).bring_up_to_date([store]) == 5


def test_a_database_whose_pictures_are_elsewhere_is_one_line_whose_remedy_works(place, tmp_path):
    store, tracking = place
    Index(tracking)
    moved = tracking.model_copy(update={"artifacts": str(tmp_path / "others")})
    with pytest.raises(UserError, match=r"keeps its pictures in .*/artifacts; move it away"):
        Index(moved)
    Path(tracking.database).unlink()
    assert Index(respelled(moved)).bring_up_to_date([store]) == 5
    assert len(list((tmp_path / "others").rglob("boundary.png"))) == 5


def test_a_database_whose_making_was_killed_is_made_again(place, tmp_path):
    store, tracking = place
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
    assert Index(tracking).bring_up_to_date([store]) == 5
    assert not left.exists()


def test_the_user_s_own_matplotlib_settings_stop_no_index(place, monkeypatch):
    store, tracking = place
    monkeypatch.setitem(mpl.rcParams, "text.usetex", True)
    assert Index(tracking).bring_up_to_date([store]) == 5


def test_an_experiment_deleted_in_the_ui_comes_back(place):
    store, tracking = place
    assert Index(tracking).bring_up_to_date([store]) == 5
    client, (cell, *_), _ = runs_of(tracking)
    client.delete_experiment(cell.info.experiment_id)
    Index(tracking).bring_up_to_date([store])
    assert len(runs_of(tracking)[1]) == 5
