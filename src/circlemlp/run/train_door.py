"""The training door: what happens between a command line and the table at its end.

A command line is composed and checked as a whole and compared with the store of records; only cells without a record
are handed to a launcher. Whichever one runs them, they meet in the store, and what a person sees is read from there.
"""

import contextlib
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from circlemlp.config import Config
from circlemlp.errors import ConfigError, first_line
from circlemlp.project import PROJECT
from circlemlp.run.cells import Cell
from circlemlp.run.compose import CommandLine, Job, compose_jobs, index_command
from circlemlp.run.door import INTERRUPTED, interruptible, prepare
from circlemlp.run.launching import Launcher
from circlemlp.run.outcomes import Outcome, show
from circlemlp.run.progress import watching
from circlemlp.store.notes import FAILURES, RUNNING, Notes
from circlemlp.store.records import DamagedRecord, Record, Store
from circlemlp.store.results import export, exported_folders


def train_door(arguments: Sequence[str]) -> int:
    """Train what a command line asks for and show what came of it.

    Parameters
    ----------
    arguments : sequence of str
        The command line, without the program's name.

    Returns
    -------
    int
        The exit code: 0 done, 1 a cell failed, 130 interrupted.

    Raises
    ------
    UserError
        Before anything is written.
    """
    command = compose_jobs(arguments)
    config = shared(command)
    environment = prepare(config)
    _say_if_only_one_of_a_sweep(command, arguments)
    return train(command, config, environment, config.paths.results)


def train(command: CommandLine, config: Config, environment: dict[str, Any], results: str | None) -> int:
    """Train the jobs of a command line and show what came of it.

    Parameters
    ----------
    command : CommandLine
    config : Config
        With what the jobs share.
    environment : dict
        What ``prepare`` returned.
    results : str or None
        A folder to leave the results in.

    Returns
    -------
    int
        As ``train_door``.
    """
    cells: dict[str, Cell] = {}
    jobs: dict[str, Job] = {}
    for job in command.jobs:
        cell = Cell.of(job.config, environment)
        cells[cell.identity], jobs[cell.identity] = cell, job
    store = Store(Path(config.paths.records))
    store.open_for_writing()
    outcomes = _found(store, jobs)
    missing = {identity: job for identity, job in jobs.items() if identity not in outcomes}
    interrupted, failures = False, dict[str, str]()
    with _indexing(config) if missing else contextlib.nullcontext():
        if missing:
            with interruptible() as asked, watching(store, [cells[one] for one in missing]):
                _train(store, Launcher(command), missing, failures, asked)
            interrupted = asked.is_set()
            outcomes |= _settled(store, missing, failures)
        in_order = [outcomes.get(identity) or Outcome(job, identity, "not trained") for identity, job in jobs.items()]
        done = all(outcome.has_record for outcome in in_order)
        if done and results:
            export(Path(results), [store.load(identity) for identity in jobs])
    show(in_order, interrupted=interrupted)
    return INTERRUPTED if interrupted else 0 if done else 1


def shared(command: CommandLine) -> Config:
    """Return the first job's configuration, after checking that the jobs agree on what they must share.

    Raises
    ------
    ConfigError
    """
    first = command.jobs[0].config
    for job in command.jobs[1:]:
        for name in ("numerics", "paths", "tracking", "printing"):
            if getattr(job.config, name) != getattr(first, name):
                raise ConfigError(f"{name}: one sweep has one value; run a sweep for each")
    if first.paths.results and not command.multirun:
        raise ConfigError("paths.results: only a sweep leaves a folder of results; add -m")
    return first


def _say_if_only_one_of_a_sweep(command: CommandLine, arguments: Sequence[str]) -> None:
    if command.in_experiment > 1 and not command.multirun:
        one = f"the experiment is a sweep of {command.in_experiment} cells, and this trains one"
        whole = shlex.join(["python", "pipelines/train.py", "-m", *arguments])
        print(f"{one}: all of them with {whole}", file=sys.stderr)


def _found(store: Store, jobs: Mapping[str, Job]) -> dict[str, Outcome]:
    """Return the outcomes of the cells that have a record already, each of which is read once.

    Records that came with a folder of results, by ``dvc pull`` say, are copied into the store. Notes that earlier
    sweeps left of the other cells are cleared, unless another process is training the cell.
    """
    outcomes, exported = {}, [Store(folder / "records") for folder in exported_folders()]
    for identity, job in jobs.items():
        record = _load(store, identity, say=True) or _adopted(store, identity, exported)
        if record is not None:
            outcomes[identity] = Outcome.of(job, record, "found")
        elif not store.is_locked(identity):
            Notes(store, identity).clear()
    return outcomes


def _load(store: Store, identity: str, *, say: bool = False) -> Record | None:
    try:
        return store.load(identity)
    except KeyError:
        return None
    except DamagedRecord as error:
        if say:
            print(f"{error}; its cell is trained again", file=sys.stderr)
        return None


def _adopted(store: Store, identity: str, exported: Sequence[Store]) -> Record | None:
    for one in exported:
        if record := _load(one, identity):
            with store.lock(identity):
                store.save(record)
            return record
    return None


def _train(
    store: Store,
    launcher: Launcher,
    jobs: Mapping[str, Job],
    failures: dict[str, str],
    interrupted: threading.Event,
) -> None:
    """Launch jobs until each has a record or a reason why not, or launching gets no further.

    A worker that is killed, for want of memory say, takes its launcher and the other workers down with it. The cells
    that were in training then are trained again one at a time; one whose worker is killed again has failed.
    """
    notes = {identity: Notes(store, identity) for identity in jobs}

    def killed(wanted: Sequence[str]) -> list[str]:
        """Launch jobs; return the cells whose workers were killed while they trained them."""
        try:
            reasons = launcher.launch([jobs[identity] for identity in wanted])
            failures.update({one: why for one, why in zip(wanted, reasons, strict=True) if why})
        except Exception as error:  # whatever a launcher raises, the store tells what is missing
            if not interrupted.is_set():
                print(f"the launcher failed: {type(error).__name__}: {first_line(error)}", file=sys.stderr)
        # A note of progress beside a lock that is held is of a cell that another sweep is training.
        left = [one for one in wanted if notes[one].read(RUNNING) and not store.is_locked(one)]
        for one in left:
            notes[one].clear(RUNNING)
        return left

    remaining, fruitless = list(jobs), 0
    while remaining and fruitless < 2 and not interrupted.is_set():  # once may be a worker killed at its start
        for one in killed(remaining):
            if not interrupted.is_set() and killed([one]):
                failures[one] = "its worker was killed twice"
        before, remaining = remaining, [one for one in remaining if not _settled(store, {one: jobs[one]}, failures)]
        fruitless = fruitless + 1 if remaining == before else 0


def _settled(store: Store, jobs: Mapping[str, Job], failures: Mapping[str, str]) -> dict[str, Outcome]:
    """Return the outcomes of those cells that were trained, or that failed."""
    outcomes = {}
    for identity, job in jobs.items():
        if record := _load(store, identity):
            outcomes[identity] = Outcome.of(job, record, "trained")
        elif why := failures.get(identity) or (Notes(store, identity).read(FAILURES) or {}).get("reason"):
            outcomes[identity] = Outcome(job, identity, "failed", reason=why)
    return outcomes


@contextlib.contextmanager
def _indexing(config: Config) -> Iterator[None]:
    """Keep the MLflow index up to date in a process of its own, until the jobs are done.

    The process is told to finish by a word on its standard input. If that just ends, this process was killed, and the
    other one ends too.
    """
    if config.tracking.database is None:
        yield
        return
    script, settings = str(PROJECT / "pipelines/index.py"), config.model_dump_json(include={"tracking", "report"})
    command = [sys.executable, script, "--follow", config.paths.records, settings]
    again = index_command(config.paths.records, config.tracking)  # of conf/ as it is now
    # A session of its own, so that Ctrl-C reaches the jobs and not the writer in the middle of a run.
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    uri = config.tracking.uri
    doing = f"writing the MLflow index{f' and pushing it to {uri}' if uri else ''}"
    try:
        yield
    finally:
        try:
            if sys.stderr.isatty():
                print(f"{doing} ...", file=sys.stderr)
            writer.communicate(b"done\n")
        finally:  # also after Ctrl-C
            if writer.returncode != 0:
                print(f"not finished: {doing}; `{again}` finishes it", file=sys.stderr)
