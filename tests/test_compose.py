import pytest

from circlemlp.run.compose import compose_jobs
from circlemlp.errors import ConfigError
from conftest import SOURCE


def error_of(*arguments):
    with pytest.raises(ConfigError) as error:
        compose_jobs(arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_unknown_key_is_answered_with_the_nearest():
    assert "trainng.epochs=5: there is no such key; the nearest known key is training.epochs" in error_of(
        "trainng.epochs=5"
    )
    assert "the nearest known key is optimizer.learning_rate" in error_of("optimizer.learnig_rate=0.1")


def test_an_added_key_is_unknown_too():
    assert "foo=1: there is no such key" in error_of("+foo=1")


def test_an_unknown_choice_is_answered_with_the_nearest():
    assert error_of("model=mlp_63").startswith("model=mlp_63: must be one of mlp_128, mlp_128_64, mlp_64, mlp_64_32")
    assert "the nearest is smoke" in error_of("experiment=smok")
    assert "model=mlp_6: must be one of" in error_of("-m", "model=mlp_64,mlp_6")


@pytest.mark.parametrize(
    ("typed", "group"),
    [("modle", "model"), ("traning", "training"), ("experimnt", "experiment"), ("shedule", "schedule")],
)
def test_a_misspelled_group_is_answered_with_the_nearest(typed, group):
    assert f"{typed}=x: there is no such key; the nearest known key is {group} (one of " in error_of(f"{typed}=x")


@pytest.mark.parametrize("axis", ["model=glob(foo*)", "hydra.sweeper.params={model:mlp_64}"])
def test_a_sweep_of_nothing_is_refused(axis):
    assert error_of("-m", axis)


def test_a_bad_value_anywhere_in_a_sweep_stops_it():
    assert "optimizer.learning_rate=-1: must be a number above 0" in error_of("-m", "optimizer.learning_rate=0.1,-1")


@pytest.mark.parametrize(
    "axis",
    [
        "model=choice(mlp_64,mlp_128)",
        "model=mlp_64,'mlp_128'",
        "model=glob(mlp_64*)",
        "optimizer.learning_rate=range(1,3)",
    ],
)
def test_hydra_s_other_ways_to_write_a_sweep(axis):
    assert len(compose_jobs(["-m", axis]).jobs) == 2


def test_hydra_s_own_keys_cannot_break_the_check():
    assert error_of("-m", "hydra.sweeper.params.model=mlp_64")
    assert "only the basic sweeper" in error_of("-m", "hydra.sweeper._target_=somebody.Else")


def test_several_values_need_a_sweep():
    assert "add -m" in error_of("optimizer.learning_rate=0.1,0.2")


def test_a_key_of_another_shape():
    assert error_of("data=disk", "data.inner_radius=0.1") == "data.inner_radius=0.1: the chosen data has no such key"


@pytest.mark.parametrize(
    "nonsense",
    [
        "a=b=c[",
        "title=${nope}",
        "data=null",
        "+model=mlp_64",
        "hydra/launcher=foo",
        "experiment=null",
        "hydra.mode=MULTIRUN",
        "--config-name=x",
    ],
)
def test_nonsense_ends_in_one_line(nonsense):
    assert error_of(nonsense)


def test_scientific_notation_is_a_number():
    for text in ("1e-5", "1.0e-5", "0.00001"):
        assert compose_jobs([f"optimizer.learning_rate={text}"]).jobs[0].config.optimizer.learning_rate == 1e-5


def test_questions_are_left_to_hydra():
    assert compose_jobs(["--help"]) is None
    assert compose_jobs(["--cfg", "job"]) is None


def test_what_cfg_is_to_show_is_checked():
    assert "training.epochs=-1: must be" in error_of("training.epochs=-1", "--cfg", "job")
    assert "leave out -m" in error_of("-m", "training.epochs=1,2", "--cfg", "job")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("=5", "=5: a key is missing"),
        ("title=${foo}", "title: Interpolation key 'foo' not found"),
        ("hydra.foo=1", "hydra.foo=1: Hydra has no such key"),
        (
            "optimizer.learning_rate=interval(0,1)",
            "optimizer.learning_rate=interval(0,1): an interval needs a sampling",
        ),
    ],
)
def test_an_error_names_the_key(typed, says):
    assert error_of("-m", typed).startswith(says)


def test_only_an_experiment_as_shipped_exports_its_results():
    def exports(*arguments):
        return compose_jobs(["-m", "experiment=smoke", *arguments]).exports

    assert exports("tracking=none", "hydra.launcher.n_jobs=1")
    assert not exports("training.epochs=5")
    assert not exports("hydra.sweeper.params.model=mlp_64")
    assert exports("training.epochs=5", "paths.results=results/mine")


def test_a_sweep_is_the_product_of_its_axes():
    command = compose_jobs(["-m", "model=mlp_64,mlp_64_32", "optimizer.learning_rate=0.001,0.01"])
    assert [(tuple(j.config.model.hidden_layer_sizes), j.config.optimizer.learning_rate) for j in command.jobs] == [
        ((64,), 0.001),
        ((64,), 0.01),
        ((64, 32), 0.001),
        ((64, 32), 0.01),
    ]


def test_the_command_line_replaces_an_axis_of_an_experiment():
    command = compose_jobs(["-m", "experiment=architectures_by_learning_rate", "optimizer.learning_rate=0.5"])
    assert [job.config.optimizer.learning_rate for job in command.jobs] == [0.5] * 4


def test_the_experiment_of_the_pipeline_is_the_one_it_should_be():
    jobs = compose_jobs(["-m", "experiment=architectures_by_learning_rate"]).jobs
    assert len(jobs) == 28
    assert {job.config.optimizer.learning_rate for job in jobs} == {1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1}
    assert {tuple(job.config.model.hidden_layer_sizes) for job in jobs} == {(64,), (128,), (64, 32), (128, 64)}
    for job in jobs:
        assert job.config.training.model_dump() == {
            "epochs": 1000,
            "batch_size": None,
            "dtype": "float32",
            "replicates": 10,
            "seed": 0,
        }
        assert (job.config.data.n_train, job.config.data.n_validation, job.config.data.seed) == (5000, 2000, 2024)


CHOICES = sorted(path.relative_to(SOURCE / "conf").with_suffix("") for path in (SOURCE / "conf").rglob("*/*.yaml"))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_shipped_choice_composes(choice):
    assert compose_jobs([f"{choice.parent}={choice.name}"]).jobs
