"""Generate the data set, a draw for each replicate: python pipelines/generate.py data=quarter_circle"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also under python -P and python -m

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.config import Data
from circlemlp.run.compose import compose_jobs
from circlemlp.run.door import guarded, prepare
from circlemlp.store.datafile import generate


def main() -> int:
    command = compose_jobs(sys.argv[1:])
    prepare(command.jobs[0].config)
    most: dict[Data, int] = {}  # replicates of any job on the same data, with those that will judge it
    for config in (job.config for job in command.jobs):
        replicates = config.training.numbers.stop + config.confirmation.replicates
        most[config.data] = max(most.get(config.data, 0), replicates)
    for data, replicates in most.items():
        dataset = generate(data, replicates)
        draws = "1 draw" if dataset.draws == 1 else f"{dataset.draws} draws"
        ones = dataset.y_validation.mean()
        print(f"{data.file}: {draws} of {data.n_train} + {data.n_validation} points, {ones:.1%} of class 1")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
