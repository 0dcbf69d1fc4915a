"""A sweep's progress, read from the store and its notes: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from circlemlp.core.parameters import Layout
from circlemlp.run.cells import Cell
from circlemlp.store.notes import RUNNING, Notes
from circlemlp.store.records import Store

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_LINES = 30.0


class Watch:
    """What has become of cells since the watch began.

    Parameters
    ----------
    store : Store
    cells : sequence of Cell
        Those that are to be trained.
    """

    def __init__(self, store: Store, cells: Sequence[Cell]) -> None:
        self._store = store
        self._work = {cell.identity: _work(cell) for cell in cells}
        self._before = {cell.identity: self._place(cell.identity) for cell in cells}  # damaged records are replaced
        self.total = sum(self._work.values())

    def _place(self, identity: str) -> int | None:
        try:
            return self._store.path(identity).stat().st_ino
        except OSError:
            return None

    def look(self) -> tuple[float, str]:
        """Return the work done so far, and the numbers of cells done, running and failed, in words."""
        finished = failed = running = 0
        done = 0.0
        for identity, work in self._work.items():
            notes = Notes(self._store, identity)
            if self._place(identity) not in (None, self._before[identity]):
                finished, done = finished + 1, done + work
            elif notes.failed():
                failed, done = failed + 1, done + work
            elif note := notes.read(RUNNING):
                running, done = running + 1, done + work * note["done"] / note["total"]
        words = f"{finished} of {len(self._work)} cells, {running} running"
        return done, words + (f", {failed} failed" if failed else "")


def _work(cell: Cell) -> float:
    """Return about how much computing a cell takes, in multiplications: what the bar moves by."""
    training = cell.config.training
    weights = Layout.of(cell.config.model.hidden_layer_sizes).n_parameters
    return float(weights * cell.config.data.n_train * training.epochs * training.replicates)


@contextlib.contextmanager
def watching(
    store: Store, cells: Sequence[Cell], seconds_between_lines: float = SECONDS_BETWEEN_LINES
) -> Iterator[None]:
    """Show cells done, running and failed until the block ends."""
    watch = Watch(store, cells)
    if not sys.stderr.isatty():
        started = time.monotonic()

        def say() -> None:
            print(f"{watch.look()[1]} after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

        with _every(seconds_between_lines, say):
            yield
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("training", total=watch.total)

        def draw() -> None:
            done, words = watch.look()
            bar.update(task, completed=done, description=words)

        with _every(SECONDS_BETWEEN_LOOKS, draw):
            yield
        draw()


@contextlib.contextmanager
def _every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Do something again and again, in a thread, until the block ends."""
    stop = threading.Event()

    def keep_acting() -> None:
        while not stop.wait(seconds):
            act()

    thread = threading.Thread(target=keep_acting, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
