"""What an MLflow experiment says: what it is, how to make it again, and the views of its runs that it opens on."""

import base64
import json
import os
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from circlemlp.config import Data
from circlemlp.errors import UserError
from circlemlp.project import CONF
from circlemlp.report.commands import commands, making
from circlemlp.store.trained import Trained
from circlemlp.tracking.runs import CODE, KIND, STAGE

BY_HAND = "sweeps_by_hand"
"""Holds the records that no experiment has."""
CELLS, CONFIRMED = "cells", "confirmed"
"""The keys of the views."""
COLUMNS = {
    "metrics.`true_error`": 110,
    "metrics.`bad_runs`": 90,
    "metrics.`validation_loss`": 120,
    "metrics.`validation_accuracy`": 145,
    "params.`architecture`": 105,
    "params.`optimizer.learning_rate`": 165,
    "params.`model.initialisation`": 145,
    f"tags.`{STAGE}`": 120,
}
"""The columns of the views and the pixels that their heads need: first what a cell came to, as few fit beside MLflow's
Assistant."""
ALWAYS = {"attributes.`Run Name`": 215, "runDateAndNestInfo": 130}
"""Those before them, which MLflow always shows; a name has room for the largest architecture and ``confirmed``."""


@dataclass(frozen=True)
class Experiment:
    """An experiment of ours, which has a file in ``conf/experiment/`` or only a name.

    Attributes
    ----------
    title : str
    about : list of str
        What its file says of it.
    commands : list of str
        Those that make it, in their order.
    data_file : str
        Where its points are; empty where it is where the data set's own file in ``conf/`` says.
    report : str
        Where its report is, once it is made; empty where none is.
    """

    name: str
    title: str = ""
    about: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    data_file: str = ""
    report: str = ""

    @classmethod
    @cache
    def of(cls, name: str) -> "Experiment":
        """Read what ``conf/`` says of an experiment."""
        if name == BY_HAND:
            return cls(
                name,
                "Sweeps by hand",
                [
                    "What was trained without `experiment=`.",
                    "The description of each run has the command that makes it again.",
                    "For a report, give a sweep `paths.results=results/mine`, and then run "
                    "`python pipelines/report.py paths.results=results/mine paths.reports=reports/mine`.",
                ],
            )
        path = {path.stem: path for path in (CONF / "experiment").glob("*.yaml")}.get(name)
        if path is None:
            return cls(
                name,
                name,
                [f"What was trained with `tracking.experiment={name}` or `paths.results=results/{name}`."],
                report=f"reports/{name}",
            )
        head = []
        for line in path.read_text(errors="replace").splitlines():
            if not line.startswith("#"):
                break
            head.append(line.lstrip("# "))
        settings = _read(path)
        in_pipeline = _read(CONF / "pipeline.yaml").get("experiment") == name
        return cls(
            name,
            title=str(settings.get("title", name)),
            about=[line for line in head if not line.startswith(("@package", "python "))],
            commands=making(name),
            data_file=str((settings.get("data") or {}).get("file", "")),
            report="reports" if in_pipeline else str((settings.get("paths") or {}).get("reports") or f"reports/{name}"),
        )

    def file_of(self, data: Data) -> str:
        """Return where points are: in the experiment's file, or in the one that the data set has in ``conf/``."""
        sets = _data_sets(CONF)
        exact = (one["file"] for one in sets.values() if one == {**data.model_dump(), "file": one.get("file")})
        return self.data_file or next(exact, str(sets.get(data.shape, {}).get("file", "")))

    def commands_of(self, cell: Trained) -> list[str]:
        """Return what trains the records of a cell again; nothing where ``conf/`` has become another."""
        data = cell.config.data
        try:
            each = commands(cell.records, data.model_copy(update={"file": self.file_of(data)}))
        except UserError:
            return []
        ranges = [record.config.training for record in cell.records]
        if len(ranges) == 1 or len({one.replicates for one in ranges}) > 1:
            return each
        first = "training.first_replicate="
        program, script, *settings = (word for word in shlex.split(each[0]) if not word.startswith(first))
        numbers = ",".join(str(one.first_replicate) for one in ranges)
        return [shlex.join([program, script, "-m", *settings, first + numbers])]

    def link_to_report(self, anchor: str = "") -> str:
        """Return a link to the report, or to a place in it, in Markdown.

        Our server has ``reports/`` beside MLflow and nothing else, so a report elsewhere is named alone.
        """
        page = os.path.normpath(f"{self.report}/report.html")
        if not page.startswith("reports/"):
            return f"`{page}`"
        return f"[{page}](/{quote(page)}{anchor and '#'}{anchor})"

    def description(self, experiment_id: str) -> str:
        """Return what is above the runs, in Markdown."""
        views = ", ".join(f"[{name}]({address(experiment_id, key)})" for key, (name, _) in VIEWS.items())
        parts = [f"**{self.title}**", " ".join(self.about), f"Views: {views}."]
        if self.commands:
            parts += ["How to make it again:", "\n".join(["```", *self.commands, "```"])]
        if self.report:
            parts.append(f"Once it is made, its report is {self.link_to_report()}.")
        return "\n\n".join(filter(None, parts))


def _read(path: Path) -> dict[str, Any]:
    """Read a file of conf/; one that cannot be read says nothing, as training is what refuses it."""
    try:
        section: Any = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return section if isinstance(section, dict) else {}


@cache
def _data_sets(conf: Path) -> dict[str, dict[str, Any]]:
    """Return the data sets of a folder of configurations by the names of their files."""
    return {path.stem: _read(path) for path in sorted((conf / "data").glob("*.yaml"))}


VIEWS: Mapping[str, tuple[str, str]] = {
    CONFIRMED: ("confirmed cells", f"tags.`{STAGE}` = 'confirmation' and tags.`{KIND}` = 'cell'"),
    CELLS: ("all cells", f"tags.`{KIND}` = 'cell'"),
}
"""By their keys: what they are called, and which runs they show."""


def page_tags(core: str | None = None) -> dict[str, str]:
    """Return the tags by which MLflow's pages show an experiment: its kind, and saved views as they share theirs.

    Parameters
    ----------
    core : str, optional
        The digest of the core whose cells the views show. Without it, they show those of every core.
    """
    of_core = f" and tags.`{CODE}` = '{core}'" if core else ""
    tags = {"mlflow.experimentKind": "custom_model_development"}
    for key, (name, condition) in VIEWS.items():
        state = {
            "searchFilter": condition + of_core,
            "orderByKey": "metrics.`true_error`",
            "orderByAsc": True,
            "selectedColumns": list(COLUMNS),
            "columnOrder": list(ALWAYS | COLUMNS),  # otherwise parameters come last, out of sight
            "columnWidths": ALWAYS | COLUMNS,
        }
        packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
        value = {"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"}
        tags[f"mlflow.sharedViewState.{key}"] = json.dumps(value)
    return tags


def address(experiment_id: str, view: str) -> str:
    """Return where a view is in MLflow's pages; without the workflow, their menu is that for chats."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={view}"
