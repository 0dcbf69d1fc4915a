"""Databases of older versions of MLflow, made by its own migrations, and what `make doctor` says and does."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
import pytest
import sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.store.db import utils
from mlflow.store.tracking.dbmodels.initial_models import Base

from circlemlp.config import Tracking
from circlemlp.errors import UserError
from circlemlp.run.compose import compose_one
from circlemlp.tracking import doctor
from circlemlp.tracking.index import NAME, PLACE, STRANGE, Index
from circlemlp.tracking.schema import revision
from indexes import (
    empty,  # noqa: F401
    inside,
    nowhere,  # noqa: F401
    place,  # noqa: F401
    up_to_date,
)
from made_up import SETTINGS

SCRIPTS = ScriptDirectory(str(Path(utils.__file__).parents[1] / "db_migrations"))
NEWEST = SCRIPTS.get_current_head()
BEFORE = SCRIPTS.get_revision(NEWEST).down_revision
"""MLflow refuses a database of this one."""
OLD = "7f2a7d5fae7d"
"""The schema of MLflow 2.4; MLflow upgrades it in place, without a word."""


def make_older(database, schema, artifacts="mlartifacts"):
    """Make a database as an older MLflow did, with an experiment of ours that a person renamed."""
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, schema)
    engine.dispose()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "VALUES (7, 'renamed', 'mlflow-artifacts:/7', 'active')"
        )
        for tag in ((NAME, "mine", 7), (PLACE, artifacts, 7)):
            connection.execute("INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)", tag)


def content(database):
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


@pytest.fixture
def tracking(tmp_path):
    return Tracking(
        database=str(tmp_path / "mlflow.db"),
        artifacts=str(tmp_path / "artifacts"),
        experiment="mine",
        curve_points=4,
        replicate_runs=500,
        port=5000,
    )


@pytest.mark.parametrize("schema", [BEFORE, OLD])
def test_a_database_of_an_older_mlflow_is_kept_beside_and_upgraded(schema, tracking, capfd):
    make_older(tracking.database, schema, tracking.artifacts)
    before = content(tracking.database)
    index = Index(tracking, SETTINGS)
    (backup,) = Path(tracking.database).parent.glob("mlflow.db.before-*")
    said = f"{tracking.database}: upgraded for MLflow {version('mlflow')}; as it was before, it is {backup}\n"
    assert capfd.readouterr() == ("", said)
    assert content(backup) == before
    assert revision(Path(tracking.database)) == NEWEST
    assert MlflowClient(index.database.uri).get_experiment("7").name == "renamed"
    assert list(index.cells()) == ["mine"]
    upgraded = content(tracking.database)
    Index(tracking, SETTINGS)
    assert capfd.readouterr() == ("", "")
    assert content(tracking.database) == upgraded
    assert {path.name for path in backup.parent.iterdir()} == {"mlflow.db", "mlflow.db.lock", backup.name, "artifacts"}


def test_a_database_that_cannot_be_upgraded_stays_as_it_was(tracking):
    make_older(tracking.database, OLD)
    with closing(sqlite3.connect(tracking.database)) as connection, connection:
        connection.execute("CREATE TABLE trace_info (mine)")
    before = content(tracking.database)
    with pytest.raises(
        UserError, match=r"mlflow\.db: the index cannot be written \(.*already exists.*move it away"
    ) as caught:
        Index(tracking, SETTINGS)
    assert "\n" not in str(caught.value)
    assert content(tracking.database) == before
    assert not list(Path(tracking.database).parent.glob("mlflow.db.before-*"))


def test_a_database_of_a_newer_mlflow_is_left_alone(tracking):
    make_older(tracking.database, OLD)
    with closing(sqlite3.connect(tracking.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of the future'")
    before = content(tracking.database)
    with pytest.raises(
        UserError, match=r"or an older one \(schema of the future\); move it away, and it is made again"
    ):
        Index(tracking, SETTINGS)
    assert content(tracking.database) == before


def test_the_doctor_says_what_is_wrong_and_does_what_it_can(project):
    (project.folder / "requirements.lock").write_text(
        f"numpy=={version('numpy')} \\\n    --hash=sha256:0\ncolorama==0.0 ; sys_platform == 'win32' \\\n"
    )
    (project.folder / "dvc.yaml").write_text("stages: {}\n")
    fine = project.run("python", "pipelines/doctor.py")
    assert fine.stderr == ""
    assert "1 packages as in requirements.lock\n" in fine.stdout
    assert "\nkernels   portable: openblas Haswell, threads: 1; X86_V3\n" in fine.stdout
    assert "\nindex     not there; `make ui` makes it from the records\n" in fine.stdout
    assert fine.stdout.endswith("\npipeline  nothing is stale\n")
    assert "to do" not in fine.stdout

    project.git("checkout", "dvc.yaml")
    with (project.folder / "requirements.lock").open("a") as lock:
        lock.write("pandas[all]==0.1\nno-such-package==1.0\n")
    make_older(project.folder / "mlflow.db", OLD)
    left = project.folder / "runs" / ".aside-left"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    wrong = project.run("python", "pipelines/doctor.py", code=1)
    (backup,) = project.folder.glob("mlflow.db.before-*")
    assert wrong.stderr.endswith(f"as it was before, it is {backup.name}\n")
    assert f"pandas {version('pandas')}, no-such-package missing\n" in wrong.stdout
    assert "\n          to do: rm -r .venv && make install\n" in wrong.stdout
    assert "\ndisk      removed 1 folders that interrupted programs left\n" in wrong.stdout
    assert not left.exists()
    assert f"\nindex     mlflow.db: schema {NEWEST}, that of MLflow {version('mlflow')}; 0 cells\n" in wrong.stdout
    assert "\npipeline  stale: generate, tune, select, confirm, report\n          to do: make repro\n" in wrong.stdout


def test_the_doctor_says_that_an_index_is_to_be_made_again_and_leaves_that_to_make_ui(place, tmp_path, monkeypatch):
    store, tracking = place
    monkeypatch.chdir(tmp_path)
    Path("old").mkdir()
    shutil.move(tracking.database, "old")
    up_to_date(inside(tracking, "old"), store)
    Path("old").rename("new")
    there = inside(tracking, "new")
    before = content(there.database)
    config = compose_one(["tracking.database=new/mlflow.db", "tracking.artifacts=new/artifacts"])
    assert list(doctor._index(config))[1:] == [(f"{STRANGE}, so it has to be made again", "make ui")]
    assert content(there.database) == before
    up_to_date(there, store)
    assert list(doctor._index(config))[1:] == [("every record is in it",)]


SWEEPING = """
import pathlib, shutil, sys
while True:
    made = pathlib.Path(sys.argv[1], ".aside-made")
    made.mkdir()
    for number in range(50):
        (made / str(number)).touch()
    shutil.rmtree(made)
"""


def test_the_size_of_a_folder_can_be_told_while_a_sweep_writes_there(tmp_path):
    (tmp_path / "kept").write_bytes(bytes(1000))
    with subprocess.Popen([sys.executable, "-c", SWEEPING, str(tmp_path)]) as sweep:
        try:
            while not (tmp_path / ".aside-made").exists():
                assert sweep.poll() is None
            assert {doctor._size(tmp_path) for _ in range(2000)} == {1000}
        finally:
            sweep.kill()


def test_a_pipeline_that_says_nothing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.py").write_text("raise SystemExit(9)")
    with pytest.raises(UserError, match=r"^dvc status: ended with 9 and without a word$"):
        list(doctor._pipeline(None))
