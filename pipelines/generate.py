"""Generate the data set: python pipelines/generate.py data=quarter_circle"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also under python -P and python -m

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.run.compose import compose_jobs, explain
from circlemlp.run.door import guarded, prepare
from circlemlp.store.datafile import generate, write_dataset


def main() -> int:
    command = compose_jobs(sys.argv[1:])
    if command is None:
        explain()
        return 0
    prepare(command.jobs[0].config)
    for job in command.jobs:
        dataset = generate(job.config.data)
        path = write_dataset(job.config.data, dataset)
        ones = dataset.y_validation.mean()
        print(f"{path}: {len(dataset.x_train)} + {len(dataset.x_validation)} points, {ones:.1%} of class 1")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
