"""Say how this installation is, and what helps where something is wrong: python pipelines/doctor.py"""

import logging
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also under python -P and python -m

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp import pinning
from circlemlp.run.compose import compose_one
from circlemlp.run.door import guarded
from circlemlp.tracking.doctor import examine


def main() -> int:
    logging.disable()  # an error that libraries log is raised as well, and then said in one line
    warnings.simplefilter("ignore")
    config = compose_one(sys.argv[1:])
    mode = pinning.resolve(config.numerics)
    if not pinning.is_pinned(mode):
        pinning.restart(mode)
    to_do = 0
    for finding in examine(config):
        print(f"{finding.about:9} {finding.found}", flush=True)
        if finding.remedy:
            print(f"{'':9} to do: {finding.remedy}", flush=True)
            to_do += 1
    return 1 if to_do else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
