"""The pipeline, as DVC runs it: on the smoke experiment, in fresh copies of the project."""

import hashlib
import json
import re
import shutil
import subprocess

import pytest
import yaml

from circlemlp.store import results, selection
from circlemlp.store.identity import code_digest
from circlemlp.store.trained import join
from conftest import Project


@pytest.fixture
def smoke(project):
    """A project whose pipeline runs the smoke experiment."""
    project.edit("conf/pipeline.yaml", "experiment: architectures_by_learning_rate", "experiment: smoke")
    (project.folder / "dvc.lock").unlink(missing_ok=True)
    project.commit()
    return project


def repro(project, *stages):
    return project.run("dvc", "repro", *stages).stdout


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


def cells(output):
    """Return, for each stage that ran and trains, how many cells it trained and how many it found."""
    stages = re.split(r"^Running stage '(\w+)':$", output, flags=re.M)[1:]
    ran = dict(zip(stages[::2], stages[1::2], strict=True))
    return {stage: (trained(ran[stage]), ran[stage].count(" found")) for stage in ("tune", "confirm") if stage in ran}


def chosen(project):
    """Return the cells that were selected: sizes and learning rate."""
    choices = selection.read(project.folder / "reports/selection.json").choices
    return {(*one.model.hidden_layer_sizes, rate) for one in choices for rate in one.learning_rates}


def test_a_fresh_clone_elsewhere_gives_the_same_bytes(smoke, tmp_path):
    repro(smoke)
    assert smoke.run("dvc", "status").stdout == "Data and pipelines are up to date.\n"
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
    (elsewhere.folder / "reports/selection.json").unlink()  # or there is nothing for its stage to do
    output = repro(elsewhere)
    assert re.findall(r"^Running stage '(\w+)'", output, re.M) == ["generate", "tune", "select", "confirm", "report"]
    assert cells(output) == {"tune": (6, 0), "confirm": (len(chosen(smoke)), 0)}
    assert elsewhere.git("status", "--porcelain") == ""
    tracked = elsewhere.git("ls-files").splitlines()
    for name in (
        "dvc.lock",
        "reports/selection.json",
        "reports/report.md",
        "reports/true_error.json",
        "reports/figures/boundaries.svg",
    ):
        assert name in tracked
    assert (elsewhere.folder / "reports/report.html").read_bytes() == (
        smoke.folder / "reports/report.html"
    ).read_bytes()


def test_only_what_changed_runs_again(smoke):
    first = cells(repro(smoke, "confirm"))
    was = chosen(smoke)
    assert first == {"tune": (6, 0), "confirm": (len(was), 0)}
    assert {cell[:-1] for cell in was} == {(64,), (64, 32)}
    again = repro(smoke, "confirm")
    assert "Data and pipelines are up to date." in again
    assert "Running stage" not in again

    smoke.edit("conf/model/mlp_64.yaml", "[64]", "[48]")
    narrower = cells(repro(smoke, "confirm"))
    assert narrower == {"tune": (3, 3), "confirm": confirmed(smoke, was)}
    assert {cell[:-1] for cell in chosen(smoke)} == {(48,), (64, 32)}
    was |= chosen(smoke)

    smoke.edit("conf/experiment/smoke.yaml", "[0.001, 0.01, 0.1]", "[0.001, 0.01, 0.1, 0.2]")
    wider = cells(repro(smoke, "confirm"))
    assert wider == {"tune": (2, 6), "confirm": confirmed(smoke, was)}
    assert len(smoke.records()) == sum(new for stages in (first, narrower, wider) for new, _ in stages.values())

    smoke.edit("conf/model/mlp_64.yaml", "[48]", "[64]")
    smoke.edit("conf/experiment/smoke.yaml", "[0.001, 0.01, 0.1, 0.2]", "[0.001, 0.01, 0.1]")
    assert trained(repro(smoke, "confirm")) == 0


def confirmed(project, before):
    """Return how many of the selected cells a confirmation has to train and to find, where some were before."""
    now = chosen(project)
    return len(now - before), len(now & before)


def test_the_grid_and_the_data_can_be_changed_for_an_experiment(smoke):
    repro(smoke, "confirm")
    was = chosen(smoke)
    smoke.commit()
    grid = "conf/experiment/smoke.yaml:grid.learning_rate"
    done = smoke.run("dvc", "exp", "run", "confirm", "--set-param", f"{grid}=[0.01,0.1,0.2]")
    assert cells(done.stdout) == {"tune": (2, 4), "confirm": confirmed(smoke, was)}
    was |= chosen(smoke)
    done = smoke.run("dvc", "exp", "run", "confirm", "--set-param", f"{grid}=[0.1,0.2]")  # the file was written by DVC
    assert cells(done.stdout) == {"tune": (0, 4), "confirm": confirmed(smoke, was)}
    assert "grid.learning_rate" in smoke.run("dvc", "params", "diff").stdout

    smoke.git("checkout", ".")
    done = smoke.run("dvc", "exp", "run", "confirm", "--set-param", "conf/pipeline.yaml:data=rings")
    assert cells(done.stdout) == {"tune": (6, 0), "confirm": (len(chosen(smoke)), 0)}
    assert {one.config.data.shape for one in results.read(smoke.folder / "results/smoke_confirmation")} == {"rings"}
    assert smoke.git("diff", "--name-only", "conf") == "conf/pipeline.yaml"


def test_more_replicates_are_the_next_range_and_one_report_joins_both(smoke):
    repro(smoke, "tune")
    before = smoke.records()
    smoke.run("python", "pipelines/generate.py", "experiment=smoke", "training.first_replicate=3")
    sweep = ("-m", "experiment=smoke", "tracking=none")
    assert trained(smoke.train(*sweep, "training.first_replicate=3").stdout) == 6
    new = smoke.records() - before
    assert len(new) == 6
    both = ("experiment=smoke", "paths.results=results/both", "paths.reports=reports/both")
    done = smoke.train(*sweep, "training.first_replicate=0,3", *both)
    assert (trained(done.stdout), done.stdout.count(" found")) == (0, 12)
    cells = join(results.read(smoke.folder / "results/both"))
    assert [one.numbers.tolist() for one in cells] == [list(range(6))] * 6
    smoke.run("python", "pipelines/select_rates.py", *both)
    wanted = selection.read(smoke.folder / "reports/both/selection.json")
    assert wanted.tuned.numbers == range(6)
    smoke.run("python", "pipelines/report.py", *both)
    assert "6 replicates" in (smoke.folder / "reports/both/report.md").read_text()


def test_the_pipeline_and_a_sweep_by_hand_share_their_cells(smoke):
    smoke.run("python", "pipelines/generate.py", "experiment=smoke")
    by_hand = smoke.train("-m", "experiment=smoke", "model=mlp_64", "tracking=none")
    assert trained(by_hand.stdout) == 3
    output = repro(smoke, "confirm")
    n_confirmed = len(chosen(smoke))
    assert cells(output) == {"tune": (3, 3), "confirm": (n_confirmed, 0)}
    after = smoke.train("-m", "experiment=smoke", "tracking=none")
    assert trained(after.stdout) == 0
    # The records that come with the results are as good as those in the store, for DVC's own stages too.
    shutil.rmtree(smoke.folder / "runs")
    smoke.edit("conf/experiment/smoke.yaml", "[0.001, 0.01, 0.1]", "[0.001, 0.01, 0.1, 1e-05]")
    assert cells(repro(smoke, "confirm")) == {"tune": (2, 6), "confirm": (0, n_confirmed)}
    shutil.rmtree(smoke.folder / "runs")
    after = smoke.train("-m", "experiment=smoke", "tracking=none")
    assert after.stdout.count(" found") == 8


def test_metrics_plots_and_experiments(smoke):
    repro(smoke)
    was = chosen(smoke)
    smoke.commit()
    metrics = json.loads((smoke.folder / "reports/true_error.json").read_text())
    assert set(metrics) == {"mlp_64", "mlp_64_32"}
    shown = smoke.run("dvc", "metrics", "show").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.split()[:3] == ["Path", "mlp_64", "mlp_64_32"]
    smoke.run("dvc", "plots", "show", "--out", "plots")
    assert "learning_rates.svg" in needs_nothing_from_outside(smoke.folder / "plots/index.html")

    # Another value of a conf file, without touching the committed one.
    done = smoke.run("dvc", "exp", "run", "--set-param", "conf/model/mlp_64.yaml:hidden_layer_sizes=[32]")
    assert cells(done.stdout) == {"tune": (3, 3), "confirm": confirmed(smoke, was)}
    changed = yaml.safe_load((smoke.folder / "conf/model/mlp_64.yaml").read_text())
    assert changed == {"hidden_layer_sizes": [32], "activation": "relu", "initialisation": "he"}
    changes = json.loads(smoke.run("dvc", "metrics", "diff", "--json").stdout)["reports/true_error.json"]
    assert changes.keys() == {"mlp_64"}  # the same file, another size
    assert changes["mlp_64"]["old"] == metrics["mlp_64"]
    smoke.run("dvc", "plots", "diff", "--out", "plots")
    assert "HEAD_reports_figures_learning_rates.svg" in needs_nothing_from_outside(smoke.folder / "plots/index.html")

    table, *_ = smoke.run("dvc", "exp", "show", "--md").stdout.splitlines()
    columns = [column.strip() for column in table.strip("|").split("|")]
    of_a_stage = {path for stage in stages(smoke).values() for path in stage["deps"]}
    sizes = [f"conf/model/{name}.yaml:hidden_layer_sizes" for name in ("mlp_64", "mlp_128", "mlp_64_32", "mlp_128_64")]
    varied = ["grid.model", "grid.learning_rate", *sizes, "experiment", "data"]
    assert columns[: -len(of_a_stage)] == ["Experiment", "Created", "mlp_64", "mlp_64_32", *varied]
    changed, *_ = smoke.run("dvc", "exp", "show", "--md", "--only-changed").stdout.splitlines()
    assert sizes[0] in changed
    assert sizes[1] not in changed
    assert changed.count("|") - 1 <= 12


def needs_nothing_from_outside(path):
    """Return the text of a page of DVC's plots, whose pictures are all there and which loads nothing else."""
    page = path.read_text()
    assert "<script" not in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert sources
    assert all((path.parent / source).exists() for source in sources)
    return page


def test_an_experiment_in_a_folder_of_its_own_leaves_this_one_alone(smoke):
    repro(smoke)
    smoke.commit()
    records = smoke.records()
    done = smoke.run("dvc", "exp", "run", "--temp", "--set-param", "conf/config.yaml:numerics=native")
    assert cells(done.stdout)["tune"] == (6, 0)
    assert smoke.git("status", "--porcelain") == ""
    assert smoke.records() == records
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


def stages(project):
    return yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]


def test_no_stage_file_names_a_file_that_is_not_there(project):
    named = [path for stage in stages(project).values() for path in stage["deps"]]
    named += [path for params in stages(project)["tune"]["params"] for path in params]
    for path in named:
        assert "${" in path or path == "reports/selection.json" or (project.folder / path).exists(), path
