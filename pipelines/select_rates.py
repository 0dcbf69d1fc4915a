"""Choose each architecture's learning rate, from the results of a sweep.

python pipelines/select_rates.py experiment=smoke paths.results=results/smoke
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.report.choosing import select
from circlemlp.run.compose import compose_one
from circlemlp.run.door import guarded, prepare
from circlemlp.store.results import named, read
from circlemlp.store.selection import FILE, write


def main() -> int:
    config = compose_one(sys.argv[1:])
    prepare(config)
    chosen = select(read(named(config.paths.results)), config.report)
    path = Path(config.paths.reports or "reports") / FILE
    write(path, chosen)
    rates = ", ".join(f"{one.architecture} at {one.learning_rate or 'no rate'}" for one in chosen.choices)
    print(f"{path}: {rates}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
