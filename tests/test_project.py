import json
import os
import subprocess
import sys

import pytest

ASK = "import json; from circlemlp import project; print(json.dumps(project.git_state()))"


def git_state(project, **environment):
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=project.folder,
        env={**project.environment, "PYTHONPATH": str(project.folder / "src"), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_commit_is_that_of_the_checkout_and_a_change_makes_it_dirty(project):
    commit = project.git("rev-parse", "HEAD")
    assert git_state(project) == {"commit": commit, "dirty": False}
    project.edit("README.md", "circlemlp", "circle-mlp")
    assert git_state(project) == {"commit": commit, "dirty": True}


def test_what_git_sets_for_its_hooks_names_no_other_repository(project, tmp_path):
    commit = project.git("rev-parse", "HEAD")
    subprocess.run(["git", "init", "--quiet", tmp_path / "other"], check=True)
    for variables in (
        {"GIT_DIR": str(tmp_path / "other/.git")},
        {"GIT_DIR": ".git", "GIT_INDEX_FILE": ".git/index", "GIT_PREFIX": ""},
        {"GIT_WORK_TREE": str(tmp_path)},
    ):
        assert git_state(project, **variables) == {"commit": commit, "dirty": False}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to give files to another user")
def test_a_checkout_of_another_user_still_has_its_commit(project):
    commit = project.git("rev-parse", "HEAD")
    for path in (project.folder, project.folder / ".git"):
        os.chown(path, 12345, 12345)
    assert git_state(project, GIT_CONFIG_NOSYSTEM="1")["commit"] == commit


def test_a_copy_inside_another_repository_has_no_commit(project, tmp_path):
    inside = tmp_path / "outer" / "inside"
    inside.parent.mkdir()
    (project.folder).rename(inside)
    (inside / ".git").rename(inside.parent / ".git")
    project.folder = inside
    assert git_state(project) == {"commit": None, "dirty": None}
