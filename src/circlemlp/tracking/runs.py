"""What MLflow runs say: one for a cell in a stage of an experiment, and one for each of its replicates."""

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circlemlp import wording
from circlemlp.report.cell_results import CellResult, numbered
from circlemlp.store.identity import sha256
from circlemlp.store.stages import Stage, run_id
from circlemlp.store.tables import CURVES
from circlemlp.store.trained import Trained

RECORDS, KIND, STAGE = "circlemlp.records", "circlemlp.kind", "circlemlp.stage"
"""Tags: the identities of the records that are in the run of a cell, and which kind and stage a run is of."""
CODE = "circlemlp.code_digest"
"""A tag: which core trained a cell."""
PARENT = "mlflow.parentRunId"


@dataclass
class Run:
    """What one MLflow run says.

    Attributes
    ----------
    metrics : list of (name, value, step)
        Thinned curves and a few single numbers, all of them finite.
    data : list of dict
        The names, the digests and the sources of what a cell was trained on: each of its records has its own points.
    """

    run_id: str
    name: str
    parameters: dict[str, Any]
    tags: dict[str, str]
    metrics: list[tuple[str, float, int]]
    started_ms: int
    ended_ms: int
    data: list[dict[str, str]] = field(default_factory=list)
    children: "list[Run]" = field(default_factory=list)


@dataclass(frozen=True)
class Indexed:
    """A cell in a stage of an experiment: the replicates that belong there.

    Attributes
    ----------
    result : CellResult
        What the report says of the same replicates.
    experiment : str
    stage : {"tuning", "confirmation"}
        Whether the replicates choose a learning rate or judge it.
    by_hand : bool
        Whether the experiment holds cells of any kind, so that their names have to say more.
    commands : list of str
        What trains the records again.
    row : str
        Where the cell's row in the experiment's report is, in Markdown; empty where there is no report of it.
    now_ms : int
        The time of records that came without one.
    """

    result: CellResult
    experiment: str
    stage: Stage
    by_hand: bool
    commands: list[str]
    data_file: str
    row: str
    bad_run_error: float
    points: int
    now_ms: int

    @property
    def run_id(self) -> str:
        """The identifier of the run of the cell."""
        return run_id(self.experiment, self.stage, self.trained)

    def run(self, *, with_replicates: bool) -> Run:
        """Return the run of the cell, with the mean curves of the replicates that did not diverge."""
        trained, result = self.trained, self.result
        config, first = trained.config, trained.records[0]
        single = {
            "true_error": math.nan if result.unknown else result.error.estimate,
            "validation_loss": result.loss.estimate,
            "validation_accuracy": result.accuracy.estimate,
            "bad_runs": result.bad_runs,
            "diverged": result.diverged,
        }
        curves = {name: _mean_curve(trained, name) for name in CURVES}
        started_ms, ended_ms = self._times()
        cell = Run(
            run_id=self.run_id,
            name=self.name,
            parameters={
                "architecture": wording.architecture(config.model),
                "n_parameters": trained.summary.n_parameters,
                "numerics": first.numerics.mode,
                "replicates": result.replicates,
                **_settings(trained),
            },
            tags={
                KIND: "cell",
                STAGE: self.stage,
                RECORDS: " ".join(record.identity for record in trained.records),
                CODE: first.ingredients["code"],
                "mlflow.note.content": self._description(),
                **self._source(),
            },
            metrics=[(name, float(value), 0) for name, value in single.items() if math.isfinite(value)]
            + [point for name, curve in curves.items() for point in self._thinned(name, curve)],
            started_ms=started_ms,
            ended_ms=ended_ms,
            data=[
                {
                    "name": config.data.shape,
                    "digest": digest[:12],
                    "source": self.data_file or f"data/{config.data.shape}.npz",
                }
                for digest in dict.fromkeys(record.ingredients["data"] for record in trained.records)
            ],
        )
        if with_replicates:
            cell.children = list(self._replicates(cell))
        return cell

    def _replicates(self, cell: Run) -> Iterator[Run]:
        trained = self.trained
        for row, replicate in enumerate(trained.numbers.tolist()):
            curves = {name: getattr(trained.history, name)[row] for name in CURVES}
            single = {"true_error": trained.true_error[row]}
            single |= {name: curves[name][-1] for name in ("validation_loss", "validation_accuracy")}
            epochs = {what: getattr(trained.summary, what)[row] for what in ("diverged_at", "stopped_at")}
            yield Run(
                run_id=sha256(f"{cell.run_id}/{replicate}")[:32],
                name=f"r{replicate:02}",
                parameters={
                    "architecture": cell.parameters["architecture"],
                    "optimizer.learning_rate": cell.parameters["optimizer.learning_rate"],
                    "replicate": replicate,
                },
                tags={
                    KIND: "replicate",
                    PARENT: cell.run_id,
                    **{f"circlemlp.{what}_epoch": str(epoch) for what, epoch in epochs.items() if epoch is not None},
                    **self._source(),
                },
                metrics=[(f"replicate/{name}", float(x), 0) for name, x in single.items() if math.isfinite(x)]
                + [point for name, curve in curves.items() for point in self._thinned(name, curve)],
                started_ms=cell.started_ms - row,  # MLflow lists the latest first
                ended_ms=cell.ended_ms - row,
            )

    @property
    def trained(self) -> Trained:
        """The replicates."""
        return self.result.trained

    @property
    def name(self) -> str:
        """What differs between the runs of an experiment: ``2-128-64-1  lr 0.03``."""
        config = self.trained.config
        training, data, patience = config.training, config.data, config.early_stopping.patience
        name = f"{self.result.architecture}  lr {self.result.learning_rate:g}"
        if self.stage == "confirmation":
            name += "  confirmed"
        if not self.by_hand:
            return name
        batch = "full batch" if training.batch_size is None else f"batches of {training.batch_size}"
        parts = [
            name,
            f"x {self.result.replicates}",
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
        result = self.result
        error = result.error
        if result.unknown:
            finding = "The true error is not known"
        else:
            interval = f" [{error.low:.3g}, {error.high:.3g}]" if error.exists else ""
            finding = f"True error **{error.estimate:.3g}**{interval}"
        bad = f"{result.bad_runs} with a true error above {self.bad_run_error:g}"
        parts = [f"{finding}, from {numbered(self.trained.numbers)}: {bad}, {result.diverged} of them diverged."]
        if self.row:
            parts.append(f"Its row in the report, once that is made: {self.row}.")
        if any(self.commands):
            parts += ["How to train it again:", "\n".join(["```", *map(_in_lines, self.commands), "```"])]
        return "\n\n".join(parts)

    def _source(self) -> dict[str, str]:
        volatile = self.trained.records[0].volatile
        commit = {"mlflow.source.git.commit": volatile.commit, "circlemlp.dirty": volatile.dirty}
        return {
            "mlflow.source.type": "JOB",  # of any other, MLflow shows what follows the last slash alone
            "mlflow.source.name": " && ".join(self.commands) or "pipelines/train.py",
            **{tag: str(value) for tag, value in commit.items() if value is not None},
        }

    def _times(self) -> tuple[int, int]:
        known = [record.volatile for record in self.trained.records if record.volatile.started_at]
        started = [datetime.fromisoformat(one.started_at).timestamp() for one in known if one.started_at]
        if not started:
            return self.now_ms, self.now_ms
        started_ms = round(1000 * min(started))
        return started_ms, started_ms + round(1000 * sum(one.wall_seconds or 0 for one in known))

    def _thinned(self, name: str, curve: NDArray[Any]) -> list[tuple[str, float, int]]:
        """Thin a curve; what is not finite is never logged."""
        epochs = logarithmic(len(curve) - 1, self.points)
        values = curve[epochs]
        finite = np.isfinite(values)
        pairs = zip(values[finite].tolist(), epochs[finite].tolist(), strict=True)
        return [(f"curves/{name}", value, epoch) for value, epoch in pairs]


def logarithmic(epochs: int, points: int) -> NDArray[np.int64]:
    """Return ``points`` epochs from 0 to the last, both kept, or all of them; the later, the further apart."""
    chosen = [0, 1][: points - 1]
    for left in range(points - 2, 0, -1):
        last = chosen[-1]  # the first ones follow each other, and what is left is spaced anew after each
        chosen.append(min(epochs, max(last + 1, round(last * (epochs / last) ** (1 / left)))))
    return np.unique([*chosen, epochs])


def _in_lines(command: str) -> str:
    """Return a shell command in lines of a setting each."""
    words = list(map(shlex.quote, shlex.split(command)))
    head = 3 if "-m" in words else 2
    return " \\\n    ".join([" ".join(words[:head]), *words[head:]])


def _settings(trained: Trained) -> dict[str, Any]:
    """Return what decides a cell, by its keys; the sizes of the layers are the architecture's name."""
    flat = {f"{group}.{key}": value for group, keys in trained.settings.items() for key, value in keys.items()}
    del flat["model.hidden_layer_sizes"]
    return flat


def _mean_curve(trained: Trained, name: str) -> NDArray[Any]:
    """Average a curve over the replicates that did not diverge; all NaN where none is left."""
    curves: NDArray[Any] = getattr(trained.history, name)
    alive = trained.history.diverged_at < 0
    return curves[alive].mean(axis=0) if alive.any() else np.full(curves.shape[1], np.nan)
