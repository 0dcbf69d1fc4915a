"""Train one cell, or with -m a sweep: python pipelines/train.py -m model=mlp_64,mlp_64_32"""

import sys
from typing import Any

import hydra

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.run.train_door import guarded, train_door, train_job


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def launch(composed: Any) -> None:
    train_job(composed)


if __name__ == "__main__":
    sys.exit(guarded(lambda: train_door(sys.argv[1:], launch)))
