"""What tests share: pinned kernels, and copies of the project to run commands in."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from circlemlp import pinning

pinning.pin(pinning.resolve("auto"))  # before anything imports NumPy

# What tests start inherits that a signal is ignored, as under nohup or in a script's background.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile("circlemlp", deadline=None, derandomize=True)
settings.register_profile("mutants", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.load_profile("circlemlp")

SOURCE = Path(__file__).resolve().parents[1]


class Project:
    """A copy of the project under version control, and commands run in it as a person would."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MAKE", "MFLAGS"))},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
            **environment,
        }

    def start(self, *command: str, **options) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *command: str, code: int = 0, timeout: float = 300) -> subprocess.CompletedProcess:
        process = self.start(*command)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert process.returncode == code, f"{command}: exit code {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def train(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess:
        return self.run("python", "pipelines/train.py", *arguments, code=code)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout.strip()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "test")

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        assert old in text
        (self.folder / path).write_text(text.replace(old, new))

    def records(self) -> set[str]:
        return {path.name for path in (self.folder / "runs").glob("?" * 64)}

    def states(self, done: subprocess.CompletedProcess) -> list[str]:
        """Return what a table says of each cell that has a record: ``trained`` or ``found``."""
        return re.findall(r"\b[0-9a-f]{12} (trained|found)", done.stdout)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree, committed, with nothing generated yet, that every project is copied from."""
    copy = Project(tmp_path_factory.mktemp("template"))
    listed = ("git", "-C", str(SOURCE), "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, copy.run(*listed).stdout.split("\0")):
        if (SOURCE / name).is_file():
            (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / name, copy.folder / name)
    copy.git("init", "--quiet", "--initial-branch", "main", "--template=")
    copy.commit()
    return copy.folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    """A fresh copy of the working tree, committed, with nothing generated yet."""
    return Project(shutil.copytree(template, tmp_path / "project"))


TINY = (
    "data.n_train=60",
    "data.n_validation=40",
    "data.file=data/tiny.npz",
    "training.epochs=4",
    "training.replicates=2",
    "tracking=none",
)
"""Overrides that make any cell take milliseconds."""


@pytest.fixture
def tiny(project: Project) -> Project:
    """A project whose data set for ``TINY`` is there."""
    project.run("python", "pipelines/generate.py", *TINY)
    return project


def chromium() -> str:
    """Return where Chromium is. Without one a test is skipped, but not in CI, which installs one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found and not os.environ.get("CI"):
        pytest.skip("Chromium is not here: apt-get install chromium")
    assert found, "CI installs Chromium"
    return found


@pytest.fixture(scope="module")
def browser():
    """Chromium, of a whole module, since nothing else can have the event loop meanwhile."""
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"]) as one,
    ):
        yield one
