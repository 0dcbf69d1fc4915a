"""Do some cells of the experiment again with nothing of the library: python benchmarks/independent.py

The mathematics is that of tests/plain.py, in float64; points, initial weights, Adam, the error and its interval are
written here once more, and random numbers are NumPy's as they come. The networks are therefore other networks than
the experiment's, from the same recipe. Their errors should agree, as two samples do, with those that the report
prints, which alone are the library's.
"""

import math
import runpy
import time
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from circlemlp.config import Report
from circlemlp.report import words
from circlemlp.report.cell_results import CellResult, by_architecture
from circlemlp.store import results

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "results" / "architectures_by_learning_rate"
PLAIN = runpy.run_path(str(PROJECT / "tests" / "plain.py"))
SEED, REPLICATES, EPOCHS, N_TRAIN = 0, 10, 1000, 5000
ARCHITECTURES = ((2, 64, 1), (2, 128, 1), (2, 64, 32, 1), (2, 128, 64, 1))
LEARNING_RATES = (0.001, 0.01)
GRID, ROWS_AT_ONCE = 1000, 20
TRIMMED = 0.25

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate of the true error and the ends of its 95 % confidence interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3g} ({self.low:.3g} to {self.high:.3g})"


def main() -> None:
    reported = read_report(RESULTS)
    if not reported:
        print(f"{RESULTS.relative_to(PROJECT)} is not there, so there is nothing to compare with: make repro")
    print(f"{'':20} {'here':32} {'report':32} {'overlap':8} seconds", flush=True)
    for number, (layer_sizes, rate) in enumerate(product(ARCHITECTURES, LEARNING_RATES)):
        start = time.perf_counter()
        errors = [one_network((SEED, number, replicate), layer_sizes, rate) for replicate in range(REPLICATES)]
        here, name = location(np.log10(errors)), "-".join(map(str, layer_sizes))
        shown, overlap = "", ""
        if cell := reported.get((name, rate)):
            shown = words.score(cell, "error")
            overlap = "yes" if here.low <= cell.error.high and cell.error.low <= here.high else "no"
        seconds = time.perf_counter() - start
        print(f"{name:12} {rate:<7g} {here!s:32} {shown:32} {overlap:8} {seconds:.0f}", flush=True)


def one_network(seed: tuple[int, ...], layer_sizes: tuple[int, ...], learning_rate: float) -> float:
    """Return the error of a network that is trained on points of its own."""
    rng = np.random.default_rng(seed)
    x = rng.random((N_TRAIN, 2))
    theta = adam(he(rng, layer_sizes), layer_sizes, x, true_class(x), learning_rate)
    return grid_error(PLAIN["unflatten"](theta, layer_sizes))


def true_class(x: Floats) -> Floats:
    return (x[:, 0] ** 2 + x[:, 1] ** 2 < 1).astype(np.float64)


def he(rng: np.random.Generator, layer_sizes: tuple[int, ...]) -> Floats:
    """Return initial parameters, flat: of each layer the weights, a row for each input, and then the biases."""
    blocks = []
    for fan_in, fan_out in pairwise(layer_sizes):
        variance = (1 if fan_out == 1 else 2) / fan_in
        blocks += [rng.normal(0, math.sqrt(variance), fan_in * fan_out), np.zeros(fan_out)]
    return np.concatenate(blocks)


def adam(theta: Floats, layer_sizes: tuple[int, ...], x: Floats, y: Floats, learning_rate: float) -> Floats:
    """Return the parameters after Algorithm 1 of Kingma and Ba on the full batch."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for step in range(1, EPOCHS + 1):
        g = PLAIN["gradient"](theta, layer_sizes, x, y)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        theta = theta - learning_rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return theta


def grid_error(layers: Any) -> float:
    """Return the share of the midpoints of a grid's cells that are answered wrongly."""
    ticks = (np.arange(GRID) + 0.5) / GRID
    wrong = 0
    for rows in np.split(ticks, GRID // ROWS_AT_ONCE):
        x = np.stack(np.meshgrid(ticks, rows), axis=-1).reshape(-1, 2)
        logits, _, _ = PLAIN["forward"](layers, x)
        wrong += int(((logits > 0) != true_class(x)).sum())
    return wrong / GRID**2


def location(logarithms: Floats) -> Interval:
    """Return 10 to the trimmed mean of a sample, with the interval of Tukey and McLaughlin.

    The standard error is that of the winsorised sample over the share that is kept; the degrees of freedom are one
    fewer than the values that are kept.
    """
    ordered = np.sort(logarithms)
    n, out = len(ordered), int(TRIMMED * len(ordered))
    kept = ordered[out : n - out]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    error = winsorised.std(ddof=1) / ((1 - 2 * TRIMMED) * math.sqrt(n))
    width = t.ppf(0.975, len(kept) - 1) * error
    return Interval(*(float(10**x) for x in (kept.mean(), kept.mean() - width, kept.mean() + width)))


def read_report(folder: Path) -> dict[tuple[str, float], CellResult]:
    """Return what the report says of the cells in results, by architecture and learning rate; empty if none."""
    if not folder.is_dir():
        return {}
    settings = Report(bad_run_error=1, practically_equal=1)  # which no interval depends on
    return {cell.key: cell for group in by_architecture(results.read(folder), settings) for cell in group}


if __name__ == "__main__":
    main()
