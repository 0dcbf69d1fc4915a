"""Indexing while a sweep goes on, in a process that ends with the one that started it."""

import os
import sys
import threading
import time
from pathlib import Path

from circlemlp.config import Indexing
from circlemlp.errors import UserError
from circlemlp.store.records import Store
from circlemlp.store.results import exported_folders
from circlemlp.tracking.database import writing
from circlemlp.tracking.index import Index
from circlemlp.tracking.server import Server

SECONDS_BETWEEN_LOOKS = 1.0
DONE = b"done\n"


def follow(records: Path, settings: Indexing, server: Server | None) -> None:
    """Index records as they appear, and copy them to a server if there is one, until standard input says ``done``.

    What is left is done then. If standard input ends without that, or the parent process does, this process ends after
    the run being written.
    """
    done = threading.Event()
    threading.Thread(target=_listen, args=(done,), daemon=True).start()
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    index, store = Index(settings.tracking, settings.report), Store(records)
    seen: set[str] = set()
    ended, why_not = False, ""
    while not ended:
        ended = done.wait(SECONDS_BETWEEN_LOOKS)
        present = set(store.identities())
        if ended or present - seen:  # at the end always, for damaged ones that were trained again
            index.bring_up_to_date(store, exported_folders())
            seen = present
            if server and (ended or not why_not):  # after a failure once more, at the end
                why_not = _push(server, index, why_not)


def _push(server: Server, index: Index, said: str) -> str:
    """Copy the index to a server; return why that failed, which is said once."""
    try:
        server.push(index)
    except UserError as error:
        if str(error) != said:
            print(error, file=sys.stderr)
        return str(error)
    return ""


def _listen(done: threading.Event) -> None:
    """Wait for the word on standard input; end this process where that ends without it."""
    with open(0, "rb", buffering=0, closefd=False) as standard_input:
        if standard_input.readline() == DONE:
            done.set()
        else:
            _end()


def end_with(parent: int) -> None:
    """Wait until this process has another parent, and then end it, between two runs."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    _end()


def _end() -> None:
    with writing():
        os._exit(1)
