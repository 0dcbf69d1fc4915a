"""Whether verify finds what is not so, in records whose digests are right too."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from circlemlp.config import CellConfig
from circlemlp.core.data import sample_dataset
from circlemlp.core.recipe import Recipe
from circlemlp.core.training import train
from circlemlp.core.true_error import true_errors
from circlemlp.report.recompute import disagreements
from circlemlp.store.records import Record, Store
from conftest import TINY
from made_up import GRID

ADAM = {"name": "adam", "learning_rate": 0.03, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "epsilon_hat": False}


def trained(**sections):
    """Return the record of a real training with some other settings than these."""
    config = {
        "data": {
            "shape": "disk",
            "radius": 0.8,
            "draws": "fresh",
            "n_train": 300,
            "n_validation": 200,
            "label_noise": 0.0,
            "seed": 5,
        },
        "model": {"hidden_layer_sizes": [16, 8], "activation": "relu", "initialisation": "he"},
        "optimizer": ADAM,
        "schedule": {"decay": "constant", "warmup_fraction": 0.0, "final_fraction": 1.0},
        "training": {
            "epochs": 30,
            "batch_size": None,
            "dtype": "float32",
            "replicates": 3,
            "first_replicate": 0,
            "seed": 0,
        },
        "early_stopping": {"patience": None, "min_delta": 0.0},
    }
    for name, values in sections.items():
        config[name] = {**config[name], **values} if "name" not in values else values
    config = CellConfig.model_validate(config).deciding()
    dataset = sample_dataset(config["data"], config["training"]["replicates"])
    parameters, history = train(dataset, Recipe.of(config), lambda _: None)
    ingredients = {**GRID[0].ingredients, "config": config, "data": dataset.digest()}
    record = Record(
        ingredients, parameters, history, true_errors(ingredients["config"], parameters, history.diverged_at)
    )
    record.check()
    return record


def with_history(record, **arrays):
    return dataclasses.replace(record, history=dataclasses.replace(record.history, **arrays))


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"model": {"activation": "tanh"}, "training": {"dtype": "float64"}},
        {"model": {"activation": "gelu"}, "training": {"batch_size": 32}, "data": {"label_noise": 0.2}},
        {"model": {"activation": "leaky_relu"}, "early_stopping": {"patience": 2}},
        {"data": {"draws": "shared"}},
        {"data": {"draws": "shared"}, "training": {"batch_size": 32}},
        {"optimizer": {**ADAM, "learning_rate": 5.0}},
        {"optimizer": {"name": "sgd", "learning_rate": 10.0, "momentum": 0.99, "nesterov": False}},
    ],
    ids=str,
)
def test_what_was_trained_agrees(sections):
    assert list(disagreements(trained(**sections))) == []


@pytest.fixture(scope="module")
def record():
    return trained()


def test_a_replicate_that_diverged_has_nothing_to_compute_again():
    diverged = trained(
        model={"activation": "leaky_relu"},
        optimizer={"name": "sgd", "learning_rate": 10.0, "momentum": 0.99, "nesterov": False},
    )
    assert (diverged.history.diverged_at >= 0).all()
    assert list(disagreements(diverged)) == []


def test_an_invented_accuracy_is_found(record):
    accuracy = record.history.validation_accuracy.copy()
    accuracy[1, -1] += 1 / 200
    (line,) = disagreements(with_history(record, validation_accuracy=accuracy))
    assert line.startswith(f"replicate 1 has validation accuracy {accuracy[1, -1]:g}; its parameters give 0.")


def test_an_invented_loss_is_found(record):
    loss = record.history.validation_loss.copy()
    loss[2, -1] *= 0.999
    (line,) = disagreements(with_history(record, validation_loss=loss))
    assert line.startswith("replicate 2 has validation loss 0.")


def test_exchanged_parameters_are_found(record):
    exchanged = dataclasses.replace(record, parameters=record.parameters[::-1].copy())
    found = " ".join(disagreements(exchanged))
    assert "replicate 0" in found
    assert "replicate 1" not in found
    assert "replicate 2" in found


def test_parameters_so_large_that_the_loss_is_infinite_are_found():
    record = trained(training={"dtype": "float64"})
    huge = dataclasses.replace(record, parameters=np.full_like(record.parameters, 1e200))
    assert "its parameters give" in next(disagreements(huge))


def test_points_that_the_configuration_does_not_draw_are_found(record):
    other = dataclasses.replace(record, ingredients={**record.ingredients, "data": "d" * 64})
    assert list(disagreements(other)) == ["its configuration draws other points than it says"]


def replace(store, record):
    """Put a record in the place of the one with its identity: all its digests are right."""
    shutil.rmtree(store.path(record.identity))
    store.save(record)


def verify(project, code=0):
    done = project.run("python", "pipelines/verify.py", code=code)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_program_finds_forgeries_and_counts_apart_what_it_cannot_compute_again(tiny):
    tiny.train("-m", "model=mlp_64", "optimizer.learning_rate=0.1,0.01", *TINY, "paths.results=results/mine")
    store, exported = (Store(tiny.folder / name) for name in ("runs", "results/mine/records"))
    good = "4 records checked, 0 damaged; the last losses, accuracies and true errors of 4 were computed again"
    assert verify(tiny) == [good]

    first, second = (store.load(identity) for identity in store.identities())
    accuracy = first.history.validation_accuracy.copy()
    accuracy[0, -1] = 1.0 if accuracy[0, -1] < 1 else 0.5
    replace(store, with_history(first, validation_accuracy=accuracy))
    line, total = verify(tiny, code=1)
    assert line.startswith(f"runs/{first.identity}: replicate 0 has validation accuracy ")
    assert total == good.replace("0 damaged", "1 damaged")
    replace(store, first)

    replace(exported, dataclasses.replace(second, parameters=second.parameters[::-1].copy()))
    line, total = verify(tiny, code=1)
    assert line.startswith(f"results/mine/records/{second.identity}: replicate 0 has ")
    replace(exported, second)
    shutil.rmtree(tiny.folder / "results/mine")

    store.save(dataclasses.replace(first, ingredients={**first.ingredients, "code": "c" * 64}))
    manifest = store.path(second.identity) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 1}))
    assert verify(tiny) == [
        "2 records checked, 0 damaged; the last losses, accuracies and true errors of 1 were computed again",
        "of another version of the core, so that their numbers were not computed again: 1",
        "of another format, which this version does not read: 1",
    ]


def test_the_program_finds_a_list_of_cells_that_was_changed(tiny):
    tiny.train("-m", "model=mlp_64", "optimizer.learning_rate=0.1,0.01", *TINY, "paths.results=results/mine")
    cells = tiny.folder / "results/mine/cells.json"
    content = json.loads(cells.read_text())
    content["cells"].reverse()
    cells.write_text(json.dumps(content))
    line, total = verify(tiny, code=1)
    assert line.startswith("results/mine: the results are damaged (cells.json is not what was written)")
    assert total.startswith("4 records checked, 1 damaged; ")
