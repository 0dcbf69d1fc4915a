"""Runs as rows of MLflow's own tables, written many at a time.

MLflow's interface writes a run in a dozen transactions and compares every point of a curve with the ones before it,
which takes ten times as long. Its classes of tables are used here, so that their columns and defaults are MLflow's; a
test compares what is written with what the interface writes.
"""

import json
import uuid
from collections import Counter
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
from sqlalchemy import func
from sqlalchemy.dialects.sqlite import insert

from circlemlp.store.stages import Stage
from circlemlp.tracking.runs import CODE, KIND, PARENT, RECORDS, STAGE, Run

FINISHED, ACTIVE, DELETED = "FINISHED", "active", "deleted"
AT_ONCE = 500
"""How many runs a statement names; SQLite takes no more than some thousand values."""


def put(session: Any, experiment_id: str, artifacts: str, user: str, cell: Run) -> None:
    """Insert a cell's run and those of its replicates; a session of MLflow's store commits them at once.

    Where they are there already, what they say is replaced. What people gave them is left: names, tags of their own,
    and being deleted.

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
    there = session.query(SqlRun.lifecycle_stage, SqlRun.deleted_time).filter_by(run_uuid=cell.run_id).first()
    if there:
        _clear(session, cell)
    life = dict(zip(("lifecycle_stage", "deleted_time"), there or (ACTIVE, None), strict=True))
    made = [_run(run, int(experiment_id), artifacts, user) | life for run in runs]
    _put(session, SqlRun, made, "start_time", "end_time")
    _put(session, SqlTag, [row for run in runs for row in _named(run, {"mlflow.runName": run.name})])
    _put(session, SqlTag, [row for run in runs for row in _named(run, run.tags | {"mlflow.user": user})], "value")
    _put(session, SqlParam, [row for run in runs for row in _named(run, run.parameters)], "value")
    _put(session, SqlMetric, [row for run in runs for row in _points(run)])
    _put(session, SqlLatestMetric, [row for run in runs for row in {row["key"]: row for row in _points(run)}.values()])
    for data in cell.data:
        _put_input(session, int(experiment_id), cell, data)


def _put(session: Any, table: Any, rows: list[dict[str, Any]], *changing: str) -> None:
    """Insert rows; of those that are there, change some columns."""
    if not rows:
        return
    statement = insert(table.__table__)
    if changing:
        new = {name: statement.excluded[name] for name in changing}
        statement = statement.on_conflict_do_update(index_elements=list(table.__table__.primary_key), set_=new)
    session.execute(statement if changing else statement.on_conflict_do_nothing(), rows)


def _clear(session: Any, cell: Run) -> None:
    """Take away what a cell's runs no longer say."""
    children = {run for run, _ in _replicates(session).filter(SqlTag.value == cell.run_id)}
    kept = {child.run_id for child in cell.children}
    _delete(session, sorted(children - kept), SqlTag, SqlParam, SqlMetric, SqlLatestMetric, SqlRun)
    _delete(session, [cell.run_id, *sorted(children & kept)], SqlMetric, SqlLatestMetric)
    inputs = [one for (one,) in session.query(SqlInput.input_uuid).filter_by(destination_id=cell.run_id)]
    for table in (SqlInputTag, SqlInput):
        session.query(table).filter(table.input_uuid.in_(inputs)).delete(synchronize_session=False)


def _delete(session: Any, runs: list[str], *tables: Any) -> None:
    for start in range(0, len(runs), AT_ONCE):
        for table in tables:
            some = session.query(table).filter(table.run_uuid.in_(runs[start : start + AT_ONCE]))
            some.delete(synchronize_session=False)


def _replicates(session: Any) -> Any:
    """Return a query of the runs of replicates, and of the cells that each belongs to."""
    ours = session.query(SqlTag.run_uuid).filter(SqlTag.key == KIND, SqlTag.value == "replicate")
    runs = session.query(SqlRun.run_uuid, SqlTag.value).join(SqlTag, SqlTag.run_uuid == SqlRun.run_uuid)
    return runs.filter(SqlTag.key == PARENT, SqlRun.run_uuid.in_(ours))


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


def _put_input(session: Any, experiment_id: int, run: Run, data: dict[str, str]) -> None:
    """Insert a data set of a run, which other runs of the experiment may have, and its being an input of the run."""
    known = session.query(SqlDataset.dataset_uuid).filter_by(
        experiment_id=experiment_id, name=data["name"], digest=data["digest"]
    )
    dataset = known.scalar()
    if dataset is None:
        dataset = uuid.uuid4().hex
        _put(
            session,
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
    _put(session, SqlInput, [edge])
    _put(session, SqlInputTag, [{"input_uuid": edge["input_uuid"], "name": "mlflow.data.context", "value": "training"}])


def cells(session: Any) -> dict[str, set[str]]:
    """Return the identities of the records that are in the runs of cells, by the runs' identifiers."""
    found = session.query(SqlTag.run_uuid, SqlTag.value).filter(SqlTag.key == RECORDS)
    return {run: set(identities.split()) for run, identities in found}


def with_records(session: Any) -> set[str]:
    """Return the identifiers of the experiments that have cells with records."""
    runs = session.query(SqlRun.experiment_id).join(SqlTag).filter(SqlTag.key == RECORDS, SqlTag.value != "")
    return {str(experiment_id) for (experiment_id,) in runs.distinct()}


def at_stage(session: Any, experiment_id: str, stage: Stage, *, deleted: bool) -> set[str]:
    """Return the identifiers of the runs of an experiment's cells in a stage, with those of deleted ones or without."""
    runs = session.query(SqlRun.run_uuid).filter_by(experiment_id=int(experiment_id))
    if not deleted:
        runs = runs.filter_by(lifecycle_stage=ACTIVE)
    return {run for (run,) in runs.join(SqlTag).filter(SqlTag.key == STAGE, SqlTag.value == stage)}


def cores(session: Any, experiment_id: str) -> list[str]:
    """Return the digests of the cores that trained an experiment's cells, that of the latest cell first."""
    runs = session.query(SqlTag.value).join(SqlRun, SqlRun.run_uuid == SqlTag.run_uuid)
    own = runs.filter(SqlTag.key == CODE, SqlRun.experiment_id == int(experiment_id), SqlRun.lifecycle_stage == ACTIVE)
    return [core for (core,) in own.group_by(SqlTag.value).order_by(func.max(SqlRun.start_time).desc())]


def forget(session: Any, experiments: list[str]) -> None:
    """Let the runs of the cells of experiments have no records."""
    runs = session.query(SqlRun.run_uuid).filter(SqlRun.experiment_id.in_(map(int, experiments)))
    tags = session.query(SqlTag).filter(SqlTag.key == RECORDS, SqlTag.run_uuid.in_(runs))
    tags.update({"value": ""}, synchronize_session=False)


def replicates_of(session: Any, run: str) -> int:
    """Return how many replicates the run of a cell has; none if it is not there."""
    found = session.get(SqlParam, ("replicates", run))
    return int(found.value) if found else 0


def count_replicates(session: Any, experiment_id: str) -> Counter[Stage]:
    """Return how many replicates the cells of an experiment have in each stage."""
    cells = session.query(SqlTag.value, SqlParam.value).join(SqlParam, SqlParam.run_uuid == SqlTag.run_uuid)
    cells = cells.join(SqlRun, SqlRun.run_uuid == SqlTag.run_uuid).filter(
        SqlRun.experiment_id == int(experiment_id), SqlTag.key == STAGE, SqlParam.key == "replicates"
    )
    found: Counter[Stage] = Counter()
    for stage, replicates in cells:
        found[stage] += int(replicates)
    return found


def delete_replicates(session: Any, experiment_id: str) -> None:
    """Take the runs of replicates out of an experiment."""
    own = _replicates(session).filter(SqlRun.experiment_id == int(experiment_id))
    _delete(session, [run for run, _ in own], SqlTag, SqlParam, SqlMetric, SqlLatestMetric, SqlRun)


def restore(session: Any) -> None:
    """Bring the runs back that were deleted in MLflow's pages, those of ours."""
    ours = session.query(SqlTag.run_uuid).filter(SqlTag.key == KIND)
    deleted = session.query(SqlRun).filter(SqlRun.lifecycle_stage == DELETED, SqlRun.run_uuid.in_(ours))
    deleted.update({"lifecycle_stage": ACTIVE, "deleted_time": None}, synchronize_session=False)
