"""Records with chosen outcomes, to see what is made of them."""

import numpy as np

from circlemlp.config import QuarterCircle
from circlemlp.core.initialisation import initialise
from circlemlp.core.parameters import Layout
from circlemlp.store.datafile import generate
from circlemlp.store.records import Record

DATA = QuarterCircle(
    shape="quarter_circle", file="any.npz", n_train=40, n_validation=40, radius=1.0, label_noise=0.0, seed=2024
)
DATASET = generate(DATA)
EPOCHS = 6


def made_up(hidden, rate, losses, accuracies=None, activation="relu", **volatile):
    """Return the record of a cell whose replicates end with these losses; None: it diverged after epoch 2."""
    accuracies = accuracies or [None if loss is None else 0.97 for loss in losses]
    curves = np.array([np.linspace(0.7, np.nan if loss is None else loss, EPOCHS + 1) for loss in losses])
    diverged_at = np.array([3 if loss is None else -1 for loss in losses])
    for row in np.flatnonzero(diverged_at > 0):
        curves[row] = np.r_[np.full(3, 0.7), np.full(EPOCHS - 2, np.nan)]
    layout = Layout.of(hidden)
    return Record(
        ingredients={
            "config": {
                "data": DATA.model_dump(exclude={"file"}),
                "model": {"hidden_layer_sizes": list(hidden), "activation": activation},
                "optimizer": {"name": "adam", "learning_rate": rate, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
                "schedule": {"decay": "constant", "warmup_fraction": 0.0, "final_fraction": 1.0},
                "early_stopping": {"patience": None, "min_delta": 0.0},
                "training": {
                    "epochs": EPOCHS,
                    "batch_size": None,
                    "dtype": "float32",
                    "replicates": len(losses),
                    "seed": 0,
                },
            },
            "data": DATASET.digest(),
            "code": "c" * 64,
            "numerics": {
                "mode": "portable",
                "machine": "x86_64",
                "numpy": "2.4.6",
                "simd": ["X86_V2", "X86_V3"],
                "blas": [{"internal_api": "openblas", "version": "0", "architecture": "Haswell", "num_threads": 1}],
            },
        },
        summary={
            "n_parameters": layout.n_parameters,
            "training_loss": losses,
            "validation_loss": losses,
            "validation_accuracy": accuracies,
            "diverged_at": [None if loss is not None else 3 for loss in losses],
            "stopped_at": [None] * len(losses),
        },
        arrays={
            "parameters": initialise(layout, seed=0, replicates=range(len(losses)), dtype="float32"),
            "training_loss": curves,
            "validation_loss": curves,
            "validation_accuracy": np.where(np.isnan(curves), np.nan, 0.97),
            "diverged_at": diverged_at,
            "stopped_at": np.full(len(losses), -1),
        },
        volatile=volatile,
    )


GRID = [
    made_up((4,), 0.1, [0.30, 0.31, 0.33]),
    made_up((4,), 0.01, [0.40, 0.42, 0.41]),
    made_up((6, 3), 0.1, [0.20, None, 0.21]),
    made_up((6, 3), 0.01, [0.25, 0.35, 0.30]),
    made_up((6, 3), 0.03, [0.24, 0.26, 0.25]),
]
"""Two architectures; the lowest loss of the second belongs to a cell with a diverged replicate."""
