"""The training door, as a person uses it: real processes, real launchers, a real store."""

import contextlib
import itertools
import json
import os
import pty
import re
import select
import shlex
import signal
import sqlite3
import subprocess
import time

import pytest

from circlemlp.core.data import Dataset, sample_dataset
from circlemlp.run.cells import Cell
from circlemlp.run.compose import compose_jobs
from circlemlp.run.progress import watching
from circlemlp.store.records import Store
from circlemlp.store.results import read
from conftest import SOURCE, TINY

GRID = ("model=mlp_64,mlp_64_32", "optimizer.learning_rate=0.001,0.01")


def contents(project):
    """Return the records without what varies between executions."""
    found = {}
    for identity in project.records():
        folder = project.folder / "runs" / identity
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["volatile"], manifest["seal"]  # the seal is of the volatile part too
        found[identity] = (manifest, (folder / "arrays.npz").read_bytes())
    return found


def test_both_launchers_write_the_same_records_and_find_each_other_s(tiny):
    one = tiny.train("-m", *GRID, *TINY)
    assert tiny.states(one) == ["trained"] * 4
    basic = contents(tiny)
    assert len(basic) == 4

    again = tiny.train("-m", "hydra/launcher=joblib", *GRID, *TINY)
    assert tiny.states(again) == ["found"] * 4

    for identity in basic:
        (tiny.folder / "runs" / identity).rename(tiny.folder / identity)
    tiny.train("-m", "hydra/launcher=joblib", *GRID, *TINY)
    assert contents(tiny) == basic


def test_a_single_cell_meets_the_sweep_in_the_store(tiny):
    single = tiny.train("model=mlp_64", "optimizer.learning_rate=0.01", *TINY)
    assert tiny.states(single) == ["trained"]
    assert sorted(tiny.states(tiny.train("-m", *GRID, *TINY))) == ["found", "trained", "trained", "trained"]
    # A cell is its values: the same sizes by another way are the same cell.
    same = tiny.train("model.hidden_layer_sizes=[64]", "optimizer.learning_rate=1e-2", *TINY)
    assert tiny.states(same) == ["found"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("optimizer.learning_rate=-1", "error: optimizer.learning_rate=-1: must be a number above 0 and at most 10\n"),
        (
            "model.hidden_layer_sizes=[64,0]",
            "error: model.hidden_layer_sizes[1]=0: must be a whole number at least 1 and at most 65_536",
        ),
        ("trainng.epochs=5", "error: trainng.epochs=5: there is no such key; the nearest known key is training.epochs"),
    ],
)
@pytest.mark.parametrize("multirun", [(), ("-m",)])
def test_bad_input_is_one_line_and_code_2_and_writes_nothing(project, override, says, multirun):
    before = sorted(project.folder.rglob("*"))
    done = project.train(*multirun, override, code=2)
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert sorted(p for p in project.folder.rglob("*") if "__pycache__" not in p.parts) == before


def test_a_folder_of_results_for_one_cell_is_refused(tiny):
    done = tiny.train(*TINY, "paths.results=results/mine", code=2)
    assert done.stderr == "error: paths.results: only a sweep leaves a folder of results; add -m\n"


@pytest.mark.parametrize("script", ["generate", "train"])
def test_a_full_disk_behind_the_output_is_one_line(tiny, script):
    command = f"python pipelines/{script}.py {' '.join(TINY)} > /dev/full"
    done = tiny.run("bash", "-c", command, code=2)
    assert done.stderr == "error: [Errno 28] No space left on device\n"


def test_results_are_there_even_if_nobody_reads_the_table(tiny):
    command = f"python pipelines/train.py -m {' '.join(TINY)} paths.results=results/mine > /dev/full"
    tiny.run("bash", "-c", command, code=2)
    assert (tiny.folder / "results/mine/cells.json").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to hide /proc")
def test_where_there_is_no_proc_a_sweep_prints_no_traceback(tiny):
    hidden = 'mount -t tmpfs none /proc && exec python pipelines/train.py "$@"'
    arguments = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "training.seed=1,2,3", *TINY)
    done = tiny.run("unshare", "--mount", "sh", "-c", hidden, "sh", *arguments)
    assert tiny.states(done) == ["trained"] * 3
    assert done.stderr.startswith("numerics=auto: native kernels")
    assert done.stderr.count("\n") == 1


def test_missing_data_is_one_line_that_names_the_remedy(project):
    done = project.train(code=2)
    assert done.stderr == (
        "error: data/quarter_circle.npz: there is no such data file; "
        "make it with: python pipelines/generate.py data=quarter_circle "
        "data.draws=fresh data.n_train=5000 data.n_validation=2000 data.label_noise=0.0 data.seed=2024 "
        "data.radius=1.0 data.file=data/quarter_circle.npz training.replicates=10\n"
    )
    assert not (project.folder / "runs").exists()


def test_the_data_file_holds_a_draw_for_each_replicate_and_more_replicates_need_more(tiny):
    assert tiny.states(tiny.train(*TINY)) == ["trained"]
    more = [override for override in TINY if "replicates" not in override] + ["training.replicates=2,40"]
    done = tiny.train("-m", *more, code=2)
    assert done.stderr.startswith("error: data/tiny.npz: holds 32 draws of the data, and 40 replicates need one each; ")
    made = tiny.run("sh", "-c", done.stderr.partition("make it with: ")[2])
    assert made.stdout.startswith("data/tiny.npz: 70 draws of 60 + 40 points, ")  # 30 of them for those that judge
    assert tiny.states(tiny.train("-m", *more)) == ["found", "trained"]
    assert tiny.run("python", "pipelines/generate.py", "-m", *more).stdout == made.stdout  # the most of any job
    shared = ("data.draws=shared", "data.file=data/one.npz", *(one for one in TINY if "file" not in one))
    assert "data/one.npz: 1 draw of 60" in tiny.run("python", "pipelines/generate.py", *shared).stdout
    assert tiny.states(tiny.train(*shared)) == ["trained"]


def test_the_homework_keeps_the_data_it_always_had():
    (job, *_), (usual,) = compose_jobs(["-m", "experiment=homework"]).jobs, compose_jobs([]).jobs
    assert (job.config.data.draws, usual.config.data.draws) == ("shared", "fresh")
    assert job.config.data.file != usual.config.data.file
    one = Dataset(**{name: array[0] for name, array in vars(sample_dataset(job.config.data.model_dump(), 10)).items()})
    assert one.digest() == "64a531caaa166f377bc259732301e27ea0bd48a49c4987c74721f4e1b97480db"


def test_a_place_for_records_that_cannot_be_written_is_one_line(tiny):
    (tiny.folder / "runs").write_text("a file where a folder should be")
    done = tiny.train(*TINY, code=2)
    assert done.stderr == "error: runs: cannot be written (File exists)\n"


def test_a_corrupt_data_file_is_one_line(tiny):
    path = tiny.folder / "data/tiny.npz"
    whole = path.read_bytes()
    for damaged in (whole[:200], b"", whole[:300] + b"\0\0\0\0" + whole[304:], b"PK"):
        path.write_bytes(damaged)
        done = tiny.train(*TINY, code=2)
        assert done.stderr.startswith("error: data/tiny.npz: ")
        assert done.stderr.count("\n") == 1


def test_data_of_another_configuration_are_refused_and_the_remedy_works(tiny):
    done = tiny.train("data=rings", *TINY, "data.label_noise=0.1", code=2)
    assert "holds data.label_noise=0.0, the configuration says 0.1" in done.stderr
    (remedy,) = re.findall(r"make it with: (python .*)", done.stderr)
    tiny.run(*shlex.split(remedy))
    assert tiny.states(tiny.train("data=rings", *TINY, "data.label_noise=0.1")) == ["trained"]


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_failed_cell_does_not_stop_the_others_and_is_all_that_runs_again(tiny, launcher):
    arguments = ("-m", f"hydra/launcher={launcher}", "model.hidden_layer_sizes=[8],[20000,20000],[9]", *TINY)
    limited = ("bash", "-c", 'ulimit -v 6000000; exec python pipelines/train.py "$@"', "bash")  # kilobytes
    done = tiny.run(*limited, *arguments, code=1)
    assert re.search(r"^2-20000-20000-1 at 0.001 failed: .*(Memory|allocate)", done.stdout, re.M)
    assert "1 of 3 cells have no record; the same command trains only those" in done.stdout
    assert tiny.states(done)[:2] == ["trained", "trained"]
    assert len(tiny.records()) == 2
    failed_again = tiny.run(*limited, *arguments, code=1)
    assert tiny.states(failed_again)[:2] == ["found", "found"]


def test_a_damaged_record_is_named_and_trained_again(tiny):
    tiny.train("model=mlp_64", *TINY)
    before = contents(tiny)
    (identity,) = tiny.records()
    (tiny.folder / "runs" / identity / "arrays.npz").write_bytes(b"half")
    done = tiny.train("model=mlp_64", *TINY)
    assert re.search(rf"runs/{identity}: .*; its cell is trained again", done.stderr)
    assert tiny.states(done) == ["trained"]
    assert contents(tiny) == before


def test_a_sweep_over_other_keys_shows_them(tiny):
    done = tiny.train("-m", "training.seed=3,4", *TINY)
    assert "training.seed" in done.stdout
    assert [line.split()[-1] for line in done.stdout.splitlines()[2:]] == ["3", "4"]


def test_a_terminal_shows_progress_and_a_pipe_does_not(tiny):
    arguments = ("-m", "model=mlp_64", "optimizer.learning_rate=0.001,0.002", *TINY)
    quiet = tiny.train(*arguments, "training.seed=1")
    assert quiet.stderr == ""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["python", "pipelines/train.py", *arguments, "training.epochs=20000"],
        cwd=tiny.folder,
        env={**tiny.environment, "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while select.select([ours], [], [], 120)[0]:
            shown += os.read(ours, 4096)
    except OSError:  # the other end is closed
        pass
    finally:
        process.communicate(timeout=60)
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "2 of 2 cells, 0 running" in text
    assert re.search(r"[01] of 2 cells, 1 running", text)
    assert "left" in text


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (SOURCE / "conf/experiment").glob("*.yaml")))
def test_every_shipped_experiment_runs_is_confirmed_and_reports(project, experiment):
    small = (f"experiment={experiment}", *TINY, "confirmation.replicates=10", f"paths.results=results/{experiment}")
    project.run("python", "pipelines/generate.py", *small)
    done = project.train("-m", *small)
    tuned = read(project.folder / f"results/{experiment}")
    assert {one.identity for one in tuned} == project.records()
    assert project.states(done) == ["trained"] * len(tuned)
    folder = f"results/{experiment}_confirmation"
    judged = (*small, f"paths.confirmation={folder}", "paths.reports=reports/here")
    project.run("python", "pipelines/select_rates.py", *judged)
    project.run("python", "pipelines/confirm.py", *judged, "hydra/launcher=basic")
    new = read(project.folder / folder)
    assert {str(one.config.model) for one in new} == {str(one.config.model) for one in tuned}
    assert {number for one in new for number in one.config.training.numbers} == set(range(2, 12))
    project.run("python", "pipelines/report.py", *judged)
    assert (project.folder / "reports/here/report.md").read_text().startswith("# ")


def test_results_are_written_where_they_are_named_and_nowhere_else(tiny):
    tiny.train("-m", "experiment=smoke", *TINY)
    assert not list(tiny.folder.glob("results/*"))
    tiny.train("-m", "experiment=smoke", *TINY, "model=mlp_64", "paths.results=results/mine")
    assert len(json.loads((tiny.folder / "results/mine/cells.json").read_text())["cells"]) == 3


def test_only_cells_that_are_trained_leave_logs(tiny):
    tiny.train("-m", "model=mlp_64", "training.seed=1,2", *TINY)
    overrides = sorted(tiny.folder.glob("logs/sweep/*/*/*/.hydra/overrides.yaml"))
    assert ["- training.seed=1" in path.read_text() for path in overrides] == [True, False]
    tiny.train("-m", "model=mlp_64", "training.seed=1,2,3", "hydra.sweep.dir=logs/second", *TINY)
    (new,) = tiny.folder.glob("logs/second/*/.hydra/overrides.yaml")
    assert "- training.seed=3" in new.read_text()
    before = sorted(tiny.folder.rglob("logs/**/*"))
    tiny.train("-m", "model=mlp_64", "training.seed=1,2,3", *TINY)
    tiny.train("model=mlp_64", "training.seed=1", *TINY)
    assert sorted(tiny.folder.rglob("logs/**/*")) == before


@pytest.mark.parametrize("pipe", ["|", "2>&1 |"])
def test_a_reader_that_leaves_makes_no_cell_fail(tiny, pipe):
    command = f"python pipelines/train.py -m {' '.join(TINY)} training.seed=1,2 {pipe} head -1; echo ${{PIPESTATUS[0]}}"
    done = tiny.run("bash", "-c", command)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""
    nobody = tiny.run("bash", "-c", f"python pipelines/train.py {' '.join(TINY)} {pipe} true; echo ${{PIPESTATUS[0]}}")
    assert (nobody.stdout, nobody.stderr) == ("0\n", "")


def test_one_cell_of_an_experiment_says_that_it_is_one_and_how_to_train_all(tiny):
    done = tiny.train("experiment=smoke", *TINY)
    assert "the experiment is a sweep of 6 cells, and this trains one: all of them with python" in done.stderr
    whole = tiny.run(*shlex.split(done.stderr.rpartition(" with ")[2]))
    assert sorted(tiny.states(whole)) == ["found"] + ["trained"] * 5


@pytest.mark.parametrize(
    "start", [("python", "-m", "pipelines.train"), ("env", "PYTHONSAFEPATH=1", "python", "pipelines/train.py")]
)
def test_the_door_may_be_started_in_any_way(tiny, start):
    arguments = ("-m", "hydra/launcher=joblib", "training.seed=1,2", *TINY)
    assert tiny.states(tiny.run(*start, *arguments)) == ["trained"] * 2


def test_a_umask_is_honoured(tiny):
    tiny.run("sh", "-c", f"umask 077; exec python pipelines/train.py -m training.seed=1,2 {' '.join(TINY)}")
    for folder in ("runs", "logs"):
        for path in [tiny.folder / folder, *(tiny.folder / folder).rglob("*")]:
            mode = path.stat().st_mode
            assert not mode & 0o077, path
            assert path.is_dir() or not mode & 0o100, path


def test_a_disk_that_takes_no_more_is_said_once(tiny):
    limited = ("bash", "-c", 'ulimit -f 20; exec python pipelines/train.py "$@"', "bash")  # kilobytes
    arguments = ("-m", "hydra/launcher=joblib", "model.hidden_layer_sizes=[64,64]", "training.seed=1,2,3", *TINY)
    done = tiny.run(*limited, *arguments, code=1)
    assert "3 cells failed: runs: cannot be written (File too large)\n3 of 3 cells have no record" in done.stdout
    assert (done.stdout + done.stderr).count("File too large") == 1
    assert done.stderr == ""


def test_a_launcher_that_cannot_start_is_told_with_a_remedy_that_works(tiny):
    broken = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.launcher.pre_dispatch=nonsense")
    arguments = ("-m", *broken, "training.seed=1,2", *TINY)
    done = tiny.train(*arguments, code=1)
    assert "the launcher failed: " in done.stderr
    assert "2 of 2 cells were not trained, because the launcher failed; hydra/launcher=basic trains them" in done.stdout
    assert tiny.states(tiny.train("-m", "hydra/launcher=basic", "training.seed=1,2", *TINY)) == ["trained"] * 2


def test_a_cell_that_another_door_trains_is_waited_for(tiny):
    slow = (*TINY, "training.epochs=30000")
    first = tiny.start("python", "pipelines/train.py", "training.seed=1", *slow)
    while not list((tiny.folder / "runs/.running").glob("*.json")):
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)
    second = tiny.start("python", "pipelines/train.py", "-m", "hydra/launcher=joblib", "training.seed=1,2", *slow)
    said = any("waiting for runs/.locks/" in line for line in itertools.islice(second.stderr, 4))  # progress is, too
    first.send_signal(signal.SIGCONT)
    assert said
    for process in (first, second):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    assert len(re.findall(r" trained ", out)) == len(tiny.records()) == 2


def test_where_there_is_no_terminal_a_line_now_and_then_says_how_far_it_is(tmp_path, capsys):
    (job,) = compose_jobs(TINY).jobs
    cell = Cell(job.config, sample_dataset(job.config.data.model_dump()), {})
    with watching(Store(tmp_path), [cell], seconds_between_lines=0.01):
        deadline = time.monotonic() + 60
        while not (said := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert re.match(r"0 of 1 cells, 0 running after \d+ s\n", said)


def test_the_homework_prints_a_line_every_250_epochs_and_the_table_with_training_times(project):
    small = ("experiment=homework", *TINY[:3], "tracking=none", "paths.results=results/homework")
    project.run("python", "pipelines/generate.py", *small)
    done = project.train("-m", *small)
    for epoch in (250, 500, 750, 1000):
        assert len(re.findall(rf"^  epoch +{epoch}  training loss 0\.\d+  validation loss", done.stdout, re.M)) == 4
    assert re.search(
        r"^ +learning +para- +time *\narchitecture +rate +meters +\(s\) accuracy +loss ", done.stdout, re.M
    )
    numbers = r"0\.001 +(\d+) +(\d+\.\d) +([01]\.\d{4}) +(0\.\d{4}) +0 of 1 \w+ trained"
    table = re.findall(rf"^(2-\S+) +{numbers}$", done.stdout, re.M)
    assert [name for name, *_ in table] == ["2-64-1", "2-128-1", "2-64-32-1", "2-128-64-1"]

    # The report's own file of times, which is not committed, has the same rows.
    project.run("python", "pipelines/report.py", *small[:1], *small[3:], *TINY[:3])
    rows = (project.folder / "reports/homework/timing.md").read_text().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("|")]
    places = [cells[0].index(name) for name in ("architecture", "parameters", "wall s")]
    accuracy_and_loss = [cells[0].index(f"validation {name}") for name in ("accuracy", "loss")]
    assert [tuple(row[place] for place in places + accuracy_and_loss) for row in cells[2:]] == table
    assert project.git("status", "--porcelain") == ""


def test_other_optimizers_schedules_and_stopping_go_through_sweep_report_and_index(tiny):
    choices = ("model.activation=relu,gelu", "schedule=warmup_cosine", "early_stopping=patience", "training.epochs=200")
    says = {
        "adamw": ("AdamW", "optimizer.weight_decay"),
        "sgd": ("SGD (momentum 0.9)", "optimizer.momentum"),
    }
    for optimizer, (words, parameter) in says.items():
        place = (*TINY[:3], "training.replicates=2", f"paths.results=results/{optimizer}")
        done = tiny.train("-m", f"optimizer={optimizer}", *choices, *place)
        assert tiny.states(done) == ["trained"] * 2
        tiny.run("python", "pipelines/report.py", *place, f"paths.reports=reports/{optimizer}")
        text = (tiny.folder / f"reports/{optimizer}/report.md").read_text()
        assert "2-64-1 gelu" in text
        for word in (words, "Schedule: ", "up to 200 epochs", "cosine"):
            assert word in text
        with contextlib.closing(sqlite3.connect(tiny.folder / "mlflow.db")) as database:
            found = database.execute("SELECT count(*) FROM params WHERE key = ?", (parameter,)).fetchone()
        # Of the cells, with the results and among the sweeps by hand; the runs of replicates say what tells them apart.
        assert found == (4,)


def test_other_shapes_of_data_train_too(project):
    for shape in ("disk", "rings"):
        arguments = (f"data={shape}", *TINY[:2], "training.epochs=3", "training.replicates=1", "tracking=none")
        project.run("python", "pipelines/generate.py", *arguments)
        assert project.states(project.train(*arguments)) == ["trained"]


def test_native_and_portable_are_different_runs_and_do_not_mix_in_one_sweep(tiny):
    for numerics in ("native", "auto"):
        assert tiny.states(tiny.train("model=mlp_64", f"numerics={numerics}", *TINY)) == ["trained"]
    done = tiny.train("-m", "numerics=native,portable", *TINY, code=2)
    assert done.stderr == "error: numerics: one sweep has one value; run a sweep for each\n"


def test_mini_batches_train(tiny):
    done = tiny.train("training=mini_batch", "training.batch_size=16", *TINY)
    assert tiny.states(done) == ["trained"]


@pytest.mark.parametrize("content", ["hidden_layer_sizes: [64\n", "- 1\n", "\ta: 1\n", "a: 1\na: 2\n"])
def test_a_broken_file_of_conf_is_one_line(project, content):
    (project.folder / "conf/model/mlp_64.yaml").write_text(content)
    done = project.train(code=2)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_what_a_file_of_conf_makes_hydra_do_is_refused(project):
    project.edit("conf/config.yaml", "  help:", "  callbacks:\n    x: {_target_: shutil.rmtree, path: data}\n  help:")
    done = project.train(code=2)
    assert (
        done.stderr
        == "error: hydra.callbacks.x._target_=shutil.rmtree: this setting of Hydra's cannot be changed here\n"
    )


def test_a_file_of_conf_that_grows_when_it_is_read_is_refused_at_once(project):
    levels = "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 12))
    (project.folder / "conf/model/mlp_64.yaml").write_text(f"x0: &x0 [1]\n{levels}\n")
    done = project.run("python", "pipelines/train.py", code=2, timeout=20)
    assert done.stderr.startswith("error: conf/model/mlp_64.yaml: has YAML aliases")
    (project.folder / "conf/model/mlp_64.yaml").unlink()
    os.mkfifo(project.folder / "conf/model/mlp_64.yaml")
    done = project.run("python", "pipelines/train.py", code=2, timeout=20)
    assert done.stderr == "error: conf/model/mlp_64.yaml: mlp_64.yaml is not a regular file\n"


def test_hydra_s_own_answers_still_work(project):
    assert "hidden_layer_sizes" in project.train("--cfg", "job").stdout
    shown = project.train("--help").stdout
    assert shown.startswith("Train one cell, or with -m a sweep: python pipelines/train.py -m ")
    assert "circlemlp is powered by Hydra" in shown
    assert "data: disk, quarter_circle, rings" in shown
    assert "complete" in project.train("--shell-completion", "install=bash").stdout


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_outputs_that_are_closed_stop_no_training(tiny, closed):
    tiny.run("bash", "-c", f"python pipelines/train.py {' '.join(TINY)} model=mlp_64 {closed}")
    assert len(tiny.records()) == 1
