"""The data set's file: written by the generate stage, read and checked by everything else."""

import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from circlemlp.config import Data, Disk, QuarterCircle, Rings
from circlemlp.core.data import Boundary, Dataset, sample_dataset
from circlemlp.errors import UserError
from circlemlp.store.identity import canonical
from circlemlp.store.records import map_arrays, pack, plain_disk_errors

CONFIG, DIGEST = "config", "digest"


def boundary_of(config: Data) -> Boundary:
    """Return the true boundary of a data set."""
    match config:
        case QuarterCircle():
            return Boundary(0.0, 1.0, 0.0, config.radius)
        case Disk():
            return Boundary(-1.0, 1.0, 0.0, config.radius)
        case Rings():
            return Boundary(-1.0, 1.0, config.inner_radius, config.outer_radius)


def generate(config: Data) -> Dataset:
    """Draw the data set that a configuration describes."""
    return sample_dataset(
        boundary_of(config),
        n_train=config.n_train,
        n_validation=config.n_validation,
        label_noise=config.label_noise,
        seed=config.seed,
    )


def write_dataset(config: Data, dataset: Dataset) -> Path:
    """Write a data set, with its configuration and digest, to ``config.file``; whole or not at all."""
    path = Path(config.file)
    content = pack(
        {**vars(dataset), CONFIG: np.array(canonical(config.described())), DIGEST: np.array(dataset.digest())}
    )
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".aside-", delete=False) as aside:
            try:
                aside.write(content)
                aside.flush()
                os.fsync(aside.fileno())
                os.chmod(aside.name, 0o644)
                os.replace(aside.name, path)
            except BaseException:
                os.unlink(aside.name)
                raise
    return path


@lru_cache(maxsize=8)  # the cells of a sweep share few data sets
def read_dataset(config: Data) -> Dataset:
    """Read ``config.file`` and check that it is whole and is what the configuration describes.

    Raises
    ------
    UserError
        If it is missing, damaged, or another data set.
    """
    path = Path(config.file)
    settings = {key: value for key, value in config.model_dump().items() if key != "shape"}
    wanted = " ".join(f"data.{key}={value}" for key, value in settings.items())
    remedy = f"make it with: python pipelines/generate.py data={config.shape} {wanted}"
    if not path.exists():
        raise UserError(f"{path}: there is no such data file; {remedy}")
    try:
        arrays = map_arrays(path)
        described = dict(json.loads(str(arrays.pop(CONFIG))))
        digest = str(arrays.pop(DIGEST))
        dataset = Dataset(**arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a data file ({error}); {remedy}") from None
    if dataset.digest() != digest:
        raise UserError(f"{path}: the data are not what was written (digest differs); {remedy}")
    for key, value in config.described().items():
        if described.get(key) != value:
            raise UserError(
                f"{path}: holds data.{key}={described.get(key)}, the configuration says {value}; {remedy} "
                "(and give another data.file to keep both)"
            )
    return dataset
