"""Time and memory of an epoch against the number of points: python benchmarks/scale.py

The full batch in portable mode on one core, from five thousand to five million training points, in turns. What should
be seen: the time for a point stays the same, and so does the memory above the data.
"""

import os
import re
import statistics
import sys
import time
from pathlib import Path

from circlemlp import pinning

SIZES = (5_000, 50_000, 500_000, 5_000_000)
ARCHITECTURES = ((64,), (128, 64))
ROUNDS, POINTS_A_TURN = 5, 500_000


def main() -> int:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pinning.pin(pinning.resolve("auto"))
    from circlemlp.core.data import Dataset, sample_dataset
    from circlemlp.core.optimizers import Adam
    from circlemlp.core.recipe import Recipe
    from circlemlp.core.training import Trainer

    numbers = {"draws": "shared", "n_train": SIZES[-1], "n_validation": 2000, "label_noise": 0.0, "seed": 0}
    largest = sample_dataset({"shape": "quarter_circle", "radius": 1.0, **numbers})
    for hidden in ARCHITECTURES:
        trainers, added = {}, {}
        for n in SIZES:
            some = Dataset(largest.x_train[:, :n], largest.y_train[:, :n], largest.x_validation, largest.y_validation)
            before = resident()
            trainers[n] = Trainer(some, Recipe(hidden, Adam()), range(1))
            trainers[n].epoch()
            added[n] = (resident() - before) / 1e6
        nanoseconds: dict[int, list[float]] = {n: [] for n in SIZES}
        for _ in range(ROUNDS):
            for n, trainer in trainers.items():
                epochs = max(1, POINTS_A_TURN // n)
                start = time.perf_counter()
                for _ in range(epochs):
                    trainer.epoch()
                nanoseconds[n].append(1e9 * (time.perf_counter() - start) / epochs / n)
        print("-".join(map(str, (2, *hidden, 1))))
        for n in SIZES:
            ratio = statistics.median(a / b for a, b in zip(nanoseconds[n], nanoseconds[SIZES[0]], strict=True))
            print(
                f"  {n:9,} points: {statistics.median(nanoseconds[n]):7.1f} ns a point and epoch, "
                f"{ratio:.2f} of the smallest; {added[n]:5.1f} MB above the data",
                flush=True,
            )
    return 0


def resident() -> int:
    """Return the bytes of this process that lie in memory."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB", status, re.M)
    return 1024 * int(kilobytes)


if __name__ == "__main__":
    sys.exit(main())
