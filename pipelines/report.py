"""Write the report of an experiment: python pipelines/report.py experiment=homework"""

import os
import sys
from pathlib import Path

import hydra

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.run.compose import PROJECT, compose_jobs
from circlemlp.errors import ConfigError
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
    if command.multirun:
        raise ConfigError("-m: a report is of one folder of results; leave it out")
    config = command.jobs[0].config
    if config.paths.results is None:
        raise ConfigError("paths.results=null: a report needs a folder of results; choose an experiment")
    prepare(config)
    from circlemlp.store.datafile import read_dataset
    from circlemlp.store.records import Store
    from circlemlp.report.write import write_report
    from circlemlp.store.results import read

    results, folder = read(Path(config.paths.results)), Path(config.paths.reports)
    write_report(folder, config.title, results, read_dataset(config.data), Store(Path(config.paths.records)))
    print(f"{folder}/report.md, {folder}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
