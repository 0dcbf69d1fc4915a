"""Time a full-batch training epoch beside others: python benchmarks/epoch.py

The same work for all: float32 unless said otherwise, 5000 training points, one Adam step, no validation.
Every row is measured in one process on one pinned core with one BLAS thread, in turns, so that what else
the machine does falls on all of them alike. Ratios are what to read; times change from machine to machine.
"""

import argparse
import os
import runpy
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from circlemlp import numerics

ARCHITECTURES = ((64,), (128,), (64, 32), (128, 64))
ROUNDS, EPOCHS, SKLEARN_START = 9, 30, 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numerics", choices=("portable", "native"), default="portable")
    mode = parser.parse_args().numerics
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    numerics.pin(mode)
    environment = numerics.read_back(mode)
    print(f"numerics={mode}: BLAS {environment['blas']}, SIMD {environment['simd'][-1]}")
    print(f"{'architecture':12}  {'who':28}  {'median ms':>9}  {'spread':>13}  {'ratio to the core':>17}")
    for hidden_layer_sizes in ARCHITECTURES:
        measure(hidden_layer_sizes)
    return 0


def measure(hidden_layer_sizes: tuple[int, ...]) -> None:
    """Print a row for everyone on one architecture."""
    from circlemlp.cells import architecture

    timers = contestants(hidden_layer_sizes)
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(ROUNDS):
        for name, timer in timers.items():
            times[name].append(1000 * timer())
    core = statistics.median(times["this core"])
    for name, values in times.items():
        median = statistics.median(values)
        spread = f"{min(values):.2f}-{max(values):.2f}"
        label = architecture(list(hidden_layer_sizes))
        print(f"{label:12}  {name:28}  {median:9.2f}  {spread:>13}  {median / core:17.2f}", flush=True)


def contestants(hidden_layer_sizes: tuple[int, ...]) -> dict[str, Callable[[], float]]:
    """Return who is measured, each as a function that gives the seconds of one epoch."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    from circlemlp.core.adam import AdamOptions
    from circlemlp.core.data import Boundary, sample_dataset
    from circlemlp.core.initialisation import initialise
    from circlemlp.core.parameters import Layout
    from circlemlp.core.training import Trainer

    plain_train = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "plain.py"))["train"]

    data = sample_dataset(Boundary(0, 1, 0, 1), n_train=5000, n_validation=2000, label_noise=0, seed=2024)
    trainer = Trainer(
        data,
        hidden_layer_sizes=hidden_layer_sizes,
        adam=AdamOptions(),
        batch_size=None,
        dtype="float32",
        replicates=range(1),
        seed=0,
    )
    loss, accuracy = np.empty(1), np.empty(1)

    def core(validate: bool) -> float:
        start = time.perf_counter()
        for _ in range(EPOCHS):
            trainer.epoch()
            if validate:
                trainer.validate(loss, accuracy)
        return (time.perf_counter() - start) / EPOCHS

    def sklearn(dtype: str) -> float:
        x = data.x_train.astype(dtype)

        def fit(epochs: int) -> float:
            model = MLPClassifier(
                hidden_layer_sizes, batch_size=5000, max_iter=epochs, tol=0, n_iter_no_change=10**6, alpha=0
            )
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it has not converged, and is not meant to
                model.fit(x, data.y_train)
            return time.perf_counter() - start

        return (fit(EPOCHS + SKLEARN_START) - fit(SKLEARN_START)) / EPOCHS

    layout = Layout.of(hidden_layer_sizes)
    flat = initialise(layout, seed=0, replicates=[0], dtype="float64")[0]

    def plain_numpy() -> float:
        start = time.perf_counter()
        plain_train(flat, layout.layer_sizes, data.x_train, data.y_train, epochs=EPOCHS, learning_rate=0.001)
        return (time.perf_counter() - start) / EPOCHS

    return {
        "this core": lambda: core(False),
        "this core, and validation": lambda: core(True),
        "scikit-learn": lambda: sklearn("float32"),
        "scikit-learn, float64": lambda: sklearn("float64"),
        "plain NumPy, float64": plain_numpy,
    }


if __name__ == "__main__":
    sys.exit(main())
