"""Selection and confirmation, as a person uses them: which cells are trained again, and as which replicates."""

import json

import pytest

from circlemlp.config import LONGEST_NAME
from circlemlp.store import results, selection
from circlemlp.store.records import Store
from conftest import TINY

SWEEP = (*TINY, "model=mlp_64,mlp_64_32", "optimizer.learning_rate=0.01,0.1")
TUNED, CONFIRMED = "paths.results=results/mine", "paths.confirmation=results/mine_confirmation"


@pytest.fixture
def selected(tiny):
    """A project with a sweep of four cells and what it chose."""
    tiny.train("-m", *SWEEP, TUNED)
    tiny.run("python", "pipelines/generate.py", *TINY)
    tiny.run("python", "pipelines/select_rates.py", *TINY, TUNED)
    return tiny


def confirm(project, *arguments, code=0):
    return project.run("python", "pipelines/confirm.py", *arguments, CONFIRMED, code=code)


def chosen(project):
    return selection.read(project.folder / "reports/selection.json")


def judges(project):
    return results.read(project.folder / "results/mine_confirmation")


def edit(project, change):
    path = project.folder / "reports/selection.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_the_chosen_cells_are_trained_as_the_replicates_that_follow(selected):
    wanted = chosen(selected)
    assert wanted.tuned.numbers == range(2)
    cells = {(tuple(one.model.hidden_layer_sizes), rate) for one in wanted.choices for rate in one.learning_rates}
    before = selected.records()
    done = confirm(selected, *SWEEP, "confirmation.replicates=10")
    assert selected.states(done) == ["trained"] * len(cells)
    new = [Store(selected.folder / "runs").load(identity) for identity in selected.records() - before]
    assert {one.volatile.experiment for one in new} == {"sweeps_by_hand_confirmation"}
    found = {(tuple(one.config.model.hidden_layer_sizes), one.config.optimizer.learning_rate) for one in new}
    assert found == cells
    assert {one.config.training.numbers for one in new} == {range(2, 12)}
    assert {one.identity for one in judges(selected)} == {one.identity for one in new}
    # More of them are more records, and none that is there is trained again.
    longest = "x" * LONGEST_NAME
    further = ("confirmation.replicates=30", f"tracking.experiment={longest}")
    states = selected.states(confirm(selected, "-m", *SWEEP, *further))
    assert (states.count("found"), states.count("trained")) == (len(cells), 2 * len(cells))
    notes = {Store(selected.folder / "runs").noted(identity) for identity in selected.records() - before}
    assert notes == {"sweeps_by_hand_confirmation", f"{longest}_confirmation"}
    assert {number for one in judges(selected) for number in one.config.training.numbers} == set(range(2, 32))
    says = (
        "error: confirmation.replicates=25: must be a whole number at least 10 and at most 10_000 and a multiple of 10"
    )
    assert confirm(selected, *SWEEP, "confirmation.replicates=25", code=2).stderr == f"{says}\n"


def test_a_selection_that_was_edited_is_what_is_trained(selected):
    def change(values):
        values["choices"] = [one | {"learning_rate": 0.01, "by_typical_loss": None} for one in values["choices"]]

    edit(selected, change)
    assert selected.states(confirm(selected, *SWEEP, "confirmation.replicates=10")) == ["trained"] * 2
    left = judges(selected)
    assert {one.config.optimizer.learning_rate for one in left} == {0.01}
    assert {one.config.training.numbers for one in left} == {range(2, 12)}


def nothing(values):
    values["choices"] = [one | {"learning_rate": None, "by_typical_loss": None} for one in values["choices"]]


OF_ANOTHER_SWEEP = (
    (
        lambda values: values["choices"][0].update(learning_rate=0.3),
        "chooses 2-64-1 at 0.3, which is no cell of this sweep; choose again, with pipelines/select_rates.py",
    ),
    (
        lambda values: values["choices"][1]["model"].update(activation="tanh"),
        "chooses 2-64-32-1 tanh at 0.1, which is no cell of this sweep; choose again, with",
    ),
    (lambda values: values["choices"].pop(), "chooses no learning rate for 2-64-32-1, which is in this sweep; "),
    (nothing, "chooses nothing, because too many replicates diverged at every learning rate; a report without"),
    (lambda values: values.pop("tuned"), "cannot be read as a selection (tuned: "),
    (
        lambda values: values["tuned"].update(replicates=3),
        "was chosen by replicates 0 to 2, and this sweep has others; choose again, with",
    ),
    (lambda values: values.update(settings="0" * 64), "was chosen under other settings than this sweep's; choose"),
)


def test_a_selection_of_another_sweep_is_one_line_and_trains_nothing(selected):
    before = selected.records()
    whole = (selected.folder / "reports/selection.json").read_text()
    for change, says in OF_ANOTHER_SWEEP:
        edit(selected, change)
        done = confirm(selected, *SWEEP, code=2)
        assert done.stderr.startswith(f"error: reports/selection.json: {says}")
        assert done.stderr.count("\n") == 1
        (selected.folder / "reports/selection.json").write_text(whole)
    for other in ("data.seed=1", "training.epochs=5", "optimizer.beta_1=0.8"):
        assert "was chosen under other settings" in confirm(selected, *SWEEP, other, code=2).stderr
    done = selected.run("python", "pipelines/confirm.py", *SWEEP, "paths.confirmation=results/mine", code=2)
    assert done.stderr == (
        "error: paths.confirmation=results/mine: must be null, or a folder in results/ whose name ends in "
        "_confirmation, such as results/mine_confirmation\n"
    )
    assert selected.records() == before
    assert not (selected.folder / "results/mine_confirmation").exists()


def test_what_is_missing_is_one_line_that_names_the_remedy(tiny):
    (tiny.folder / "reports/selection.json").unlink(missing_ok=True)
    done = confirm(tiny, *SWEEP, code=2)
    assert done.stderr == (
        "error: reports/selection.json: there is no selection here; "
        "make it from a sweep's results with: "
        "python pipelines/select_rates.py paths.results=results/... paths.reports=reports\n"
    )
    done = tiny.run("python", "pipelines/confirm.py", *SWEEP, code=2)
    assert done.stderr.startswith("error: paths.confirmation=null: name a folder for the results, such as results/")
    done = tiny.run("python", "pipelines/report.py", *TINY, TUNED, CONFIRMED, code=2)
    assert "there are no results here" in done.stderr
    done = tiny.run("python", "pipelines/select_rates.py", *TINY, code=2)
    assert done.stderr.startswith("error: paths.results=null: a folder of results is needed; make one with: python ")
    done = tiny.run("python", "pipelines/select_rates.py", *TINY, TUNED, code=2)
    assert done.stderr.startswith("error: results/mine: there are no results here; ")


def test_it_is_a_sweep_without_saying_so_and_hydra_still_answers(project):
    assert "hidden_layer_sizes" in confirm(project, "--cfg", "job").stdout
    done = confirm(project, "optimizer.learning_rate=-1,0.1", code=2)
    assert done.stderr.startswith("error: optimizer.learning_rate=-1: must be a number above 0")
