"""The pipeline, as DVC runs it: on the smoke experiment, in fresh copies of the project."""

import hashlib
import json
import re
import shutil
import subprocess

import pytest
import yaml

from circlemlp.store.identity import code_digest
from conftest import Project


@pytest.fixture
def smoke(project):
    """A project whose pipeline runs the smoke experiment."""
    project.edit("dvc.yaml", "experiment: architectures_by_learning_rate", "experiment: smoke")
    project.edit("dvc.yaml", "data: data/quarter_circle.npz", "data: data/smoke.npz")
    (project.folder / "dvc.lock").unlink(missing_ok=True)
    project.commit()
    return project


def repro(project):
    return project.run("dvc", "repro").stdout


def clone(project, folder, **environment):
    subprocess.run(["git", "clone", "--quiet", project.folder, folder], check=True, capture_output=True)
    return Project(folder, **environment)


def a_locale_with_decimal_commas(folder):
    """Return the environment of a German locale, made here; of a plain one where none can be made."""
    made = folder / "locales" / "de_DE.UTF-8"
    made.parent.mkdir()
    try:
        subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", made], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return {"LC_ALL": "C"}
    return {"LOCPATH": str(made.parent), "LC_ALL": "de_DE.UTF-8"}


def trained(output):
    return output.count(" trained")


def test_a_fresh_clone_elsewhere_gives_the_same_bytes(smoke, tmp_path):
    repro(smoke)
    smoke.commit()
    assert smoke.git("status", "--porcelain") == ""
    home = tmp_path / "somebody else"
    home.mkdir()
    elsewhere = clone(
        smoke,
        tmp_path / "another folder" / "deeper",
        HOME=str(home),
        USER="somebody",
        LOGNAME="somebody",
        TZ="Asia/Kathmandu",
        **a_locale_with_decimal_commas(tmp_path),
        PYTHONHASHSEED="12345",
        OPENBLAS_NUM_THREADS="2",
    )
    assert not (elsewhere.folder / "results").is_dir() or not list((elsewhere.folder / "results").glob("*/records"))
    output = repro(elsewhere)
    assert trained(output) == 6
    assert elsewhere.git("status", "--porcelain") == ""
    tracked = elsewhere.git("ls-files").splitlines()
    for name in ("dvc.lock", "reports/report.md", "reports/metrics.json", "reports/figures/boundaries.svg"):
        assert name in tracked
    assert (elsewhere.folder / "reports/report.html").read_bytes() == (
        smoke.folder / "reports/report.html"
    ).read_bytes()


def test_only_what_changed_runs_again(smoke):
    assert trained(repro(smoke)) == 6
    again = repro(smoke)
    assert "Data and pipelines are up to date." in again
    assert "Running stage" not in again
    assert smoke.run("dvc", "status").stdout == "Data and pipelines are up to date.\n"

    smoke.edit("conf/model/mlp_64.yaml", "[64]", "[48]")
    output = repro(smoke)
    assert (trained(output), output.count(" found")) == (3, 3)
    assert "2-48-1" in (smoke.folder / "reports/report.md").read_text()

    smoke.edit("conf/experiment/smoke.yaml", "0.001,0.01,0.1", "0.001,0.01,0.1,0.2")
    output = repro(smoke)
    assert (trained(output), output.count(" found")) == (2, 6)

    smoke.edit("conf/model/mlp_64.yaml", "[48]", "[64]")
    smoke.edit("conf/experiment/smoke.yaml", "0.001,0.01,0.1,0.2", "0.001,0.01,0.1")
    assert trained(repro(smoke)) == 0


def test_the_pipeline_and_a_sweep_by_hand_share_their_cells(smoke):
    smoke.run("python", "pipelines/generate.py", "experiment=smoke")
    by_hand = smoke.train("-m", "experiment=smoke", "model=mlp_64", "tracking=none", "paths.results=null")
    assert trained(by_hand.stdout) == 3
    assert trained(repro(smoke)) == 3
    after = smoke.train("-m", "experiment=smoke", "tracking=none", "paths.results=null")
    assert trained(after.stdout) == 0
    # The records that come with the results are as good as those in the store, for DVC's own stages too.
    shutil.rmtree(smoke.folder / "runs")
    smoke.edit("conf/model/mlp_64.yaml", "[64]", "[48]")
    output = repro(smoke)
    assert (trained(output), output.count(" found")) == (3, 3)
    smoke.edit("conf/model/mlp_64.yaml", "[48]", "[64]")
    assert trained(repro(smoke)) == 3
    shutil.rmtree(smoke.folder / "runs")
    after = smoke.train("-m", "experiment=smoke", "tracking=none", "paths.results=null")
    assert after.stdout.count(" found") == 6


def test_metrics_plots_and_experiments(smoke):
    repro(smoke)
    smoke.commit()
    shown = json.loads(smoke.run("dvc", "metrics", "show", "--json").stdout)
    metrics = shown[""]["data"]["reports/metrics.json"]["data"]
    assert set(metrics) == {"best", "2-64-1", "2-64-32-1"}
    assert metrics["best"] == min((metrics["2-64-1"], metrics["2-64-32-1"]), key=lambda one: one["true_error"])
    smoke.run("dvc", "plots", "show", "--out", "plots")
    page = (smoke.folder / "plots/index.html").read_text()
    assert "boundaries.svg" in page
    assert "validation_loss" in page

    # Another value of a conf file, without touching the committed one.
    done = smoke.run("dvc", "exp", "run", "--set-param", "conf/model/mlp_64.yaml:hidden_layer_sizes=[32]")
    assert trained(done.stdout) == 3
    changed = yaml.safe_load((smoke.folder / "conf/model/mlp_64.yaml").read_text())
    assert changed == {"hidden_layer_sizes": [32], "activation": "relu", "initialisation": "he"}
    changes = json.loads(smoke.run("dvc", "metrics", "diff", "--json").stdout)
    assert "2-32-1" in json.dumps(changes)
    everything = json.loads(smoke.run("dvc", "metrics", "diff", "--all", "--json").stdout)["reports/metrics.json"]
    assert everything["best.validation_loss"]["old"] == metrics["best"]["validation_loss"]
    smoke.run("dvc", "plots", "diff", "--out", "plots")
    assert "workspace" in (smoke.folder / "plots/index.html").read_text()
    assert "conf/model/mlp_64.yaml" in smoke.run("dvc", "exp", "show", "--json").stdout


def test_an_experiment_in_a_folder_of_its_own_leaves_this_one_alone(smoke):
    repro(smoke)
    smoke.commit()
    done = smoke.run("dvc", "exp", "run", "--temp", "--set-param", "conf/config.yaml:numerics=native")
    assert trained(done.stdout) == 6
    assert smoke.git("status", "--porcelain") == ""
    assert len(smoke.records()) == 6
    (name,) = re.findall("Reproducing experiment '(.+)'", done.stdout)
    smoke.run("dvc", "exp", "apply", name)
    assert "| numeric environment | native: " in (smoke.folder / "reports/report.md").read_text()


@pytest.mark.change_detector
def test_the_committed_report_is_that_of_this_code(project):
    text = (project.folder / "reports/report.md").read_text()
    assert f"`{code_digest()}`" in text
    project.run("python", "pipelines/generate.py")
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())
    (out,) = lock["stages"]["generate"]["outs"]
    assert hashlib.md5((project.folder / "data/quarter_circle.npz").read_bytes()).hexdigest() == out["md5"]


def test_analytics_are_off(project):
    assert project.run("dvc", "config", "core.analytics").stdout.strip() == "false"


def test_no_stage_file_names_a_file_that_is_not_there(project):
    stages = yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for dependency in stage["deps"]:
            if "${" not in dependency:
                assert (project.folder / dependency).exists(), dependency
        for parameters in stage["params"]:
            (path,) = parameters
            assert "${" in path or (project.folder / path).exists(), path
