"""The networks that experiments recommend, as models that MLflow registers and serves.

Each experiment with a confirmation has one. It is a logged model of its cell's run and a version of the registered
model ``circlemlp``. Of the newest versions of all experiments, the one whose cell has the lowest estimate of the true
error has the alias ``champion``.

A model is made once. What a person deletes of that in MLflow's pages comes back by ``restore`` alone, and an alias that
they move stays where it is until there is a new version.
"""

import contextlib
import json
import math
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.dbmodels.models import (
    SqlDataset,
    SqlInput,
    SqlLoggedModel,
    SqlLoggedModelMetric,
    SqlLoggedModelParam,
    SqlLoggedModelTag,
    SqlRun,
)
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

from circlemlp.config import Report
from circlemlp.report.comparison import best_rates
from circlemlp.store import disk
from circlemlp.store.identity import CORE, sha256
from circlemlp.store.records import DamagedRecord, Store
from circlemlp.store.results import CONFIRM, read
from circlemlp.store.stages import run_id
from circlemlp.tracking.database import writing
from circlemlp.tracking.recommended import Recommended, check_core
from circlemlp.tracking.rows import ACTIVE

NAME, CHAMPION = "circlemlp", "champion"
OF_ALIAS = {"workspace": DEFAULT_WORKSPACE_NAME, "name": NAME, "alias": CHAMPION}
CONFIRMATION, VERSIONS = "circlemlp.confirmation", "mlflow.modelVersions"
"""Tags of a logged model: which records it is chosen from, and MLflow's own of one that is registered."""
EXPERIMENT, TRUE_ERROR = "experiment", "true_error"
"""Tags of a version, short ones, as MLflow cuts them: of which experiment it is, and the estimate of its cell."""

ABOUT = f"""\
The networks that experiments recommend: the probability p(y = 1 | x1, x2) of a point, to the last bit. Each version is
of one experiment; `{CHAMPION}` is the one whose cell has the lowest true error. While `make ui` runs:

```
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
mlflow models serve --env-manager local --port 5001 \\
    --model-uri models:/{NAME}@{CHAMPION}
curl http://127.0.0.1:5001/invocations \\
    --header 'Content-Type: application/json' \\
    --data '{{"inputs": {{"x1": [0.5], "x2": [0.5]}}}}'
```
"""


@dataclass(frozen=True)
class _Logged:
    """A logged model.

    Attributes
    ----------
    recommended : Recommended
    experiment : mlflow.entities.Experiment
    model_id : str
    records : str
        Which records it is chosen from.
    """

    recommended: Recommended
    experiment: Any
    model_id: str
    records: str

    @property
    def run(self) -> str:
        """The run of its cell."""
        return run_id(self.recommended.experiment, "confirmation", self.recommended.result.trained)

    @property
    def location(self) -> str:
        """Where MLflow finds it."""
        return f"{self.experiment.artifact_location}/{_folder(self.model_id)}"


class Models:
    """The models in an index.

    Parameters
    ----------
    store : SqlAlchemyStore
        MLflow's, of the index.
    uri : str
        Where its database is.
    artifacts : Path
        Where its artifacts are.
    report : Report
    """

    def __init__(self, store: Any, uri: str, artifacts: Path, report: Report) -> None:
        self._store, self._uri, self._artifacts, self._report = store, uri, artifacts, report

    def recommend(self, name: str, experiment: Any, confirmation: Path) -> None:
        """Have the model that an experiment's confirmation recommends, and its files; what a person deleted is left so.

        Parameters
        ----------
        name : str
            What the experiment was made as.
        experiment : mlflow.entities.Experiment
        confirmation : Path
            A folder of results.

        Raises
        ------
        UserError
            If the results are damaged or missing, those of the tuning too, or their cells cannot be compared, or the
            core is not the one that trained them.
        """
        store = Store(confirmation / "records")
        identities = store.identities()
        records = sha256(" ".join(identities))
        model_id = f"m-{sha256(f'{name}/{records}')[:32]}"
        with self._session() as session:
            known = session.get(SqlLoggedModel, model_id) is not None
            registered = session.get(SqlLoggedModelTag, (model_id, VERSIONS)) is not None
        saved = (self._artifacts / experiment.experiment_id / _folder(model_id)).is_dir()
        if registered and saved:
            return
        if not saved:
            with contextlib.suppress(LookupError, DamagedRecord):  # reading them all says what is wrong with them
                check_core(CORE, store.load(identities[0]), name)
        best = best_rates(read(confirmation.with_name(name)), self._report, read(confirmation, CONFIRM))
        recommended = Recommended.of(name, [one.judged for one in best if one.exists])
        if recommended is None:
            return
        logged = _Logged(recommended, experiment, model_id, records)
        with writing():
            if not saved:
                self._save(logged)
            if not known:
                with self._session() as session:
                    session.add_all(_rows(session, logged))
            if not registered:
                self._register(logged)

    def restore(self) -> None:
        """Bring the logged models and the alias back that were deleted; what is not registered any more will be."""
        versions = list(Registry(self._uri).search_model_versions(f"name = '{NAME}'"))
        registered = [one.source for one in versions]
        with self._session() as session:
            if versions and session.get(SqlRegisteredModelAlias, OF_ALIAS) is None:
                session.add(_champion(versions))
            ours = session.query(SqlLoggedModelTag.model_id).filter_by(tag_key=CONFIRMATION)
            models = session.query(SqlLoggedModel).filter(SqlLoggedModel.model_id.in_(ours))
            models.update({"lifecycle_stage": ACTIVE}, synchronize_session=False)
            for model in models.filter(SqlLoggedModel.artifact_location.not_in(registered)):
                session.query(SqlLoggedModelTag).filter_by(model_id=model.model_id, tag_key=VERSIONS).delete()

    def _session(self) -> Any:
        return self._store.ManagedSessionMaker(read_only=False)

    def _save(self, logged: _Logged) -> None:
        folder = self._artifacts / logged.experiment.experiment_id / _folder(logged.model_id)
        with disk.replacing_folder(folder) as made:
            logged.recommended.save(made, model_id=logged.model_id, run=logged.run)

    def _register(self, logged: _Logged) -> None:
        """Make a version of the registered model, unless an interrupted writer has, and see whose the alias is."""
        registry, recommended = Registry(self._uri), logged.recommended
        if not registry.search_registered_models(f"name = '{NAME}'"):
            registry.create_registered_model(NAME, description=ABOUT)
        tags = {EXPERIMENT: recommended.experiment, TRUE_ERROR: repr(recommended.result.error.estimate)}
        versions = list(registry.search_model_versions(f"name = '{NAME}'"))
        made = next((one for one in versions if one.source == logged.location), None)
        if made is None:
            made = registry.create_model_version(
                NAME,
                logged.location,
                logged.run,
                tags=[ModelVersionTag(*tag) for tag in tags.items()],
                description=recommended.description,
            )
            versions.append(made)
        registered = json.dumps([{"name": NAME, "version": _number(made)}])
        of_model = {"model_id": logged.model_id, "experiment_id": int(logged.experiment.experiment_id)}
        with self._session() as session:  # both or none: an alias that a person moves afterwards stays where it is
            session.merge(_champion(versions))
            session.merge(SqlLoggedModelTag(**of_model, tag_key=VERSIONS, tag_value=registered))


def _folder(model_id: str) -> str:
    """Return the folder of a model, as MLflow names them, below the artifacts of its experiment."""
    return f"models/{model_id}/artifacts"


def _champion(versions: list[Any]) -> SqlRegisteredModelAlias:
    """Return the alias: of the newest versions, that with the lowest estimate has it."""
    newest = {one.tags.get(EXPERIMENT): one for one in sorted(versions, key=_number)}
    return SqlRegisteredModelAlias(**OF_ALIAS, version=_number(min(newest.values(), key=_estimate)))


def _number(version: Any) -> int:
    return int(version.version)


def _estimate(version: Any) -> float:
    """Return the true error that a version's tag says, which a person may have changed."""
    try:
        return float(version.tags[TRUE_ERROR])
    except (KeyError, ValueError):
        return math.inf


def _rows(session: Any, logged: _Logged) -> list[Any]:
    """Return a logged model as rows of MLflow's tables: its interface would give it an identifier of chance."""
    experiment_id, recommended, run = int(logged.experiment.experiment_id), logged.recommended, logged.run
    now_ms = round(time.time() * 1000)
    data = {
        "name": recommended.record.config.data.shape,
        "digest": recommended.record.ingredients["data"][:12],
    }
    dataset = session.query(SqlDataset.dataset_uuid).filter_by(experiment_id=experiment_id, **data).scalar()
    tags = {
        CONFIRMATION: logged.records,
        "mlflow.note.content": recommended.description,
        "mlflow.user": session.query(SqlRun.user_id).filter_by(run_uuid=run).scalar(),
    }
    of_model = {"model_id": logged.model_id, "experiment_id": experiment_id}
    return [
        SqlLoggedModel(
            **of_model,
            name=recommended.result.architecture,
            artifact_location=logged.location,
            creation_timestamp_ms=now_ms,
            last_updated_timestamp_ms=now_ms,
            status=LoggedModelStatus.READY.to_int(),
            lifecycle_stage=ACTIVE,
            source_run_id=run,
        ),
        SqlInput(
            input_uuid=uuid.uuid4().hex,
            source_type="RUN_OUTPUT",
            source_id=run,
            destination_type="MODEL_OUTPUT",
            destination_id=logged.model_id,
            step=0,
        ),
        *(SqlLoggedModelTag(**of_model, tag_key=key, tag_value=value) for key, value in tags.items()),
        *(
            SqlLoggedModelParam(**of_model, param_key=key, param_value=value)
            for key, value in recommended.parameters.items()
        ),
        *(
            SqlLoggedModelMetric(
                **of_model,
                metric_name=key,
                metric_timestamp_ms=now_ms,
                metric_step=0,
                metric_value=value,
                run_id=run,
                dataset_uuid=dataset,
                dataset_name=data["name"],
                dataset_digest=data["digest"],
            )
            for key, value in recommended.metrics.items()
        ),
    ]
