"""Bring the MLflow index up to date from the records, and show it: python pipelines/index.py --serve"""

import argparse
import os
import sys

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.run.compose import PROJECT, compose_jobs
from circlemlp.errors import ConfigError
from circlemlp.run.train_door import guarded, prepare


def main() -> int:
    os.chdir(PROJECT)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="then serve the MLflow UI on 127.0.0.1")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as tracking.port=5001")
    arguments = parser.parse_args()
    command = compose_jobs(arguments.overrides)
    if command is None:
        raise ConfigError("only overrides such as tracking.port=5001 are understood here")
    config = command.jobs[0].config
    if config.tracking.database is None:
        raise ConfigError("tracking.database=null: there is no index to bring up to date")
    prepare(config)
    from circlemlp.tracking import Index, all_stores, serve

    index = Index(config.tracking)
    added = index.bring_up_to_date(all_stores(config))
    print(f"{config.tracking.database}: {added} cells added", flush=True)
    if arguments.serve:
        serve(index, config.tracking.port)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
