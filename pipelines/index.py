"""Bring the MLflow index up to date from the records, and show it: python pipelines/index.py --serve

What was deleted in its pages stays deleted, unless --all is given.
"""

import logging
import os
import sys
import threading
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also under python -P and python -m

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.config import Indexing, Tracking
from circlemlp.errors import ConfigError
from circlemlp.run.compose import compose_one, index_command
from circlemlp.run.door import guarded
from circlemlp.store.records import Store
from circlemlp.store.results import exported_folders
from circlemlp.tracking.following import end_with, follow
from circlemlp.tracking.index import Index
from circlemlp.tracking.server import Server
from circlemlp.tracking.serving import listen, serve


def main() -> int:
    logging.disable()  # an error that libraries log is raised as well, and then said in one line
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--follow"]:  # started by training, with a folder of records and the settings as JSON
        settings = Indexing.model_validate_json(sys.argv[3])
        follow(Path(sys.argv[2]), settings, _server(sys.argv[2], settings.tracking))
        return 0
    serving, everything = "--serve" in sys.argv, "--all" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument not in ("--serve", "--all")]  # the rest is Hydra's
    config = compose_one(sys.argv[1:])
    if config.tracking.database is None:
        raise ConfigError("tracking.database=null: there is no index to bring up to date")
    if "MAKELEVEL" in os.environ:  # make leaves what it started behind when it is killed
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    listening = listen(config.tracking.port) if serving else None
    index = Index(config.tracking, config.report)
    if everything:
        print(f"{config.tracking.database}: {index.restore()} cells brought back")
    added = index.bring_up_to_date(Store(Path(config.paths.records)), exported_folders())
    print(f"{config.tracking.database}: {added} cells added", flush=True)
    if server := _server(config.paths.records, config.tracking):
        print(f"{server.uri}: {server.push(index, everything=everything)} cells pushed", flush=True)
    if listening:
        serve(index, listening)
    return 0


def _server(records: str, tracking: Tracking) -> Server | None:
    return Server(tracking.uri, index_command(records, tracking)) if tracking.uri else None


if __name__ == "__main__":
    sys.exit(guarded(main))
