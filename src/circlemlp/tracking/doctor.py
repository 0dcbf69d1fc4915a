"""How an installation is: its packages, kernels, disk and index, and what is stale; each with what helps."""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from rich import filesize

from circlemlp import numerics, pinning
from circlemlp.config import Config
from circlemlp.errors import UserError
from circlemlp.project import PROJECT
from circlemlp.store import disk
from circlemlp.store.records import Store
from circlemlp.tracking.index import STRANGE, Index
from circlemlp.tracking.schema import revision

LITTLE = 1_000_000_000
"""With fewer bytes left on a disk, a sweep or an installation may not fit."""


@dataclass(frozen=True)
class Finding:
    """What was found, and done, about something; ``remedy`` is what a person has to do, if anything."""

    about: str
    found: str
    remedy: str = ""


def examine(config: Config) -> Iterator[Finding]:
    """Yield what there is to say; what has to be done for that, and needs nobody's decision, is done."""
    for look in (_packages, _kernels, _disk, _index, _pipeline):
        about = look.__name__.strip("_")
        try:
            yield from (Finding(about, *said) for said in look(config))
        except UserError as error:
            yield Finding(about, "not as it should be", str(error))


def _packages(_: Config) -> Iterator[tuple[str, ...]]:
    """Compare what is installed with the lock."""
    lines = re.findall(r"^[\w.-]+.*?==[^\\\n]*", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)
    locked = [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate()]
    others = [f"{one.name} {_version(one.name)}" for one in locked if not one.specifier.contains(_version(one.name))]
    found = f"Python {platform.python_version()}, {len(locked)} packages"
    if not others:
        yield (f"{found} as in requirements.lock",)
        return
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    yield f"{found}, not as in requirements.lock: {', '.join(others[:3])}{more}", "rm -r .venv && make install"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _kernels(config: Config) -> Iterator[tuple[str, ...]]:
    """Read the kernels back."""
    found = numerics.read_back(pinning.resolve(config.numerics))
    blas = ", ".join(
        f"{one['internal_api']} {one['architecture']}, threads: {one['num_threads']}" for one in found["blas"]
    )
    yield (f"{found['mode']}: {blas}; {found['simd'][-1]}",)


def _disk(config: Config) -> Iterator[tuple[str, ...]]:
    """Say how large things are, and take away what interrupted programs left."""
    free = shutil.disk_usage(PROJECT).free
    places = [config.paths.records, "results", config.tracking.database, config.tracking.artifacts]
    sizes = ", ".join(f"{one} {filesize.decimal(_size(Path(one)))}" for one in places if one and Path(one).exists())
    remedy = "make room on its disk" if free < LITTLE else ""
    yield f"{filesize.decimal(free)} free; {sizes or 'nothing made yet'}", remedy
    folders = [Path(one) for one in (".", config.paths.records, "results", "data", "reports")]
    left = {one for folder in folders for one in folder.glob(".aside-*")}
    for folder in folders:
        disk.clear_abandoned(folder)
    if removed := sum(not one.exists() for one in left):
        yield (f"removed {removed} folders that interrupted programs left",)


def _size(path: Path) -> int:
    """Add up the files, but for those that a running sweep removes meanwhile."""
    size = 0
    for one in [path] if path.is_file() else (Path(where, name) for where, _, names in os.walk(path) for name in names):
        with contextlib.suppress(FileNotFoundError):
            size += one.lstat().st_size
    return size


def _index(config: Config) -> Iterator[tuple[str, ...]]:
    """Open the index, which upgrades its schema if it has to and says so, and count what is not in it."""
    database = config.tracking.database
    if database is None or not Path(database).exists():
        yield ("not there; `make ui` makes it from the records",)
        return
    index = Index(config.tracking, config.report)
    cells = index.cells()
    indexed = set[str]().union(*(records for own in cells.values() for records in own.values()))
    missing = set(Store(Path(config.paths.records)).identities()) - indexed
    behind = f"{len(missing)} records are not in it, which `make ui` adds unless they were deleted there"
    count = sum(map(len, cells.values()))
    yield (f"{database}: schema {revision(Path(database))}, that of MLflow {version('mlflow')}; {count} cells",)
    if index.strangers():
        yield f"{STRANGE}, so it has to be made again", "make ui"
    else:
        yield (behind if missing else "every record is in it",)


def _pipeline(_: Config) -> Iterator[tuple[str, ...]]:
    """Ask DVC what is stale."""
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip() or f"ended with {done.returncode} and without a word"
        raise UserError(f"dvc status: {said.splitlines()[0]}")
    stale = list(json.loads(done.stdout))
    yield (f"stale: {', '.join(stale)}", "make repro") if stale else ("nothing is stale",)
