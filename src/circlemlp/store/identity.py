"""A run's one identity: the SHA-256 of everything that decides its result, and of nothing else."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

CORE = Path(__file__).resolve().parents[1] / "core"


def canonical(value: Any) -> str:
    """Return the one JSON text of plain values: sorted keys, no spaces, floats in their shortest form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(content: bytes | str) -> str:
    """Return a SHA-256 in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


@cache
def code_digest() -> str:
    """Return the digest of the numeric core."""
    return digest_of(CORE)


def digest_of(core: Path) -> str:
    """Return the digest of a numeric core, in whichever folder: names and contents of its source files."""
    sources = {path.relative_to(core).as_posix(): sha256(path.read_bytes()) for path in core.rglob("*.py")}
    return sha256(canonical(sources))


def ingredients(deciding: dict[str, Any], data_digest: str, numerics: dict[str, Any]) -> dict[str, Any]:
    """Gather what a run is a function of.

    Parameters
    ----------
    deciding : dict
        ``Config.deciding()``: the resolved configuration without what cannot change a result.
    data_digest : str
        ``Dataset.digest()``.
    numerics : dict
        ``numerics.read_back()``, and what ``cells.Cell.of`` adds of the elementary functions.
    """
    return {"config": deciding, "data": data_digest, "code": code_digest(), "numerics": numerics}


def identity_of(gathered: dict[str, Any]) -> str:
    """Return the identity of a run with these ingredients: 64 hexadecimal digits."""
    return sha256(canonical(gathered))
