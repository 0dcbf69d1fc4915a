"""A network as MLflow loads it: the file of its models-from-code, which is copied into the model and runs there.

What loads a model has loaded NumPy before, with any kernels, on which last bits depend. So a process of the model's own
answers, which is in ``answering.py`` and ends with the one that loaded the model.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel


class Probabilities(PythonModel):  # type: ignore[misc] # MLflow's types are not followed
    """The probabilities p(y = 1 | x1, x2) of a network, to the last bit."""

    def load_context(self, context: Any) -> None:
        """Start the process that answers."""
        self._script = Path(context.artifacts["network"]) / "answering.py"
        self._asking = threading.Lock()
        self._start()

    def predict(
        self,
        context: Any,  # noqa: ARG002, as MLflow hands it over
        model_input: pd.DataFrame,
        params: Any = None,  # noqa: ARG002, as MLflow hands it over
    ) -> np.ndarray:
        """Return the probabilities of points.

        Parameters
        ----------
        context, params
            Not used.
        model_input : DataFrame
            With columns x1 and x2.

        Returns
        -------
        ndarray of shape (n,)
            float32 or float64, the type of the network.

        Raises
        ------
        MlflowException
            If a coordinate is not a finite number.
        """
        x = np.ascontiguousarray(model_input, np.float64)
        wrong = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if wrong.size:
            raise MlflowException(
                f"x1 and x2 have to be finite numbers; in row {wrong[0]} they are {x[wrong[0]].tolist()}", BAD_REQUEST
            )
        with self._asking:
            try:
                return self._answer(x)
            except (EOFError, BrokenPipeError):  # somebody has ended the process
                self._process.communicate()
                self._start()
                return self._answer(x)

    def _start(self) -> None:
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONSAFEPATH": ""}  # what lies beside the script comes before what is installed
        self._process = subprocess.Popen([sys.executable, self._script], stdin=pipe, stdout=pipe, env=environment)
        assert self._process.stdin
        assert self._process.stdout
        self._questions, self._answers = self._process.stdin, self._process.stdout
        said = self._answers.readline().decode().strip()
        if said not in ("float32", "float64"):
            raise MlflowException(f"the network does not answer here: {said or 'its process has ended'}")
        self._dtype = np.dtype(said)

    def _answer(self, x: np.ndarray) -> np.ndarray:
        self._questions.write(len(x).to_bytes(8) + x.tobytes())
        self._questions.flush()
        answer = self._answers.read(len(x) * self._dtype.itemsize)
        if len(answer) < len(x) * self._dtype.itemsize:
            raise EOFError
        return np.frombuffer(answer, self._dtype, len(x))


set_model(Probabilities())
