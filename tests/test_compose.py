import itertools
import os
import re
import shlex

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from circlemlp.errors import ConfigError
from circlemlp.run.compose import Composer, ForHydra, compose_jobs
from conftest import SOURCE, TINY


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


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x._target_=shutil.copy",
        "hydra/output=default",
        "+hydra/callbacks=x",
        "hydra.callbacks={x:{_target_:shutil.copy}}",
        "+hydra.job_logging.handlers.file.filename=/tmp/anywhere",
        "hydra/job_logging=default",
        "hydra/hydra_logging=default",
        "hydra.searchpath=[pkg://somebody]",
        "+hydra.job.env_set.LD_PRELOAD=x",
        "hydra.job.env_copy=[HOME]",
        "hydra.job.chdir=true",
        "hydra.verbose=true",
        "+hydra.env.x=1",
        "hydra.sweeper._target_=somebody.Else",
        "hydra.sweeper.max_batch_size=2",
        "hydra.launcher._target_=shutil.copy",
        "+hydra.launcher.extra={_target_:shutil.copy}",
        "+hydra.launcher.extra=[{_target_:shutil.copy}]",
    ],
)
@pytest.mark.parametrize("multirun", [(), ("-m",)])
def test_settings_of_hydra_s_own_that_make_it_do_more_than_launch_are_refused(override, multirun):
    assert re.match(r"\+?hydra[./][\w.]+[=:]", error_of(*multirun, override))


def test_settings_that_a_launcher_needs_are_allowed():
    assert compose_jobs(
        [
            "-m",
            "hydra/launcher=joblib",
            "hydra.launcher.n_jobs=1",
            "hydra.sweep.dir=logs/mine",
            "hydra.sweep.subdir=${hydra.job.override_dirname}",
            "hydra.run.dir=logs/one",
            "hydra.output_subdir=null",
        ]
    )


def test_a_launcher_s_settings_cannot_be_swept():
    assert error_of("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1,2").startswith("hydra.launcher.n_jobs=1,2:")


def test_an_axis_of_no_experiment_is_no_axis():
    assert error_of("-m", "hydra.sweeper.params.model=mlp_64")


@pytest.mark.parametrize("value", ["介绍", "#", "a b]", "it's [", 'say "x" ['])
def test_a_value_that_hydra_cannot_read_is_answered_with_the_quotes_it_needs(value):
    remedy = error_of(f"title={value}").rpartition(": ")[2]
    (job,) = compose_jobs(shlex.split(remedy)).jobs
    assert job.config.title == value


def test_a_value_that_is_not_utf_8_is_named():
    assert error_of(os.fsdecode(b"title=\xff")) == "title=\\udcff: is not UTF-8 text"


def test_a_sweep_without_end_is_refused_at_once():
    assert "more than 100_000 cells" in error_of("-m", "training.seed=range(1000000000)")
    assert "more than 100_000 cells" in error_of("-m", "training.seed=range(1000)", "data.seed=range(1000)")


def test_references_that_double_again_and_again_are_refused():
    keys = ["title", "paths.records", "paths.reports", "tracking.database", "tracking.artifacts"]
    doubled = [f"{key}='${{{other}}}${{{other}}}x'" for key, other in itertools.pairwise(keys)]
    assert compose_jobs(doubled)
    many = "".join("${title}" for _ in range(21))
    assert "more than 20" in error_of(f"paths.records='{many}'")
    for section in ("help", "launcher", "sweep"):
        doubling = [
            f"+hydra.{section}.x{n}='${{hydra.{section}.x{n - 1}}}${{hydra.{section}.x{n - 1}}}'" for n in range(1, 25)
        ]
        last = f"hydra.run.dir='${{hydra.{section}.x24}}'"
        assert "more than 20" in error_of(f"+hydra.{section}.x0=aaaaaaaaaa", *doubling, last)


@pytest.mark.parametrize(
    "overrides",
    [
        TINY,
        ("model=mlp_64_32", "optimizer=sgd", "optimizer.momentum=0.5", "model.hidden_layer_sizes=[3,4]"),
        ("experiment=smoke", "training=mini_batch", "data.file='data/a b.npz'", "early_stopping.patience=3"),
        ("optimizer.learning_rate=1e-5", "title='x, y'", "paths.results=null", "++training.seed=3", "data={seed:4}"),
    ],
)
def test_a_configuration_is_what_hydra_composes(overrides):
    with initialize_config_dir(str(SOURCE / "conf"), version_base="1.3"):
        theirs = OmegaConf.to_container(compose("config", list(overrides)))
        composer = Composer()
        for _ in range(2):  # the second from what the first left
            assert OmegaConf.to_container(composer.compose(overrides)) == theirs


def test_each_choice_of_groups_is_composed_once():
    command = compose_jobs(["-m", "model=mlp_64,mlp_128", "optimizer.learning_rate=0.1,0.2,0.3", "training.seed=1,2"])
    assert len(command.jobs) == 12
    assert len(command.composer.bases) == 2


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (SOURCE / "conf/experiment").glob("*.yaml")))
def test_every_shipped_experiment_goes_with_every_launcher(experiment):
    sizes = {len(compose_jobs(["-m", f"experiment={experiment}", f"hydra/launcher={one}"]).jobs) for one in LAUNCHERS}
    assert len(sizes) == 1
    assert compose_jobs([f"experiment={experiment}"]).in_experiment == sizes.pop()


LAUNCHERS = ("basic", "joblib", "one_by_one")


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
    for arguments in (["--help"], ["--cfg", "job"]):
        with pytest.raises(ForHydra):
            compose_jobs(arguments)


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


GRIDS = {
    "learning_rate: [0.001, 0.01, 0.1]": None,
    "optimizer.learning_rate: [0.001, 0.01, 0.1]": None,
    "hidden_layer_sizes: [[3], [4, 5], [6]]": None,
    "tracking.database: [null, 'it''s.db', 'a b.db']": None,
    "learning_rate: 0.1": "grid.learning_rate=0.1: must be a list of one or more values",
    "learning_rate: []": "grid.learning_rate=[]: must be a list of one or more values",
    "learnig_rate: [0.1]": "grid.learnig_rate: neither a group of conf/ nor the last part of a key has this name",
    "seed: [1, 2]": "grid.seed: is the last part of more than one key: data.seed, training.seed",
    "learning_rate: [0.1]\n  optimizer.learning_rate: [0.2]": "grid.optimizer.learning_rate: optimizer.learning_rate i",
    "experiment: [homework, smoke]": "grid.experiment: is the grid of an experiment, which cannot",
    "../..: [dvc]": "grid.../..: neither a group of conf/ nor the last part of a key has this name",
    "batch_size: [0, 1]": "training.batch_size=0: must be null, or a whole number at least 1",
    "optimizer: [adam, adamm]": "optimizer=adamm: must be one of adam, adamw, sgd; the nearest is adam",
    "seeds: []\nhydra: {sweeper: {params: {data.seed: 1}}}": "hydra.sweeper.params.data.seed=1: this setting",
}


def test_a_grid_is_lists_of_values_each_under_a_group_or_the_last_part_of_a_key(project):
    smoke = project.folder / "conf/experiment/smoke.yaml"
    before, _, _ = smoke.read_text().partition("  learning_rate:")
    for axis, says in GRIDS.items():
        smoke.write_text(f"{before}  {axis}\n")
        done = project.run("python", "-c", COMPOSE, code=0 if says is None else 1)
        assert done.stdout == ("6\n" if says is None else "")
        assert says is None or done.stderr.splitlines()[-1].startswith(f"circlemlp.errors.ConfigError: {says}")
    for grid in ("[]", "{}", "null", "3"):
        smoke.write_text(f"{before.partition('grid:')[0]}grid: {grid}\n")
        assert "must be a section of lists" in project.run("python", "-c", COMPOSE, code=1).stderr


COMPOSE = """
import sys
sys.path.insert(0, "src")
from circlemlp.run.compose import compose_jobs
print(len({job.overrides for job in compose_jobs(["-m", "experiment=smoke"]).jobs}))
"""


@pytest.mark.change_detector
def test_the_experiment_of_the_pipeline_is_the_one_it_should_be():
    jobs = compose_jobs(["-m", "experiment=architectures_by_learning_rate"]).jobs
    assert len(jobs) == 36
    assert {job.config.optimizer.learning_rate for job in jobs} == {1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0.3, 1.0}
    assert {tuple(job.config.model.hidden_layer_sizes) for job in jobs} == {(64,), (128,), (64, 32), (128, 64)}
    for job in jobs:
        assert job.config.training.model_dump() == {
            "epochs": 1000,
            "batch_size": None,
            "dtype": "float32",
            "replicates": 10,
            "first_replicate": 0,
            "seed": 0,
        }
        assert (job.config.data.n_train, job.config.data.n_validation, job.config.data.seed) == (5000, 2000, 2024)


CHOICES = sorted(path.relative_to(SOURCE / "conf").with_suffix("") for path in (SOURCE / "conf").rglob("*/*.yaml"))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_shipped_choice_composes(choice):
    assert compose_jobs([f"{choice.parent}={choice.name}"]).jobs


@pytest.mark.parametrize("script", ["index", "report", "select_rates", "verify"])
@pytest.mark.parametrize("arguments", [("-m", "paths.records=a,b"), ("--nonsense",)])
def test_what_a_program_for_one_configuration_does_not_understand_is_one_line(tiny, script, arguments):
    done = tiny.run("python", f"pipelines/{script}.py", *arguments, code=2)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--resolve",), "--package and --resolve: they belong to --cfg"),
        (("--package", "model"), "--package and --resolve: they belong to --cfg"),
        (("/model=mlp_64",), "/model=mlp_64: "),
        (("-m", "hydra.sweeper.params={a:1}"), ""),
    ],
)
def test_what_would_be_ignored_or_told_in_jargon_is_one_plain_line(arguments, says):
    said = error_of(*arguments)
    assert said.startswith(says)
    assert not any(word in said for word in ("NoneType", "object", "attribute", "quotes"))
