import copy
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import mlflow
import numpy as np
import pytest

from circlemlp.config import Tracking
from circlemlp.errors import UserError
from circlemlp.store.records import Store
from circlemlp.tracking import IDENTITY, Index, serve
from made_up import GRID


@pytest.fixture
def place(tmp_path):
    store = Store(tmp_path / "runs")
    for record in GRID:
        store.save(replace(record, volatile={"commit": "abc", "dirty": False}))
    tracking = Tracking(
        database=str(tmp_path / "mlflow.db"),
        artifacts=str(tmp_path / "artifacts"),
        experiment="test",
        curve_points=4,
        port=5000,
    )
    return store, tracking


def runs_of(tracking):
    client = mlflow.MlflowClient(f"sqlite:///{tracking.database}")
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


REBUILD = """
import json, sys
from pathlib import Path
from circlemlp.config import Tracking
from circlemlp.store.records import Store
from circlemlp.tracking import Index
index = Index(Tracking.model_validate_json(sys.argv[1]))
added = index.bring_up_to_date([Store(Path(sys.argv[2]))])
names = [run.info.run_name for run in index._search("tags.`circlemlp.kind` = 'cell'")]
print(json.dumps([added, sorted(names)]))
"""


def test_indexing_again_adds_nothing_and_a_deleted_database_comes_back(place, tmp_path):
    store, tracking = place
    index = Index(tracking)
    assert index.bring_up_to_date([store, store]) == 5
    assert index.bring_up_to_date([store]) == 0
    names = [run.info.run_name for run in runs_of(tracking)[1]]
    for file in tmp_path.glob("mlflow.db*"):
        file.unlink()
    shutil.rmtree(tmp_path / "artifacts")
    # In another process, as MLflow keeps its connection to a database that is no longer there.
    done = subprocess.run(
        [sys.executable, "-c", REBUILD, tracking.model_dump_json(), store.folder],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [5, sorted(names)]


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
    assert Index(tracking).bring_up_to_date([store]) == 5
    assert "MLFLOW_RUN_ID" not in os.environ
    assert not (tmp_path / "other.db").exists()


def test_a_damaged_record_is_named_and_passed_over(place, capsys):
    store, tracking = place
    (store.path(GRID[0].identity) / "arrays.npz").write_bytes(b"")
    assert Index(tracking).bring_up_to_date([store]) == 4
    assert f"{GRID[0].identity}: arrays.npz is not what was written" in capsys.readouterr().err


def test_a_record_of_another_version_is_named_and_passed_over(place, capsys):
    store, tracking = place
    ingredients = copy.deepcopy(GRID[0].ingredients)
    del ingredients["config"]["model"]["activation"]
    old = replace(GRID[0], ingredients=ingredients)
    store.save(old)
    assert Index(tracking).bring_up_to_date([store]) == 5
    assert f"{old.identity}: has no 'activation', as of another version" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line(place):
    _, tracking = place
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"tracking.port={port}: .*in use; choose another"):
            serve(Index(tracking), port)


def test_a_database_that_cannot_be_written_is_one_line(place, tmp_path):
    _, tracking = place
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Index(tracking.model_copy(update={"database": str(tmp_path / "file" / "mlflow.db")}))


def test_a_database_that_is_none_is_one_line(place):
    _, tracking = place
    Path(tracking.database).write_text("not a database, whatever its name says" * 100)
    with pytest.raises(UserError, match=r"the index cannot be written .*not a database.*; it can be deleted"):
        Index(tracking)


INTERRUPTED_MAKING = """
import os, signal, sys, threading
from circlemlp.config import Tracking
from circlemlp.tracking import Index
threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
import mlflow.store.tracking.sqlalchemy_store
Index(Tracking.model_validate_json(sys.argv[1]))
os._exit(0)
"""


def test_a_database_whose_making_was_killed_is_made_again(place):
    store, tracking = place
    killed = 0
    for seconds in (0.5, 2.0, 2.3, 2.6, 2.9, 3.2):
        arguments = [sys.executable, "-c", INTERRUPTED_MAKING, tracking.model_dump_json(), str(seconds)]
        killed += subprocess.run(arguments, capture_output=True).returncode == -9
    assert killed
    assert Index(tracking).bring_up_to_date([store]) == 5


def test_the_user_s_own_matplotlib_settings_stop_no_index(place, monkeypatch):
    store, tracking = place
    monkeypatch.setitem(mpl.rcParams, "text.usetex", True)
    assert Index(tracking).bring_up_to_date([store]) == 5


def test_artifacts_that_cannot_be_written_are_one_line(place, tmp_path):
    store, tracking = place
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the index cannot be written"):
        Index(tracking.model_copy(update={"artifacts": str(tmp_path / "file" / "a")})).bring_up_to_date([store])


def test_an_experiment_deleted_in_the_ui_comes_back(place):
    store, tracking = place
    assert Index(tracking).bring_up_to_date([store]) == 5
    client, (cell, *_), _ = runs_of(tracking)
    client.delete_experiment(cell.info.experiment_id)
    Index(tracking).bring_up_to_date([store])
    assert len(runs_of(tracking)[1]) == 5
