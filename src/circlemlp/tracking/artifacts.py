"""The files beside a cell's run: its configuration, its replicates, their parameters, and a picture."""

from pathlib import Path

import yaml

from circlemlp.report.boundary import draw_cell
from circlemlp.store import disk
from circlemlp.store.npz import pack
from circlemlp.store.tables import as_csv, replicate_rows
from circlemlp.store.trained import Trained

CONFIGURATION, REPLICATES, PARAMETERS, PICTURE = (
    "configuration.yaml",
    "replicates.csv",
    "parameters.npz",
    "boundary.png",
)


def write(folder: Path, cell: Trained, *, picture: bool) -> None:
    """Write a cell's files into a folder of their own, in place of what is there.

    Raises
    ------
    UserError
        As in ``disk.replacing_folder``.
    """
    with disk.replacing_folder(folder) as made:
        (made / CONFIGURATION).write_text(yaml.safe_dump(cell.settings, sort_keys=False))
        rows = {row["replicate"]: row for row in replicate_rows(reversed(cell.records))}
        (made / REPLICATES).write_text(as_csv([rows[number] for number in cell.numbers.tolist()]))
        (made / PARAMETERS).write_bytes(pack({"parameters": cell.parameters}))
        if picture:
            draw_cell(cell, made / PICTURE)
