"""The commands in a report, read back as a person's shell and the training door would."""

import dataclasses
import html
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circlemlp.config import CellConfig
from circlemlp.report.commands import commands, making
from circlemlp.report.tables import Runs
from circlemlp.report.write import write_report
from circlemlp.run.compose import compose_jobs
from circlemlp.store.records import Store
from circlemlp.store.stages import run_id
from circlemlp.store.trained import join
from circlemlp.wording import anchor_of_cell, architecture
from conftest import TINY
from made_up import DATA, GRID, RUNS, SETTINGS, made_up


def from_command(command):
    """Compose what a command says, as the training door does."""
    python, script, *arguments = shlex.split(command)
    assert (python, script) == ("python", "pipelines/train.py")
    (job,) = compose_jobs(arguments).jobs
    return job.config


def cell(config):
    """Return a record of a configuration, of which only that matters."""
    ingredients = {**GRID[0].ingredients, "config": CellConfig.model_validate(config).deciding()}
    return dataclasses.replace(GRID[0], ingredients=ingredients)


fractions = st.floats(0, 1, exclude_max=True)
counts = st.integers(1, 10_000_000)
adaptive = {
    "learning_rate": st.floats(0, 10, exclude_min=True),
    "beta_1": fractions,
    "beta_2": fractions,
    "epsilon": st.floats(1e-30, 1),
    "epsilon_hat": st.booleans(),
}
described = {
    "draws": st.sampled_from(["fresh", "shared"]),
    "n_train": counts,
    "n_validation": counts,
    "label_noise": st.floats(0, 0.49),
    "seed": st.integers(0, 2**63 - 1),
}
radius = {"radius": st.floats(0.01, 1.4)}
CONFIGS = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries({"shape": st.sampled_from(["quarter_circle", "disk"]), **radius, **described})
        | st.fixed_dictionaries(
            {
                "shape": st.just("rings"),
                "inner_radius": st.floats(0.01, 0.99),
                "outer_radius": st.floats(1, 1.4),
                **described,
            }
        ),
        "model": st.fixed_dictionaries(
            {
                "hidden_layer_sizes": st.sampled_from([[64], [128, 64]]) | st.lists(st.integers(1, 65_536), min_size=1),
                "activation": st.sampled_from(["relu", "leaky_relu", "tanh", "gelu"]),
                "initialisation": st.sampled_from(["he", "glorot"]),
            }
        ),
        "optimizer": st.fixed_dictionaries({"name": st.just("adam"), **adaptive})
        | st.fixed_dictionaries({"name": st.just("adamw"), **adaptive, "weight_decay": st.floats(0, 10)})
        | st.fixed_dictionaries(
            {
                "name": st.just("sgd"),
                "learning_rate": adaptive["learning_rate"],
                "momentum": fractions,
                "nesterov": st.booleans(),
            }
        ),
        "schedule": st.fixed_dictionaries(
            {
                "decay": st.sampled_from(["constant", "cosine"]),
                "warmup_fraction": st.sampled_from([0.0, 0.05]) | fractions,
                "final_fraction": fractions,
            }
        ),
        "training": st.fixed_dictionaries(
            {
                "epochs": counts,
                "batch_size": st.none() | counts,
                "dtype": st.sampled_from(["float32", "float64"]),
                "replicates": st.integers(1, 10_000),
                "first_replicate": st.integers(0, 10_000),
                "seed": st.integers(0, 2**63 - 1),
            }
        ),
        "early_stopping": st.fixed_dictionaries({"patience": st.none() | counts, "min_delta": st.floats(0, 1e9)}),
    }
)
FILES = st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(list(" '\"\\${},=[]|`")), min_size=1)


@settings(max_examples=25)
@given(CONFIGS, FILES)
def test_a_command_is_read_back_as_the_configuration_to_the_bit(config, name):
    record = cell(config)
    data = record.config.data.model_copy(update={"file": f"data/{name}.npz"})
    (command,) = commands([record], data)
    again = from_command(command)
    assert repr(again.deciding()) == repr(record.ingredients["config"])
    assert again.data.file == data.file


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model=mlp_128_64", "optimizer.learning_rate=0.01"],
        ["optimizer=sgd", "optimizer.momentum=0.5", "schedule=warmup_cosine", "early_stopping=patience"],
        ["data=rings", "data.label_noise=0.1", "training=mini_batch", "training.batch_size=32"],
        ["data=disk", "data.draws=shared"],
        ["'model.hidden_layer_sizes=[7,5,3]'", "model.activation=tanh"],
    ],
)
def test_a_command_is_as_short_as_a_person_s(overrides):
    config = from_command(shlex.join(["python", "pipelines/train.py", *[o.strip("'") for o in overrides]]))
    (command,) = commands([cell(config.deciding())], config.data)
    assert sorted(command.split()[2:]) == sorted(overrides)


def test_a_command_names_the_kernels_and_the_data_file_where_they_are_not_the_usual_ones():
    config = from_command("python pipelines/train.py data=disk").deciding()
    record = cell(config)
    assert commands([record], DATA) == ["python pipelines/train.py data=disk"]  # DATA's file is of other data
    data = record.config.data.model_copy(update={"file": "data/my rings.npz"})
    (command,) = commands([record], data)
    assert command == """python pipelines/train.py data=disk 'data.file='"'"'data/my rings.npz'"'"''"""
    native = dataclasses.replace(record)
    native.ingredients["numerics"] = {**record.ingredients["numerics"], "mode": "native"}
    assert commands([native], DATA) == ["python pipelines/train.py data=disk numerics=native"]


def told(page):
    """Return the records that a page names and the commands beside them, in the order of its table."""
    found = re.findall(
        r"Record (\w{12}), of replicates? ([^:]*):.*?<code class=\"command\">(.*?)</code>", page, re.DOTALL
    )
    return [(record, numbers, html.unescape(command)) for record, numbers, command in found]


def test_the_commands_of_a_report_find_their_cells(tiny):
    place = ("paths.results=results/mine", "paths.reports=reports/mine")
    mine = ("data=disk", "data.file='data/my disk.npz'", *TINY[:2], "training.replicates=2", "training.epochs=3")
    tiny.run("python", "pipelines/generate.py", *mine)
    axes = ("model=mlp_64,mlp_128_64", "optimizer=sgd", "optimizer.learning_rate=0.1,3e-05")
    assert tiny.states(tiny.train("-m", *axes, *mine, place[0], "tracking=none")) == ["trained"] * 4
    tiny.run("python", "pipelines/report.py", *mine, *place)
    page = (tiny.folder / "reports/mine/report.html").read_text()
    assert len(told(page)) == 4
    for _, _, command in told(page):
        done = tiny.run("sh", "-c", f"{command} tracking=none")
        assert tiny.states(done) == ["found"]
    # Without the data's name the report is the same, but for the file that is not known then.
    tiny.run("python", "pipelines/report.py", *place)
    again = (tiny.folder / "reports/mine/report.html").read_text()
    assert "data=disk" in again
    assert re.sub('"command">.*?</code>', "", again) == re.sub('"command">.*?</code>', "", page)


def test_what_reproduces_a_cell_names_the_range_of_its_replicates(tmp_path):
    judges = [made_up((4,), 0.1, [0.1] * 5, first=3), made_up((6, 3), 0.03, [0.4] * 5, first=3)]
    write_report(tmp_path, "A title", GRID, DATA, Store(tmp_path / "runs"), SETTINGS, RUNS, judges)
    found = {
        record: (numbers, from_command(command))
        for record, numbers, command in told((tmp_path / "report.html").read_text())
    }
    assert found.keys() == {record.identity[:12] for record in (*GRID, *judges)}
    for record in (*GRID, *judges):
        numbers, config = found[record.identity[:12]]
        assert config.training.numbers == record.config.training.numbers
        assert numbers == f"{record.config.training.numbers[0]} to {record.config.training.numbers[-1]}"


def test_what_makes_an_experiment_is_what_its_file_says():
    assert making("architectures_by_learning_rate") == ["make repro"]
    assert making("homework")[1] == "python pipelines/train.py -m experiment=homework paths.results=results/homework"
    assert making("mine") == []


EXPERIMENTS = {"tuning": "mine", "confirmation": "judged"}


def test_each_cell_leads_to_its_runs_in_mlflow(tmp_path):
    judges = [made_up((4,), 0.1, [0.1] * 5, first=3)]
    write_report(tmp_path, "A title", GRID, DATA, Store(tmp_path / "runs"), SETTINGS, Runs(5001, EXPERIMENTS), judges)
    page = (tmp_path / "report.html").read_text()
    rows = {
        cell: re.findall('<a href="http://127.0.0.1:5001/#/runs/([0-9a-f]{32})">MLflow run of the (.*?)</a>', more)
        for cell, more in re.findall('<tbody id="([^"]*)">(.*?)</tbody>', page, re.DOTALL)
    }
    assert "the links expect it on port 5001." in page
    assert len(rows) == len(GRID)
    for record in GRID:
        stages = ["tuning", "confirmation"] if record is GRID[0] else ["tuning"]
        (cell,) = join([record])
        expected = [(run_id(EXPERIMENTS[stage], stage, cell), stage) for stage in stages]
        config = record.config
        assert rows[anchor_of_cell(architecture(config.model), config.optimizer.learning_rate)] == expected
