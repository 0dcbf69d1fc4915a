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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circlemlp import numerics
from circlemlp.compose import PROJECT, CommandLine, Job, compose_jobs, plain_config
from circlemlp.config import Config
from circlemlp.errors import ConfigError, UserError, first_line

if TYPE_CHECKING:  # these load NumPy, which must wait for the numeric environment to be chosen
    from circlemlp.cells import Cell
    from circlemlp.records import Record, Store

INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C


def guarded(door: Callable[[], int]) -> int:
    """Run a door; end what the user can put right in one line and exit code 2, and Ctrl-C in one line too."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # to end is to end in order
    try:
        code = door()
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
    from circlemlp.cells import Cell, run
    from circlemlp.records import Store

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
    from circlemlp.cells import Cell, Notes
    from circlemlp.records import Store

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
                _launch_until_settled(launch, store, missing, interrupted)
    outcomes = [_outcome(store, job, cell, present) for job, cell in cells.values()]
    _show(outcomes, config.progress.print_every, interrupted=interrupted.is_set())
    if interrupted.is_set():
        return INTERRUPTED
    if any(outcome.record is None for outcome in outcomes):
        return 1
    if config.paths.results is not None and command.multirun:
        if not command.exports:
            print(f"{config.paths.results} is left as it is: this is not the experiment as shipped; name a folder")
            print("for these results with paths.results=results/...")
            return 0
        from circlemlp.results import export

        export(Path(config.paths.results), [(list(o.job.overrides), o.record) for o in outcomes if o.record])
    return 0


def _launch_until_settled(
    launch: Callable[[], None], store: "Store", identities: Set[str], interrupted: threading.Event
) -> None:
    """Run the jobs until each has a record or a reason why not, or the user interrupts.

    A worker that is killed, for want of memory say, takes its launcher and the other workers down with it. The
    launcher is then started again for the rest; a cell that was in training both times is noted as failed.
    """
    from circlemlp.cells import PROGRESS, Notes

    def unsettled() -> set[str]:
        return {one for one in identities if not (Notes(store, one).failed() or store.is_good(one))}

    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that an error of the launcher comes here, not to the terminal
    suspects: set[str] = set()
    remaining = unsettled()
    while remaining and not interrupted.is_set():
        try:
            launch()
        except Exception as error:  # whatever a launcher raises, the store tells what is missing
            if interrupted.is_set():
                return
            print(f"the launcher failed: {type(error).__name__}: {first_line(error)}", file=sys.stderr)
        in_training = {one for one in remaining if Notes(store, one).read(PROGRESS)}
        for one in in_training & suspects:
            Notes(store, one).failure(RuntimeError("its worker was killed twice"))
        for one in in_training:
            Notes(store, one).clear(PROGRESS)
        before, remaining = remaining, unsettled()
        if remaining == before and not in_training - suspects:  # nothing came of it, so nothing will
            break
        suspects |= in_training


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
    from circlemlp.records import DamagedRecord
    from circlemlp.results import exported_stores

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
    from circlemlp.progress import watching

    with watching(store, cells, present):
        yield


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: a record and whether it was trained, or the reason there is none."""

    job: Job
    cell: "Cell"
    record: "Record | None"
    state: str
    failed: bool = False


def _outcome(store: "Store", job: Job, cell: "Cell", present: set[str]) -> Outcome:
    from circlemlp.cells import FAILURES, Notes
    from circlemlp.records import DamagedRecord

    try:
        record = store.load(cell.identity)
    except KeyError:
        note = Notes(store, cell.identity).read(FAILURES)
        return Outcome(job, cell, None, note["reason"] if note else "", failed=note is not None)
    except DamagedRecord as error:
        return Outcome(job, cell, None, str(error), failed=True)
    return Outcome(job, cell, record, "found" if cell.identity in present else "trained")


def _show(outcomes: Sequence[Outcome], print_every: int | None, *, interrupted: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from circlemlp.cells import architecture, print_lines

    console = Console(width=1000, highlight=False)  # tables take what they need: about 80 columns
    if print_every:
        for outcome in outcomes:
            if outcome.record:
                console.print("\n".join(print_lines(outcome.record, print_every)))
    table = Table("architecture", box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("learning\nrate", "para-\nmeters", "time\n(s)", "accuracy", "loss", "diverged"):
        table.add_column(heading, justify="right")
    table.add_column("record")
    table.add_column()
    swept = _other_axes(outcomes)
    for axis in swept:
        table.add_column(axis)
    for outcome in outcomes:
        name = architecture(outcome.cell.config.model.model_dump())
        rate = f"{outcome.cell.config.optimizer.learning_rate:g}"
        chosen = dict(override.split("=", 1) for override in outcome.job.overrides)
        others = [chosen[axis] for axis in swept]
        if outcome.record is None:
            table.add_row(name, rate, *[""] * 5, "failed" if outcome.failed else "not trained", "", *others)
        else:
            table.add_row(name, rate, *_numbers(outcome.record), outcome.cell.identity[:12], outcome.state, *others)
    console.print(table)
    for outcome in outcomes:
        if outcome.failed:
            name = architecture(outcome.cell.config.model.model_dump())
            print(f"{name} at {outcome.cell.config.optimizer.learning_rate:g} failed: {outcome.state}")
    missing = sum(outcome.record is None for outcome in outcomes)
    done = len(outcomes) - missing
    if interrupted:
        console.print(f"interrupted: {done} of {len(outcomes)} cells are done; the same command goes on from here")
    elif missing:
        console.print(f"{missing} of {len(outcomes)} cells have no record; the same command trains only those")


def _other_axes(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the swept keys that the table's own columns do not show."""
    shown = {"model", "model.hidden_layer_sizes", "optimizer.learning_rate"}
    counts = Counter(key for outcome in outcomes for key in {tuple(o.split("=", 1)) for o in outcome.job.overrides})
    keys = {key for key, _ in counts if key not in shown}
    return sorted(key for key in keys if sum(one == key for one, _ in counts) > 1)


def _numbers(record: "Record") -> tuple[str, ...]:
    """Return a record's cells of the table: means over the replicates that did not diverge."""
    import numpy as np

    summary, seconds = record.summary, record.volatile.get("wall_seconds")

    def mean(name: str) -> str:
        values = [value for value in summary[name] if value is not None]
        return f"{np.mean(values):.4f}" if values else ""

    return (
        str(summary["n_parameters"]),
        "" if seconds is None else f"{seconds:.1f}",
        mean("validation_accuracy"),
        mean("validation_loss"),
        f"{sum(epoch is not None for epoch in summary['diverged_at'])} of {len(summary['diverged_at'])}",
    )
