"""What a person sees at the end of a sweep: a line for every cell, and why one has no record."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from circlemlp.run.compose import Job
from circlemlp.store.records import Record
from circlemlp.wording import architecture


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: numbers and curves in text from its record, or the reason there is none.

    Attributes
    ----------
    job : Job
    identity : str
    state : str
        trained, found, failed, or not trained.
    numbers : tuple of str
        The middle of its line in the table.
    lines : tuple of str
        Its curves, if they were asked for.
    reason : str
        Why it failed.
    """

    job: Job
    identity: str
    state: str
    numbers: tuple[str, ...] = ("",) * 5
    lines: tuple[str, ...] = ()
    reason: str = ""

    @classmethod
    def of(cls, job: Job, record: Record, state: str) -> "Outcome":
        """Keep what is shown of a record; the record itself may be large."""
        every = job.config.printing.print_every
        return cls(job, record.identity, state, _numbers(record), tuple(_lines(record, every)) if every else ())

    @property
    def has_record(self) -> bool:
        """Whether the cell has a record."""
        return self.state in ("trained", "found")


def show(outcomes: Sequence[Outcome], *, interrupted: bool) -> None:
    """Print the curves that were asked for, a table of the cells, and what is missing."""
    console = Console(width=1000, highlight=False)  # tables take what they need: about 80 columns
    for outcome in outcomes:
        for line in outcome.lines:
            print(line)
    table = Table("architecture", box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("learning\nrate", "para-\nmeters", "time\n(s)", "accuracy", "loss", "diverged"):
        table.add_column(heading, justify="right")
    table.add_column("record")
    table.add_column()
    swept = _other_axes(outcomes)
    for axis in swept:
        table.add_column(axis)
    for outcome in outcomes:
        config = outcome.job.config
        chosen = dict(override.split("=", 1) for override in outcome.job.overrides)
        record = outcome.identity[:12] if outcome.has_record else ""
        table.add_row(
            architecture(config.model),
            f"{config.optimizer.learning_rate:g}",
            *outcome.numbers,
            record or outcome.state,
            outcome.state if record else "",
            *(chosen[axis] for axis in swept),
        )
    console.print(table)
    for reason, failed in _by_reason(outcomes).items():
        print(f"{failed} failed: {reason}")
    missing = sum(not outcome.has_record for outcome in outcomes)
    if interrupted:
        print(f"interrupted: {len(outcomes) - missing} of {len(outcomes)} cells are done; ", end="")
        print("the same command goes on from here")
    elif any(outcome.state == "failed" for outcome in outcomes):
        print(f"{missing} of {len(outcomes)} cells have no record; the same command trains only those")
    elif missing:
        print(f"{missing} of {len(outcomes)} cells were not trained, because the launcher failed; ", end="")
        print("hydra/launcher=basic trains them in this process")


def _by_reason(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return the reasons why cells failed, with the name of the cell or the number of cells."""
    failed: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.state == "failed":
            config = outcome.job.config
            name = f"{architecture(config.model)} at {config.optimizer.learning_rate:g}"
            failed.setdefault(outcome.reason, []).append(name)
    return {reason: names[0] if len(names) == 1 else f"{len(names)} cells" for reason, names in failed.items()}


def _other_axes(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the swept keys that the table's own columns do not show."""
    shown = {"model", "model.hidden_layer_sizes", "optimizer.learning_rate"}
    pairs = {tuple(override.split("=", 1)) for outcome in outcomes for override in outcome.job.overrides}
    values = Counter(key for key, _ in pairs if key not in shown)
    return sorted(key for key, number in values.items() if number > 1)


def _numbers(record: Record) -> tuple[str, ...]:
    """Return a record's cells of the table: means over the replicates that did not diverge."""
    summary, seconds = record.summary, record.volatile.wall_seconds

    def mean(values: Sequence[float | None]) -> str:
        finite = [value for value in values if value is not None]
        return f"{np.mean(finite):.4f}" if finite else ""

    return (
        str(summary.n_parameters),
        "" if seconds is None else f"{seconds:.1f}",
        mean(summary.validation_accuracy),
        mean(summary.validation_loss),
        f"{sum(epoch is not None for epoch in summary.diverged_at)} of {len(summary.diverged_at)}",
    )


def _lines(record: Record, every: int) -> Iterator[str]:
    """Yield a line for each ``every`` epochs of a record, averaged over the replicates that did not diverge."""
    history, epochs = record.history, record.config.training.epochs
    yield architecture(record.config.model)
    for epoch in sorted({*range(every, epochs + 1, every), epochs}):
        alive = np.isfinite(history.training_loss[:, epoch])
        if not alive.any():
            yield f"  epoch {epoch:5d}  every replicate has diverged"
            continue
        training, validation, accuracy = (float(np.mean(curve[alive, epoch])) for curve in history.curves)
        yield (
            f"  epoch {epoch:5d}  training loss {training:.4f}  "
            f"validation loss {validation:.4f}  validation accuracy {accuracy:.4f}"
        )
