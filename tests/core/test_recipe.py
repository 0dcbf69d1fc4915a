import copy

import pytest

from circlemlp.core.optimizers import SGD, Adam, AdamW
from circlemlp.core.recipe import EarlyStopping, Recipe
from circlemlp.core.schedules import Schedule

CONFIG = {
    "data": {
        "shape": "disk",
        "draws": "fresh",
        "radius": 0.8,
        "n_train": 10,
        "n_validation": 5,
        "label_noise": 0.0,
        "seed": 0,
    },
    "model": {"hidden_layer_sizes": [8, 4], "activation": "tanh"},
    "optimizer": {"name": "sgd", "learning_rate": 0.2, "momentum": 0.5, "nesterov": True},
    "schedule": {"decay": "cosine", "warmup_fraction": 0.25, "final_fraction": 0.125},
    "training": {"epochs": 7, "batch_size": 32, "dtype": "float64", "replicates": 3, "seed": 9},
    "early_stopping": {"patience": 4, "min_delta": 0.5},
}


def changed(section, **values):
    return {**CONFIG, section: {**CONFIG[section], **values}}


def test_a_recipe_is_all_that_the_configuration_says():
    assert Recipe.of(CONFIG) == Recipe(
        hidden_layer_sizes=[8, 4],
        activation="tanh",
        optimizer=SGD(0.2, momentum=0.5, nesterov=True),
        schedule=Schedule("cosine", 0.25, 0.125),
        epochs=7,
        batch_size=32,
        early_stopping=EarlyStopping(4, 0.5),
        dtype="float64",
        replicates=3,
        seed=9,
    )


def test_reading_a_recipe_leaves_the_configuration_as_it_is():
    before = copy.deepcopy(CONFIG)
    Recipe.of(CONFIG)
    assert before == CONFIG


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (
            {"name": "adam", "learning_rate": 0.2, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 1e-3, "epsilon_hat": True},
            Adam(0.2, 0.5, 0.75, 1e-3, True),
        ),
        ({"name": "adamw", "learning_rate": 0.2, "weight_decay": 0.5}, AdamW(0.2, weight_decay=0.5)),
    ],
)
def test_the_optimizer_is_the_named_one(optimizer, expected):
    assert Recipe.of({**CONFIG, "optimizer": optimizer}).optimizer == expected


def test_without_patience_nothing_stops_early():
    recipe = Recipe.of(changed("early_stopping", patience=None, min_delta=0.0))
    assert recipe.early_stopping == EarlyStopping() == EarlyStopping(patience=None)


def test_every_key_of_the_configuration_decides_something_of_the_recipe():
    others = {
        "model": {"hidden_layer_sizes": [8, 5], "activation": "relu"},
        "optimizer": {"learning_rate": 0.3, "momentum": 0.6, "nesterov": False},
        "schedule": {"decay": "constant", "warmup_fraction": 0.5, "final_fraction": 0.25},
        "training": {"epochs": 8, "batch_size": None, "dtype": "float32", "replicates": 4, "seed": 10},
        "early_stopping": {"patience": 5, "min_delta": 0.25},
    }
    for section, values in others.items():
        assert values.keys() == CONFIG[section].keys() - {"name"}
        for key, value in values.items():
            assert Recipe.of(changed(section, **{key: value})) != Recipe.of(CONFIG)


@pytest.mark.parametrize("section", ["model", "optimizer", "schedule", "training", "early_stopping"])
def test_a_key_that_nothing_reads_is_refused(section):
    with pytest.raises(TypeError, match="dropout"):
        Recipe.of(changed(section, dropout=0.5))


def test_a_section_that_nothing_reads_is_refused():
    with pytest.raises(TypeError, match="augmentation"):
        Recipe.of({**CONFIG, "augmentation": {}})


@pytest.mark.parametrize("section", ["model", "optimizer", "schedule", "training", "early_stopping"])
def test_a_section_that_is_missing_is_refused(section):
    with pytest.raises(KeyError, match=section):
        Recipe.of({key: value for key, value in CONFIG.items() if key != section})
