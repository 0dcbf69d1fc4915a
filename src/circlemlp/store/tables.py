"""Records as tidy tables: a row for every replicate, and a row for every replicate and kept epoch."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circlemlp.store.records import Record
from circlemlp.wording import architecture

CURVE_POINTS = 101
CURVES = ("training_loss", "validation_loss", "validation_accuracy")


def replicate_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Yield one row for every replicate; what a diverged one does not have is None."""
    for record in records:
        summary = record.summary
        for row, replicate in enumerate(record.config.training.numbers):
            yield {
                **_labels(record),
                "parameters": summary.n_parameters,
                "replicate": replicate,
                "true_error": summary.true_error[row],
                **{name: getattr(summary, name)[row] for name in (*CURVES, "diverged_at", "stopped_at")},
            }


def curve_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Yield the curves of every replicate at about a hundred epochs; None from where it diverged."""
    for record in records:
        epochs = kept_epochs(record.config.training.epochs, CURVE_POINTS).tolist()
        for row, replicate in enumerate(record.config.training.numbers):
            curves = {name: getattr(record.history, name)[row].tolist() for name in CURVES}
            for epoch in epochs:
                values = {name: curve[epoch] for name, curve in curves.items()}
                kept = {name: value if np.isfinite(value) else None for name, value in values.items()}
                yield {**_labels(record), "replicate": replicate, "epoch": epoch, **kept}


def kept_epochs(epochs: int, points: int) -> NDArray[np.int64]:
    """Return at most ``points`` epochs from 0 to the last, both kept, evenly spaced."""
    return np.unique(np.linspace(0, epochs, points).round().astype(np.int64))


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV: a header, numbers in their shortest form, nothing for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _labels(record: Record) -> dict[str, Any]:
    return {
        "identity": record.identity[:12],
        "architecture": architecture(record.config.model),
        "learning_rate": record.config.optimizer.learning_rate,
    }
