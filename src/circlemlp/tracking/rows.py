"""Runs as rows of MLflow's own tables, written many at a time.

MLflow's interface writes a run in a dozen transactions and compares every point of a curve with the ones before it,
which takes ten times as long. Its classes of tables are used here, so that their columns and defaults are MLflow's; a
test compares what is written with what the interface writes.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from mlflow.store.tracking.dbmodels.models import (
    SqlDataset,
    SqlInput,
    SqlInputTag,
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)

from circlemlp.tracking.runs import CONFIRMATION, IDENTITY, KIND, STAGE, Run

FINISHED, ACTIVE, DELETED = "FINISHED", "active", "deleted"
AT_ONCE = 500
"""How many runs a statement names; SQLite takes no more than some thousand values."""


def insert(session: Any, experiment_id: str, artifacts: str, user: str, cell: Run) -> None:
    """Insert a cell's run and those of its replicates; a session of MLflow's store commits them at once.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    experiment_id : str
    artifacts : str
        The experiment's place of artifacts.
    user : str
    cell : Run
    """
    runs = [cell, *cell.children]
    add = _adding(session)
    add(SqlRun, [_run(run, int(experiment_id), artifacts, user) for run in runs])
    add(
        SqlTag,
        [row for run in runs for row in _named(run, run.tags | {"mlflow.runName": run.name, "mlflow.user": user})],
    )
    add(SqlParam, [row for run in runs for row in _named(run, run.parameters)])
    add(SqlMetric, [row for run in runs for row in _points(run)])
    add(SqlLatestMetric, [row for run in runs for row in {row["key"]: row for row in _points(run)}.values()])
    for run in runs:
        if run.data is not None:
            _insert_input(session, int(experiment_id), run, run.data)


def _adding(session: Any) -> Any:
    def add(table: Any, rows: list[dict[str, Any]]) -> None:
        if rows:
            session.execute(table.__table__.insert(), rows)

    return add


def _run(run: Run, experiment_id: int, artifacts: str, user: str) -> dict[str, Any]:
    return {
        "run_uuid": run.run_id,
        "name": run.name,
        "experiment_id": experiment_id,
        "artifact_uri": f"{artifacts}/{run.run_id}/artifacts",
        "user_id": user,
        "status": FINISHED,
        "start_time": run.started_ms,
        "end_time": run.ended_ms,
        "deleted_time": None,
        "lifecycle_stage": ACTIVE,
        "source_type": "UNKNOWN",
        "source_name": "",
        "source_version": "",
        "entry_point_name": "",
    }


def _named(run: Run, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in values.items():
        yield {"run_uuid": run.run_id, "key": key, "value": str(value)}


def _points(run: Run) -> Iterator[dict[str, Any]]:
    """Yield a run's metrics; those of a key rise in their steps."""
    for key, value, step in run.metrics:
        yield {
            "run_uuid": run.run_id,
            "key": key,
            "value": value,
            "timestamp": run.ended_ms,
            "step": step,
            "is_nan": False,
        }


def _insert_input(session: Any, experiment_id: int, run: Run, data: dict[str, str]) -> None:
    """Insert a run's data set, which other runs of the experiment may have, and its being an input of the run."""
    known = session.query(SqlDataset.dataset_uuid).filter_by(
        experiment_id=experiment_id, name=data["name"], digest=data["digest"]
    )
    dataset = known.scalar()
    add = _adding(session)
    if dataset is None:
        dataset = uuid.uuid4().hex
        add(
            SqlDataset,
            [
                {
                    "dataset_uuid": dataset,
                    "experiment_id": experiment_id,
                    "name": data["name"],
                    "digest": data["digest"],
                    "dataset_source_type": "local",
                    "dataset_source": json.dumps({"uri": data["source"]}),
                }
            ],
        )
    edge = {
        "input_uuid": uuid.uuid4().hex,
        "source_type": "DATASET",
        "source_id": dataset,
        "destination_type": "RUN",
        "destination_id": run.run_id,
    }
    add(SqlInput, [edge])
    add(SqlInputTag, [{"input_uuid": edge["input_uuid"], "name": "mlflow.data.context", "value": "training"}])


def cells(session: Any, experiment_id: str | None = None) -> dict[str, str]:
    """Return the identities of the cells of an experiment, or of all, by the identifiers of their runs."""
    found = session.query(SqlTag.run_uuid, SqlTag.value).filter(SqlTag.key == IDENTITY)
    if experiment_id is not None:
        found = found.join(SqlRun, SqlRun.run_uuid == SqlTag.run_uuid).filter(
            SqlRun.experiment_id == int(experiment_id)
        )
    return dict(found.all())


def confirmed(session: Any, experiment_id: str) -> set[str]:
    """Return the identifiers of the runs of an experiment's cells that judge; those of deleted ones are left out."""
    runs = session.query(SqlRun.run_uuid).filter_by(experiment_id=int(experiment_id), lifecycle_stage=ACTIVE)
    return {run for (run,) in runs.join(SqlTag).filter(SqlTag.key == STAGE, SqlTag.value == CONFIRMATION)}


def count_replicates(session: Any, experiment_id: str) -> int:
    """Return how many replicates the cells of an experiment have."""
    counts = session.query(SqlParam.value).filter(SqlParam.key == "training.replicates")
    runs = counts.join(SqlRun, SqlRun.run_uuid == SqlParam.run_uuid).filter(SqlRun.experiment_id == int(experiment_id))
    return sum(int(count) for (count,) in runs)


def delete_replicates(session: Any, experiment_id: str) -> None:
    """Take the runs of replicates out of an experiment."""
    own = session.query(SqlRun.run_uuid).filter_by(experiment_id=int(experiment_id))
    runs = [run for (run,) in own.join(SqlTag).filter(SqlTag.key == KIND, SqlTag.value == "replicate")]
    for start in range(0, len(runs), AT_ONCE):
        some = runs[start : start + AT_ONCE]
        for table in (SqlTag, SqlParam, SqlMetric, SqlLatestMetric, SqlRun):
            session.query(table).filter(table.run_uuid.in_(some)).delete(synchronize_session=False)


def restore(session: Any) -> None:
    """Bring the runs back that were deleted in MLflow's pages, those of ours."""
    ours = session.query(SqlTag.run_uuid).filter(SqlTag.key == KIND)
    deleted = session.query(SqlRun).filter(SqlRun.lifecycle_stage == DELETED, SqlRun.run_uuid.in_(ours))
    deleted.update({"lifecycle_stage": ACTIVE, "deleted_time": None}, synchronize_session=False)
