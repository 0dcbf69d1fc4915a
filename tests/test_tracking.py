import base64
import copy
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
import matplotlib as mpl
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag, ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from circlemlp.config import Tracking
from circlemlp.errors import UserError
from circlemlp.report.cell_results import by_architecture
from circlemlp.report.comparison import compare
from circlemlp.store import disk
from circlemlp.store.npz import unpack
from circlemlp.store.records import Store, Volatile
from circlemlp.store.results import export
from circlemlp.store.tables import as_csv, replicate_rows
from circlemlp.tracking import rows
from circlemlp.tracking.experiments import BY_HAND
from circlemlp.tracking.index import Index
from circlemlp.tracking.runs import KIND, RECORDS, STAGE, Run, logarithmic
from conftest import SOURCE
from made_up import GRID, SETTINGS, made_up

JUDGED = made_up((4,), 0.1, [0.31, 0.32], first=3)
"""The confirmation of the first cell of the grid."""


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """An index without any runs, which takes some seconds to make."""
    made = tmp_path_factory.mktemp("index") / "mlflow.db"
    tracking = Tracking(
        database=str(made),
        artifacts=str(made.with_name("artifacts")),
        experiment="other",
        curve_points=4,
        replicate_runs=500,
        port=5000,
    )
    Index(tracking, SETTINGS)
    return made


@pytest.fixture
def place(nowhere, empty):
    """A store of records, and where an index of them is, which is still empty."""
    _, tracking = nowhere
    shutil.copy(empty, tracking.database)
    return nowhere


@pytest.fixture
def nowhere(tmp_path):
    """A store of records, and where an index of them is to be made."""
    store = Store(tmp_path / "runs")
    for record in GRID:
        store.save(replace(record, volatile=Volatile(commit="abc", dirty=False, experiment="mine")))
    tracking = Tracking(
        database=str(tmp_path / "mlflow.db"),
        artifacts=str(tmp_path / "artifacts"),
        experiment="other",
        curve_points=4,
        replicate_runs=500,
        port=5000,
    )
    return store, tracking


def up_to_date(tracking, store, *results):
    return Index(tracking, SETTINGS).bring_up_to_date(store, results)


def runs_of(tracking, name="mine"):
    """Return a client, and the runs of an experiment: those of cells, and those of replicates."""
    client = MlflowClient(f"sqlite:///{tracking.database}")
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id])
    cells = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return client, cells, [run for run in runs if run not in cells]


def children(run, replicates):
    return [child for child in replicates if child.data.tags["mlflow.parentRunId"] == run.info.run_id]


def files_of(tracking, run):
    """Return the folder of a run's artifacts: MLflow's server puts the same two together."""
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    return Path(tracking.artifacts) / run.info.artifact_uri.removeprefix("mlflow-artifacts:/")


# --------------------------------------------------------------------------------------------------- what runs say


def test_a_cell_is_a_run_with_a_child_for_every_replicate(place):
    store, tracking = place
    assert up_to_date(tracking, store) == 5
    _, cells, replicates = runs_of(tracking)
    assert {run.data.tags[RECORDS] for run in cells} == set(store.identities())
    assert sorted(run.info.run_name for run in cells) == [
        "2-4-1  lr 0.01",
        "2-4-1  lr 0.1",
        "2-6-3-1  lr 0.01",
        "2-6-3-1  lr 0.03",
        "2-6-3-1  lr 0.1",
    ]
    for cell in cells:
        own = children(cell, replicates)
        assert [run.info.run_name for run in own] == ["r00", "r01", "r02"]  # the order in which MLflow lists them
        assert cell.data.params["architecture"] == cell.info.run_name.split()[0]
        assert cell.data.params["optimizer.learning_rate"] == cell.info.run_name.split()[2]
        assert not any("hidden_layer_sizes" in key for key in cell.data.params)
        assert cell.data.tags["mlflow.source.git.commit"] == "abc"
        assert cell.data.tags["circlemlp.dirty"] == "False"
    assert {run.info.status for run in cells + replicates} == {"FINISHED"}


def test_the_numbers_of_a_cell_are_those_of_the_report(place):
    store, tracking = place
    up_to_date(tracking, store)
    _, cells, _ = runs_of(tracking)
    for run in cells:
        ((result,),) = by_architecture([store.load(run.data.tags[RECORDS])], SETTINGS)
        expected = {
            "true_error": result.error.estimate,
            "validation_loss": result.loss.estimate,
            "validation_accuracy": result.accuracy.estimate,
            "bad_runs": result.bad_runs,
            "diverged": result.diverged,
        }
        assert {key: value for key, value in run.data.metrics.items() if "/" not in key} == expected


def test_replicates_have_none_of_the_metrics_that_cells_are_sorted_by(place):
    store, tracking = place
    up_to_date(tracking, store)
    _, cells, replicates = runs_of(tracking)
    of_cells, of_replicates = ({key for run in runs for key in run.data.metrics} for runs in (cells, replicates))
    assert of_cells & of_replicates == {f"curves/{name}_loss" for name in ("training", "validation")} | {
        "curves/validation_accuracy"
    }


def test_curves_are_thinned_and_nothing_that_is_not_finite_is_logged(place):
    store, tracking = place
    up_to_date(tracking, store)
    client, _, replicates = runs_of(tracking)
    for run in replicates:
        diverged = "circlemlp.diverged_at_epoch" in run.data.tags
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "curves/validation_loss")]
        assert sorted(steps) == ([0, 1, 2] if diverged else [0, 1, 2, 6])
        assert all(np.isfinite(value) and abs(value) < 1e300 for value in run.data.metrics.values())
    assert sum("circlemlp.diverged_at_epoch" in run.data.tags for run in replicates) == 1


@pytest.mark.parametrize(("epochs", "points"), [(1, 2), (1, 150), (2, 2), (60, 3), (1000, 150), (10_000_000, 1000)])
def test_logarithmic_epochs_have_both_ends_and_widen(epochs, points):
    kept = logarithmic(epochs, points)
    assert (kept[0], kept[-1]) == (0, epochs)
    assert len(kept) <= points
    assert (np.diff(np.diff(kept)[1:]) >= -1).all()  # but for rounding


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
    assert up_to_date(tracking, store) == 1
    _, (cell,), _ = runs_of(tracking, BY_HAND)
    assert cell.data.metrics == {"true_error": 1, "validation_accuracy": 0, "bad_runs": 3, "diverged": 3}


def test_a_run_says_what_it_is(place):
    store, tracking = place
    up_to_date(tracking, store)
    _, cells, replicates = runs_of(tracking)
    for run in cells:
        record = store.load(run.data.tags[RECORDS])
        command = run.data.tags["mlflow.source.name"]
        assert command.startswith("python pipelines/train.py ")
        assert f"optimizer.learning_rate={record.config.optimizer.learning_rate}" in command.split()
        finding, how, shown = run.data.tags["mlflow.note.content"].split("\n\n")
        assert re.match(
            r"True error \*\*0\.0\d+\*\*, from replicates 0 to 2: \d with a true error above 0.03, [01] of", finding
        )
        assert how == "How to train it again:"
        assert shown.strip("`").replace("\\\n", "").split() == command.split()
        assert run.data.tags["mlflow.user"] == run.info.user_id != ""
        (data,) = run.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("quarter_circle", record.ingredients["data"][:12])
        assert all(child.data.tags["mlflow.source.name"] == command for child in children(run, replicates))


def test_the_files_of_a_run_are_those_of_its_record(place):
    store, tracking = place
    up_to_date(tracking, store)
    _, cells, _ = runs_of(tracking)
    for run in cells:
        folder, record = files_of(tracking, run), store.load(run.data.tags[RECORDS])
        names = ["boundary.png", "configuration.yaml", "parameters.npz", "replicates.csv"]
        assert sorted(file.name for file in folder.iterdir()) == names
        config = copy.deepcopy(record.ingredients["config"])
        del config["training"]["first_replicate"], config["training"]["replicates"]  # which are in the table
        assert yaml.safe_load((folder / "configuration.yaml").read_text()) == config
        assert (folder / "replicates.csv").read_text() == as_csv(list(replicate_rows([record])))
        parameters = unpack((folder / "parameters.npz").read_bytes())["parameters"]
        np.testing.assert_array_equal(parameters, record.parameters)
        assert (folder / "boundary.png").read_bytes().startswith(b"\x89PNG")


def through_mlflow(store, experiment, run):
    """Write a run through MLflow's own interface."""
    tags = [RunTag(*tag) for tag in (run.tags | {"mlflow.user": "me"}).items()]
    made = store.create_run(experiment, "me", run.started_ms, tags, run.name).info.run_id
    metrics = [Metric(name, value, run.ended_ms, step) for name, value, step in run.metrics]
    store.log_batch(made, metrics, [Param(key, str(value)) for key, value in run.parameters.items()], [])
    data = [Dataset(one["name"], one["digest"], "local", json.dumps({"uri": one["source"]})) for one in run.data]
    store.log_inputs(made, [DatasetInput(one, [InputTag("mlflow.data.context", "training")]) for one in data])
    store.update_run_info(made, RunStatus.FINISHED, run.ended_ms, None)
    return made


def test_rows_are_those_that_mlflow_writes(tmp_path):
    run = Run(
        run_id="0" * 32,
        name="a name",
        parameters={"a": 1, "b": "two"},
        tags={KIND: "cell"},
        metrics=[("x", 1.5, 0), ("curves/y", 3.0, 0), ("curves/y", 2.0, 7)],
        started_ms=1000,
        ended_ms=3000,
        data=[{"name": "points", "digest": "d" * 12, "source": "points.npz"}],
    )
    store = SqlAlchemyStore(f"sqlite:///{tmp_path}/mine.db", "mlflow-artifacts:/")
    experiment = store.create_experiment("one")
    theirs = through_mlflow(store, experiment, run)
    with store.ManagedSessionMaker(read_only=False) as session:
        rows.put(session, experiment, store.get_experiment(experiment).artifact_location, "me", run)
    with closing(sqlite3.connect(tmp_path / "mine.db")) as connection:
        connection.row_factory = sqlite3.Row
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables}
    (data,) = found["datasets"]  # the second run has found the first one's
    assert [row["source_id"] for row in found["inputs"]] == [data["dataset_uuid"]] * 2
    edges = {row["input_uuid"]: row["destination_id"] for row in found["inputs"]}
    for row in found["input_tags"]:
        row["run_uuid"] = edges[row.pop("input_uuid")]
    for row in found["inputs"]:
        row["run_uuid"] = edges[row.pop("input_uuid")]
        del row["destination_id"]
    written = {table: [row for row in all_rows if "run_uuid" in row] for table, all_rows in found.items()}

    def of(identifier):
        own = {t: [row for row in all_rows if row["run_uuid"] == identifier] for t, all_rows in written.items()}
        return json.loads(json.dumps(own, sort_keys=True).replace(identifier, "RUN"))

    mine, others = of(run.run_id), of(theirs)
    assert {table for table, all_rows in mine.items() if all_rows} == {
        *("runs", "tags", "params", "metrics", "latest_metrics"),
        *("inputs", "input_tags"),
    }
    for table in mine:
        assert sorted(map(str, mine[table])) == sorted(map(str, others[table])), table


# ------------------------------------------------------------------------------------------- which experiment is whose


def exported(tmp_path, monkeypatch, *records, name="smoke"):
    monkeypatch.chdir(tmp_path)
    export(Path("results") / name, records)
    return Path("results") / name


def test_records_belong_to_the_experiments_that_trained_them_and_that_have_them(place, tmp_path, monkeypatch):
    store, tracking = place
    shutil.rmtree(store.folder)
    store.save(replace(GRID[0], volatile=Volatile(commit="abc", started_at="2026-01-02T03:04:05+00:00")))
    store.save(replace(GRID[1], volatile=Volatile(experiment="mine")))
    store.save(GRID[2])
    tuned = exported(tmp_path, monkeypatch, GRID[0], GRID[3])
    judged = exported(tmp_path, monkeypatch, JUDGED, name="smoke_confirmation")
    assert up_to_date(tracking, store, tuned, judged) == 5
    names = {name: {run.info.run_name for run in runs_of(tracking, name)[1]} for name in ("smoke", "mine", BY_HAND)}
    assert names == {
        "smoke": {"2-4-1  lr 0.1", "2-6-3-1  lr 0.01", "2-4-1  lr 0.1  confirmed"},
        "mine": {"2-4-1  lr 0.01"},
        BY_HAND: {"2-6-3-1  lr 0.1, x 3, 6 epochs, full batch of 40"},
    }
    _, cells, _ = runs_of(tracking, "smoke")
    stages = {run.info.run_name: run.data.tags[STAGE] for run in cells}
    assert stages.pop("2-4-1  lr 0.1  confirmed") == "confirmation"
    assert set(stages.values()) == {"tuning"}
    # What the project's own store knows of an execution is not in the results.
    (own,) = (run for run in cells if run.data.tags.get("mlflow.source.git.commit") == "abc")
    assert own.info.start_time == 1767323045000


def test_every_shipped_experiment_is_an_experiment_of_mlflow():
    files = sorted((SOURCE / "conf/experiment").glob("*.yaml"))
    assert files
    for path in files:
        assert yaml.safe_load(path.read_text())["tracking"]["experiment"] == path.stem
    assert yaml.safe_load((SOURCE / "conf/tracking/mlflow.yaml").read_text())["experiment"] == BY_HAND


def test_an_experiment_says_what_it_is_and_how_to_make_it_again(place, tmp_path, monkeypatch):
    store, tracking = place
    up_to_date(tracking, store, *(exported(tmp_path, monkeypatch, JUDGED, name=name) for name in ("smoke", PIPELINE)))
    client = MlflowClient(f"sqlite:///{tracking.database}")
    note = client.get_experiment_by_name("smoke").tags["mlflow.note.content"]
    assert note.startswith("**Smoke test**\n\nEvery code path of the real experiment in seconds, for tests.\n\n")
    assert (
        "\n```\npython pipelines/generate.py experiment=smoke\npython pipelines/train.py -m experiment=smoke\n```"
        in note
    )
    assert note.endswith("Its report is `reports/smoke/report.html`.")
    note = client.get_experiment_by_name(PIPELINE).tags["mlflow.note.content"]
    assert "\n```\nmake repro\n```\n" in note
    assert note.endswith("Its report is `reports/report.html`.")


PIPELINE = "architectures_by_learning_rate"


def views(client, experiment):
    """Decode the saved views of an experiment as MLflow's pages do."""
    found = {}
    for key, value in client.get_experiment_by_name(experiment).tags.items():
        if key.startswith("mlflow.sharedViewState."):
            view = json.loads(value)
            scheme, _, packed = view["state"].partition(";")
            assert scheme == "deflate"
            found[key.rpartition(".")[2]] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return found


def test_saved_views_list_cells_by_true_error(place, tmp_path, monkeypatch):
    store, tracking = place
    up_to_date(
        tracking,
        store,
        exported(tmp_path, monkeypatch, *GRID),
        exported(tmp_path, monkeypatch, JUDGED, name="smoke_confirmation"),
    )
    client, cells, _ = runs_of(tracking, "smoke")
    shown = {}
    for key, view in views(client, "smoke").items():
        (experiment,) = {run.info.experiment_id for run in cells}
        order = f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"
        runs = client.search_runs([experiment], view["searchFilter"], order_by=[order])
        shown[key] = [run.info.run_name for run in runs]
        for column in view["selectedColumns"]:
            kind, name = column.replace("`", "").split(".", 1)
            assert all(name in getattr(run.data, kind) for run in runs)
    assert shown == {
        "confirmed": ["2-4-1  lr 0.1  confirmed"],
        "cells": [
            *("2-6-3-1  lr 0.03", "2-6-3-1  lr 0.01", "2-4-1  lr 0.1"),
            *("2-4-1  lr 0.1  confirmed", "2-4-1  lr 0.01", "2-6-3-1  lr 0.1"),
        ],
    }
    (judged,) = (one for name, one in Index(tracking, SETTINGS).addresses().items() if name == "smoke")
    assert judged.endswith("viewStateShareKey=confirmed")
    assert all(one.endswith("=cells") for name, one in Index(tracking, SETTINGS).addresses().items() if name != "smoke")


# ------------------------------------------------------------------------------------------------- ranges and stages


RANGES = [
    made_up((4,), 0.1, [0.31, 0.32], first=3),
    made_up((4,), 0.1, [0.33, None], first=5),
    made_up((4,), 0.1, [0.30], first=7),
]
"""The confirmation of the first cell of the grid, in its ranges."""


def noted(store, records, experiment):
    for record in records:
        store.save(replace(record, volatile=Volatile(experiment=experiment)))


def said(tracking):
    """Return all that an index says, but for identifiers that MLflow draws, and the times of records without one."""
    with closing(sqlite3.connect(tracking.database)) as connection:
        tables = {
            "runs": "run_uuid, name, lifecycle_stage, artifact_uri",
            "tags": "run_uuid, key, value",
            "params": "run_uuid, key, value",
            "metrics": "run_uuid, key, value, step",
            "latest_metrics": "run_uuid, key, value, step",
            "datasets": "name, digest, dataset_source",
            "inputs": "source_type, destination_id",
            "input_tags": "name, value",
        }
        rows = {
            table: sorted(connection.execute(f"SELECT {columns} FROM {table}")) for table, columns in tables.items()
        }
    folder = Path(tracking.artifacts)
    return rows, {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("together", [True, False], ids=["at once", "one after another"])
def test_the_ranges_of_a_confirmation_are_one_run_that_says_what_the_report_says(
    together, place, tmp_path, monkeypatch
):
    store, tracking = place
    shutil.rmtree(store.folder)
    index = Index(tracking, SETTINGS)
    for ranges in [RANGES] if together else [RANGES[1:2], RANGES[:1], RANGES[2:]]:
        noted(store, ranges, "smoke_confirmation")
        assert index.bring_up_to_date(store) == 1
    (judged,) = compare(GRID, SETTINGS, RANGES).confirmation
    _, (cell,), replicates = runs_of(tracking, "smoke")
    assert {key: value for key, value in cell.data.metrics.items() if "/" not in key} == {
        "true_error": judged.error.estimate,
        "validation_loss": judged.loss.estimate,
        "validation_accuracy": judged.accuracy.estimate,
        "bad_runs": judged.bad_runs,
        "diverged": 1,
    }
    assert cell.info.run_name == "2-4-1  lr 0.1  confirmed"
    assert cell.data.tags[STAGE] == "confirmation"
    note = cell.data.tags["mlflow.note.content"]
    low, high = judged.error.low, judged.error.high
    assert f"**{judged.error.estimate:.3g}** [{low:.3g}, {high:.3g}], from replicates 3 to 7: " in note
    assert [run.info.run_name for run in replicates] == ["r03", "r04", "r05", "r06", "r07"]
    assert len(cell.inputs.dataset_inputs) == 3  # each range has its own points
    table = (files_of(tracking, cell) / "replicates.csv").read_text()
    assert table == as_csv(list(replicate_rows(RANGES)))
    # A folder that has the same changes nothing.
    assert up_to_date(tracking, store, exported(tmp_path, monkeypatch, *RANGES, name="smoke_confirmation")) == 0


def test_a_further_range_leaves_what_a_new_index_would_say(place, empty, tmp_path):
    store, tracking = place
    at_once = tracking.model_copy(update={"database": f"{tmp_path}/2.db", "artifacts": f"{tmp_path}/2"})
    shutil.copy(empty, at_once.database)
    index = Index(tracking, SETTINGS)
    for one in RANGES:
        noted(store, [one], "smoke_confirmation")
        index.bring_up_to_date(store)
    up_to_date(at_once, store)
    assert said(tracking) == said(at_once)


def test_more_replicates_of_a_sweep_are_no_confirmation(place):
    store, tracking = place
    noted(store, RANGES, "mine")
    assert up_to_date(tracking, store) == 5
    (cell,) = (run for run in runs_of(tracking)[1] if run.data.params["replicates"] == "8")
    assert (cell.info.run_name, cell.data.tags[STAGE]) == ("2-4-1  lr 0.1", "tuning")


def test_a_cell_in_a_folder_of_results_has_the_replicates_that_it_has_there(place, tmp_path, monkeypatch):
    store, tracking = place
    noted(store, RANGES, "smoke_confirmation")
    up_to_date(tracking, store)
    for ranges in (RANGES[:2], RANGES[1:], RANGES[:1]):
        folder = exported(tmp_path, monkeypatch, *ranges, name="smoke_confirmation")
        index = Index(tracking, SETTINGS)
        assert index.bring_up_to_date(store, [folder]) == 1
        assert index.bring_up_to_date(store, [folder]) == 0
        _, (cell,), replicates = runs_of(tracking, "smoke")
        numbers = [number for one in ranges for number in one.config.training.numbers]
        assert [run.info.run_name for run in replicates] == [f"r{number:02}" for number in numbers]
        assert cell.data.params["replicates"] == str(len(numbers))


def test_a_further_range_leaves_what_people_did_to_a_run(place):
    store, tracking = place
    shutil.rmtree(store.folder)
    noted(store, RANGES[:1], "smoke_confirmation")
    up_to_date(tracking, store)
    client, (cell,), (first, second) = runs_of(tracking, "smoke")
    client.update_run(cell.info.run_id, name="the best one")
    client.set_tag(cell.info.run_id, "seen", "yes")
    client.delete_run(first.info.run_id)
    noted(store, RANGES[1:2], "smoke_confirmation")
    assert up_to_date(tracking, store) == 1
    _, (cell,), replicates = runs_of(tracking, "smoke")
    assert (cell.info.run_name, cell.data.tags["seen"]) == ("the best one", "yes")
    assert [run.info.run_name for run in replicates] == [second.info.run_name, "r05", "r06"]
    client.delete_run(cell.info.run_id)
    noted(store, RANGES[2:], "smoke_confirmation")
    assert up_to_date(tracking, store) == 1
    assert client.get_run(cell.info.run_id).info.lifecycle_stage == "deleted"
    assert client.get_run(cell.info.run_id).data.params["replicates"] == "5"
    assert len(runs_of(tracking, "smoke")[2]) == 3


# -------------------------------------------------------------------------------------- what people do to an index


def test_sqlite_knows_how_to_search_a_large_index(place):
    store, tracking = place
    up_to_date(tracking, store)
    with closing(sqlite3.connect(tracking.database)) as connection:
        known = {table for (table,) in connection.execute("SELECT tbl FROM sqlite_stat1")}
    assert known >= {"runs", "tags", "params", "metrics", "latest_metrics"}


def test_what_was_deleted_stays_deleted_until_it_is_asked_for(place):
    store, tracking = place
    up_to_date(tracking, store)
    client, (cell, *_), replicates = runs_of(tracking)
    for run in (cell, *children(cell, replicates)[:2]):
        client.delete_run(run.info.run_id)
    index = Index(tracking, SETTINGS)
    assert index.bring_up_to_date(store) == 0
    assert [len(runs) for runs in runs_of(tracking)[1:]] == [4, 13]
    index.restore()
    assert index.bring_up_to_date(store) == 0
    assert [len(runs) for runs in runs_of(tracking)[1:]] == [5, 15]


def test_a_run_of_somebody_else_is_not_ours_to_bring_back(place):
    store, tracking = place
    up_to_date(tracking, store)
    client, (cell, *_), _ = runs_of(tracking)
    theirs = client.create_run(cell.info.experiment_id, run_name="theirs").info.run_id
    client.delete_run(theirs)
    Index(tracking, SETTINGS).restore()
    assert client.get_run(theirs).info.lifecycle_stage == "deleted"


def test_a_deleted_experiment_stays_deleted_until_it_is_asked_for(place, capsys):
    store, tracking = place
    for record in GRID[3:]:
        shutil.rmtree(store.path(record.identity))
    up_to_date(tracking, store)
    client, (cell, *_), _ = runs_of(tracking)
    client.delete_experiment(cell.info.experiment_id)
    for record in GRID[3:]:
        store.save(replace(record, volatile=Volatile(experiment="mine")))
    index = Index(tracking, SETTINGS)
    assert index.bring_up_to_date(store) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "not indexed: what belongs to mine, which was deleted; "
        "python pipelines/index.py --all brings back what was deleted"
    )
    assert index.addresses() == {}
    index.restore()
    assert index.bring_up_to_date(store) == 2
    assert [len(runs) for runs in runs_of(tracking)[1:]] == [5, 15]


def test_a_renamed_experiment_is_not_indexed_again(place):
    store, tracking = place
    shutil.rmtree(store.path(GRID[4].identity))
    up_to_date(tracking, store)
    client, (cell, *_), _ = runs_of(tracking)
    client.rename_experiment(cell.info.experiment_id, "my thesis")
    store.save(replace(GRID[4], volatile=Volatile(experiment="mine")))
    assert up_to_date(tracking, store) == 1
    assert len(runs_of(tracking, "my thesis")[1]) == 5
    assert {one.name for one in client.search_experiments(ViewType.ALL)} == {"Default", "my thesis"}


def test_an_experiment_of_somebody_else_with_the_same_name_is_one_line_whose_remedy_works(place):
    store, tracking = place
    index = Index(tracking, SETTINGS)
    client = MlflowClient(f"sqlite:///{tracking.database}")
    theirs = client.create_experiment("mine")
    with pytest.raises(UserError, match=r"has an experiment mine that the index did not make; give it another name"):
        index.bring_up_to_date(store)
    client.rename_experiment(theirs, "theirs")
    assert index.bring_up_to_date(store) == 5


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
    Path(tracking.database).unlink()
    assert up_to_date(respelled(moved), store) == 5
    assert len(list((tmp_path / "others").rglob("boundary.png"))) == 5


def test_replicates_have_runs_only_where_they_are_few(place, tmp_path, monkeypatch):
    store, tracking = place
    for most, children, pictures in ((15, 15, 6), (14, 0, 1)):
        few = tracking.model_copy(
            update={
                "database": str(tmp_path / f"{most}.db"),
                "artifacts": str(tmp_path / f"{most}"),
                "replicate_runs": most,
            }
        )
        assert up_to_date(few, store, exported(tmp_path, monkeypatch, JUDGED, name="smoke_confirmation")) == 6
        assert [len(runs) for runs in runs_of(few)[1:]] == [5, children]
        assert len(list(Path(few.artifacts).rglob("boundary.png"))) == pictures
        (judged,) = runs_of(few, "smoke")[1]
        assert (files_of(few, judged) / "boundary.png").exists()


def test_a_file_of_another_experiment_does_no_harm(place):
    store, tracking = place
    shutil.rmtree(store.folder)
    store.save(replace(GRID[0], volatile=Volatile(experiment="../../conf/experiment/smoke")))
    assert up_to_date(tracking, store) == 1


# ------------------------------------------------------------------------------------------------- making it again


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


def respelled(tracking):
    """Spell the path of the database differently, as MLflow keeps a connection for each spelling."""
    path = Path(tracking.database)
    return tracking.model_copy(update={"database": str(path.parent / ".." / path.parent.name / path.name)})


def runs_in(database):
    """Return the identifiers and names of all runs, read without MLflow."""
    with closing(sqlite3.connect(database)) as connection:
        return sorted(connection.execute("SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active'"))


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
    while not list(tmp_path.glob("artifacts/*/*/.aside-*")):  # it is writing the files of a cell
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
        with pytest.raises(UserError, match=r"database is locked\); end the program that keeps it locked, and run"):
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
