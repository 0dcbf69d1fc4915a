"""The files beside a cell's run: its configuration, its replicates, their parameters, and a picture."""

import shutil
from pathlib import Path

import yaml

from circlemlp.report.boundary import draw_record
from circlemlp.store import disk
from circlemlp.store.npz import pack
from circlemlp.store.records import Record
from circlemlp.store.tables import as_csv, replicate_rows

CONFIGURATION, REPLICATES, PARAMETERS, PICTURE = (
    "configuration.yaml",
    "replicates.csv",
    "parameters.npz",
    "boundary.png",
)


def write(folder: Path, record: Record, *, picture: bool) -> None:
    """Write a record's files into a folder of their own, in place of what an interrupted writer left there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    disk.clear_abandoned(folder.parent)
    with disk.aside(folder.parent) as aside:
        made = aside / folder.name
        made.mkdir()
        (made / CONFIGURATION).write_text(yaml.safe_dump(record.config.deciding(), sort_keys=False))
        (made / REPLICATES).write_text(as_csv(list(replicate_rows([record]))))
        (made / PARAMETERS).write_bytes(pack({"parameters": record.parameters}))
        if picture:
            draw_record(record, made / PICTURE)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
