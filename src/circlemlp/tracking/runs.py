"""What the MLflow runs of a record say: one for its cell, and one for each of its replicates."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circlemlp import wording
from circlemlp.config import CellConfig
from circlemlp.store.records import Record
from circlemlp.store.tables import CURVES, kept_epochs

IDENTITY, KIND = "circlemlp.identity", "circlemlp.kind"


@dataclass
class Run:
    """What one MLflow run says.

    Attributes
    ----------
    metrics : list of (name, value, step)
        Thinned curves and a few single numbers, all of them finite.
    """

    name: str
    parameters: dict[str, Any]
    tags: dict[str, str]
    metrics: list[tuple[str, float, int]]
    started_ms: int
    ended_ms: int

    @classmethod
    def for_cell(cls, record: Record, points: int) -> "Run":
        """Return the run of a cell, with mean curves of at most ``points`` points."""
        curves = {name: _mean_curve(record, name) for name in CURVES}
        run = cls._for(record, "cell", _cell_name(record.config), curves, points)
        diverged = sum(epoch is not None for epoch in record.summary.diverged_at)
        run.metrics.append(("diverged_replicates", float(diverged), 0))
        for name in ("true_error", *CURVES):
            values = [value for value in getattr(record.summary, name) if value is not None]
            if values:
                run.metrics += [(f"{name}_min", min(values), 0), (f"{name}_max", max(values), 0)]
        return run

    @classmethod
    def for_replicate(cls, record: Record, replicate: int, points: int) -> "Run":
        """Return the run of one replicate, with its own curves."""
        curves = {name: getattr(record.history, name)[replicate] for name in CURVES}
        name = f"replicate {replicate} of {_cell_name(record.config)}"
        run = cls._for(record, "replicate", name, curves, points)
        run.parameters["replicate"] = replicate
        true_error = record.summary.true_error[replicate]
        if true_error is not None:
            run.metrics.append(("true_error", true_error, 0))
        for what in ("diverged_at", "stopped_at"):
            epoch = getattr(record.summary, what)[replicate]
            if epoch is not None:
                run.tags[f"circlemlp.{what}_epoch"] = str(epoch)
        return run

    @classmethod
    def _for(cls, record: Record, kind: str, name: str, curves: dict[str, NDArray[Any]], points: int) -> "Run":
        config, volatile = record.config, record.volatile
        code = {"mlflow.source.git.commit": volatile.commit, "circlemlp.dirty": volatile.dirty}
        started_ms = 0
        if volatile.started_at is not None:
            started_ms = round(datetime.fromisoformat(volatile.started_at).timestamp() * 1000)
        return cls(
            name=name,
            parameters={
                "architecture": wording.architecture(config.model),
                "n_parameters": record.summary.n_parameters,
                "numerics": record.numerics.mode,
                **{f"{group}.{key}": value for group, keys in config.deciding().items() for key, value in keys.items()},
            },
            tags={
                KIND: kind,
                IDENTITY: record.identity,
                "circlemlp.data_digest": record.ingredients["data"],
                "circlemlp.code_digest": record.ingredients["code"],
                **{tag: str(value) for tag, value in code.items() if value is not None},
            },
            metrics=[point for metric, curve in curves.items() for point in _points(metric, curve, points)],
            started_ms=started_ms,
            ended_ms=started_ms + round(1000 * (volatile.wall_seconds or 0)),
        )


def _cell_name(config: CellConfig) -> str:
    """Say what a person looks for: ``2-64-1 lr 0.01 x 10, 1000 epochs, full batch of 5000``."""
    training, data, patience = config.training, config.data, config.early_stopping.patience
    batch = "full batch" if training.batch_size is None else f"batches of {training.batch_size}"
    architecture = wording.architecture(config.model)
    optimizer = config.optimizer
    parts = [
        f"{architecture} lr {optimizer.learning_rate:g} x {training.replicates}",
        f"{training.epochs} epochs",
        f"{batch} of {data.n_train}",
        "" if optimizer.name == "adam" else wording.NAMES[optimizer.name],
        wording.schedule(config),
        "" if patience is None else f"patience {patience}",
        "" if data.shape == "quarter_circle" else data.shape,
        f"label noise {data.label_noise:g}" if data.label_noise else "",
        "" if training.dtype == "float32" else training.dtype,
        f"seed {training.seed}" if training.seed else "",
    ]
    return ", ".join(filter(None, parts))


def _mean_curve(record: Record, name: str) -> NDArray[Any]:
    """Average a curve over the replicates that did not diverge; all NaN where none is left."""
    curves: NDArray[Any] = getattr(record.history, name)
    alive = record.history.diverged_at < 0
    return curves[alive].mean(axis=0) if alive.any() else np.full(curves.shape[1], np.nan)


def _points(metric: str, curve: NDArray[Any], points: int) -> list[tuple[str, float, int]]:
    """Thin a curve; what is not finite is never logged."""
    epochs = kept_epochs(len(curve) - 1, points)
    return [(metric, float(curve[epoch]), int(epoch)) for epoch in epochs if np.isfinite(curve[epoch])]
