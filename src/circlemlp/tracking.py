"""The MLflow index: runs made from records, by one writer at a time.

Nothing that trains imports MLflow. This module turns the records of a store into MLflow runs, a run for a
cell with a child run for every replicate. It can be run at any time and as often as one likes: what is
indexed is left alone, what a killed writer left half done is done again, and a deleted database comes back.
"""

import contextlib
import os
import select
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from circlemlp import wording
from circlemlp.report.boundary import draw_record
from circlemlp.run.cells import architecture
from circlemlp.run.compose import PROJECT
from circlemlp.config import Config, Tracking
from circlemlp.errors import UserError, first_line
from circlemlp.store.records import DamagedRecord, Record, Store, locked
from circlemlp.store.results import exported_stores, kept_epochs

IDENTITY, KIND = "circlemlp.store.identity", "circlemlp.kind"
SECONDS_BETWEEN_LOOKS = 1.0
CURVES = ("training_loss", "validation_loss", "validation_accuracy")


class Index:
    """One MLflow experiment in one SQLite database.

    Parameters
    ----------
    tracking : Tracking
        With a database. It is made, with its experiment, if it is not there.

    Attributes
    ----------
    uri : str
        Of the database.
    experiment_id : str
    """

    def __init__(self, tracking: Tracking) -> None:
        assert tracking.database is not None
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            del os.environ[name]  # a forgotten MLFLOW_RUN_ID or MLFLOW_TRACKING_URI would redirect the runs
        os.environ |= {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
        }
        import mlflow

        self._mlflow = mlflow
        self._points = tracking.curve_points
        self._database = Path(tracking.database).absolute()
        self.uri = f"sqlite:///{self._database}"
        with self._alone():
            self._make_database()
            self._client = mlflow.MlflowClient(self.uri)
            self.experiment_id = self._find_experiment(tracking)

    def _make_database(self) -> None:
        """Make a new database aside, since one whose making was interrupted cannot be opened again."""
        if not self._database.exists():
            with tempfile.TemporaryDirectory(prefix=".aside-", dir=self._database.parent) as aside:
                made = Path(aside) / self._database.name
                self._mlflow.MlflowClient(f"sqlite:///{made}").search_experiments(max_results=1)
                made.rename(self._database)

    def _find_experiment(self, tracking: Tracking) -> str:
        """Return the identifier of the experiment, after making it, or bringing a deleted one back."""
        found = self._client.get_experiment_by_name(tracking.experiment)
        if found is None:
            where = Path(tracking.artifacts).absolute().as_uri()
            made: str = self._client.create_experiment(tracking.experiment, artifact_location=where)
            return made
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        identifier: str = found.experiment_id
        return identifier

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process writes to this database, and keep others waiting.

        Raises
        ------
        UserError
            For whatever goes wrong in the block. No harm is done: the records are what counts.
        """
        with locked(Path(f"{self._database}.lock")):
            try:
                yield
            except UserError:
                raise
            except Exception as error:  # MLflow, SQLAlchemy and Alembic have none in common
                raise UserError(
                    f"{self._database}: the index cannot be written ({type(error).__name__}: {first_line(error)}); "
                    "it can be deleted, and is made again from the records"
                ) from None

    def bring_up_to_date(self, stores: Iterable[Store]) -> int:
        """Index the records that are not indexed yet; return how many were added.

        Parameters
        ----------
        stores : iterable of Store
            A record in several of them is one record. Damaged ones are named and passed over.
        """
        with self._alone():
            indexed = self._indexed()
            added = 0
            for store in stores:
                for identity in store.identities():
                    if identity in indexed:
                        continue
                    try:
                        record = store.load(identity)
                    except (DamagedRecord, UserError) as error:
                        print(f"not indexed: {error}", file=sys.stderr)
                        continue
                    try:
                        self._add(record)
                    except KeyError as error:
                        print(
                            f"not indexed: {store.path(identity)}: has no {error}, as of another version",
                            file=sys.stderr,
                        )
                        continue
                    indexed.add(identity)
                    added += 1
            return added

    def _indexed(self) -> set[str]:
        """Return the identities of the cells that are indexed, after removing what was left unfinished."""
        for run in self._search(f"attributes.status != 'FINISHED' and tags.`{KIND}` = 'cell'"):
            for child in self._search(f"tags.mlflow.parentRunId = '{run.info.run_id}'"):
                self._client.delete_run(child.info.run_id)
            self._client.delete_run(run.info.run_id)
        return {run.data.tags[IDENTITY] for run in self._search(f"tags.`{KIND}` = 'cell'")}

    def _search(self, condition: str) -> list[Any]:
        found, token = [], None
        while True:
            page = self._client.search_runs([self.experiment_id], condition, max_results=1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return found

    def _add(self, record: Record) -> None:
        """Write a record's runs. The cell's is finished last, so a finished cell is a whole one."""
        cell = _Run.of_cell(record, self._points)
        cell_id = self._begin(cell)
        for replicate in range(len(record.summary["diverged_at"])):
            child = _Run.of_replicate(record, replicate, self._points)
            child.tags["mlflow.parentRunId"] = cell_id
            self._end(self._begin(child), child)
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "boundary.png"
            draw_record(record, picture)
            self._client.log_artifact(cell_id, str(picture))
        self._end(cell_id, cell)

    def _begin(self, run: "_Run") -> str:
        info = self._client.create_run(
            self.experiment_id, start_time=run.started_ms, tags=run.tags, run_name=run.name
        ).info
        entities = self._mlflow.entities
        self._client.log_batch(
            info.run_id,
            metrics=[entities.Metric(name, value, run.ended_ms, step) for name, value, step in run.metrics],
            params=[entities.Param(name, str(value)) for name, value in run.parameters.items()],
        )
        run_id: str = info.run_id
        return run_id

    def _end(self, run_id: str, run: "_Run") -> None:
        self._client.set_terminated(run_id, "FINISHED", end_time=run.ended_ms)


@dataclass
class _Run:
    """What one MLflow run says."""

    name: str
    parameters: dict[str, Any]
    tags: dict[str, str]
    metrics: list[tuple[str, float, int]]
    started_ms: int
    ended_ms: int

    @classmethod
    def of_cell(cls, record: Record, points: int) -> "_Run":
        config = record.ingredients["config"]
        curves = {name: _mean_curve(record, name) for name in CURVES}
        alive = [epoch is None for epoch in record.summary["diverged_at"]]
        run = cls._of(record, _cell_name(config), curves, points)
        run.tags[KIND] = "cell"
        run.metrics.append(("diverged_replicates", float(alive.count(False)), 0))
        for name in CURVES:
            values = [value for value in record.summary[name] if value is not None]
            if values:
                run.metrics += [(f"{name}_min", min(values), 0), (f"{name}_max", max(values), 0)]
        return run

    @classmethod
    def of_replicate(cls, record: Record, replicate: int, points: int) -> "_Run":
        config = record.ingredients["config"]
        curves = {name: record.arrays[name][replicate] for name in CURVES}
        run = cls._of(record, f"replicate {replicate} of {_cell_name(config)}", curves, points)
        run.tags[KIND] = "replicate"
        run.parameters["replicate"] = replicate
        diverged_at = record.summary["diverged_at"][replicate]
        if diverged_at is not None:
            run.tags["circlemlp.diverged_at_epoch"] = str(diverged_at)
        stopped_at = record.summary["stopped_at"][replicate]
        if stopped_at is not None:
            run.tags["circlemlp.stopped_at_epoch"] = str(stopped_at)
        return run

    @classmethod
    def _of(cls, record: Record, name: str, curves: dict[str, Any], points: int) -> "_Run":
        config, volatile = record.ingredients["config"], record.volatile
        parameters = {f"{group}.{key}": value for group, values in config.items() for key, value in values.items()}
        code = {"mlflow.source.git.commit": volatile.get("commit"), "circlemlp.dirty": volatile.get("dirty")}
        started_ms = _milliseconds(volatile.get("started_at"))
        return cls(
            name=name,
            parameters={
                "architecture": architecture(config["model"]),
                "n_parameters": record.summary["n_parameters"],
                "numerics": record.ingredients["numerics"]["mode"],
                **parameters,
            },
            tags={
                IDENTITY: record.identity,
                "circlemlp.data_digest": record.ingredients["data"],
                "circlemlp.code_digest": record.ingredients["code"],
                **{name: str(value) for name, value in code.items() if value is not None},
            },
            metrics=[point for metric, curve in curves.items() for point in _points(metric, curve, points)],
            started_ms=started_ms,
            ended_ms=started_ms + round(1000 * volatile.get("wall_seconds", 0)),
        )


def _cell_name(config: dict[str, Any]) -> str:
    """Say what a person looks for: ``2-64-1 lr 0.01 x 10, 1000 epochs, full batch of 5000``."""
    training, data = config["training"], config["data"]
    batch = "full batch" if training["batch_size"] is None else f"batches of {training['batch_size']}"
    parts = [
        f"{architecture(config['model'])} lr {config['optimizer']['learning_rate']:g} x {training['replicates']}",
        f"{training['epochs']} epochs",
        f"{batch} of {data['n_train']}",
        *([] if config["optimizer"]["name"] == "adam" else [wording.NAMES[config["optimizer"]["name"]]]),
        *(text for text in (wording.schedule(config), _stops(config)) if text),
        *([] if data["shape"] == "quarter_circle" else [data["shape"]]),
        *([f"label noise {data['label_noise']:g}"] if data["label_noise"] else []),
        *([] if training["dtype"] == "float32" else [training["dtype"]]),
        *([] if training["seed"] == 0 else [f"seed {training['seed']}"]),
    ]
    return ", ".join(parts)


def _stops(config: dict[str, Any]) -> str | None:
    patience = config["early_stopping"]["patience"]
    return None if patience is None else f"patience {patience}"


def _mean_curve(record: Record, name: str) -> Any:
    """Average a curve over the replicates that did not diverge; all NaN where none is left."""
    alive = record.arrays["diverged_at"] < 0
    curves = record.arrays[name]
    return curves[alive].mean(axis=0) if alive.any() else np.full(curves.shape[1], np.nan)


def _points(metric: str, curve: Any, points: int) -> list[tuple[str, float, int]]:
    """Thin a curve; what is not finite is never logged."""
    epochs = kept_epochs(len(curve) - 1, points)
    return [(metric, float(curve[epoch]), int(epoch)) for epoch in epochs if np.isfinite(curve[epoch])]


def _milliseconds(started_at: str | None) -> int:
    return 0 if started_at is None else round(datetime.fromisoformat(started_at).timestamp() * 1000)


def all_stores(config: Config) -> list[Store]:
    """Return the store of records and the records inside results."""
    return [Store(Path(config.paths.records)), *exported_stores()]


def follow(config: Config) -> None:
    """Index records as they appear, until standard input ends; then index what is left."""
    index, store = Index(config.tracking), Store(Path(config.paths.records))
    seen: set[str] = set()
    ended = False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)[0])
        present = set(store.identities())
        if ended or present - seen:  # at the end always, for damaged ones that were trained again
            index.bring_up_to_date([store])
            seen = present


def serve(index: Index, port: int) -> None:
    """Become the MLflow server, on the loopback interface alone."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(f"tracking.port={port}: {error.strerror}; choose another") from None
    os.environ["PYTHONWARNINGS"] = "ignore"  # the server's own, which would bury its address
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Without the workflow, MLflow opens on traces of chats.
    print(f"http://127.0.0.1:{port}/#/experiments/{index.experiment_id}?workflowType=machine_learning", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", index.uri, *where])


if __name__ == "__main__":
    os.chdir(PROJECT)
    try:
        follow(Config.model_validate_json(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
