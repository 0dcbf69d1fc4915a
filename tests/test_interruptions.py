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
                if "loky" in command and "popen_loky" in command:
                    return int(status.parent.name)
    return None


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
        running = list((tiny.folder / "runs/.progress").glob("*.json"))
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
        running = {path.stem for path in (tiny.folder / "runs/.progress").glob("?" * 64 + ".json")}
        if culprit is None and len(running) == 2:
            culprit = min(running)
        if culprit in running and (worker := loky_worker(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
            kills += 1
            while (tiny.folder / f"runs/.progress/{culprit}.json").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert kills == 2
    assert out.count("failed: RuntimeError: its worker was killed twice") == 1
    assert len(tiny.records()) == 2
    assert culprit not in tiny.records()


def test_a_request_to_end_is_like_ctrl_c(tiny):
    process = tiny.start("python", "pipelines/train.py", "-m", "hydra/launcher=joblib", "training.seed=1,2,3,4", *LONG)
    deadline = time.monotonic() + 120
    while not list((tiny.folder / "runs/.progress").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "the same command goes on from here" in out


LOSES_THE_INTERRUPT = """
import os, signal, sys, time
sys.path.insert(0, "src")
from circlemlp.run.train_door import guarded, train_door

def launch():
    print("launched")
    try:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            time.sleep(0.01)
    except KeyboardInterrupt:
        raise ValueError("something else") from None

sys.exit(guarded(lambda: train_door(sys.argv[1:], launch)))
"""


def test_ctrl_c_counts_even_where_a_library_loses_it(tiny):
    done = tiny.run("python", "-c", LOSES_THE_INTERRUPT, *TINY, code=130)
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
    assert tiny.run("python", "pipelines/verify.py").stdout == f"{len(done)} records checked, 0 damaged\n"
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
    assert f"{identity}: the record is damaged; its cell is trained again" in again.stderr
    assert indexed_runs(tiny) == {"FINISHED": 1 + 2}
