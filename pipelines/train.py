"""Train one cell, or with -m a sweep: python pipelines/train.py -m model=mlp_64,mlp_64_32"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also under python -P and python -m

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.run.door import guarded
from circlemlp.run.train_door import train_door

if __name__ == "__main__":
    sys.exit(guarded(lambda: train_door(sys.argv[1:])))
