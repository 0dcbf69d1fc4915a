"""Check every record and table against its digests: python pipelines/verify.py"""

import os
import sys
from pathlib import Path

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.run.compose import PROJECT, compose_jobs
from circlemlp.errors import UserError
from circlemlp.run.train_door import guarded, prepare


def main() -> int:
    os.chdir(PROJECT)
    command = compose_jobs(sys.argv[1:])
    if command is None:
        print(__doc__)
        return 0
    config = command.jobs[0].config
    prepare(config)
    from circlemlp.store.records import DamagedRecord, Store
    from circlemlp.store.results import exported_folders, exported_stores, read

    checked = damaged = 0
    for store in [Store(Path(config.paths.records)), *exported_stores()]:
        for identity in store.identities():
            checked += 1
            try:
                store.load(identity)
            except (DamagedRecord, UserError) as error:
                damaged += 1
                print(error)
    for folder in exported_folders():
        try:
            read(folder)
        except UserError as error:
            damaged += 1
            print(error)
    print(f"{checked} records checked, {damaged} damaged")
    return 1 if damaged else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
