"""Judge the chosen cells of a sweep by new replicates.

python pipelines/confirm.py experiment=smoke paths.confirmation=results/smoke_confirmation
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also under python -P and python -m

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.run.confirm_door import confirm_door
from circlemlp.run.door import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: confirm_door(sys.argv[1:])))
