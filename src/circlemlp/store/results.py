"""The results of a sweep: its records, and tables of them for other programs.

A folder of results holds what an experiment produced, in bytes that depend on nothing else: records without what
varies between executions, ``cells.json`` with their order under a seal, ``replicates.csv`` with a row for every
replicate, and ``curves.csv`` with thinned curves.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from circlemlp.errors import ConfigError, UserError
from circlemlp.store import disk
from circlemlp.store.identity import canonical, sha256
from circlemlp.store.records import DamagedRecord, Record, Store
from circlemlp.store.tables import as_csv, curve_rows, replicate_rows

RESULTS = Path("results")
CELLS, REPLICATES, CURVES = "cells.json", "replicates.csv", "curves.csv"
MAKE_ONE = (
    "python pipelines/generate.py experiment=smoke && "
    "python pipelines/train.py -m experiment=smoke paths.results=results/smoke"
)
CONFIRM = "pipelines/confirm.py with paths.confirmation"
"""What makes a folder of results of a confirmation."""
CELLS_LIMIT = 100_000_000
"""The most bytes of a list of cells."""


def exported_folders() -> list[Path]:
    """Return all folders of results."""
    return sorted(path for path in RESULTS.glob("*") if path.is_dir() and not path.name.startswith("."))


def named(folder: str | None) -> Path:
    """Return the folder that ``paths.results`` names.

    Raises
    ------
    ConfigError
        If it names none; it says what there is.
    """
    if folder:
        return Path(folder)
    there = ", ".join(f"paths.results={one}" for one in exported_folders())
    remedy = f"name one: {there}" if there else f"make one with: {MAKE_ONE}"
    raise ConfigError(f"paths.results=null: a folder of results is needed; {remedy}")


def export(folder: Path, records: Sequence[Record]) -> None:
    """Write a folder of results, replacing the one that is there."""
    with disk.replacing_folder(folder) as made:
        store = Store(made / "records")
        for record in records:
            store.save(record, volatile=False)
        cells = [record.identity for record in records]
        content = json.dumps({"cells": cells, "seal": sha256(canonical(cells))}, indent=2) + "\n"
        disk.write(made / CELLS, content.encode())
        for name, table in _tables(records).items():
            disk.write(made / name, table.encode())


def read(folder: Path, made_by: str = "a sweep (pipelines/train.py -m) with paths.results") -> list[Record]:
    """Read the records of a folder of results, in the order of the sweep, and check everything in it.

    Parameters
    ----------
    folder : Path
    made_by : str
        What makes such a folder, for the error.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    try:
        content = json.loads(disk.read_regular(folder / CELLS, CELLS_LIMIT))
        cells = content["cells"]
        if not cells or len(set(cells)) < len(cells) or content["seal"] != sha256(canonical(cells)):
            raise ValueError(f"{CELLS} is not what was written")
        records = [Store(folder / "records").load(identity) for identity in cells]
        for name, table in _tables(records).items():
            if disk.read_regular(folder / name, len(table.encode())) != table.encode():
                raise ValueError(f"{name} is not that of the records")
    except (FileNotFoundError, NotADirectoryError) as error:
        what = f"the results are damaged ({error})" if folder.is_dir() else "there are no results here"
        raise UserError(f"{folder}: {what}; {made_by}={folder} makes them") from None
    except (DamagedRecord, OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{folder}: the results are damaged ({error}); {made_by}={folder} makes them") from None
    return records


def _tables(records: Sequence[Record]) -> dict[str, str]:
    return {REPLICATES: as_csv(list(replicate_rows(records))), CURVES: as_csv(list(curve_rows(records)))}
