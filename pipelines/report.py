"""Write the report of a sweep: python pipelines/report.py paths.results=results/smoke paths.reports=reports/smoke"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.errors import ConfigError
from circlemlp.report.write import write_report
from circlemlp.run.compose import compose_one
from circlemlp.run.door import guarded, prepare
from circlemlp.store.records import Store
from circlemlp.store.results import exported_folders, read

MAKE_ONE = (
    "python pipelines/generate.py experiment=smoke && "
    "python pipelines/train.py -m experiment=smoke paths.results=results/smoke"
)


def main() -> int:
    config = compose_one(sys.argv[1:])
    if config is None:
        return 0
    if config.paths.results is None:
        there = ", ".join(f"paths.results={folder}" for folder in exported_folders())
        remedy = f"name one: {there}" if there else f"make one with: {MAKE_ONE}"
        raise ConfigError(f"paths.results=null: a report needs a folder of results; {remedy}")
    prepare(config)
    folder = Path(config.paths.reports)
    records, store = read(Path(config.paths.results)), Store(Path(config.paths.records))
    write_report(folder, config.title, records, config.data, store, config.report)
    print(f"{folder}/report.md, {folder}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
