"""What an error says to do is done here, and works. Each mistake is answered with a remedy, and the remedy is followed.

Remedies that are followed elsewhere: how to make the data (``test_sweep``, ``store/test_datafile``), how to quote a
value (``test_compose``), and what to do about an index (``test_index``, ``test_database``) or a folder
(``test_makefile``).
"""

import contextlib
import json
import re
import shlex

import pytest

from circlemlp.errors import ConfigError
from circlemlp.run.compose import ForHydra, compose_jobs, compose_one, index_command
from conftest import TINY

SMOKE = ("experiment=smoke", "tracking=none")
FOLDER = "paths.results=results/smoke"
JUDGES = "paths.confirmation=results/smoke_confirmation"


class Doors:
    """The scripts of a project."""

    def __init__(self, project):
        self.project = project

    def __call__(self, script, *arguments):
        return self.project.run("python", f"pipelines/{script}.py", *SMOKE, *arguments)

    def remedy(self, expected, script, *arguments):
        """Return what a mistaken command is told to do, after some expected words."""
        done = self.project.run("python", f"pipelines/{script}.py", *SMOKE, *arguments, code=2)
        assert done.stderr.count("\n") == 1
        said, found, remedy = done.stderr.strip().partition(expected)
        assert found, said
        return remedy


def test_remedies_of_results_selections_and_confirmations(project):
    door = Doors(project)
    selection = project.folder / "reports/selection.json"
    selection.unlink(missing_ok=True)

    project.run("sh", "-c", door.remedy("a folder of results is needed; make one with: ", "select_rates"))
    assert door.remedy("a folder of results is needed; name one: ", "select_rates") == FOLDER

    command = door.remedy("make it from a sweep's results with: ", "confirm", JUDGES, "paths.reports=reports")
    project.run(*shlex.split(command.replace("results/...", "results/smoke")))
    assert selection.exists()

    such_as = door.remedy("paths.confirmation=null: name a folder for the results, such as ", "confirm")
    missing = ("report", FOLDER, JUDGES)
    script, folder = re.match(
        r"pipelines/(\w+)\.py with (\S+) makes them", door.remedy("no results here; ", *missing)
    ).groups()
    assert "trained" in door(script, folder, "paths.reports=reports").stdout
    assert "found" in door("confirm", f"paths.confirmation={such_as}", "paths.reports=reports").stdout

    # A selection that was not made of this sweep is made again, and nothing is trained for it.
    selection.write_text(json.dumps(json.loads(selection.read_text()) | {"settings": "0" * 64}))
    confirm = ("confirm", folder, "paths.reports=reports")
    again = door.remedy("was chosen under other settings than this sweep's; choose again, with pipelines/", *confirm)
    door(again.removesuffix(".py"), FOLDER, "paths.reports=reports")
    assert "trained" not in door(*confirm).stdout

    (project.folder / "results/smoke/cells.json").write_text("{}")
    remedy = door.remedy("damaged ('cells'); a sweep ", "select_rates", FOLDER)
    script, flag, folder = re.match(r"\(pipelines/(\w+)\.py (-m)\) with (\S+) makes them", remedy).groups()
    assert "trained" not in door(script, flag, folder).stdout

    flag = door.remedy("only a sweep leaves a folder of results; add ", "train", FOLDER)
    assert "found" in door("train", flag, FOLDER).stdout


@pytest.mark.parametrize(
    ("mistaken", "says", "remedied"),
    [
        (["model=mlp_64,mlp_128"], "add -m", ["-m", "model=mlp_64,mlp_128"]),
        (["hydra.mode=MULTIRUN"], "add -m for a sweep, or leave it out", ["-m"]),
        (["-m", "--cfg", "job"], "leave out -m", ["--cfg", "job"]),
        (["--config-name=other"], "use overrides", ["model=mlp_128"]),
        (["~model"], "give it a value", ["model=mlp_128"]),
        (["-m", "training.seed=interval(0,3)"], "give values or range(...)", ["-m", "training.seed=range(0,3)"]),
        (["modle=mlp_64"], "the nearest known key is model (one of mlp_128, mlp_128_64, ", ["model=mlp_128_64"]),
        (["model=mlp_65"], "the nearest is mlp_64", ["model=mlp_64"]),
        (["data.file"], "a setting has the form key=value", ["data.file=data/a.npz"]),
        (["numerics=fast"], "must be one of auto, portable, native", ["numerics=native"]),
        (["paths.results=mine"], "a folder in results/, such as results/mine", ["-m", "paths.results=results/mine"]),
        (
            ["paths.confirmation=results/a"],
            "such as results/mine_confirmation",
            ["paths.confirmation=results/mine_confirmation"],
        ),
        (["--nonsense"], "--help says what there is", ["--help"]),
    ],
)
def test_remedies_of_command_lines(mistaken, says, remedied):
    with pytest.raises(ConfigError) as error:
        compose_jobs(mistaken)
    assert says in str(error.value)
    with contextlib.suppress(ForHydra):
        compose_jobs(remedied)


@pytest.mark.parametrize(
    ("others", "command"),
    [
        ([], "make ui"),
        (["experiment=smoke", "tracking.port=5001"], "make ui"),
        (["tracking=server"], "python pipelines/index.py tracking.uri=http://127.0.0.1:8080"),
        (
            ["paths.records=other", "tracking.database=b.db"],
            "python pipelines/index.py paths.records=other tracking.database=b.db",
        ),
        (["tracking.database='null'"], None),
        (["tracking.database='a\\\\'"], None),
        (["tracking.uri='https://[::1]:5000/~me'"], None),
        (["tracking.artifacts='it\\'s $HOME, \\\\\\${a}=b; [1]'"], None),
    ],
)
def test_the_command_that_finishes_an_index_is_of_that_index(others, command):
    wanted = compose_one(others)
    said = index_command(wanted.paths.records, wanted.tracking)
    assert command in (None, said)
    found = compose_one(shlex.split(said)[2:])
    for key in ("database", "artifacts", "uri"):
        assert getattr(found.tracking, key) == getattr(wanted.tracking, key)
    assert found.paths.records == wanted.paths.records


def test_what_finishes_an_index_in_another_place_is_said_and_does(tiny):
    places = ("paths.records=my runs", "tracking.database=my index/of.db", "tracking.artifacts=my index")
    in_the_way = tiny.folder / "my index/of.db"
    in_the_way.parent.mkdir()
    in_the_way.write_text("not a database")
    *_, line = tiny.train(*TINY, "tracking=mlflow", *places).stderr.splitlines()
    command = re.fullmatch("not finished: writing the MLflow index; `(.*)` finishes it", line)[1]
    in_the_way.unlink()
    assert tiny.run("sh", "-c", command).stdout == "my index/of.db: 1 cells added\n"
    assert not (tiny.folder / "mlflow.db").exists()
