"""What the documents say exists, exists; the commands that they show work."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from circlemlp.run.compose import compose_jobs
from conftest import SOURCE, TINY

DERIVATION = (SOURCE / "docs/backpropagation.md").read_text()
README = (SOURCE / "README.md").read_text()
DOCUMENTS = [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", *sorted((SOURCE / "docs").glob("*.md"))]
POINTS = ("data.n_train=60", "data.n_validation=40")
TRAINING = (*POINTS, "training.epochs=4", "training.replicates=2", "tracking=none")
SMALL = {
    "generate": POINTS,
    "train": TRAINING,
    "select_rates": POINTS,
    "confirm": (*TRAINING, "confirmation.replicates=2"),
    "report": POINTS,
}
"""Overrides that make the documented commands take seconds."""
INSTEAD = {
    "dvc repro": None,  # the last tests here and test_pipeline run it
    # test_pipeline runs these, on a smaller experiment
    "dvc exp run -S 'conf/experiment/architectures_by_learning_rate.yaml:grid.learning_rate=[0.01,0.1]'": None,
    "dvc exp run -S conf/pipeline.yaml:data=rings": None,
    "dvc exp run -S 'conf/model/mlp_64.yaml:hidden_layer_sizes=[96]'": None,
    "git checkout .": None,
    "dvc checkout": None,
    "pip install '.[sklearn]'": None,  # test_makefile installs the package, without a registry
    "source .venv/bin/activate": None,
}
"""What is run in place of a documented command that would take minutes, or need another state; None: nothing."""


def commands(text: str) -> list[str]:
    """Return the commands of a document: lines of its code blocks, and pieces of code in its prose."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S)
    lines = [line.split("  #")[0] for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    pieces = [piece.strip() for line in lines for piece in line.split(" && ")]
    return [piece for piece in pieces if re.match(r"(python|make|dvc|git|pip|source|uv|mutmut) ", piece)]


def test_every_equation_names_a_function_and_a_test_that_exist():
    rows = re.findall(r"^\| [^|]*\| (`[^|]*) \| (`[^|]*) \|$", DERIVATION, re.M)
    equations = set(re.findall(r"^> \((\d+[ab]?)\)", DERIVATION, re.M))
    named = "\n".join(re.findall(r"^\| ([^|]*\(\d[^|]*) \| `", DERIVATION, re.M))
    assert equations == set(re.findall(r"\((\d+[ab]?)\)", named))
    assert len(equations) >= 10
    sources = "\n".join(path.read_text() for path in (SOURCE / "tests").rglob("test_*.py"))
    for functions, tests in rows:
        for name in re.findall(r"`([\w.]+)`", functions):
            assert resolve(name), name
        for name in re.findall(r"`(\w+)`", tests):
            assert f"def {name}(" in sources, name


def resolve(name):
    first, rest = name.split(".")
    modules = dict.fromkeys(("Adam", "AdamW", "SGD"), "core.optimizers") | {"Schedule": "core.schedules"}
    modules |= dict.fromkeys(("HiddenLayers", "OneHiddenLayer"), "core.passes")
    modules |= {"Network": "core.network", "LossSum": "core.loss", "boundary": "report.boundary", "Cut": "core.tiles"}
    module = importlib.import_module(f"circlemlp.{modules.get(first, f'core.{first}')}")
    return getattr(getattr(module, first, module), rest, None)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_every_file_named_leads_somewhere(path):
    text = path.read_text()
    assert "@@" not in text  # a figure that is still to come
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (path.parent / target).exists(), target
    for script in re.findall(r"\b((?:pipelines|benchmarks|tests)/\w+\.py)", text):
        assert (SOURCE / script).exists(), script


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_line_fits_into_160_columns_unless_it_is_of_a_table(path):
    assert [line for line in path.read_text().splitlines() if len(line) > 160 and not line.startswith("|")] == []


def test_the_answer_in_the_readme_is_the_report_s():
    report = (SOURCE / "reports/report.md").read_text()
    (quoted,) = re.findall(r"(?:^>.*\n)+", README, re.M)
    answer = re.sub(r"^> ?", "", quoted, flags=re.M).split("\n\n")
    assert len(answer) == 3
    for sentence in answer:
        assert " ".join(sentence.split()) in report


def test_the_layout_in_the_design_names_every_module():
    table = (SOURCE / "docs/design.md").read_text().partition("## Layout")[2].partition("\n## ")[0]
    library = SOURCE / "src/circlemlp"
    core = {path.name for path in (library / "core").glob("*.py")}  # the derivation goes through these
    modules = {path.name for path in library.rglob("*.py")} - core - {"__init__.py"}
    assert modules - set(re.findall(r"`(?:\w+/)?(\w+\.py)`", table)) == set()
    for named in re.findall(r"`([\w/]+\.py)`", table):
        assert list(library.rglob(named)), named


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_command_exists(project, path):
    (project.folder / ".venv").mkdir()
    (project.folder / ".venv/.installed").write_text(f"{project.folder}\n")
    for command in commands(path.read_text()):
        if command.startswith("make "):
            project.run(*shlex.split(command), "--dry-run")


def shown() -> list[str]:
    """Return the commands that documents, the files of conf/ and the scripts show."""
    texts = [path.read_text() for path in DOCUMENTS]
    for path in [*(SOURCE / "conf").rglob("*.yaml"), *(SOURCE / "pipelines").glob("*.py")]:
        texts += [
            "".join(f"`{found}`" for found in re.findall(r"(?:# |: )(python pipelines/[^\"]*)", line))
            for line in path.read_text().splitlines()
        ]
    found = dict.fromkeys(command for text in texts for command in commands(text))
    return [command for command in found if command.startswith("python pipelines/")]


@pytest.mark.parametrize("command", shown())
def test_a_command_that_is_shown_composes(command):
    _, script, *arguments = shlex.split(command)
    stem = Path(script).stem
    if stem in SMALL and "--cfg" not in arguments:
        (job, *_) = compose_jobs(arguments, multirun=stem == "confirm").jobs
        assert job.config.paths.results or stem not in ("select_rates", "report")  # they read what is there
    else:
        assert (SOURCE / script).exists()


def test_the_commands_of_the_readme_work_one_after_the_other(project):
    """Each is run as it stands, with overrides behind it that make it small."""
    project.run("python", "pipelines/generate.py", *SMALL["generate"])  # in place of `make repro`
    for command in commands(README):
        program, *words = shlex.split(command)
        script = Path(words[0]).stem
        if program == "python":
            done = project.run(program, *words, *SMALL[script])
            if script == "report":
                (folder,) = re.findall(r"^(\S+)/report.md", done.stdout, re.M)
                assert (project.folder / folder / "report.html").exists()
        elif program != "make" and (instead := INSTEAD.get(command, command)):
            project.run(*shlex.split(instead))


def test_the_readme_tells_how_to_add_an_architecture(tiny):
    file, *lines = re.search(r"is a file `(\S+)` with three lines, `(.*?)`,\s`(.*?)` and `(.*?)`", README).groups()
    (tiny.folder / file).write_text("\n".join(lines))
    assert "2-32-32-1" in tiny.train("-m", f"model={Path(file).stem}", *TINY).stdout


def test_the_python_of_the_readme_runs():
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (200, 3))
    names = {"X_train": x[:100], "y_train": x[:100, 0] > 0, "X_test": x[100:], "y_test": x[100:, 0] > 0}
    exec(compile(code, "README.md", "exec"), names)
    assert names["classifier"].score(names["X_test"], names["y_test"]) > 0.9
