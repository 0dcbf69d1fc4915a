import copy
import json

import numpy as np
import pytest
import yaml

from circlemlp.config import CellConfig
from circlemlp.core.data import sample_dataset
from circlemlp.core.recipe import Recipe
from circlemlp.core.training import train
from circlemlp.errors import ConfigError
from circlemlp.run.checking import allowed, known_keys, parse
from conftest import SOURCE

CHOSEN = {
    "data": "quarter_circle",
    "model": "mlp_64",
    "optimizer": "adam",
    "schedule": "constant",
    "training": "full_batch",
    "early_stopping": "none",
    "tracking": "mlflow",
}


def shipped():
    """Return the shipped configuration, as Hydra would compose it by default."""
    root = yaml.safe_load((SOURCE / "conf/config.yaml").read_text())
    groups = {g: yaml.safe_load((SOURCE / f"conf/{g}/{name}.yaml").read_text()) for g, name in CHOSEN.items()}
    return {key: value for key, value in (root | groups).items() if key not in ("defaults", "hydra")}


def changed(key, value):
    values = copy.deepcopy(shipped())
    *sections, last = key.split(".")
    inner = values
    for section in sections:
        inner = inner[section]
    inner[last] = value
    return values


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("optimizer.learning_rate", -1, "optimizer.learning_rate=-1: must be a number above 0 and at most 10"),
        ("optimizer.learning_rate", 0, "above 0"),
        ("optimizer.learning_rate", "1e-5x", "optimizer.learning_rate=1e-5x: must be a number"),
        ("optimizer.learning_rate", float("nan"), "optimizer.learning_rate=nan: must be a number"),
        ("optimizer.beta_2", 1.0, "optimizer.beta_2=1.0: must be a number at least 0 and below 1"),
        ("optimizer.epsilon", 0.0, "optimizer.epsilon=0.0: must be a number at least 1e-30"),
        ("optimizer.name", "adagrad", "optimizer.name=adagrad: must be one of adam, adamw, sgd"),
        ("optimizer.momentum", 0.5, "optimizer.momentum=0.5: the chosen optimizer has no such key"),
        ("optimizer.epsilon_hat", 1, "optimizer.epsilon_hat=1: must be true or false"),
        ("model.activation", "swish", "model.activation=swish: must be one of relu, leaky_relu, tanh, gelu"),
        ("model.initialisation", "zeros", "model.initialisation=zeros: must be one of he, glorot"),
        ("schedule.decay", "linear", "schedule.decay=linear: must be one of constant, cosine"),
        ("schedule.warmup_fraction", 1.0, "schedule.warmup_fraction=1.0: must be a number at least 0 and below 1"),
        ("early_stopping.patience", 0, "early_stopping.patience=0: must be null, or a whole number at least 1"),
        ("model.hidden_layer_sizes", [64, 0], "model.hidden_layer_sizes[1]=0: must be a whole number at least 1"),
        ("model.hidden_layer_sizes", [], "model.hidden_layer_sizes=[]: must be a list of one or more"),
        ("model.hidden_layer_sizes", 64, "model.hidden_layer_sizes=64: must be a list"),
        ("model.hidden_layer_sizes", [6.5], "model.hidden_layer_sizes[0]=6.5: must be a whole number"),
        ("data.n_train", 0, "data.n_train=0: must be a whole number at least 1"),
        ("data.label_noise", 0.5, "data.label_noise=0.5: must be a number at least 0 and below 0.5"),
        ("data.seed", -1, "data.seed=-1: must be a whole number at least 0"),
        ("data.shape", "square", "data.shape=square: must be one of disk, quarter_circle, rings"),
        ("data.inner_radius", 0.1, "data.inner_radius=0.1: the chosen data has no such key"),
        ("training.batch_size", 0, "training.batch_size=0: must be null, or a whole number at least 1"),
        ("training.epochs", True, "training.epochs=True: must be a whole number"),
        ("training.dtype", "float16", "training.dtype=float16: must be one of float32, float64"),
        ("training.epoch", 5, "training.epoch=5: there is no such key; the nearest known key is training.epochs"),
        ("numerics", "fast", "numerics=fast: must be one of auto, portable, native"),
        ("training", 3, "training=3: must be a section of keys"),
        ("data.file", "pyproject.toml", "data.file=pyproject.toml: must be a file.npz"),
        ("data.file", "", "must be a file.npz"),
        (
            "data.file",
            "~/data.npz",
            "data.file=~/data.npz: must be a path, not an address, and neither ~ nor $ is expanded here",
        ),
        ("tracking.database", "sqlite:///my.db", "tracking.database=sqlite:///my.db: must be a path, not an address"),
        ("paths.records", "~/runs", "paths.records=~/runs: must be a path"),
        ("paths.records", "file:runs", "paths.records=file:runs: must be a path"),
        ("paths.records", "$HOME/runs", "paths.records=$HOME/runs: must be a path"),
        ("paths.reports", "a\nb", "must be a path without control characters"),
        ("title", "\udcff", "title: has bytes that are not UTF-8"),
        ("paths.records", "\udcff", "paths.records: has bytes that are not UTF-8"),
        ("tracking.database", "", "tracking.database=: must be null, or a text"),
        ("paths.results", "src", "paths.results=src: must be null, or a folder in results/"),
        ("paths.results", "results/../src", "must be null, or a folder in results/"),
        (
            "paths.results",
            "results/x_confirmation",
            "must not end in _confirmation, as what pipelines/confirm.py leaves",
        ),
        (
            "tracking.experiment",
            "x_confirmation",
            "tracking.experiment=x_confirmation: must not end in _confirmation, as what pipelines/confirm.py leaves",
        ),
        (
            "paths.confirmation",
            "mine",
            "paths.confirmation=mine: must be null, or a folder in results/ whose name ends in _confirmation, such as "
            "results/mine_confirmation",
        ),
        ("paths.confirmation", "results/_confirmation", "must be null, or a folder in results/ whose name ends in"),
        ("paths.results", ".", "must be null, or a folder in results/"),
        ("paths.records", "", "paths.records=: must be a text"),
        ("model._target_", "os.system", "model._target_=os.system: there is no such key"),
    ],
)
def test_what_is_not_allowed_ends_in_one_line(key, value, says):
    with pytest.raises(ConfigError) as error:
        parse(changed(key, value))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_confirmation_has_the_name_of_the_results_that_it_judges():
    values = shipped()
    values["paths"] |= {"results": "results/mine", "confirmation": "results/other_confirmation"}
    with pytest.raises(ConfigError, match="other_confirmation: must be results/mine_confirmation, or null"):
        parse(values)


def test_a_missing_data_file_is_named():
    values = shipped()
    del values["data"]["file"]
    with pytest.raises(ConfigError, match=r"data\.file: is missing"):
        parse(values)


def test_a_missing_key_is_named():
    values = shipped()
    del values["optimizer"]["beta_1"]
    with pytest.raises(ConfigError, match=r"optimizer\.beta_1: is missing"):
        parse(values)


def test_rings_must_lie_in_order():
    rings = yaml.safe_load((SOURCE / "conf/data/rings.yaml").read_text())
    values = shipped() | {"data": rings | {"inner_radius": 0.95}}
    with pytest.raises(ConfigError, match=r"data.inner_radius=0.95: must be below data.outer_radius=0.9"):
        parse(values)


def test_null_is_the_full_batch():
    assert parse(changed("training.batch_size", None)).training.batch_size is None


def test_labels_and_places_do_not_decide_a_result():
    base = parse(shipped()).deciding()
    for key, value in (("title", "x"), ("data.file", "y.npz"), ("paths.records", "z"), ("tracking.port", 1)):
        assert parse(changed(key, value)).deciding() == base
    for key, value in (("data.seed", 1), ("training.replicates", 2), ("optimizer.epsilon", 1e-7)):
        assert parse(changed(key, value)).deciding() != base


def test_numbers_that_are_equal_are_one_configuration():
    assert parse(changed("data.radius", 1)).deciding() == parse(changed("data.radius", 1.0)).deciding()


def test_a_zero_has_no_sign():
    for key in ("data.label_noise", "schedule.warmup_fraction", "optimizer.beta_1"):
        text = json.dumps(parse(changed(key, -0.0)).deciding())
        assert text == json.dumps(parse(changed(key, 0.0)).deciding())


def cell(**sections):
    values = copy.deepcopy(shipped())
    for name, settings in sections.items():
        values[name] |= settings
    values["data"] |= {"n_train": 40, "n_validation": 30}
    values["training"] |= {"epochs": 6, "replicates": 2} | sections.get("training", {})
    return parse(values)


SGD = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False}


def sgd(**settings):
    config = cell()
    return parse(
        config.model_dump() | {"data": {**config.data.model_dump(), "file": "a.npz"}, "optimizer": SGD | settings}
    )


DECIDES_NOTHING = {
    "patience's delta without patience": (cell(early_stopping={"min_delta": 0.5}), cell()),
    "more patience than epochs": (cell(early_stopping={"patience": 7}), cell()),
    "a final fraction without a decay": (cell(schedule={"final_fraction": 0.25}), cell()),
    "nesterov without momentum": (sgd(nesterov=True), sgd()),
    "epsilon hat without a second moment": (
        cell(optimizer={"beta_2": 0.0, "epsilon_hat": True}),
        cell(optimizer={"beta_2": 0.0}),
    ),
    "a cosine that stays at the learning rate": (
        cell(schedule={"decay": "cosine", "final_fraction": 1.0, "warmup_fraction": 0.5}),
        cell(schedule={"warmup_fraction": 0.5}),
    ),
    "a cosine over one step": (
        cell(schedule={"decay": "cosine", "final_fraction": 0.0, "warmup_fraction": 0.9}),
        cell(schedule={"warmup_fraction": 0.9}),
    ),
    "a warm-up of less than half a step": (cell(schedule={"warmup_fraction": 0.08}), cell()),
    "fractions that are the same number of steps": (
        cell(schedule={"warmup_fraction": 0.5}),
        cell(schedule={"warmup_fraction": 0.51}),
    ),
    "no weight decay": (
        cell(optimizer={"name": "adamw", "weight_decay": 0.0}),
        cell(),
    ),
    "batches larger than the data": (cell(training={"batch_size": 50}), cell(training={"batch_size": 40})),
}


@pytest.mark.parametrize("name", DECIDES_NOTHING)
def test_a_setting_that_decides_nothing_makes_no_other_cell(name):
    one, other = DECIDES_NOTHING[name]
    as_written = one.model_dump(include=set(CellConfig.model_fields))
    assert as_written != other.model_dump(include=set(CellConfig.model_fields))
    assert one.deciding() == other.deciding()
    # It is true that it decides nothing: as it is written, it trains to the same bits.
    dataset = sample_dataset(as_written["data"], as_written["training"]["replicates"])
    (parameters, history), (same, same_history) = (
        train(dataset, Recipe.of(config)) for config in (as_written, other.deciding())
    )
    np.testing.assert_array_equal(parameters, same)
    np.testing.assert_equal(vars(history), vars(same_history))


@pytest.mark.parametrize(
    ("sections", "counterpart"),
    [
        ({"early_stopping": {"patience": 6}}, {}),
        ({"early_stopping": {"patience": 3, "min_delta": 0.5}}, {"early_stopping": {"patience": 3}}),
        ({"schedule": {"decay": "cosine", "final_fraction": 0.25}}, {"schedule": {"decay": "cosine"}}),
        ({"training": {"batch_size": 40}}, {}),
        ({"training": {"batch_size": 39}}, {"training": {"batch_size": 40}}),
        ({"optimizer": {"epsilon_hat": True}}, {}),
    ],
)
def test_a_setting_that_decides_makes_another_cell(sections, counterpart):
    assert cell(**sections).deciding() != cell(**counterpart).deciding()


def test_the_spelling_that_is_hashed_is_its_own():
    for one, other in DECIDES_NOTHING.values():
        for config in (one, other):
            assert CellConfig.model_validate(config.deciding()).deciding() == config.deciding()


def test_every_key_says_what_it_may_be():
    for key in known_keys():
        assert allowed(key)


@pytest.mark.parametrize("path", sorted((SOURCE / "conf").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_opens_with_the_command_that_runs_it(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith(("# python pipelines/", "# dvc repro"))
    assert "_target_" not in path.read_text()
