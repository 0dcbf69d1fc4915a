"""Generate the data set: python pipelines/generate.py data=quarter_circle"""

import os
import sys

import hydra

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.run.compose import PROJECT, compose_jobs
from circlemlp.run.train_door import guarded, prepare


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def explain(_: object) -> None:
    """Answer --help and --cfg."""


def main() -> int:
    os.chdir(PROJECT)
    command = compose_jobs(sys.argv[1:])
    if command is None:
        explain()
        return 0
    prepare(command.jobs[0].config)
    from circlemlp.store.datafile import generate, write_dataset

    for job in command.jobs:
        dataset = generate(job.config.data)
        path = write_dataset(job.config.data, dataset)
        ones = dataset.y_validation.mean()
        print(f"{path}: {len(dataset.x_train)} + {len(dataset.x_validation)} points, {ones:.1%} of class 1")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
