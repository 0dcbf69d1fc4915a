"""Indexing while a sweep goes on, in a process that ends with the one that started it."""

import os
import select
import threading
import time
from pathlib import Path

from circlemlp.config import Tracking
from circlemlp.store.records import Store
from circlemlp.tracking.index import WRITING, Index

SECONDS_BETWEEN_LOOKS = 1.0
DONE = b"done\n"


def follow(records: Path, tracking: Tracking) -> None:
    """Index records as they appear, until standard input says ``done``; then index what is left.

    If standard input ends without that, or the parent process does, this process ends after the run being written.
    """
    done = threading.Event()
    threading.Thread(target=_listen, args=(done, os.getppid()), daemon=True).start()
    index, store = Index(tracking), Store(records)
    seen: set[str] = set()
    ended = False
    while not ended:
        ended = done.wait(SECONDS_BETWEEN_LOOKS)
        present = set(store.identities())
        if ended or present - seen:  # at the end always, for damaged ones that were trained again
            index.bring_up_to_date([store])
            seen = present


def _listen(done: threading.Event, parent: int) -> None:
    """Wait for the word on standard input, and then for the end of the parent."""
    heard = b""
    while heard != DONE and os.getppid() == parent:
        if select.select([0], [], [], SECONDS_BETWEEN_LOOKS)[0]:
            more = os.read(0, len(DONE))
            heard += more
            if not more:
                parent = 0  # as good as gone
    if heard == DONE:
        done.set()
    end_with(parent)


def end_with(parent: int) -> None:
    """Wait until this process has another parent, and then end it, between two runs."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    with WRITING:
        os._exit(1)
