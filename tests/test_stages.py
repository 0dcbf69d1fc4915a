"""Which replicates are in the run of a cell: those of a stage of an experiment, in however many ranges."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
from circlemlp.report.comparison import compare
from circlemlp.store.records import Volatile
from circlemlp.store.tables import as_csv, replicate_rows
from circlemlp.store.trained import join
from circlemlp.tracking.experiments import Experiment
from circlemlp.tracking.index import Index
from circlemlp.tracking.runs import RECORDS, STAGE
from indexes import (
    empty,  # noqa: F401
    exported,
    files_of,
    nowhere,  # noqa: F401
    place,  # noqa: F401
    runs_of,
    up_to_date,
)
from made_up import GRID, SETTINGS, made_up

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


def test_ranges_are_trained_again_by_one_sweep_where_they_are_as_long():
    about = Experiment.of("smoke")
    (sweep,) = about.commands_of(*join(RANGES[:2]))
    assert " -m " in sweep
    assert sweep.endswith(" training.first_replicate=3,5")
    assert "training.replicates=2" in sweep.split()
    each = [command for one in RANGES for command in about.commands_of(*join([one]))]
    assert about.commands_of(*join(RANGES)) == each


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


def test_what_is_in_an_index_does_not_depend_on_what_was_there_before(place, empty, tmp_path, monkeypatch):
    store, tracking = place
    new = tracking.model_copy(update={"database": f"{tmp_path}/2.db", "artifacts": f"{tmp_path}/2"})
    shutil.copy(empty, new.database)
    up_to_date(tracking, store)
    folder = exported(tmp_path, monkeypatch, *GRID[:2], name="theirs")
    assert up_to_date(tracking, store, folder) == 2
    assert up_to_date(new, store, folder) == len(GRID) + 2
    assert Index(tracking, SETTINGS).cells() == Index(new, SETTINGS).cells()
    assert up_to_date(new, store, folder) == 0


def test_a_tag_that_a_person_deleted_comes_back(place):
    store, tracking = place
    up_to_date(tracking, store)
    index, (client, (cell, *_), _) = Index(tracking, SETTINGS), runs_of(tracking)
    before = index.cells()
    client.delete_tag(cell.info.run_id, RECORDS)
    assert index.cells()["mine"] == before["mine"] | {cell.info.run_id: set()}
    assert index.bring_up_to_date(store) == 1
    assert index.cells() == before


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
