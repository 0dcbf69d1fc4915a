"""Notes: small files beside the records that say how far a cell has come, or why it could not be trained."""

import contextlib
import json
import math
import time
import traceback
from pathlib import Path
from typing import Any

from circlemlp.errors import reason
from circlemlp.store.disk import read_regular
from circlemlp.store.records import Store

RUNNING, FAILURES = ".running", ".failures"
SECONDS_BETWEEN_NOTES = 0.5
NOTE_LIMIT = 1_000_000
"""The most bytes of a note."""


class Notes:
    """The notes of one cell. They are files, so that they work alike for every launcher that shares the folder."""

    def __init__(self, store: Store, identity: str) -> None:
        self._store = store
        self._identity = identity
        self._last = -math.inf

    def _path(self, kind: str) -> Path:
        return self._store.folder / kind / f"{self._identity}.json"

    def running(self, done: int, total: int) -> None:
        """Note how many epochs of all replicates are done, now and then."""
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_NOTES:
            self._last = now
            with contextlib.suppress(OSError):  # a note is not worth a cell
                self._write(RUNNING, {"done": done, "total": total})

    def failure(self, error: Exception) -> None:
        """Note why a cell could not be trained."""
        with contextlib.suppress(OSError):  # the disk may be what failed
            self._write(FAILURES, {"reason": reason(error), "traceback": traceback.format_exc()})

    def read(self, kind: str) -> dict[str, Any] | None:
        """Return a note, or None."""
        try:
            content = json.loads(read_regular(self._path(kind), NOTE_LIMIT))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def failed(self) -> bool:
        """Say whether a failure is noted."""
        return self._path(FAILURES).exists()

    def clear(self, *kinds: str) -> None:
        """Remove notes: all, or those of some kinds."""
        for kind in kinds or (RUNNING, FAILURES):
            for suffix in (".json", ".new"):
                with contextlib.suppress(OSError):
                    self._path(kind).with_suffix(suffix).unlink()

    def _write(self, kind: str, content: dict[str, Any]) -> None:
        path = self._path(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")  # one name is enough: who trains a cell holds its lock, and one failure will do
        new.write_text(json.dumps(content))
        new.replace(path)
