"""What interrupts a sweep: Ctrl-C, requests to end, killed workers, damage; and how it goes on."""

import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from conftest import TINY

SLOW = ("training.epochs=30000", "training.replicates=2", "tracking=none")
LONG = ("training.epochs=1500", "training.replicates=2", "model=mlp_64", *TINY[:3])


def loky_worker(parent):
    """Return a process that a joblib launcher started to train."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{parent}\n" in status.read_text():
                command = (status.parent / "cmdline").read_text()
                if "popen_loky" in command:
                    return int(status.parent.name)
    return None


def holders(project):
    """Return the processes that the locks of running cells name."""
    running = [path.stem for path in (project.folder / "runs/.running").glob("?" * 64 + ".json")]
    locks = [(project.folder / "runs/.locks" / identity).read_text() for identity in running]
    return {int(text.split()[1]) for text in locks}


def indexed_runs(project):
    """Return how many MLflow runs have which status, from the database itself."""
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        counts = database.execute(
            "SELECT status, count(*) FROM runs WHERE lifecycle_stage = 'active' GROUP BY status"
        ).fetchall()
    database.close()
    return dict(counts)


def test_a_worker_that_is_killed_does_not_stop_the_others(tiny):
    rates = ",".join(f"{0.001 * k:.3f}" for k in range(1, 7))
    arguments = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"optimizer.learning_rate={rates}")
    process = tiny.start("python", "pipelines/train.py", *arguments, *TINY[:3], *SLOW)
    deadline = time.monotonic() + 120
    worker = None
    while worker is None and time.monotonic() < deadline:
        time.sleep(0.05)
        running = list((tiny.folder / "runs/.running").glob("*.json"))
        if running:
            worker = loky_worker(process.pid)
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert "the launcher failed: TerminatedWorkerError" in err
    assert out.count(" trained") == len(tiny.records()) == 6


def test_of_two_cells_whose_workers_are_killed_only_the_one_that_is_killed_alone_too_has_failed(tiny):
    arguments = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "training.seed=1,2,3", *TINY[:3])
    process = tiny.start("python", "pipelines/train.py", *arguments, *SLOW)
    culprit, kills, deadline = None, 0, time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
        running = {path.stem for path in (tiny.folder / "runs/.running").glob("?" * 64 + ".json")}
        if culprit is None and len(running) == 2:
            culprit = min(running)
        if culprit in running and (worker := loky_worker(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
            kills += 1
            while (tiny.folder / f"runs/.running/{culprit}.json").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert kills == 2
    assert out.count("failed: its worker was killed twice") == 1
    assert len(tiny.records()) == 2
    assert culprit not in tiny.records()


def session(process):
    """Return the processes of a session that are not zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, leader = stat.read_text().rpartition(")")[2].split()[:4]
            if int(leader) == process.pid and state != "Z":
                found.append(int(stat.parent.name))
    return found


def wait_until(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def training(project):
    return lambda: list((project.folder / "runs/.running").glob("*.json"))


SWEEP = ("python", "pipelines/train.py", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_is_like_ctrl_c(tiny, number):
    process = tiny.start(*SWEEP, "training.seed=1,2,3,4", *LONG)
    wait_until(training(tiny))
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "the same command goes on from here" in out
    assert err == ""


@pytest.mark.parametrize("number", ["TERM", "HUP"])
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_request_to_end_counts_where_ctrl_c_is_ignored(tiny, launcher, number):
    command = (
        f"{' '.join(SWEEP[:3])} hydra/launcher={launcher} training.seed=1,2,3,4 {' '.join(TINY[:3])} {' '.join(SLOW)}"
    )
    script = f"{command} & while ! ls runs/.running/*.json >&2; do sleep 0.1; done; kill -{number} $!; wait $!"
    done = tiny.run("sh", "-c", script, code=130)
    assert "interrupted: 0 of 4 cells are done" in done.stdout


@pytest.mark.parametrize(("ignoring", "code"), [((), 130), (("nohup",), 0)])
def test_a_closed_terminal_is_a_request_to_end_unless_it_is_ignored(tiny, ignoring, code):
    process = tiny.start(*ignoring, *SWEEP, "training.seed=1,2", *LONG, "tracking=none", start_new_session=True)
    wait_until(training(tiny))
    os.killpg(process.pid, signal.SIGHUP)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err


CLEANS_UP = """
import sys
from circlemlp.errors import ConfigError
from circlemlp.run.door import guarded

def door():
    try:
        try:
            raise KeyboardInterrupt
        finally:
            None.left_half_done()
    except AttributeError:
        raise ConfigError("conf/") from None

sys.exit(guarded(door))
"""


def test_ctrl_c_stays_ctrl_c_when_cleaning_up_after_it_fails(tiny):
    assert tiny.run("python", "-c", CLEANS_UP, code=130).stderr == "interrupted\n"


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_ctrl_c_in_the_first_seconds_prints_no_traceback(tiny, launcher):
    arguments = ("-m", f"hydra/launcher={launcher}", "training.seed=1,2,3", *TINY[:3], *SLOW)
    begun = time.monotonic()
    for fraction in (None, 0.2, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1):  # most near where workers are started
        process = tiny.start("python", "pipelines/train.py", *arguments, start_new_session=True)
        if fraction is None:
            wait_until(training(tiny))
            seconds_to_training = time.monotonic() - begun
        else:
            time.sleep(fraction * seconds_to_training)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert process.returncode in (130, -signal.SIGINT), out + err
        assert "Traceback" not in out + err
        assert err.count("\n") <= 1


def test_workers_and_the_writer_of_the_index_end_with_a_door_that_is_killed(tiny):
    arguments = ("training.seed=1,2,3,4", *TINY[:3], *SLOW, "tracking=mlflow")
    process = tiny.start(*SWEEP, *arguments, start_new_session=True)
    wait_until(lambda: len(training(tiny)()) == 2)
    (writer,) = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if is_child(path, process.pid)]
    assert len(session(process)) >= 3
    process.kill()
    process.wait()
    wait_until(lambda: not session(process), seconds=60)
    wait_until(lambda: not Path(f"/proc/{writer}").exists(), seconds=60)  # it may be importing MLflow
    process.communicate()
    # What they left does not stand in the way.
    assert tiny.states(tiny.train(*SWEEP[2:], *arguments, "training.epochs=4")) == ["trained"] * 4


def test_a_worker_that_has_no_job_yet_ends_with_a_door_that_is_killed(tiny):
    process = tiny.start(*SWEEP, "training.seed=1,2,3", *TINY[:3], *SLOW, start_new_session=True)
    wait_until(lambda: loky_worker(process.pid))
    process.kill()
    process.wait()
    wait_until(lambda: not session(process), seconds=60)  # it may be importing
    process.communicate()


def is_child(stat, parent):
    """Say whether a process is a child with a session of its own, as the writer of the index is."""
    with contextlib.suppress(OSError):
        state, its_parent, _, leader = stat.read_text().rpartition(")")[2].split()[:4]
        return int(its_parent) == parent and int(leader) == int(stat.parent.name) and state != "Z"
    return False


def test_a_cell_is_not_called_killed_because_of_one_that_another_door_trains(tiny):
    slow = (*TINY[:3], *SLOW, "training.epochs=200000")
    first = tiny.start("python", "pipelines/train.py", "training.seed=1", *slow)
    wait_until(training(tiny))
    second = tiny.start(*SWEEP, "training.seed=1,2", *slow)
    wait_until(lambda: len(training(tiny)()) == 2)
    (worker,) = holders(tiny) - {first.pid}
    os.kill(worker, signal.SIGKILL)
    out, err = second.communicate(timeout=200)
    assert second.returncode == 0, out + err
    assert out.count(" trained") == 2
    assert first.wait(timeout=60) == 0
    first.communicate()


DOOR = """
import os, signal, sys, time
sys.path.insert(0, "pipelines")
import checkout
from circlemlp.run import train_door
from circlemlp.run.door import guarded
"""

INTERRUPTED_WITHIN_JOBLIB = """
from joblib.externals.loky.backend import fork_exec, resource_tracker

def interrupted(*arguments, **options):
    setattr(module, name, function)
    result = function(*arguments, **options)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    return result

if __name__ == "__main__":
    name = sys.argv.pop(1)
    module = {"register": resource_tracker, "fork_exec": fork_exec}[name]
    function = getattr(module, name)
    setattr(module, name, interrupted)
    sys.exit(guarded(lambda: train_door.train_door(sys.argv[1:])))
"""


@pytest.mark.parametrize("where", ["register", "fork_exec"])
def test_ctrl_c_between_two_steps_of_starting_a_worker_waits_for_both(tiny, where):
    (tiny.folder / "door.py").write_text(DOOR + INTERRUPTED_WITHIN_JOBLIB)
    process = tiny.start("python", "door.py", where, *SWEEP[2:], "training.seed=1,2", *TINY[:3], *SLOW)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "interrupted: 0 of 2 cells are done" in out
    assert "Traceback" not in out
    assert err == ""


LOSES_THE_INTERRUPT = """
class Losing:
    def __init__(self, command):
        pass

    def launch(self, jobs):
        print("launched")
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                time.sleep(0.01)
        except KeyboardInterrupt:
            raise ValueError("something else") from None

train_door.Launcher = Losing
sys.exit(guarded(lambda: train_door.train_door(sys.argv[1:])))
"""


def test_ctrl_c_counts_even_where_a_library_loses_it(tiny):
    done = tiny.run("python", "-c", DOOR + LOSES_THE_INTERRUPT, *TINY, code=130)
    assert done.stdout.count("launched") == 1
    assert "interrupted: 0 of 1 cells are done" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_ctrl_c_leaves_whole_records_and_the_same_command_goes_on(tiny, launcher):
    rates = ",".join(f"{0.001 * k:.3f}" for k in range(1, 13))
    arguments = ("-m", f"hydra/launcher={launcher}", f"optimizer.learning_rate={rates}", *LONG)
    process = tiny.start("python", "pipelines/train.py", *arguments, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(tiny.records()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "cells are done; the same command goes on from here" in out
    done = tiny.records()
    assert 2 <= len(done) < 12
    assert f"{len(done)} records checked, 0 damaged" in tiny.run("python", "pipelines/verify.py").stdout
    assert indexed_runs(tiny) == {"FINISHED": len(done) * (1 + 2)}

    again = tiny.train(*arguments)
    assert tiny.states(again).count("found") == len(done)
    assert len(tiny.records()) == 12
    assert not list((tiny.folder / "runs").glob(".aside-*"))
    assert indexed_runs(tiny) == {"FINISHED": 12 * (1 + 2)}


def test_a_damaged_record_that_is_trained_again_is_indexed(tiny):
    arguments = ("model=mlp_64", *TINY, "training.epochs=30000")
    tiny.train(*arguments)
    (identity,) = tiny.records()
    (tiny.folder / "runs" / identity / "arrays.npz").write_bytes(b"")
    again = tiny.train(*arguments, "tracking=mlflow")
    assert f"{identity}: arrays.npz is not what was written; its cell is trained again" in again.stderr
    assert indexed_runs(tiny) == {"FINISHED": 1 + 2}
