"""What the MLflow runs of a cell and of its replicates say, and how they are written."""

import copy
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from circlemlp.report import regimes
from circlemlp.report.cell_results import by_architecture
from circlemlp.store.npz import unpack
from circlemlp.store.records import Store
from circlemlp.store.tables import as_csv, replicate_rows
from circlemlp.tracking import rows
from circlemlp.tracking.experiments import BY_HAND
from circlemlp.tracking.runs import KIND, RECORDS, Run, logarithmic
from indexes import (
    children,
    empty,  # noqa: F401
    files_of,
    nowhere,  # noqa: F401
    place,  # noqa: F401
    runs_of,
    up_to_date,
)
from made_up import GRID, SETTINGS


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
            **({} if regimes.diverged(result.trained) else {"validation_loss": result.loss.estimate}),
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
    assert len(kept) == min(points, epochs + 1)
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
        finding, row, how, shown = run.data.tags["mlflow.note.content"].split("\n\n")
        anchor = f"cell-{run.data.params['architecture']}-at-{run.data.params['optimizer.learning_rate']}"
        link = f"[reports/mine/report.html](/reports/mine/report.html#{anchor})"
        assert row == f"Its row in the report, once that is made: {link}."
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
