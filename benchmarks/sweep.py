"""Time sweeps of new and of found cells beside a bare Hydra application: python benchmarks/sweep.py

The bare application has the same configuration, launcher and overrides and a task that does nothing. New cells have
400 training points, one replicate and five epochs. Both take turns, each in a process of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hydra

PROJECT = Path(__file__).resolve().parents[1]
TRAIN, BARE = str(PROJECT / "pipelines" / "train.py"), "--bare"


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def bare(_: object) -> None:
    """Do nothing, as a job of Hydra's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--launcher", default="one_by_one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="circlemlp-") as name:
        folder = Path(name)
        fixed = [
            "data.n_train=400",
            "data.n_validation=200",
            f"data.file={folder}/data.npz",
            "training.epochs=5",
            "training.replicates=1",
            "tracking=none",
        ]
        run(str(PROJECT / "pipelines" / "generate.py"), *fixed)
        fixed = ["-m", f"hydra/launcher={arguments.launcher}", f"hydra.sweep.dir={folder}/logs", *fixed]
        seconds: dict[str, list[float]] = {"bare, 300": [], "new, 300": [], "found, 300": [], "found, 1000": []}
        for n in range(arguments.rounds):
            sweep = [*fixed, f"paths.records={folder}/runs{n}", "training.seed=range(300)"]
            seconds["bare, 300"].append(run(__file__, BARE, *sweep))
            seconds["new, 300"].append(run(TRAIN, *sweep))
            seconds["found, 300"].append(run(TRAIN, *sweep))
        more = [*fixed, f"paths.records={folder}/runs0", "training.seed=range(1000)"]
        run(TRAIN, *more)
        seconds["found, 1000"] = [run(TRAIN, *more) for _ in range(arguments.rounds)]
    print(f"{len(os.sched_getaffinity(0))} cores, {arguments.launcher} launcher, medians of {arguments.rounds} rounds")
    for what, measured in seconds.items():
        print(f"{what:12} {statistics.median(measured):6.2f} s   {' '.join(f'{one:.2f}' for one in sorted(measured))}")
    ratios = [new / bare for new, bare in zip(seconds["new, 300"], seconds["bare, 300"], strict=True)]
    print(f"new / bare: {statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)}); at most 0.7")
    print("found: at most 3 s and 6 s")


def run(*command: str) -> float:
    """Run a script in a process of its own; return the seconds that it took."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    if sys.argv[1:2] == [BARE]:
        del sys.argv[1]
        bare()
    else:
        main()
