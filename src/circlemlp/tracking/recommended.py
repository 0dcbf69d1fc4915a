"""The network that an experiment recommends, and the folder that MLflow loads it from.

Of the cells that judge in the report, where each architecture has its chosen learning rate, one has the lowest estimate
of the true error. Of that cell it is the network with the median true error: a typical one, and not the luckiest.
"""

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from circlemlp.errors import UserError
from circlemlp.project import SRC
from circlemlp.report import regimes
from circlemlp.report.boundary import median_replicate
from circlemlp.report.cell_results import CellResult
from circlemlp.store.identity import digest_of
from circlemlp.store.npz import pack
from circlemlp.store.records import Record
from circlemlp.tracking import answering

ANSWERING = ("__init__.py", "errors.py", "pinning.py", "numerics.py", "core/*.py")
"""What of this library answers for a network."""
SERVED = Path(__file__).with_name("served_model.py")
POINTS = pd.DataFrame({"x1": [0.25, 0.5, 0.75], "x2": [0.25, 0.5, 0.75]})


def check_core(core: Path, record: Record, experiment: str) -> None:
    """Refuse a core, in whichever folder, that is not the one that trained a record of an experiment.

    Raises
    ------
    UserError
    """
    if digest_of(core) != record.ingredients["code"]:
        raise UserError(
            f"the model of {experiment}, whose networks were trained with another src/circlemlp/core than is here now; "
            "put that back, or make the results again"
        )


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
    def of(cls, experiment: str, judging: Sequence[CellResult]) -> "Recommended | None":
        """Recommend one of the cells that judge; none where errors are not known, or too many diverged."""
        possible = [one for one in judging if not one.unknown and not regimes.diverged(one.trained)]
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
            f"**{self.metrics['true_error']:.3g}**.\n\nAmong the architectures of {self.experiment}, each at its "
            f"chosen learning rate, its cell has the lowest estimate of the true error{same}: "
            f"{error.estimate:.3g}{interval}. The report says whether it is lower than the others'."
        )

    def save(self, folder: Path, *, model_id: str, run: str) -> None:
        """Write the model into an empty folder.

        Raises
        ------
        UserError
            If the core that it would answer with is not the one that trained it.
        """
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
        check_core(folder / "circlemlp" / "core", self.record, self.experiment)
        shutil.copy(answering.__file__, folder)
        (folder / answering.ABOUT).write_text(json.dumps(about, indent=2) + "\n")
        (folder / answering.PARAMETERS).write_bytes(
            pack({"parameters": self.result.trained.parameters[self.row : self.row + 1]})
        )
