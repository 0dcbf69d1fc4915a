"""Which MLflow experiments there are, what they say and show, and what is left out of large ones."""

import base64
import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
from mlflow import MlflowClient

from circlemlp.config import Disk
from circlemlp.store.identity import code_digest
from circlemlp.store.records import Volatile
from circlemlp.tracking import experiments
from circlemlp.tracking.experiments import BY_HAND, Experiment
from circlemlp.tracking.index import HOME, STRANGE, Index
from circlemlp.tracking.runs import CODE, STAGE
from conftest import SOURCE
from indexes import (
    JUDGED,
    empty,  # noqa: F401
    exported,
    files_of,
    inside,
    nowhere,  # noqa: F401
    place,  # noqa: F401
    runs_in,
    runs_of,
    up_to_date,
)
from made_up import GRID, SETTINGS, made_up


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
    assert note.endswith("Once it is made, its report is [reports/smoke/report.html](/reports/smoke/report.html).")
    note = client.get_experiment_by_name(PIPELINE).tags["mlflow.note.content"]
    assert "\n```\nmake repro\n```\n" in note
    assert note.endswith("Once it is made, its report is [reports/report.html](/reports/report.html).")
    note = Experiment.of(BY_HAND).description("1")
    assert "`experiment=`. The description of each run has the command that makes it again. For a report, " in note
    assert "`paths.results=results/mine`" in note
    assert "`python pipelines/report.py paths.results=results/mine paths.reports=reports/mine`" in note
    _, (cell,), _ = runs_of(tracking, PIPELINE)
    row = "[reports/report.html](/reports/report.html#cell-2-4-1-at-0.1)"
    assert f"\n\nIts row in the report, once that is made: {row}.\n\n" in cell.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("folder", "shown"),
    [
        ("out/x", "`out/x/report.html`"),
        ("reports/../out", "`out/report.html`"),
        ("./reports/a b", "[reports/a b/report.html](/reports/a%20b/report.html)"),
    ],
)
def test_a_report_is_linked_to_where_the_server_has_it(folder, shown):
    assert Experiment("mine", report=folder).description("1").endswith(f"Once it is made, its report is {shown}.")


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
            lack = [run for run in runs if name not in getattr(run.data, kind)]
            # Where more than a quarter of the replicates diverged there is no loss to log.
            assert all(name == "validation_loss" and run.data.metrics["diverged"] for run in lack)
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


def test_a_view_shows_a_cell_once_as_the_present_core_trained_it(place):
    store, tracking = place

    def shown():
        up_to_date(tracking, store)
        client, cells, _ = runs_of(tracking, "mine")
        runs = client.search_runs([cells[0].info.experiment_id], views(client, "mine")["cells"]["searchFilter"])
        return len(cells), [run.data.tags[CODE][:1] for run in runs]

    def trained_by(core, year):
        told = Volatile(experiment="mine", started_at=f"{year}-01-02T03:04:05+00:00")
        store.save(replace(GRID[0], ingredients=GRID[0].ingredients | {"code": core}, volatile=told))

    n = len(GRID)
    assert shown() == (n, ["c"] * n)
    trained_by("a" * 64, 2020)
    assert shown() == (n + 1, ["c"] * n)  # of two cores that are not the present one, the last that trained
    trained_by(code_digest(), 2010)
    assert shown() == (n + 2, [code_digest()[0]])


@pytest.mark.parametrize(("most", "children", "pictures"), [(17, 17, 6), (16, 0, 6), (14, 0, 1)])
def test_replicates_have_runs_only_where_an_experiment_has_few(most, children, pictures, place, tmp_path, monkeypatch):
    store, tracking = place  # with 15 replicates that choose and 2 that judge
    tracking = tracking.model_copy(update={"replicate_runs": most})
    judged = exported(tmp_path, monkeypatch, JUDGED, name="mine_confirmation")
    assert up_to_date(tracking, store) == 5
    assert len(runs_of(tracking)[2]) == (15 if most >= 15 else 0)
    assert up_to_date(tracking, store, judged) == 1
    assert [len(runs) for runs in runs_of(tracking)[1:]] == [6, children]
    assert len(list(Path(tracking.artifacts).rglob("boundary.png"))) == pictures
    cells = {run.data.tags["circlemlp.stage"]: run for run in runs_of(tracking)[1]}
    assert (files_of(tracking, cells["confirmation"]) / "boundary.png").exists()


def test_an_index_in_another_place_is_made_again_as_people_left_it(place, tmp_path, monkeypatch):
    store, tracking = place
    monkeypatch.chdir(tmp_path)
    here, there = inside(tracking, "here"), inside(tracking, "there")
    for name, size in (("theirs", 7), ("deleted", 8)):
        store.save(replace(made_up((size,), 0.1, [0.1]), volatile=Volatile(experiment=name)))
    assert up_to_date(here, store) == 7
    client, cells, _ = runs_of(here)
    client.delete_run(cells[0].info.run_id)
    client.set_tag(cells[1].info.run_id, "mlflow.runName", "the one")
    client.rename_experiment(cells[0].info.experiment_id, "ours")
    client.delete_experiment(client.get_experiment_by_name("deleted").experiment_id)
    runs = runs_in("here/mlflow.db")
    Path("there").mkdir()
    shutil.move("here/mlflow.db", "there")
    assert up_to_date(there, store) == 6
    assert runs_in("there/mlflow.db") == runs
    assert len(runs_of(there, "ours")[1]) == 4
    assert len(list(Path("there/artifacts").rglob("boundary.png"))) == 6
    assert up_to_date(there, store) == 0
    index = Index(there, SETTINGS)
    assert (index.restore(), index.bring_up_to_date(store)) == (2, 1)
    assert len(list(Path("there/artifacts").rglob("boundary.png"))) == 7


@pytest.mark.parametrize("lost", ["the tag", "the artifacts"])
def test_an_index_of_an_earlier_version_or_without_artifacts_is_made_again_once(lost, place, capsys):
    store, tracking = place
    assert up_to_date(tracking, store) == 5
    client, cells, _ = runs_of(tracking)
    if lost == "the tag":
        client.delete_experiment_tag(cells[0].info.experiment_id, HOME)
    else:
        shutil.rmtree(tracking.artifacts)
    runs = runs_in(tracking.database)
    assert up_to_date(tracking, store) == 5
    assert capsys.readouterr().err == f"{tracking.database}: {STRANGE}, so it is made again\n"
    assert runs_in(tracking.database) == runs
    assert all((files_of(tracking, cell) / "boundary.png").exists() for cell in cells)
    assert up_to_date(tracking, store) == 0
    assert capsys.readouterr().err == ""


def test_what_cannot_be_made_again_is_not_tried_for_ever(place, capsys):
    store, tracking = place
    assert up_to_date(tracking, store) == 5
    shutil.rmtree(store.folder)
    shutil.rmtree(tracking.artifacts)
    assert up_to_date(tracking, store) == 0
    assert STRANGE in capsys.readouterr().err
    assert up_to_date(tracking, store) == 0
    assert capsys.readouterr().err == ""


def test_a_file_of_another_experiment_does_no_harm(place):
    store, tracking = place
    shutil.rmtree(store.folder)
    store.save(replace(GRID[0], volatile=Volatile(experiment="../../conf/experiment/smoke")))
    assert up_to_date(tracking, store) == 1


def test_points_are_in_the_file_of_their_own_data_set_or_of_another_of_their_shape(tmp_path, monkeypatch):
    disk = yaml.safe_load((SOURCE / "conf/data/disk.yaml").read_text())
    noisy = disk | {"label_noise": 0.1, "file": "data/noisy.npz"}
    (tmp_path / "data").mkdir()
    for name, data in {"disk": disk, "a_noisy_disk": noisy}.items():
        (tmp_path / f"data/{name}.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.setattr(experiments, "CONF", tmp_path)
    files = [
        Experiment.of(BY_HAND).file_of(Disk.model_validate(data)) for data in (disk, noisy, noisy | {"n_train": 7})
    ]
    assert files == ["data/disk.npz", "data/noisy.npz", "data/disk.npz"]
