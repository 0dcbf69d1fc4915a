"""The data set's file: written by the generate stage, read and checked by everything else.

It holds the draws of the replicates from number 0 on, those that judge included, or the one that they share; a cell
reads those that it needs.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from circlemlp.config import Data
from circlemlp.core.data import Dataset, draws_for, is_drawn_from, sample_dataset
from circlemlp.errors import UserError
from circlemlp.store.disk import replace_file
from circlemlp.store.identity import canonical
from circlemlp.store.npz import map_arrays, pack
from circlemlp.wording import in_hydra

CONFIG = "config"
"""The name in the file of the configuration that the points were drawn from, which only error messages need."""


def generate(config: Data, draws: int = 1) -> Dataset:
    """Draw the data set that a configuration describes, as ``sample_dataset`` does, and write it to ``config.file``."""
    described = config.model_dump()
    dataset = sample_dataset(described, draws)
    replace_file(Path(config.file), pack({**vars(dataset), CONFIG: np.array(canonical(described))}))
    return dataset


def read_dataset(config: Data, draws: int = 1, first: int = 0) -> Dataset:
    """Read draws in ``config.file`` and check that they are what the configuration draws, to the bit.

    Parameters
    ----------
    config : Data
    draws, first : int
        How many, and the first replicate that has one, where they are fresh, as in ``sample_dataset``.

    Raises
    ------
    UserError
        If it is missing, damaged, or another data set, or has fewer draws.
    """
    path = Path(config.file)
    described = config.model_dump()
    settings = {**described, "file": config.file}
    wanted = [f"data.{key}={in_hydra(value)}" for key, value in settings.items() if key != "shape"]
    if config.draws == "shared":
        first = 0
    else:
        wanted += [f"training.first_replicate={first}"] * bool(first) + [f"training.replicates={draws}"]
    needed = first + draws_for(described, draws)
    command = shlex.join(["python", "pipelines/generate.py", f"data={config.shape}", *wanted])
    if not path.exists():
        raise UserError(f"{path}: there is no such data file; make it with: {command}")
    try:
        arrays = map_arrays(path)
        held = dict(json.loads(str(arrays.pop(CONFIG))))
        there = len(arrays["x_train"])
        dataset = Dataset(**{name: array[first:needed] for name, array in arrays.items()})
    except Exception as error:  # of any kind, since the file may hold anything
        raise UserError(f"{path}: cannot be read as a data file ({error}); make it with: {command}") from None
    if there < needed or not is_drawn_from(dataset, described, first):
        raise UserError(f"{path}: {_difference(held, described, there, needed)}; make it with: {command}")
    return dataset


def _difference(held: dict[str, Any], described: dict[str, Any], there: int, needed: int) -> str:
    """Say how the points in a file differ from those of a configuration, as far as the file tells."""
    for key, value in described.items():
        if held.get(key) != value:
            return (
                f"holds data.{key}={held.get(key)}, the configuration says {value} "
                "(to keep both, give one of them another data.file)"
            )
    if there < needed:
        draws = "1 draw" if there == 1 else f"{there} draws"
        return f"holds {draws} of the data, and {needed} replicates need one each"
    return "the points are not those that the configuration draws"
