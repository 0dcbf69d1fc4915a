"""Indexes of made-up records, for the tests of what is in them."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
from mlflow import MlflowClient

from circlemlp.config import Tracking
from circlemlp.store.records import Store, Volatile
from circlemlp.store.results import export
from circlemlp.tracking.index import Index
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


def inside(tracking, folder):
    """Return the settings of an index that is in a folder with its artifacts."""
    return tracking.model_copy(update={"database": f"{folder}/mlflow.db", "artifacts": f"{folder}/artifacts"})


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


def exported(tmp_path, monkeypatch, *records, name="smoke"):
    monkeypatch.chdir(tmp_path)
    export(Path("results") / name, records)
    return Path("results") / name


def respelled(tracking):
    """Spell the path of the database differently, as MLflow keeps a connection for each spelling."""
    path = Path(tracking.database)
    return tracking.model_copy(update={"database": str(path.parent / ".." / path.parent.name / path.name)})


def runs_in(database):
    """Return the identifiers and names of all runs, read without MLflow."""
    with closing(sqlite3.connect(database)) as connection:
        return sorted(connection.execute("SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active'"))
