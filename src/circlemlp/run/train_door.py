"""The training door: what happens between a command line and the table at its end.

Everything is composed and checked before Hydra starts a job. The jobs then meet in the store of records,
whichever launcher runs them, and what the user sees is read from the store.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circlemlp import numerics
from circlemlp.run.compose import PROJECT, CommandLine, Job, compose_jobs, plain_config
from circlemlp.config import Config
from circlemlp.errors import ConfigError, UserError, first_line

if TYPE_CHECKING:  # these load NumPy, which must wait for the numeric environment to be chosen
    from circlemlp.run.cells import Cell
    from circlemlp.store.records import Store

INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C


def guarded(door: Callable[[], int]) -> int:
    """Run a door; end what the user can put right in one line and exit code 2, and Ctrl-C in one line too."""
    for asked_to_end in (signal.SIGTERM, signal.SIGHUP):  # to end is to end in order
        if signal.getsignal(asked_to_end) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(asked_to_end, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        code = door()
        if sys.stdout:
            sys.stdout.flush()  # so that a full disk behind it is told here
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: not enough memory ({first_line(error)})", file=sys.stderr)
        return 2
    except OSError as error:
        sys.stdout = None  # Python would try to flush it once more
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def prepare(config: Config) -> dict[str, Any]:
    """Choose the numeric environment of this process and return it as it really is."""
    os.environ["MPLBACKEND"] = "agg"  # a notebook's, in the environment, might not load here
    mode = numerics.resolve(config.numerics)
    numerics.pin(mode)
    return numerics.read_back(mode)


def announce(config: Config) -> None:
    """Say so where ``auto`` could not be portable."""
    if config.numerics == "auto" and numerics.resolve("auto") == "native":
        print("numerics=auto: native kernels, because this machine is not Linux on x86-64 with AVX2", file=sys.stderr)


def train_job(composed: Any) -> None:
    """Train the cell of one Hydra job. A failure is noted for the door, and does not stop other jobs."""
    os.chdir(PROJECT)
    config = plain_config(composed)
    environment = prepare(config)
    from circlemlp.run.cells import Cell, run
    from circlemlp.store.records import Store

    try:
        cell = Cell.of(config, environment)
    except UserError as error:  # the door has read the data, so this is rare
        print(f"error: {error}", file=sys.stderr)
        return
    with contextlib.suppress(Exception):  # noted by run(), shown in the door's table
        run(cell, Store(Path(config.paths.records)))


def train_door(arguments: Sequence[str], launch: Callable[[], None]) -> int:
    """Train what a command line asks for and show what came of it.

    Parameters
    ----------
    arguments : sequence of str
        The command line, without the program's name.
    launch : callable
        The Hydra application, which reads the same command line.

    Returns
    -------
    int
        The exit code: 0 done, 1 a cell failed, 130 interrupted.

    Raises
    ------
    UserError
        Before anything is written.
    """
    os.chdir(PROJECT)
    command = compose_jobs(arguments)
    if command is None:
        launch()
        return 0
    if command.exports and not command.multirun:
        raise ConfigError("paths.results: only a sweep leaves a folder of results; add -m")
    config = _shared(command)
    announce(config)
    environment = prepare(config)
    from circlemlp.run.cells import Cell
    from circlemlp.store.notes import Notes
    from circlemlp.run.outcomes import outcome_of, show
    from circlemlp.store.records import Store

    cells = {(cell := Cell.of(job.config, environment)).identity: (job, cell) for job in command.jobs}
    store = Store(Path(config.paths.records))
    store.open_for_writing()
    _adopt(store, cells)
    present = {identity for identity in cells if store.is_good(identity)}
    for identity in cells:
        if identity in store and identity not in present:
            print(f"{store.path(identity)}: the record is damaged; its cell is trained again", file=sys.stderr)
    interrupted = threading.Event()
    missing = cells.keys() - present
    for identity in missing:
        Notes(store, identity).clear()
    with _indexing(config):
        if missing:
            with _noting_ctrl_c(interrupted), _watching(store, [cell for _, cell in cells.values()], present):
                _launch_until_settled(launch, store, {one: cells[one][0] for one in missing}, interrupted)
    outcomes = [outcome_of(store, job, cell, present) for job, cell in cells.values()]
    done = not interrupted.is_set() and all(outcome.record for outcome in outcomes)
    folder = config.paths.results if command.multirun else None
    if done and folder is not None and command.exports:  # before the table, whose reader may be gone
        from circlemlp.store.results import export

        export(Path(folder), [(list(o.job.overrides), o.record) for o in outcomes if o.record])
    show(outcomes, config.progress.print_every, interrupted=interrupted.is_set())
    if interrupted.is_set():
        return INTERRUPTED
    if done and folder is not None and not command.exports:
        print(f"{folder} is left as it is: this is not the experiment as shipped; name a folder")
        print("for these results with paths.results=results/...")
    return 0 if done else 1


def _launch_until_settled(
    launch: Callable[[], None], store: "Store", jobs: Mapping[str, Job], interrupted: threading.Event
) -> None:
    """Run jobs, by identity, until each has a record or a reason why not, or the user interrupts.

    A worker that is killed, for want of memory say, takes its launcher and the other workers down with it. The cells
    that were in training then are trained again one at a time; one whose worker is killed again is noted as failed.
    """
    from circlemlp.store.notes import PROGRESS, Notes

    notes = {identity: Notes(store, identity) for identity in jobs}

    def unsettled() -> set[str]:
        return {one for one in jobs if not (notes[one].failed() or store.is_good(one))}

    def left_in_training(launch: Callable[[], None]) -> list[str]:
        try:
            launch()
        except Exception as error:  # whatever a launcher raises, the store tells what is missing
            if not interrupted.is_set():
                print(f"the launcher failed: {type(error).__name__}: {first_line(error)}", file=sys.stderr)
        left = sorted(one for one in unsettled() if notes[one].read(PROGRESS))
        for one in left:
            notes[one].clear(PROGRESS)
        return left

    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that an error of the launcher comes here, not to the terminal
    remaining, fruitless = unsettled(), 0
    while remaining and fruitless < 2 and not interrupted.is_set():  # once may be a worker killed at its start
        for one in left_in_training(launch):
            if not interrupted.is_set() and left_in_training(partial(_launch_one, launch, jobs[one])):
                notes[one].failure(RuntimeError("its worker was killed twice"))
        before, remaining = remaining, unsettled()
        fruitless = fruitless + 1 if remaining == before else 0


def _launch_one(launch: Callable[[], None], job: Job) -> None:
    """Run one job of a sweep, with the sweep's launcher."""
    before = sys.argv
    sys.argv = [before[0], "--multirun", *job.overrides]
    try:
        launch()
    finally:
        sys.argv = before


@contextlib.contextmanager
def _noting_ctrl_c(interrupted: threading.Event) -> Iterator[None]:
    """Set an event at Ctrl-C, besides the exception that ends the block.

    A library can lose the exception: one that met Hydra composing a job came out as an error of Hydra's.
    """

    def note(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def _shared(command: CommandLine) -> Config:
    """Return the first job's configuration, after checking that the jobs agree on what they must share."""
    first = command.jobs[0].config
    for job in command.jobs[1:]:
        for name in ("numerics", "paths", "tracking", "progress"):
            if getattr(job.config, name) != getattr(first, name):
                raise ConfigError(f"{name}: one sweep has one value; run a sweep for each")
    return first


def _adopt(store: "Store", cells: dict[str, tuple[Job, "Cell"]]) -> None:
    """Take over records that came with ``results/``, from ``dvc pull`` say, instead of training them."""
    from circlemlp.store.records import DamagedRecord
    from circlemlp.store.results import exported_stores

    for exported in exported_stores():
        for identity in cells:
            if identity in exported and not store.is_good(identity):
                with contextlib.suppress(DamagedRecord), store.lock(identity):
                    store.save(exported.load(identity))


@contextlib.contextmanager
def _indexing(config: Config) -> Iterator[None]:
    """Keep the MLflow index up to date in a process of its own, until the jobs are done.

    The process sees the end of its standard input when this one ends, however it ends, and then writes
    what is left.
    """
    if config.tracking.database is None:
        yield
        return
    library = (str(PROJECT / "src"), os.environ.get("PYTHONPATH"))
    # A session of its own, so that Ctrl-C reaches the jobs and not the writer in the middle of a run.
    writer = subprocess.Popen(
        [sys.executable, "-m", "circlemlp.tracking", config.model_dump_json()],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in library if path)},
    )
    try:
        yield
    finally:
        assert writer.stdin is not None
        writer.stdin.close()
        if sys.stderr.isatty():
            print("writing the MLflow index ...", file=sys.stderr)
        if writer.wait() != 0:
            print("the MLflow index is not up to date; `make ui` will bring it up to date", file=sys.stderr)


@contextlib.contextmanager
def _watching(store: "Store", cells: "Sequence[Cell]", present: set[str]) -> Iterator[None]:
    """Show progress while jobs run, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from circlemlp.run.progress import watching

    with watching(store, cells, present):
        yield
