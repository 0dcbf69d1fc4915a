"""Write the report of a sweep: python pipelines/report.py paths.results=results/smoke"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import checkout  # noqa: F401, for what it does: this checkout's library comes first
from circlemlp.report.tables import Runs
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
    judging = Path(config.paths.confirmation) if config.paths.confirmation else None
    experiments = {stage: experiment for experiment, stage in (stage_of(one.name) for one in (results, judging) if one)}
    write_report(
        folder,
        config.title,
        read(results),
        config.data,
        store,
        config.report,
        Runs(config.tracking.port, experiments),
        read(judging, CONFIRM) if judging else None,
    )
    print(f"{folder}/report.md, {folder}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
