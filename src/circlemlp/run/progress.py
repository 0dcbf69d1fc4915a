"""A sweep's progress on a terminal, read from the store and its notes."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from circlemlp.run.cells import Cell
from circlemlp.core.parameters import Layout
from circlemlp.store.notes import PROGRESS, Notes
from circlemlp.store.records import Store

SECONDS_BETWEEN_LOOKS = 0.5


def work(cell: Cell) -> float:
    """Return about how much computing a cell takes, in multiplications: what the bar moves by."""
    training = cell.config.training
    weights = Layout.of(cell.config.model.hidden_layer_sizes).n_parameters
    return float(weights * cell.config.data.n_train * training.epochs * training.replicates)


@contextlib.contextmanager
def watching(store: Store, cells: Sequence[Cell], present: set[str]) -> Iterator[None]:
    """Show cells done, running and failed, and the time left, until the block ends."""
    to_train = [cell for cell in cells if cell.identity not in present]
    stop = threading.Event()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("training", total=sum(map(work, to_train)))

        finished: set[str] = set()

        def look() -> None:
            failed = running = 0
            progress = 0.0
            for cell in to_train:
                notes = Notes(store, cell.identity)
                if cell.identity in finished or store.is_good(cell.identity):
                    finished.add(cell.identity)
                    progress += work(cell)
                elif notes.failed():
                    failed, progress = failed + 1, progress + work(cell)
                elif note := notes.read(PROGRESS):
                    running, progress = running + 1, progress + work(cell) * note["done"] / note["total"]
            counts = f"{len(finished)} of {len(to_train)} cells, {running} running"
            counts += f", {failed} failed" if failed else ""
            bar.update(task, completed=progress, description=counts)

        def keep_looking() -> None:
            while not stop.wait(SECONDS_BETWEEN_LOOKS):
                look()

        watcher = threading.Thread(target=keep_looking, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            look()
