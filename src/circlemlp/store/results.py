"""The results of a sweep: its records and the tidy tables that the report reads.

A folder of results holds what an experiment produced, in bytes that depend on nothing else: records
without what varies between executions, ``cells.json`` with their order and the command behind each,
``replicates.csv`` with a row for every replicate, and ``curves.csv`` with thinned curves.
"""

import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from circlemlp.run.cells import architecture
from circlemlp.errors import UserError
from circlemlp.store.records import DamagedRecord, Record, Store, locked, plain_disk_errors

RESULTS = Path("results")
REPLICATES, CURVES = "replicates.csv", "curves.csv"
CURVE_POINTS = 101


@dataclass(frozen=True)
class Results:
    """What a report is made from.

    Attributes
    ----------
    records : list of Record
        In the order of the sweep.
    commands : list of str
        What trains each of them by itself.
    replicates : DataFrame
        A row for every replicate of every cell.
    curves : DataFrame
        A row for every replicate and kept epoch.
    """

    records: list[Record]
    commands: list[str]
    replicates: pd.DataFrame
    curves: pd.DataFrame


def exported_folders() -> list[Path]:
    """Return all folders of results."""
    return sorted(path for path in RESULTS.glob("*") if path.is_dir() and not path.name.startswith("."))


def exported_stores() -> list[Store]:
    """Return the stores inside all folders of results."""
    return [Store(folder / "records") for folder in exported_folders()]


def export(folder: Path, outcomes: Sequence[tuple[list[str], Record]]) -> None:
    """Write a folder of results, replacing the one that is there."""
    with plain_disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent), tempfile.TemporaryDirectory(prefix=".aside-", dir=folder.parent) as aside:
            made = Path(aside) / folder.name
            store = Store(made / "records")
            for _, record in outcomes:
                store.save(record, volatile=False)
            cells = [{"identity": record.identity, "command": _command(o)} for o, record in outcomes]
            (made / "cells.json").write_text(json.dumps(cells, indent=2) + "\n")
            records = [record for _, record in outcomes]
            (made / REPLICATES).write_text(_csv(replicates_table(records)))
            (made / CURVES).write_text(_csv(curves_table(records)))
            if folder.exists():
                folder.rename(Path(aside) / "before")
            made.rename(folder)


def read(folder: Path) -> Results:
    """Read a folder of results and check its records.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    remedy = "make them with: dvc repro, or: python pipelines/train.py -m experiment=..."
    try:
        cells = json.loads((folder / "cells.json").read_text())
        if not (isinstance(cells, list) and cells):
            raise ValueError("cells.json names no cells")
        records = [Store(folder / "records").load(cell["identity"]) for cell in cells]
        commands = [str(cell["command"]) for cell in cells]
        tables = {REPLICATES: replicates_table(records), CURVES: curves_table(records)}
        written = {name: (folder / name).read_text() if (folder / name).is_file() else "" for name in tables}
    except FileNotFoundError:
        raise UserError(f"{folder}: there are no results here; {remedy}") from None
    except (DamagedRecord, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: the results are damaged ({error}); {remedy}") from None
    for name, table in tables.items():
        if written[name] != _csv(table):
            raise UserError(f"{folder}: the results are damaged ({name} is not that of the records); {remedy}")
    return Results(records, commands, tables[REPLICATES], tables[CURVES])


def replicates_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for every replicate; what a diverged one does not have is missing."""
    rows = []
    for record in records:
        summary = record.summary
        for replicate, diverged_at in enumerate(summary["diverged_at"]):
            rows.append(
                {
                    **_labels(record),
                    "parameters": summary["n_parameters"],
                    "replicate": replicate,
                    "training_loss": summary["training_loss"][replicate],
                    "validation_loss": summary["validation_loss"][replicate],
                    "validation_accuracy": summary["validation_accuracy"][replicate],
                    "diverged_at": diverged_at,
                    "stopped_at": summary["stopped_at"][replicate],
                }
            )
    return pd.DataFrame(rows).astype({"diverged_at": "Int64", "stopped_at": "Int64"})


def curves_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return the curves of every replicate at about a hundred epochs."""
    parts = []
    for record in records:
        epochs = kept_epochs(record.arrays["training_loss"].shape[1] - 1, CURVE_POINTS)
        for replicate in range(len(record.arrays["training_loss"])):
            curves = {
                name: record.arrays[name][replicate, epochs]
                for name in ("training_loss", "validation_loss", "validation_accuracy")
            }
            parts.append(pd.DataFrame({**_labels(record), "replicate": replicate, "epoch": epochs, **curves}))
    return pd.concat(parts, ignore_index=True)


def kept_epochs(epochs: int, points: int) -> NDArray[np.int64]:
    """Return at most so many epochs from 0 to the last, both kept, evenly spaced."""
    return np.unique(np.linspace(0, epochs, points).round().astype(np.int64))


def _labels(record: Record) -> dict[str, Any]:
    config = record.ingredients["config"]
    return {
        "identity": record.identity[:12],
        "architecture": architecture(config["model"]),
        "learning_rate": config["optimizer"]["learning_rate"],
    }


def _command(overrides: Sequence[str]) -> str:
    told = [o for o in overrides if not o.startswith(("paths.", "tracking", "progress.", "hydra"))]
    told.sort(key=lambda override: not override.startswith("experiment="))
    return shlex.join(["python", "pipelines/train.py", *told])


def _csv(table: pd.DataFrame) -> str:
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text
