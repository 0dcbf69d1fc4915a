"""What the documents say exists, exists; the commands that they show work."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

import plain
from circlemlp.core.loss import top_error
from circlemlp.core.network import Network
from circlemlp.core.optimizers import Adam, State
from circlemlp.core.parameters import Layout
from circlemlp.core.tiles import augment
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
    "confirm": (*TRAINING, "confirmation.replicates=10"),
    "report": POINTS,
}
"""Overrides that make the documented commands take seconds."""
INSTEAD = {
    "dvc repro": None,  # the last tests here and test_pipeline run it
    # test_pipeline runs these, on a smaller experiment
    "dvc exp run -S 'conf/experiment/architectures_by_learning_rate.yaml:grid.learning_rate=[0.01,0.1]'": None,
    "dvc exp run -S conf/pipeline.yaml:data=rings": None,
    "dvc exp run -S 'conf/model/mlp_64.yaml:hidden_layer_sizes=[96]'": None,
    "python pipelines/index.py --all": None,  # test_index runs it
    "git checkout .": None,
    "dvc checkout": None,
    # test_server runs it, with a server of its own
    "python pipelines/index.py tracking=server tracking.uri=https://mlflow.example.org": None,
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
    rows = re.findall(r"^\| ([^|]*) \| (\[`[^|]*) \| (\[`[^|]*) \|$", DERIVATION, re.M)
    equations = set(re.findall(r"\\tag\{(\w+)\}", DERIVATION))
    assert equations == set(re.findall(r"\((\d+[ab]?)\)", "".join(equation for equation, _, _ in rows)))
    assert len(equations) >= 10
    files = dict(re.findall(r"^\[([\w-]+)\]: \.\./(\S+)$", DERIVATION, re.M))
    linked = re.findall(r"\[`([\w.]+)`\]\[([\w-]+)\]", DERIVATION)
    assert {file for _, file in linked} == files.keys()
    for name, file in linked:
        path = Path(files[file])
        if path.parts[0] == "tests":
            assert f"def {name}(" in (SOURCE / path).read_text(), name
        else:
            found = importlib.import_module(".".join(path.with_suffix("").parts[1:]))
            for part in name.split("."):
                found = getattr(found, part)


def test_markdown_leaves_formulas_as_they_are_written():
    """The repository's host reads Markdown first, and has MathJax set what is then still between dollar signs."""
    formulas = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(DERIVATION):
        if token.type == "inline":
            written = re.sub(r"`[^`]*`", "", token.content)
            assert FORMULA.findall(written) == FORMULA.findall("".join(map(as_text, token.children)))
            formulas += FORMULA.findall(written)
            assert not re.search(r"\w\0|\0\w", FORMULA.sub("\0", written))
    assert len(formulas) > 100
    assert all(re.fullmatch(r"\$\S(.*\S)?\$", formula) for formula in formulas)


FORMULA = re.compile(r"\$[^$]+\$")


def as_text(token):
    """Return what is only text in a piece of Markdown, and a mark in place of all else."""
    return {"text": token.content, "softbreak": "\n", "code_inline": ""}.get(token.type, "?")


def test_the_step_that_is_worked_through_is_the_plain_network_s_and_the_core_s():
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", DERIVATION, re.M | re.S))
    step = doctest.DocTestParser().get_doctest(code, {}, "the step", "docs/backpropagation.md", 0)
    assert doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(step, clear_globs=False).failed == 0
    x, y, gradient, theta = (step.globs[name] for name in ("x", "y", "gradient", "theta"))
    layout, start = Layout((2, 2, 1)), np.concatenate([step.globs[name].T.ravel() for name in ("W1", "b1", "W2", "b2")])
    assert gradient == pytest.approx(plain.gradient(start, layout.layer_sizes, x, y), rel=1e-14)
    losses = plain.train(start, layout.layer_sizes, x, y, epochs=1, learning_rate=0.1)
    assert plain.mean_loss(theta, layout.layer_sizes, x, y) == pytest.approx(losses[1], rel=1e-14)
    assert f"the loss is {losses[1]:.4f}." in DERIVATION

    network, inputs = Network(layout, start[np.newaxis]), augment(x, np.float64)[:, np.newaxis]
    logits, signs = np.empty((1, 1, len(x))), plain.signs_of_labels(y, np.float64)
    network.forward(inputs, logits)
    top_error(logits, signs, len(x), out=network.top_error(inputs))
    network.backward(inputs, starts_batch=True, ends_batch=True)
    assert network.gradient[0] == pytest.approx(gradient, rel=1e-14)
    Adam(0.1).step(State.of(network.parameters), network.gradient, network.parameters)
    assert network.parameters[0] == pytest.approx(theta, rel=1e-14)


def test_the_plain_network_has_as_many_lines_as_they_say():
    lines = len((SOURCE / "tests/plain.py").read_text().splitlines())
    for text in (README, DERIVATION):
        assert re.findall(r"plain\.py\): (\d+) lines", text) == [str(lines)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_every_file_named_leads_somewhere(path):
    text = path.read_text()
    assert "@@" not in text  # a figure that is still to come
    for target in re.findall(r"(?:\]\(|^\[[\w-]+\]: )([^)#\n]+)", text, re.M):
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


def run_small(project, command):
    """Run a script's command as it stands, with overrides behind it that make it small."""
    program, *words = shlex.split(command)
    script = Path(words[0]).stem
    done = project.run(program, *words, *SMALL[script])
    if script == "report":
        (folder,) = re.findall(r"^(\S+)/report.md", done.stdout, re.M)
        assert (project.folder / folder / "report.html").exists()


def test_the_commands_of_the_readme_work_one_after_the_other(project):
    project.run("python", "pipelines/generate.py", *SMALL["generate"])  # in place of `make repro`
    for command in commands(README):
        instead = INSTEAD.get(command, command)
        if instead is None or instead.startswith("make "):
            continue
        if instead.startswith("python "):
            run_small(project, instead)
        else:
            project.run(*shlex.split(instead))


# Those of the homework are in the README.
@pytest.mark.parametrize("name", ["architectures_by_learning_rate", "initialisations", "smoke"])
def test_the_commands_of_an_experiment_work_one_after_the_other(project, name):
    project.run("python", "pipelines/generate.py", *SMALL["generate"])
    text = (SOURCE / f"conf/experiment/{name}.yaml").read_text()
    shown = re.findall(r"^# (python .*)$", text, re.M)
    assert shown
    for command in shown:
        run_small(project, command)
    assert len(project.records()) == np.prod([len(values) for values in yaml.safe_load(text)["grid"].values()])


def test_the_readme_tells_how_to_add_an_architecture(tiny):
    file, *lines = re.search(r"is a file `(\S+)` with three lines, `(.*?)`,\s`(.*?)` and `(.*?)`", README).groups()
    (tiny.folder / file).write_text("\n".join(lines))
    assert "2-32-32-1" in tiny.train("-m", f"model={Path(file).stem}", *TINY).stdout


def test_the_python_of_the_readme_can_be_pasted(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
    exec(compile(code, "README.md", "exec"), {})
    said, printed = float(code.rpartition("# ")[2]), float(capsys.readouterr().out)
    assert printed == pytest.approx(said, abs=0.01)
