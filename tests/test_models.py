"""The model that an experiment recommends: what MLflow has of it, and what it answers."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelParameter, LoggedModelStatus, LoggedModelTag, Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from circlemlp import pinning
from circlemlp.config import Tracking
from circlemlp.core.elementary import elementary_digest
from circlemlp.core.network import Network
from circlemlp.core.parameters import Layout
from circlemlp.errors import UserError
from circlemlp.numerics import read_back
from circlemlp.store.identity import code_digest
from circlemlp.store.npz import unpack
from circlemlp.store.records import Store
from circlemlp.store.results import export, exported_folders, read
from circlemlp.tracking import models
from circlemlp.tracking.index import Index
from conftest import Project
from made_up import SETTINGS, made_up
from test_index import ODD, free_port, get, own_processes, serving, wait_until, with_records


def judged(hidden, losses, first=3, rate=0.01, **others):
    """Return a record of a confirmation, as one that was trained where the tests run."""
    record = made_up(hidden, rate, losses, first=first, **others)
    numerics = {**read_back(pinning.resolve("auto")), "elementary": elementary_digest("float32")}
    return dataclasses.replace(record, ingredients=record.ingredients | {"code": code_digest(), "numerics": numerics})


def confirm(name, *confirmation, place=Path(), **others):
    """Make an experiment's results: those of its confirmation, and of a tuning that chose a learning rate of 0.01."""
    architectures = {tuple(one.config.model.hidden_layer_sizes) for one in confirmation}
    rates = {one.config.optimizer.learning_rate for one in confirmation} | {0.01}
    tuning = [
        judged(hidden, [0.3 if rate == 0.01 else 0.4] * 3, first=0, rate=rate, **others)
        for hidden in sorted(architectures)
        for rate in sorted(rates)
    ]
    export(place / f"results/{name}", tuning)
    export(place / f"results/{name}_confirmation", confirmation)


CONFIRMATION = [judged((4,), [0.33, 0.31, 0.30, 0.32]), judged((64, 32), [0.23, None, 0.21, 0.24])]
"""The second has the lowest location, and its row 0 the median true error."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    Index(settings(folder), SETTINGS)
    return folder


@pytest.fixture
def place(empty, tmp_path, monkeypatch):
    """A folder with an empty index, in which the records of a confirmation are."""
    shutil.copy(empty / "mlflow.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    confirm("mine", *CONFIRMATION)
    return tmp_path


def settings(folder):
    return Tracking(
        database=f"{folder}/mlflow.db",
        artifacts=f"{folder}/mlartifacts",
        experiment="other",
        curve_points=4,
        replicate_runs=500,
        port=5000,
    )


def up_to_date(folder, *, everything=False):
    """Bring the index up to date; return a client of it."""
    index = Index(settings(folder), SETTINGS)
    if everything:
        index.restore()
    index.bring_up_to_date(Store(folder / "runs"), exported_folders())
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def logged(client):
    """Return the logged models of all experiments."""
    return client.search_logged_models([one.experiment_id for one in client.search_experiments()])


def versions(client):
    return {int(one.version): one for one in client.search_model_versions("name = 'circlemlp'")}


def files(folder):
    """Return the folder of the only model."""
    (found,) = folder.glob("mlartifacts/*/models/*/artifacts")
    return found


def probabilities(x):
    """Return what the recommended network gives for points."""
    network = Network(Layout.of((64, 32)), CONFIRMATION[1].parameters[:1])
    return network.probabilities(np.array(x))[0]


def test_the_typical_network_of_the_confirmed_cell_with_the_lowest_error_is_the_champion(place):
    client = up_to_date(place)
    champion = client.get_model_version_by_alias("circlemlp", "champion")
    assert champion.tags["experiment"] == "mine"
    assert "2-64-32-1 at a learning rate of 0.01, replicate 3: " in champion.description
    assert "(the lower one of two), **0.023**" in champion.description
    (model,) = logged(client)
    assert model.status == LoggedModelStatus.READY
    assert model.params == {"architecture": "2-64-32-1", "optimizer.learning_rate": "0.01", "replicate": "3"}
    assert model.tags["mlflow.note.content"] == champion.description
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "circlemlp", "version": 1}]
    assert model.artifact_location == champion.source
    assert model.artifact_location.startswith("mlflow-artifacts:/")
    run = client.get_run(model.source_run_id)
    assert run.data.params["architecture"] == "2-64-32-1"
    assert champion.run_id == run.info.run_id
    assert [one.model_id for one in run.outputs.model_outputs] == [model.model_id]
    data = CONFIRMATION[1].ingredients["data"][:12]
    assert {(one.key, one.value, one.dataset_name, one.dataset_digest) for one in model.metrics} == {
        ("true_error", 0.023, "quarter_circle", data),
        ("validation_loss", 0.23, "quarter_circle", data),
        ("validation_accuracy", 0.97, "quarter_circle", data),
    }
    assert data in {one.dataset.digest for one in run.inputs.dataset_inputs}


def test_a_model_is_numbers_and_sources_and_says_nothing_of_this_machine(place):
    up_to_date(place)
    folder = files(place)
    arrays = unpack((folder / "artifacts/network/parameters.npz").read_bytes())
    assert np.array_equal(arrays["parameters"], CONFIRMATION[1].parameters[:1])
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds == {"", ".json", ".npz", ".py", ".txt", ".yaml"}  # the first is MLmodel; a pickle would be another
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".npz":
            for own in (str(place), str(Path(__file__).parents[1]), sys.prefix, "://"):
                assert own not in path.read_text()
    assert (folder / "requirements.txt").read_text().splitlines()[-1] == f"numpy=={np.__version__}"


def test_what_is_there_is_left_alone_and_what_was_deleted_comes_back_when_asked_for(place, monkeypatch):
    client = up_to_date(place)
    before = versions(client), logged(client), {path: path.stat().st_mtime_ns for path in files(place).rglob("*")}
    client = up_to_date(place)
    after = versions(client), logged(client), {path: path.stat().st_mtime_ns for path in files(place).rglob("*")}
    assert str(before) == str(after)
    (model,) = logged(client)
    client.delete_model_version("circlemlp", "1")
    client.delete_logged_model(model.model_id)
    client = up_to_date(place)
    assert (versions(client), logged(client)) == ({}, [])
    client = up_to_date(place, everything=True)
    assert list(versions(client)) == [2]
    assert client.get_model_version_by_alias("circlemlp", "champion").version == 2
    assert [one.model_id for one in logged(client)] == [model.model_id]
    client.delete_model_version("circlemlp", "2")
    monkeypatch.setattr(models, "CORE", place)  # another core, which the model does not need: it has its own
    assert list(versions(up_to_date(place, everything=True))) == [3]


def test_a_deleted_alias_or_registered_model_comes_back_when_asked_for(place):
    confirm("theirs", judged((5,), [0.10, 0.11, 0.12, 0.13]))
    client = up_to_date(place)
    client.delete_registered_model_alias("circlemlp", "champion")
    assert client.get_registered_model("circlemlp").aliases == {}
    assert up_to_date(place).get_registered_model("circlemlp").aliases == {}
    client = up_to_date(place, everything=True)
    assert client.get_registered_model("circlemlp").aliases == {"champion": 2}
    client.set_registered_model_alias("circlemlp", "champion", "1")  # as a person does
    client = up_to_date(place, everything=True)
    assert client.get_registered_model("circlemlp").aliases == {"champion": 1}
    client.delete_registered_model("circlemlp")
    assert up_to_date(place).search_registered_models() == []
    client = up_to_date(place, everything=True)
    champion = client.get_model_version_by_alias("circlemlp", "champion")
    assert champion.tags["experiment"] == "theirs"
    assert {one.tags["experiment"] for one in versions(client).values()} == {"mine", "theirs"}
    assert {one.artifact_location for one in logged(client)} == {one.source for one in versions(client).values()}


def test_each_experiment_has_a_version_and_the_champion_is_the_lowest_of_the_newest(place):
    confirm("theirs", judged((5,), [0.10, 0.11, 0.12, 0.13]))
    export(Path("results/unconfirmed"), [judged((5,), [0.01, 0.01, 0.01, 0.01], first=0)])
    client = up_to_date(place)
    assert [one.tags["experiment"] for _, one in sorted(versions(client).items())] == ["mine", "theirs"]
    assert client.get_model_version_by_alias("circlemlp", "champion").version == 2
    client.set_registered_model_alias("circlemlp", "champion", "1")  # as a person does
    client = up_to_date(place)
    assert client.get_model_version_by_alias("circlemlp", "champion").version == 1
    confirm("theirs", judged((5,), [0.50, 0.51, 0.52, 0.53], seed=1), seed=1)
    client = up_to_date(place)
    assert versions(client)[3].tags["experiment"] == "theirs"
    assert client.get_model_version_by_alias("circlemlp", "champion").version == 1
    client.set_model_version_tag("circlemlp", "1", "true_error", "low")  # no number, and so not the lowest
    confirm("theirs", judged((5,), [0.50, 0.51, 0.52, 0.53], seed=2), seed=2)
    client = up_to_date(place)
    assert client.get_model_version_by_alias("circlemlp", "champion").version == 4


def test_a_cell_that_diverged_too_often_or_whose_errors_are_not_known_is_not_recommended(place):
    unknown = judged((6, 3), [0.23, 0.22, 0.21, 0.24])
    unknown.true_error[1] = np.nan
    confirm("mine", judged((4,), [0.1, None, None, 0.1]), unknown)
    client = up_to_date(place)
    assert (versions(client), logged(client)) == ({}, [])


def test_the_very_same_estimate_is_said(place):
    confirm("mine", *(judged(hidden, [0.2] * 3, rate=rate) for hidden in [(4,), (64, 32)] for rate in (0.01, 0.1)))
    (version,) = versions(up_to_date(place)).values()
    assert "its cell has the lowest estimate of the true error, and so has 2-64-32-1: 0.02. " in version.description


def test_a_cell_that_the_report_does_not_judge_is_not_recommended(place):
    confirm("mine", *CONFIRMATION, judged((64, 32), [0.11, 0.12, 0.13, 0.14], rate=0.1))
    (version,) = versions(up_to_date(place)).values()
    assert version.description.startswith("2-64-32-1 at a learning rate of 0.01, replicate 3: ")


def test_another_core_than_that_of_the_training_answers_for_no_network(place, capsys):
    for folder in (Path("results/mine"), Path("results/mine_confirmation")):
        export(
            folder,
            [dataclasses.replace(one, ingredients={**one.ingredients, "code": "c" * 64}) for one in read(folder)],
        )
    Path("results/mine/replicates.csv").write_text("")  # which is not even read
    assert versions(up_to_date(place)) == {}
    assert list(place.glob("mlartifacts/*/models/*/artifacts")) == []
    assert capsys.readouterr().err == (
        "not indexed: the model of mine, whose networks were trained with another src/circlemlp/core than is here now; "
        "put that back, or make the results again\n"
    )


def test_what_interrupts_a_registration_leaves_no_second_version(place):
    up_to_date(place)
    confirm("theirs", judged((5,), [0.10, 0.11, 0.12, 0.13]))
    with contextlib.closing(sqlite3.connect(place / "mlflow.db")) as database:
        database.execute(
            "CREATE TRIGGER interrupt BEFORE INSERT ON logged_model_tags WHEN NEW.tag_key = 'mlflow.modelVersions' "
            "BEGIN SELECT RAISE(ABORT, 'interrupted'); END"
        )
        with pytest.raises(UserError, match="interrupted"):
            up_to_date(place)
        database.execute("DROP TRIGGER interrupt")
    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    assert client.get_model_version_by_alias("circlemlp", "champion").version == 1
    client = up_to_date(place)
    assert sorted(versions(client)) == [1, 2]
    assert client.get_model_version_by_alias("circlemlp", "champion").version == 2
    assert {one.tags["mlflow.modelVersions"][-3:] for one in logged(client)} == {"1}]", "2}]"}


def test_damaged_results_are_named_and_recommend_nothing(place, capsys):
    Path("results/mine_confirmation/replicates.csv").write_text("")
    assert versions(up_to_date(place)) == {}
    assert "not indexed: results/mine_confirmation: the results are damaged" in capsys.readouterr().err


def test_rows_are_those_that_mlflow_writes(place):
    client = up_to_date(place)
    (ours,) = logged(client)
    store = SqlAlchemyStore(f"sqlite:///{place}/mlflow.db", "mlflow-artifacts:/")
    tags = [LoggedModelTag(*tag) for tag in ours.tags.items()]
    parameters = [LoggedModelParameter(*parameter) for parameter in ours.params.items()]
    theirs = store.create_logged_model(ours.experiment_id, ours.name, ours.source_run_id, tags, parameters)
    store.finalize_logged_model(theirs.model_id, LoggedModelStatus.READY)
    store.log_outputs(ours.source_run_id, [LoggedModelOutput(theirs.model_id, 0)])
    for one in ours.metrics:
        metric = Metric(
            one.key, one.value, one.timestamp, one.step, theirs.model_id, one.dataset_name, one.dataset_digest
        )
        store.log_metric(ours.source_run_id, metric)
    mine, mlflows = (rows_of(store, model.model_id) for model in (ours, theirs))
    assert len(mine) == 1 + 1 + len(tags) + len(parameters) + len(ours.metrics)
    assert mine == mlflows


def rows_of(store, model_id):
    """Return what the tables have of a model, without when it was made, and which data set's row it names."""
    found = []
    with contextlib.closing(store.engine.raw_connection()) as connection:
        for table in ("logged_models", "logged_model_tags", "logged_model_params", "logged_model_metrics", "inputs"):
            key = "destination_id" if table == "inputs" else "model_id"
            cursor = connection.cursor().execute(f"SELECT * FROM {table} WHERE {key} = ?", (model_id,))
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                named = {name: value for name, value in zip(names, row, strict=True) if "timestamp_ms" not in name}
                named |= {name: "" for name in ("input_uuid", "dataset_uuid") if name in named}
                found.append((table, str(named).replace(model_id, "")))
    return sorted(found)


# ----------------------------------------------------------------------------------------------- what it answers


POINTS = [[round(0.05 * i, 2), round((0.3 * i) % 1, 1)] for i in range(21)]


@pytest.fixture
def ui(template, tmp_path):
    """A project whose index has a model, in a folder of any name, and the port on which MLflow shows it."""
    project = with_records(tmp_path.joinpath(*ODD, "project"), template, [])
    confirm("mine", *CONFIRMATION, place=project.folder)
    with serving(project) as (_, port):
        yield project, port


def test_mlflow_predicts_and_serves_the_network_s_own_probabilities_and_refuses_what_are_no_points(ui, tmp_path):
    project, port = ui
    own = probabilities(POINTS).tolist()
    project.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    project.environment["OPENBLAS_CORETYPE"] = "Nehalem"  # with which last bits are others
    for name in ("NPY_ENABLE_CPU_FEATURES", "PYTHONPATH"):
        project.environment.pop(name, None)
    elsewhere = Project(tmp_path, **project.environment)
    mlflow = (sys.executable, "-m", "mlflow", "models")
    model = ("--env-manager", "local", "--model-uri", "models:/circlemlp@champion")
    (tmp_path / "points.json").write_text(
        json.dumps({"inputs": {"x1": [x for x, _ in POINTS], "x2": [y for _, y in POINTS]}})
    )
    done = elsewhere.run(*mlflow, "predict", *model, "--input-path", "points.json")
    assert json.loads(done.stdout) == {"predictions": own}

    port = free_port()
    server = elsewhere.start(*mlflow, "serve", *model, "--port", str(port), start_new_session=True)
    try:
        wait_until(lambda: answers(port))
        split = {"columns": ["x1", "x2"], "data": POINTS}
        assert ask(port, dataframe_split=split) == (200, {"predictions": own})
        swapped = {"columns": ["x2", "x1"], "data": [point[::-1] for point in POINTS]}
        assert ask(port, dataframe_split=swapped) == (200, {"predictions": own})
        for wrong, says in (
            ({"inputs": POINTS}, r"Model is missing inputs \['x1', 'x2'\]"),
            ({"inputs": [[0.1, 0.2, 0.3]]}, r"Model is missing inputs \['x1', 'x2'\]"),
            ({"dataframe_records": [{"x1": 0.5}]}, r"Model is missing inputs \['x2'\]"),
            ({"dataframe_records": [{"x1": 0.5, "x2": "high"}]}, "could not convert string to float: 'high'"),
            ({"dataframe_records": [{"x1": 0.5, "x2": 0.5}, {"x1": 0.5}]}, r"in row 1 they are \[0\.5, nan\]$"),
            ({"dataframe_records": [{"x1": float("inf"), "x2": 0.5}]}, "x1 and x2 have to be finite numbers"),
            ({"points": POINTS}, "The input must be a JSON dictionary with exactly one of the input fields"),
        ):
            status, answer = ask(port, **wrong)
            assert status == 400
            assert re.search(says, answer["message"])
        processes = own_processes(server.pid)
        for process in processes:
            if b"answering.py" in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGKILL)
        assert ask(port, dataframe_split=split) == (200, {"predictions": own})
        os.killpg(server.pid, signal.SIGINT)  # as Ctrl-C does
        server.communicate(timeout=60)
        wait_until(lambda: own_processes(server.pid) == [])
    finally:
        for left in own_processes(server.pid):
            os.kill(left, signal.SIGKILL)


def answers(port):
    try:
        return get(port, "/ping") == b"\n"
    except OSError:
        return False


def ask(port, **question):
    """Return the status and the answer of a served model."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_network_trained_with_other_kernels_does_not_answer_with_other_bits(place):
    up_to_date(place)
    network = files(place) / "artifacts/network"
    command = [sys.executable, network / "answering.py"]
    assert subprocess.run(command, input=b"", capture_output=True, check=True).stdout == b"float32\n"
    about = json.loads((network / "network.json").read_text())
    about["numerics"]["elementary"] = "e" * 64
    (network / "network.json").write_text(json.dumps(about))
    said = subprocess.run(command, input=b"", capture_output=True, check=True).stdout.decode()
    assert re.fullmatch(
        "the last bits would be others than where the network was trained: "
        r"\{'elementary': '[0-9a-f]{64}'\}, and not \{'elementary': 'e{64}'\}\n",
        said,
    )
