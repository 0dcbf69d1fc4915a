"""What the MLflow runs of a record say: one for its cell, and one for each of its replicates."""

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circlemlp import wording
from circlemlp.config import CellConfig
from circlemlp.report.cell_results import MOST, CellResult
from circlemlp.store.records import Record
from circlemlp.store.tables import CURVES

IDENTITY, KIND, STAGE = "circlemlp.identity", "circlemlp.kind", "circlemlp.stage"
TUNING, CONFIRMATION = "tuning", "confirmation"


def run_id(experiment: str, identity: str, replicate: int | None = None) -> str:
    """Return the identifier of the run of a cell, or of a replicate: the same ones whenever an index is made."""
    parts = [experiment, identity] + ([] if replicate is None else [str(replicate)])
    return sha256("/".join(parts).encode()).hexdigest()[:32]


@dataclass
class Run:
    """What one MLflow run says.

    Attributes
    ----------
    metrics : list of (name, value, step)
        Thinned curves and a few single numbers, all of them finite.
    data : dict or None
        The name, the digest and the source of what a cell was trained on.
    """

    run_id: str
    name: str
    parameters: dict[str, Any]
    tags: dict[str, str]
    metrics: list[tuple[str, float, int]]
    started_ms: int
    ended_ms: int
    data: dict[str, str] | None = None
    children: "list[Run]" = field(default_factory=list)


@dataclass(frozen=True)
class Indexed:
    """A record in one of the experiments that have it.

    Attributes
    ----------
    experiment : str
    by_hand : bool
        Whether the experiment holds cells of any kind, so that their names have to say more.
    command : str
        What trains the cell again.
    now_ms : int
        The time of a record that came without one.
    """

    record: Record
    result: CellResult
    experiment: str
    by_hand: bool
    command: str
    data_file: str
    bad_run_error: float
    points: int
    now_ms: int

    def run(self, *, with_replicates: bool) -> Run:
        """Return the run of the cell, with the mean curves of the replicates that did not diverge."""
        record, result, config = self.record, self.result, self.record.config
        numbers = config.training.numbers
        single = {
            "true_error": math.nan if result.unknown else result.error.estimate,
            "validation_loss": result.loss.estimate if result.loss.estimate < MOST else math.nan,
            "validation_accuracy": result.accuracy.estimate,
            "bad_runs": result.bad_runs,
            "diverged": result.diverged,
        }
        curves = {name: _mean_curve(record, name) for name in CURVES}
        started_ms, ended_ms = self._times()
        cell = Run(
            run_id=run_id(self.experiment, record.identity),
            name=self.name,
            parameters={
                "architecture": wording.architecture(config.model),
                "n_parameters": record.summary.n_parameters,
                "numerics": record.numerics.mode,
                **_settings(config),
            },
            tags={
                KIND: "cell",
                IDENTITY: record.identity,
                "circlemlp.replicates": f"{numbers[0]} to {numbers[-1]}",
                "circlemlp.data_digest": record.ingredients["data"],
                "circlemlp.code_digest": record.ingredients["code"],
                "mlflow.note.content": self._description(),
                **({} if self.by_hand else {STAGE: self.stage}),
                **self._source(),
            },
            metrics=[(name, float(value), 0) for name, value in single.items() if math.isfinite(value)]
            + [point for name, curve in curves.items() for point in self._thinned(name, curve)],
            started_ms=started_ms,
            ended_ms=ended_ms,
            data={
                "name": config.data.shape,
                "digest": record.ingredients["data"][:12],
                "source": self.data_file or f"data/{config.data.shape}.npz",
            },
        )
        if with_replicates:
            cell.children = list(self._replicates(cell))
        return cell

    def _replicates(self, cell: Run) -> Iterator[Run]:
        record = self.record
        for row, replicate in enumerate(record.config.training.numbers):
            curves = {name: getattr(record.history, name)[row] for name in CURVES}
            single = {"true_error": record.true_error[row]}
            single |= {name: curves[name][-1] for name in ("validation_loss", "validation_accuracy")}
            epochs = {what: getattr(record.summary, what)[row] for what in ("diverged_at", "stopped_at")}
            yield Run(
                run_id=run_id(self.experiment, record.identity, replicate),
                name=f"r{replicate:02}",
                parameters={
                    "architecture": cell.parameters["architecture"],
                    "optimizer.learning_rate": cell.parameters["optimizer.learning_rate"],
                    "replicate": replicate,
                },
                tags={
                    KIND: "replicate",
                    "mlflow.parentRunId": cell.run_id,
                    **{f"circlemlp.{what}_epoch": str(epoch) for what, epoch in epochs.items() if epoch is not None},
                    **self._source(),
                },
                metrics=[(f"replicate/{name}", float(x), 0) for name, x in single.items() if math.isfinite(x)]
                + [point for name, curve in curves.items() for point in self._thinned(name, curve)],
                started_ms=cell.started_ms - row,  # MLflow lists the latest first
                ended_ms=cell.ended_ms - row,
            )

    @property
    def stage(self) -> str:
        """Whether the replicates choose a learning rate or judge it: those that follow the first ones judge."""
        return CONFIRMATION if self.record.config.training.first_replicate else TUNING

    @property
    def name(self) -> str:
        """What differs between the runs of an experiment: ``2-128-64-1  lr 0.03``."""
        config = self.record.config
        training, data, patience = config.training, config.data, config.early_stopping.patience
        name = f"{wording.architecture(config.model)}  lr {config.optimizer.learning_rate:g}"
        numbers = training.numbers
        if not self.by_hand:
            return f"{name}  confirmed, {numbers[0]} to {numbers[-1]}" if self.stage == CONFIRMATION else name
        batch = "full batch" if training.batch_size is None else f"batches of {training.batch_size}"
        parts = [
            name,
            f"replicates {numbers[0]} to {numbers[-1]}" if training.first_replicate else f"x {training.replicates}",
            f"{training.epochs} epochs",
            f"{batch} of {data.n_train}",
            "" if config.optimizer.name == "adam" else wording.NAMES[config.optimizer.name],
            wording.schedule(config),
            "" if patience is None else f"patience {patience}",
            "" if data.shape == "quarter_circle" else data.shape,
            f"label noise {data.label_noise:g}" if data.label_noise else "",
            "" if training.dtype == "float32" else training.dtype,
            f"seed {training.seed}" if training.seed else "",
        ]
        return ", ".join(filter(None, parts))

    def _description(self) -> str:
        result, numbers = self.result, self.record.config.training.numbers
        error = result.error
        if result.unknown:
            finding = "The true error is not known"
        else:
            interval = f" [{error.low:.3g}, {error.high:.3g}]" if error.exists else ""
            finding = f"True error **{error.estimate:.3g}**{interval}"
        bad = f"{result.bad_runs} with a true error above {self.bad_run_error:g}"
        parts = [
            f"{finding}, from replicates {numbers[0]} to {numbers[-1]}: {bad}, {result.diverged} of them diverged."
        ]
        if self.command:
            parts += ["How to train it again:", f"```\n{_in_lines(self.command)}\n```"]
        return "\n\n".join(parts)

    def _source(self) -> dict[str, str]:
        volatile = self.record.volatile
        commit = {"mlflow.source.git.commit": volatile.commit, "circlemlp.dirty": volatile.dirty}
        return {
            "mlflow.source.type": "JOB",  # of any other, MLflow shows what follows the last slash alone
            "mlflow.source.name": self.command or "pipelines/train.py",
            **{tag: str(value) for tag, value in commit.items() if value is not None},
        }

    def _times(self) -> tuple[int, int]:
        volatile = self.record.volatile
        if volatile.started_at is None:
            return self.now_ms, self.now_ms
        started_ms = round(datetime.fromisoformat(volatile.started_at).timestamp() * 1000)
        return started_ms, started_ms + round(1000 * (volatile.wall_seconds or 0))

    def _thinned(self, name: str, curve: NDArray[Any]) -> list[tuple[str, float, int]]:
        """Thin a curve; what is not finite is never logged."""
        epochs = logarithmic(len(curve) - 1, self.points)
        values = curve[epochs]
        finite = np.isfinite(values)
        pairs = zip(values[finite].tolist(), epochs[finite].tolist(), strict=True)
        return [(f"curves/{name}", value, epoch) for value, epoch in pairs]


def logarithmic(epochs: int, points: int) -> NDArray[np.int64]:
    """Return at most ``points`` epochs from 0 to the last, both kept; the later, the further apart."""
    spaced = np.geomspace(1, epochs, points - 1) if points > 2 else [epochs]
    return np.unique(np.concatenate([[0], spaced, [epochs]]).round().astype(np.int64))


def _in_lines(command: str) -> str:
    """Return a shell command in lines of a setting each."""
    program, script, *settings = map(shlex.quote, shlex.split(command))
    return " \\\n    ".join([f"{program} {script}", *settings])


def _settings(config: CellConfig) -> dict[str, Any]:
    """Return what decides a cell, by its keys; the sizes of the layers are the architecture's name."""
    flat = {f"{group}.{key}": value for group, keys in config.deciding().items() for key, value in keys.items()}
    del flat["model.hidden_layer_sizes"]
    return flat


def _mean_curve(record: Record, name: str) -> NDArray[Any]:
    """Average a curve over the replicates that did not diverge; all NaN where none is left."""
    curves: NDArray[Any] = getattr(record.history, name)
    alive = record.history.diverged_at < 0
    return curves[alive].mean(axis=0) if alive.any() else np.full(curves.shape[1], np.nan)
