"""What people do to an index in MLflow's pages is respected."""

import shutil
from dataclasses import replace

import pytest

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
from mlflow import MlflowClient
from mlflow.entities import ViewType

from circlemlp.errors import UserError
from circlemlp.store.records import Volatile
from circlemlp.tracking.index import Index
from indexes import (
    children,
    empty,  # noqa: F401
    nowhere,  # noqa: F401
    place,  # noqa: F401
    runs_of,
    up_to_date,
)
from made_up import GRID, SETTINGS


def test_what_was_deleted_stays_deleted_until_it_is_asked_for(place):
    store, tracking = place
    up_to_date(tracking, store)
    client, (cell, *_), replicates = runs_of(tracking)
    for run in (cell, *children(cell, replicates)[:2]):
        client.delete_run(run.info.run_id)
    index = Index(tracking, SETTINGS)
    assert index.bring_up_to_date(store) == 0
    assert [len(runs) for runs in runs_of(tracking)[1:]] == [4, 13]
    assert index.restore() == 1
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
    assert index.restore() == 3
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
