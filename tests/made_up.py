"""Records with chosen outcomes, to see what is made of them."""

import copy
import dataclasses
from functools import cache

import numpy as np

from circlemlp.config import QuarterCircle, Report
from circlemlp.core.data import sample_dataset
from circlemlp.core.initialisation import initialise
from circlemlp.core.parameters import Layout
from circlemlp.core.training import History
from circlemlp.report.tables import Runs
from circlemlp.store.records import Record, Volatile

DATA = QuarterCircle(
    shape="quarter_circle",
    radius=1.0,
    file="data/made_up.npz",
    draws="fresh",
    n_train=40,
    n_validation=100,
    label_noise=0.0,
    seed=1,
)
EPOCHS = 6
SETTINGS = Report(bad_run_error=0.03, practically_equal=0.1)
RUNS = Runs(5000, {"tuning": "mine", "confirmation": "mine"})


@cache
def digest(data, draws, first):
    return sample_dataset(data.model_dump(), draws, first).digest()


def made_up(hidden, rate, losses, accuracies=None, activation="relu", seed=0, draws="fresh", first=0, **volatile):
    """Return the record of a cell whose replicates end with these losses; None: it diverged after epoch 2."""
    data = DATA.model_copy(update={"draws": draws})
    accuracies = accuracies or [None if loss is None else 0.97 for loss in losses]
    history = History.empty(len(losses), EPOCHS)
    for row, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        if loss is None:
            loss, accuracy, history.diverged_at[row] = 0.7, 0.5, 3
        history.training_loss[row] = history.validation_loss[row] = np.linspace(0.7, loss, EPOCHS + 1)
        history.validation_accuracy[row] = accuracy
    for curve in history.curves:
        curve[history.diverged_at >= 0, 3:] = np.nan
    return Record(
        ingredients={
            "config": {
                "data": data.model_dump(),
                "model": {"hidden_layer_sizes": list(hidden), "activation": activation, "initialisation": "he"},
                "optimizer": {
                    "name": "adam",
                    "learning_rate": rate,
                    "beta_1": 0.9,
                    "beta_2": 0.999,
                    "epsilon": 1e-8,
                    "epsilon_hat": False,
                },
                "schedule": {"decay": "constant", "warmup_fraction": 0.0, "final_fraction": 1.0},
                "early_stopping": {"patience": None, "min_delta": 0.0},
                "training": {
                    "epochs": EPOCHS,
                    "batch_size": None,
                    "dtype": "float32",
                    "replicates": len(losses),
                    "first_replicate": first,
                    "seed": seed,
                },
            },
            "data": digest(data, len(losses), first),
            "code": "c" * 64,
            "numerics": {
                "mode": "portable",
                "machine": "x86_64",
                "numpy": "2.4.6",
                "simd": ["X86_V2", "X86_V3"],
                "blas": [{"internal_api": "openblas", "version": "0", "architecture": "Haswell", "num_threads": 1}],
                "elementary": "e" * 64,
            },
        },
        parameters=initialise(Layout.of(hidden), seed=0, replicates=range(first, first + len(losses)), dtype="float32"),
        history=history,
        true_error=np.array([np.nan if loss is None else loss / 10 for loss in losses]),
        volatile=Volatile(**volatile),
    )


def with_losses(record, losses):
    """Return a record with other curves of validation loss, shape (replicates, epochs + 1)."""
    ingredients = copy.deepcopy(record.ingredients)
    ingredients["config"]["training"]["epochs"] = losses.shape[1] - 1
    history = History.empty(len(losses), losses.shape[1] - 1)
    history.training_loss[:] = history.validation_loss[:] = losses
    history.validation_accuracy[:] = record.history.validation_accuracy[:, -1:]
    return dataclasses.replace(record, ingredients=ingredients, history=history)


GRID = [
    made_up((4,), 0.1, [0.30, 0.31, 0.33]),
    made_up((4,), 0.01, [0.40, 0.42, 0.41]),
    made_up((6, 3), 0.1, [0.20, None, 0.21]),
    made_up((6, 3), 0.01, [0.25, 0.35, 0.30]),
    made_up((6, 3), 0.03, [0.24, 0.26, 0.25]),
]
"""Two architectures; the lowest loss of the second belongs to a cell with a diverged replicate."""
