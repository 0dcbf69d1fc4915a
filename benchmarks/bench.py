"""Time an epoch of the core beside others: python benchmarks/bench.py

Every contestant is a process of its own, all pinned to the same core with one thread, asked in turns, so that
what else the machine does falls on all of them alike. Ratios are what to read: over one, the core is
faster. A ratio is the median over the rounds of that round's ratio. Times change from machine to machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from contestant import N_TRAIN, N_VALIDATION, SQUARE

PEERS = {
    "jax": "JAX, jitted scan",
    "torch": "PyTorch, eager, fused Adam",
    "sklearn": "scikit-learn",
    "sklearn-training": "scikit-learn, no validation",
}
NAMES = {
    "core-portable": "this core, portable",
    "core-native": "this core, native",
    "products-portable": "its products alone, portable",
    "products-native": "its products alone, native",
    "plain-native": "plain NumPy, float64",
    **PEERS,
    "sgemm-portable": "",
    "sgemm-native": "",
}
ARCHITECTURES = ((64,), (128,), (64, 32), (128, 64))
BATCH_SIZES = (32, 128, 512)
PRODUCTS = 4  # of sgemm, at a time


class Contestant:
    """A process that is asked for seconds."""

    def __init__(self, name: str, core: int) -> None:
        script = str(Path(__file__).with_name("contestant.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, name, str(core)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._answer()

    def ask(self, task: dict[str, Any]) -> float:
        """Return the milliseconds one replicate takes for one epoch."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return 1000 * float(self._answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", choices=("full", "mini", "both"), default="both")
    arguments = parser.parse_args()
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    contestants = {name: Contestant(name, core) for name in NAMES}
    for name in [name for name, contestant in contestants.items() if contestant.version.startswith("missing")]:
        print(f"not measured: {NAMES[name]} ({contestants.pop(name).version}); `make peers` installs it")
    print("; ".join(contestant.version for contestant in contestants.values()))
    print(f"{'':28} {'median ms':>9} {'spread':>15} {'GFLOP/s':>8} {'of sgemm':>8} {'÷ portable':>10} {'÷ native':>9}")
    try:
        if arguments.batches in ("full", "both"):
            for hidden in ARCHITECTURES:
                measure(contestants, arguments.rounds, hidden=hidden, batch_size=None, replicates=1, epochs=40)
        if arguments.batches in ("mini", "both"):
            for batch_size in BATCH_SIZES:
                measure(contestants, arguments.rounds, hidden=(64, 32), batch_size=batch_size, replicates=10, epochs=2)
    finally:
        for contestant in contestants.values():
            contestant.close()
    return 0


def measure(contestants: dict[str, Contestant], rounds: int, **task: Any) -> None:
    """Print a row for everyone on one task."""
    one_at_a_time = {"sklearn", "sklearn-training", "torch", "plain-native"}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            if name.startswith("sgemm"):
                milliseconds = contestant.ask({"epochs": PRODUCTS, "replicates": 1})
            elif name.startswith(("plain", "products")) and task["batch_size"]:
                continue
            else:
                own = {"replicates": 1} if name in one_at_a_time else {}
                milliseconds = contestant.ask(task | own | {"validates": not name.endswith("training")})
            times[name].append(milliseconds)
    rates = {name: 2 * SQUARE**3 / statistics.median(times[name]) / 1e6 for name in times if name.startswith("sgemm")}
    label = "-".join(map(str, (2, *task["hidden"], 1)))
    batch = "full batch" if task["batch_size"] is None else f"batches of {task['batch_size']}, ten replicates, each"
    print(f"{label}, {batch}; sgemm: " + ", ".join(f"{name[6:]} {rate:.0f} GFLOP/s" for name, rate in rates.items()))
    for name, values in times.items():
        if name.startswith("sgemm") or not values:
            continue
        median = statistics.median(values)
        gflops = flops(task["hidden"]) / median / 1e6
        mode = "portable" if name.endswith("portable") else "native"
        ratios = [
            f"{statistics.median(v / c for v, c in zip(values, times[core], strict=True)):.2f}"
            for core in ("core-portable", "core-native")
        ]
        spread = f"{min(values):.3f}-{max(values):.3f}"
        print(
            f"  {NAMES[name]:26} {median:9.3f} {spread:>15} {gflops:8.1f} {gflops / rates[f'sgemm-{mode}']:8.2f} "
            f"{ratios[0]:>10} {ratios[1]:>9}",
            flush=True,
        )


def flops(hidden: tuple[int, ...]) -> int:
    """Return the multiplications and additions of an epoch's matrix products, validation included."""
    products = [fan_out * (fan_in + 1) for fan_in, fan_out in pairwise((2, *hidden, 1))]
    forward, gradient = sum(products), sum(products)
    errors = sum(fan_in * fan_out for fan_in, fan_out in pairwise((*hidden, 1)))
    return 2 * (N_TRAIN * (forward + gradient + errors) + N_VALIDATION * forward)


if __name__ == "__main__":
    sys.exit(main())
