"""Write the report of a sweep: python pipelines/report.py paths.results=results/smoke"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.report.write import write_report
from circlemlp.run.compose import compose_one
from circlemlp.run.door import guarded, prepare
from circlemlp.store.records import Store
from circlemlp.store.results import CONFIRM, named, read
from circlemlp.store.stages import stage_of


def main() -> int:
    config = compose_one(sys.argv[1:])
    prepare(config)
    folder = config.paths.report_folder
    results, store = named(config.paths.results), Store(Path(config.paths.records))
    confirmation = read(Path(config.paths.confirmation), CONFIRM) if config.paths.confirmation else None
    write_report(
        folder,
        config.title,
        read(results),
        config.data,
        store,
        config.report,
        confirmation,
        experiment=stage_of(results.name)[0],
    )
    print(f"{folder}/report.md, {folder}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
