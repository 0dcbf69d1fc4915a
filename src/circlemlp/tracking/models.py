"""The network that an experiment recommends, as a model that MLflow registers and serves.

Each experiment with a confirmation has one. Of the cell with the lowest estimate of the true error there, it is the
network with the median true error: a typical one, and not the luckiest. It is a logged model of that cell's run and a
version of the registered model ``circlemlp``. The alias ``champion`` belongs to the version with the lowest estimate.

A model is made once. One that a person deletes in MLflow's pages is made again by ``restore`` alone, and an alias that
they move stays where it is until the next version comes.
"""

import json
import shutil
import time
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersionTag
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

from circlemlp.config import Report
from circlemlp.project import SRC
from circlemlp.report.boundary import median_replicate
from circlemlp.report.cell_results import CellResult, by_architecture
from circlemlp.store import disk
from circlemlp.store.identity import sha256
from circlemlp.store.npz import pack
from circlemlp.store.records import Record, Store
from circlemlp.store.results import read
from circlemlp.store.stages import run_id
from circlemlp.tracking import answering
from circlemlp.tracking.rows import ACTIVE

NAME, CHAMPION = "circlemlp", "champion"
CONFIRMATION, VERSIONS = "circlemlp.confirmation", "mlflow.modelVersions"
"""Tags of a logged model: which records it is chosen from, and MLflow's own of one that is registered."""
EXPERIMENT, TRUE_ERROR = "experiment", "true_error"
"""Tags of a version, short ones, as MLflow cuts them: of which experiment it is, and the estimate of its cell."""

ANSWERING = ("__init__.py", "errors.py", "pinning.py", "numerics.py", "core/*.py")
"""What of this library answers for a network."""
SERVED = Path(__file__).with_name("served_model.py")
POINTS = pd.DataFrame({"x1": [0.25, 0.5, 0.75], "x2": [0.25, 0.5, 0.75]})

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
class Recommended:
    """The network that an experiment recommends.

    Attributes
    ----------
    result : CellResult
        What the replicates that judge its cell came to.
    as_low : list of str
        Other architectures with the very same estimate.
    """

    experiment: str
    result: CellResult
    as_low: list[str]

    @classmethod
    def of(cls, experiment: str, results: Sequence[CellResult]) -> "Recommended | None":
        """Recommend one of the cells of a confirmation; none where errors are not known, or too many diverged."""
        possible = [one for one in results if not one.unknown and 4 * one.diverged <= one.replicates]
        if not possible:
            return None
        lowest = min(possible, key=lambda one: one.error.estimate)
        as_low = [
            one.architecture for one in possible if one is not lowest and one.error.estimate == lowest.error.estimate
        ]
        return cls(experiment, lowest, as_low)

    @property
    def row(self) -> int:
        """Which of the replicates it is."""
        return median_replicate(self.result.trained)

    @property
    def replicate(self) -> int:
        """The number of the replicate."""
        return int(self.result.trained.numbers[self.row])

    @property
    def record(self) -> Record:
        """The record that has it."""
        return next(one for one in self.result.trained.records if self.replicate in one.config.training.numbers)

    @property
    def metrics(self) -> dict[str, float]:
        """What it came to itself."""
        trained, row = self.result.trained, self.row
        curves = {name: getattr(trained.history, name) for name in ("validation_loss", "validation_accuracy")}
        return {"true_error": float(trained.true_error[row])} | {
            name: float(curve[row, -1]) for name, curve in curves.items()
        }

    @property
    def parameters(self) -> dict[str, str]:
        """What tells it from others."""
        return {
            "architecture": self.result.architecture,
            "optimizer.learning_rate": f"{self.result.learning_rate:g}",
            "replicate": str(self.replicate),
        }

    @property
    def description(self) -> str:
        """What is said beside it, in Markdown."""
        result, error = self.result, self.result.error
        interval = f" [{error.low:.3g}, {error.high:.3g}]" if error.exists else ""
        same = f", and so has {', '.join(self.as_low)}" if self.as_low else ""
        middle = " (the lower one of two)" if result.replicates % 2 == 0 else ""
        return (
            f"{result.architecture} at a learning rate of {result.learning_rate:g}, replicate {self.replicate}: of the "
            f"{result.replicates} networks of its cell the one with the median true error{middle}, "
            f"**{self.metrics['true_error']:.3g}**.\n\nIn the confirmation of {self.experiment} its cell has the "
            f"lowest estimate of the true error{same}: {error.estimate:.3g}{interval}. The report says whether it is "
            "lower than the others'."
        )

    def save(self, folder: Path, *, model_id: str, run: str) -> None:
        """Write the model into a folder that is not there yet."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what MLflow does itself
            model = self._save(folder, model_id, run)
        network = folder / "artifacts" / "network"
        self._save_network(network)
        flavor = model.flavors["python_function"]
        flavor["model_code_path"] = SERVED.name  # instead of where it is on this machine
        flavor["artifacts"] = {"network": {"path": network.relative_to(folder).as_posix(), "uri": network.name}}
        model.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        model.save(folder / "MLmodel")

    def _save(self, folder: Path, model_id: str, run: str) -> Any:
        """Write what MLflow writes; it takes half a second to import that."""
        from mlflow.models import Model, ModelSignature
        from mlflow.pyfunc import save_model
        from mlflow.types import ColSpec, Schema, TensorSpec

        config, numerics = self.record.config, self.record.numerics
        packages = {name: version(name) for name in ("mlflow", "threadpoolctl")} | {"numpy": numerics.numpy}
        model = Model(model_id=model_id, run_id=run)
        save_model(
            folder,
            python_model=SERVED,
            mlflow_model=model,
            signature=ModelSignature(
                Schema([ColSpec("double", name) for name in POINTS.columns]),
                Schema([TensorSpec(np.dtype(config.training.dtype), (-1,))]),
            ),
            input_example=POINTS,
            pip_requirements=[f"{name}=={wanted}" for name, wanted in packages.items()],
        )
        return model

    def _save_network(self, folder: Path) -> None:
        """Write what ``answering.py`` needs, and the file itself."""
        config = self.record.config
        about = {
            "hidden_layer_sizes": config.model.hidden_layer_sizes,
            "activation": config.model.activation,
            "dtype": config.training.dtype,
            "numerics": self.record.ingredients["numerics"],
        }
        for source in (path for pattern in ANSWERING for path in (SRC / "circlemlp").glob(pattern)):
            copy = folder / source.relative_to(SRC)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
        shutil.copy(answering.__file__, folder)
        (folder / answering.ABOUT).write_text(json.dumps(about, indent=2) + "\n")
        (folder / answering.PARAMETERS).write_bytes(
            pack({"parameters": self.result.trained.parameters[self.row : self.row + 1]})
        )


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
        """Have the model that an experiment's confirmation recommends, unless there is or was one.

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
            If the results are damaged, or their cells cannot be compared.
        """
        records = sha256(" ".join(sorted(Store(confirmation / "records").identities())))
        model_id = f"m-{sha256(f'{name}/{records}')[:32]}"
        with self._session() as session:
            known = session.get(SqlLoggedModel, model_id) is not None
            registered = session.get(SqlLoggedModelTag, (model_id, VERSIONS)) is not None
        if known and registered:
            return
        results = [one for group in by_architecture(read(confirmation), self._report) for one in group]
        recommended = Recommended.of(name, results)
        if recommended is None:
            return
        run = run_id(name, "confirmation", recommended.result.trained)
        location = f"{experiment.artifact_location}/models/{model_id}/artifacts"
        if not known:
            self._write(
                self._artifacts / experiment.experiment_id / "models" / model_id / "artifacts",
                recommended,
                model_id=model_id,
                run=run,
            )
            with self._session() as session:
                session.add_all(
                    _rows(session, int(experiment.experiment_id), recommended, model_id, run, location, records)
                )
        self._register(recommended, model_id, run, location)

    def restore(self) -> None:
        """Bring the logged models back that were deleted; what is not registered any more will be again."""
        registered = [one.source for one in Registry(self._uri).search_model_versions(f"name = '{NAME}'")]
        with self._session() as session:
            ours = session.query(SqlLoggedModelTag.model_id).filter_by(tag_key=CONFIRMATION)
            models = session.query(SqlLoggedModel).filter(SqlLoggedModel.model_id.in_(ours))
            models.update({"lifecycle_stage": ACTIVE}, synchronize_session=False)
            for model in models.filter(SqlLoggedModel.artifact_location.not_in(registered)):
                session.query(SqlLoggedModelTag).filter_by(model_id=model.model_id, tag_key=VERSIONS).delete()

    def _session(self) -> Any:
        return self._store.ManagedSessionMaker(read_only=False)

    @staticmethod
    def _write(folder: Path, recommended: Recommended, *, model_id: str, run: str) -> None:
        """Write a model in place of what an interrupted writer left there."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        disk.clear_abandoned(folder.parent)
        with disk.aside(folder.parent) as aside:
            recommended.save(aside / folder.name, model_id=model_id, run=run)
            shutil.rmtree(folder, ignore_errors=True)
            (aside / folder.name).rename(folder)

    def _register(self, recommended: Recommended, model_id: str, run: str, location: str) -> None:
        """Make a version of the registered model, and see whose the alias is."""
        registry = Registry(self._uri)
        if not registry.search_registered_models(f"name = '{NAME}'"):
            registry.create_registered_model(NAME, description=ABOUT)
        tags = {EXPERIMENT: recommended.experiment, TRUE_ERROR: repr(recommended.result.error.estimate)}
        made = registry.create_model_version(
            NAME,
            location,
            run,
            tags=[ModelVersionTag(*tag) for tag in tags.items()],
            description=recommended.description,
        )
        self._store.set_model_versions_tags(NAME, made.version, model_id)
        versions = registry.search_model_versions(f"name = '{NAME}'")
        newest = {
            one.tags[EXPERIMENT]: one
            for one in sorted(versions, key=lambda one: int(one.version))
            if EXPERIMENT in one.tags
        }
        champion = min(newest.values(), key=lambda one: float(one.tags[TRUE_ERROR]))
        registry.set_registered_model_alias(NAME, CHAMPION, champion.version)


def _rows(
    session: Any, experiment_id: int, recommended: Recommended, model_id: str, run: str, location: str, records: str
) -> list[Any]:
    """Return a logged model as rows of MLflow's tables: its interface would give it an identifier of chance."""
    now_ms = round(time.time() * 1000)
    shape, digest = recommended.record.config.data.shape, recommended.record.ingredients["data"][:12]
    dataset = (
        session.query(SqlDataset.dataset_uuid)
        .filter_by(experiment_id=experiment_id, name=shape, digest=digest)
        .scalar()
    )
    tags = {
        CONFIRMATION: records,
        "mlflow.note.content": recommended.description,
        "mlflow.user": session.query(SqlRun.user_id).filter_by(run_uuid=run).scalar(),
    }
    of_model = {"model_id": model_id, "experiment_id": experiment_id}
    return [
        SqlLoggedModel(
            **of_model,
            name=recommended.result.architecture,
            artifact_location=location,
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
            destination_id=model_id,
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
                dataset_name=shape,
                dataset_digest=digest,
            )
            for key, value in recommended.metrics.items()
        ),
    ]
