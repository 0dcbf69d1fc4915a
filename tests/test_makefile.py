"""What `make` looks for before it builds anything, what its commands run, and what of it git sees."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SOURCE, Project

MAKEFILE = (SOURCE / "Makefile").read_text()
STAMP = ".venv/.installed"


def refused(project: Project, *arguments: str) -> str:
    """Run make, and return the only line it says, having built nothing."""
    done = project.run("make", *arguments, code=2)
    assert done.stdout == ""
    assert not (project.folder / ".venv").exists()
    (line,) = done.stderr.splitlines()
    return line


def python_of_version(folder: Path, *version: int) -> Path:
    """Write a program that is a Python of another version, as far as it tells."""
    program = folder / "python-other"
    code = f"import sys; sys.version_info = {version}; exec(sys.argv[2])"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 10, 14), (3, 14, 0)])
def test_a_python_that_is_too_old_or_too_new_is_refused_by_its_version(project, tmp_path, version):
    python = python_of_version(tmp_path, *version)
    line = refused(project, "test", f"PYTHON={python}")
    assert f"{python} is {version[0]}.{version[1]};" in line
    assert "Python 3.11 to 3.13 is needed: make test PYTHON=python3.13" in line


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 4), (3, 13, 9)])
def test_a_python_in_between_is_taken(project, tmp_path, version):
    python = python_of_version(tmp_path, *version)
    assert f"{python} -m venv --clear .venv" in project.run("make", "-n", "install", f"PYTHON={python}").stdout


def test_a_python_that_is_not_there_is_named(project):
    assert "no-such-python does not run; Python 3.11 to 3.13 is needed" in refused(
        project, "PYTHON=no-such-python", "ui"
    )


@pytest.mark.parametrize("target", ["repro", "test", "verify"])
def test_what_needs_git_says_so_before_anything_is_built(project, target):
    (project.folder / ".git").rename(project.folder / "elsewhere")
    assert re.search(r"a git clone is needed.*not a git repository", refused(project, target))


def test_variables_that_git_sets_for_its_hooks_are_not_passed_on(project):
    (project.folder / "Makefile").write_text(MAKEFILE + '\nshow:\n\t@env | grep "^GIT_[DWI]" || echo none\n')
    project.environment |= {"GIT_DIR": "/elsewhere/.git", "GIT_WORK_TREE": "/elsewhere", "GIT_INDEX_FILE": "index"}
    assert project.run("make", "show").stdout == "none\n"


@pytest.mark.parametrize("character", ':"`$%\\{}')
def test_a_folder_in_which_no_environment_works_is_refused(project, character):
    folder = project.folder.rename(project.folder.with_name(f"c{character}d"))
    line = refused(Project(folder), "repro")
    assert f"{folder} has one of" in line
    assert "rename or move it" in line


def test_any_other_folder_is_taken(project):
    folder = project.folder.rename(project.folder.with_name(" a b'c#e;&(é)*,=@~[x]!|<>?"))
    assert "-m venv --clear .venv" in Project(folder).run("make", "-n", "install").stdout
    (folder / ".venv").mkdir()
    (folder / STAMP).write_text(f"{folder}\n")
    assert "Nothing to be done" in Project(folder).run("make", "-n", "install").stdout


def test_an_environment_that_was_made_elsewhere_is_built_anew(project):
    (project.folder / ".venv").mkdir()
    for made_in, nothing_to_do in ((project.folder, True), (project.folder.parent / "elsewhere", False), ("", False)):
        (project.folder / STAMP).write_text(f"{made_in}\n")
        for target in ("install", "repro"):
            said = project.run("make", "-n", target).stdout
            assert ("-m venv" not in said) == nothing_to_do


def test_help_lists_every_command(project):
    listed = re.findall(r"^  make ([\w-]+) +\w", project.run("make", "help").stdout, re.M)
    (phony,) = re.findall(r"^\.PHONY: (help .*)$", MAKEFILE, re.M)
    assert sorted(listed) == sorted(set(phony.split()) - {"repository"})
    assert {"bench-sweep", "clean-logs"} <= set(listed)
    assert project.run("make").stdout == project.run("make", "help").stdout


def test_the_port_of_the_ui_can_be_chosen(project):
    assert project.run("make", "-n", "ui", "PORT=5001").stdout.endswith("index.py --serve tracking.port=5001\n")
    assert project.run("make", "-n", "ui").stdout.rstrip().endswith("index.py --serve")


def test_clean_leaves_what_is_committed_and_nothing_else(project):
    leave_everything(project)
    project.run("make", "clean-logs")
    assert not (project.folder / "logs").exists()
    assert (project.folder / "runs").is_symlink()
    project.run("make", "clean")
    assert project.git("status", "--porcelain", "--ignored") == ""


def leave_everything(project):
    """Leave what running, testing and installing leave, and what a kill does."""
    large_disk = project.folder.parent / "disk"
    large_disk.mkdir()
    for link in ("runs", "results", "logs"):
        (project.folder / link).symlink_to(large_disk)
    for file in (
        ".aside-x/lock",
        ".locks/mlflow.db",
        ".venv/bin/python",
        "build/lib/circlemlp/errors.py",
        "data/.aside-x/smoke.npz",
        "data/.locks/smoke.npz",
        "data/smoke.npz",
        "dvc_plots/index.html",
        "mlartifacts/1/boundary.png",
        "mlflow.db",
        "mlflow.db-wal",
        "mutants/src/circlemlp/core/loss.py",
        "reports/.aside-x/smoke/report.md",
        "reports/.locks/smoke",
        "src/circlemlp.egg-info/PKG-INFO",
    ):
        (project.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / file).write_text("")


def test_git_sees_nothing_of_what_the_project_leaves(project):
    leave_everything(project)
    for folder in (".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "pipelines/__pycache__", "reports/x"):
        (project.folder / folder).mkdir()
        (project.folder / folder / "x").write_text("")
    for file in (".coverage", ".coverage.host.1", "reports/timing.md"):
        (project.folder / file).write_text("")
    assert project.git("status", "--porcelain") == ""


def test_git_sees_nothing_of_an_installation(project):
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    project.run("python", *install, "--target", str(project.folder.parent / "target"), ".")
    assert (project.folder / "build").exists()
    assert project.git("status", "--porcelain") == ""
    templates = SOURCE / "src/circlemlp/report/templates"
    installed = project.folder.parent / "target/circlemlp/report/templates"
    assert sorted(path.name for path in installed.iterdir()) == sorted(path.name for path in templates.iterdir())


ALLOWED = {
    "circlemlp.estimator": ["sklearn"],
    "circlemlp.run.compose": ["hydra", "omegaconf"],
    "circlemlp.tracking.index": ["circlemlp.report.cell_results", "mlflow"],
    "circlemlp.tracking.artifacts": ["circlemlp.report.boundary"],
    "circlemlp.tracking.experiments": ["circlemlp.report.commands"],
    "circlemlp.tracking.models": ["circlemlp.report.comparison"],
    "circlemlp.tracking.recommended": ["circlemlp.report.regimes"],
}


@pytest.fixture
def broken(tmp_path):
    """Return a function that says which contracts break where one module of the library imports another, too."""
    modules = sorted(path.relative_to(SOURCE / "src") for path in (SOURCE / "src").rglob("*.py"))

    def contracts(*imports: str) -> list[str]:
        lines = {module: list(names) for module, names in ALLOWED.items()}
        for line in imports:
            module, name = line.split(" -> ")
            lines.setdefault(f"circlemlp.{module}", []).append(name)
        for path in modules:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            names = lines.get(".".join(path.with_suffix("").parts), ())
            (tmp_path / path).write_text("".join(f"import {name}\n" for name in names))
        lint = Path(sys.executable).with_name("lint-imports")
        done = subprocess.run(
            (lint, "--no-cache", SOURCE / "pyproject.toml"), cwd=tmp_path, capture_output=True, text=True
        )
        names = re.findall(r"^(.*\S) BROKEN", done.stdout, re.M)
        assert done.returncode == bool(names), done.stdout + done.stderr
        return [name.partition(":")[0] for name in names]

    return contracts


def test_the_contracts_allow_what_each_layer_is_for(broken):
    assert broken("core.loss -> numpy", "store.records -> circlemlp.core.data", "report.write -> jinja2") == []


@pytest.mark.parametrize(
    ("line", "contract"),
    [
        ("run.compose -> circlemlp.tracking", "The layers"),
        ("tracking.index -> circlemlp.run.compose", "The layers"),
        ("report.write -> circlemlp.run.cells", "The layers"),
        ("store.results -> circlemlp.run.cells", "The layers"),
        ("store.records -> circlemlp.report.statistics", "The layers"),
        ("wording -> circlemlp.store.records", "The layers"),
        ("core.training -> circlemlp.config", "The layers"),
        ("errors -> circlemlp.core.loss", "The layers"),
        ("core.training -> circlemlp.errors", "The core imports NumPy and the standard library"),
        ("core.training -> pydantic", "The core imports NumPy and the standard library"),
        ("core.loss -> scipy", "The core imports NumPy and the standard library"),
        ("pinning -> numpy", "Pinning comes before NumPy"),
        ("run.cells -> pandas", "Training starts quickly"),
        ("run.cells -> circlemlp.report.boundary", "Training starts quickly"),
        (
            "tracking.index -> circlemlp.report.write",
            "The index takes numbers, commands and pictures of cells from the report",
        ),
        ("report.write -> omegaconf", "Only training composes configurations"),
        ("report.write -> mlflow", "Only the index imports MLflow"),
        ("report.statistics -> sklearn", "Only the estimator imports scikit-learn"),
    ],
)
def test_a_wall_between_layers_holds(broken, line, contract):
    assert contract in broken(line)


def test_a_wall_holds_against_a_detour_too(broken):
    assert broken("run.cells -> circlemlp.store.tables", "store.tables -> pandas") == [
        "Training starts quickly",
    ]


def test_a_new_module_has_to_be_given_its_layer(broken, tmp_path):
    assert broken() == []
    (tmp_path / "circlemlp/helpers.py").write_text("")
    lint = Path(sys.executable).with_name("lint-imports")
    assert subprocess.run((lint, "--no-cache", SOURCE / "pyproject.toml"), cwd=tmp_path, capture_output=True).returncode
