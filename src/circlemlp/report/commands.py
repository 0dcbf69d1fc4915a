"""The commands that train the cells of a report, derived from the configurations in their records."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from circlemlp.config import CellConfig, Data, Model
from circlemlp.errors import UserError
from circlemlp.project import CONF
from circlemlp.store.records import Record
from circlemlp.wording import architecture, in_hydra


def commands(records: Sequence[Record], data: Data) -> list[str]:
    """Return, for each record, the shell command that trains its cell or finds its record.

    A command names the choice in each group of conf/ that is nearest to the record, and what still differs.

    Parameters
    ----------
    records : sequence of Record
    data : Data
        A data set whose file is known. Those of other data sets are where conf/ says.

    Raises
    ------
    UserError
        If a group of conf/ has no choice with the keys of a record.
    """
    top = _read(CONF / "config.yaml")
    defaults = {group: name for entry in top["defaults"] if isinstance(entry, dict) for group, name in entry.items()}
    conf = {group: _choices(group, defaults.get(group), top.get(group, {})) for group in CellConfig.model_fields}

    def command(record: Record) -> str:
        sections = record.config.deciding()
        if sections["data"] == data.model_dump():
            sections["data"]["file"] = data.file
        overrides = [one for group in conf for one in _overrides(group, sections[group], conf[group])]
        mode = record.numerics.mode
        if top["numerics"] not in (mode, "auto" if mode == "portable" else None):
            overrides.append(f"numerics={mode}")
        return shlex.join(["python", "pipelines/train.py", *overrides])

    return [command(record) for record in records]


def making(experiment: str) -> list[str]:
    """Return the commands that make an experiment's results and report; none where ``conf/`` does not know it."""
    if _read(CONF / "pipeline.yaml").get("experiment") == experiment:
        return ["make repro"]
    path = CONF / "experiment" / f"{experiment}.yaml"
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return [line.removeprefix("# ") for line in lines if line.startswith("# python ")]


def model_name(model: Model) -> str:
    """Return the name of an architecture's file in conf/model/, or, where it has none, that which it goes by."""
    files = sorted((CONF / "model").glob("*.yaml"))
    return next((path.stem for path in files if _read(path) == model.model_dump()), architecture(model))


def _choices(group: str, default: str | None, own: Mapping[str, Any]) -> dict[str | None, dict[str, Any]]:
    """Return the section that each choice of a group gives, the default's first: ``own`` is what config.yaml sets."""
    if default is None:
        return {None: {**own}}
    names = sorted((path.stem for path in (CONF / group).glob("*.yaml")), key=lambda name: (name != default, name))
    return {name: {**_read(CONF / group / f"{name}.yaml"), **own} for name in names}


def _read(path: Path) -> dict[str, Any]:
    try:
        section: Any = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError):  # it is no choice that a command can name
        section = None
    return section if isinstance(section, dict) else {}


def _overrides(group: str, section: dict[str, Any], choices: dict[str | None, dict[str, Any]]) -> list[str]:
    """Return the overrides that turn the default choice into a section: as few as can be."""
    default = next(iter(choices))

    def differing(name: str | None) -> list[str]:
        return [key for key, value in section.items() if key not in choices[name] or choices[name][key] != value]

    # An override can change a key and add one, but not take one away.
    possible = [name for name in choices if choices[name].keys() - {"file"} <= section.keys()]
    if not possible:
        raise UserError(f"conf/{group}: no choice there has the keys of these results: {', '.join(section)}")
    nearest = min(possible, key=lambda name: len(differing(name)))  # of equals, the first
    values = [
        f"{'' if key in choices[nearest] else '+'}{group}.{key}={in_hydra(section[key])}" for key in differing(nearest)
    ]
    return values if nearest == default else [f"{group}={nearest}", *values]
