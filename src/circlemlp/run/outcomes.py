"""What a person sees at the end of a sweep: a line for every cell, and why one has no record."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from circlemlp.run.cells import Cell, architecture
from circlemlp.run.compose import Job
from circlemlp.store.notes import FAILURES, Notes
from circlemlp.store.records import DamagedRecord, Record, Store


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: a record and whether it was trained, or the reason there is none."""

    job: Job
    cell: Cell
    record: Record | None
    state: str
    failed: bool = False


def outcome_of(store: Store, job: Job, cell: Cell, present: set[str]) -> Outcome:
    """Return what came of a cell; ``present`` are the identities whose records were there before."""
    try:
        record = store.load(cell.identity)
    except KeyError:
        note = Notes(store, cell.identity).read(FAILURES)
        return Outcome(job, cell, None, note["reason"] if note else "", failed=note is not None)
    except DamagedRecord as error:
        return Outcome(job, cell, None, str(error), failed=True)
    return Outcome(job, cell, record, "found" if cell.identity in present else "trained")


def show(outcomes: Sequence[Outcome], print_every: int | None, *, interrupted: bool) -> None:
    """Print curves every so many epochs, if asked for, then a table of the cells, and what is missing."""
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


def _numbers(record: Record) -> tuple[str, ...]:
    """Return a record's cells of the table: means over the replicates that did not diverge."""
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


def print_lines(record: Record, every: int) -> Iterator[str]:
    """Yield a line for every so many epochs of a record, averaged over the replicates that did not diverge."""
    curves = [record.arrays[name] for name in ("training_loss", "validation_loss", "validation_accuracy")]
    epochs = curves[0].shape[1] - 1
    yield architecture(record.ingredients["config"]["model"])
    for epoch in sorted({*range(every, epochs + 1, every), epochs}):
        now = [curve[:, epoch] for curve in curves]
        alive = np.isfinite(now[0])
        if not alive.any():
            yield f"  epoch {epoch:5d}  every replicate has diverged"
            continue
        training, validation, accuracy = (float(np.mean(values[alive])) for values in now)
        yield (
            f"  epoch {epoch:5d}  training loss {training:.4f}  "
            f"validation loss {validation:.4f}  validation accuracy {accuracy:.4f}"
        )
