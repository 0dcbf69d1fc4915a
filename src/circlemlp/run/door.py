"""What every door has in common: how it ends, whatever happens, and the kernels it computes with."""

import contextlib
import errno
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO

from circlemlp import numerics, pinning
from circlemlp.config import Config
from circlemlp.errors import UserError, first_line
from circlemlp.project import PROJECT
from circlemlp.run.compose import ForHydra, explain

INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_PUT_OFF = 0.02
NOT_TO_INTERRUPT = ("joblib.externals", "joblib._memmapping_reducer")
"""Modules that start processes and note what has to be cleaned up after them."""


def guarded(door: Callable[[], int]) -> int:
    """Run a door in the project's folder, and turn what ends it into an exit code and at most one line.

    Parameters
    ----------
    door : callable
        Returns the exit code.

    Returns
    -------
    int
        The door's own code; 2 after what the user can put right; 130 after Ctrl-C or a request to end.
    """
    os.chdir(PROJECT)
    os.environ["MPLBACKEND"] = "agg"  # a notebook's, in the environment, might not load here
    for one in ENDING:
        if signal.getsignal(one) is not signal.SIG_IGN:  # as nohup has it, and a shell that starts a program with &
            signal.signal(one, signal.default_int_handler)
    sys.stdout, sys.stderr = _Output.of(sys.stdout), _Output.of(sys.stderr)
    try:
        code = _answered(door)
        if sys.stdout:
            sys.stdout.flush()  # so that a full disk behind it is told here
    except BaseException as error:
        if _is_interrupt(error):
            print("interrupted", file=sys.stderr)
            code = INTERRUPTED
        elif isinstance(error, UserError | OSError | MemoryError):
            if isinstance(error, OSError):
                sys.stdout = None  # Python would try to flush it once more
            what = f"not enough memory ({first_line(error)})" if isinstance(error, MemoryError) else error
            print(f"error: {what}", file=sys.stderr)
            code = 2
        else:
            raise
    for one in ENDING:  # the libraries' own endings come next, which would print a traceback
        signal.signal(one, signal.SIG_IGN)
    return code


def _is_interrupt(error: BaseException | None) -> bool:
    """Say whether an error is Ctrl-C, or one that a library's cleaning up after it raised, as OmegaConf's does."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _answered(door: Callable[[], int]) -> int:
    """Run a door, or let Hydra answer its command line."""
    try:
        return door()
    except ForHydra:
        explain()
        return 0


class _Output(io.TextIOWrapper):
    """Standard output or error that may lose its reader, such as ``head`` or a terminal. The rest then goes nowhere."""

    @classmethod
    def of(cls, stream: TextIO | None) -> TextIO:
        if stream is None:  # closed by whoever started this
            return open(os.devnull, "w")
        if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, cls):  # a test's
            return stream
        stream.flush()
        return cls(
            stream.detach(),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str) -> int:
        self._while_read(super().write, text)
        return len(text)

    def flush(self) -> None:
        self._while_read(super().flush)

    def _while_read(self, act: Callable[..., object], *arguments: object) -> None:
        try:
            act(*arguments)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # a pipe, a terminal
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            act(*arguments)


def prepare(config: Config) -> dict[str, Any]:
    """Return the numeric environment that a configuration asks for, as it really is.

    NumPy takes its kernels when it is loaded, which is long ago, so for others the program is started again.
    """
    mode = pinning.resolve(config.numerics)
    if not pinning.is_pinned(mode):
        pinning.restart(mode)
    if config.numerics == "auto" and mode == "native":
        print("numerics=auto: native kernels, because this machine is not Linux on x86-64 with AVX2", file=sys.stderr)
    return numerics.read_back(mode)


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or a request to end sets, besides the exception that then ends the block.

    The exception alone is not enough, because a library can turn it into an error of its own, as Hydra does while it
    composes a job. It can also come too early: after joblib has started a worker and before it has written to it, or
    between making a semaphore and noting it, it would leave a process that prints a traceback. So it is put off until
    joblib has done both.

    A terminal sends its signals to the programs that are started in the block as well, and each of them would print a
    traceback. They inherit that this thread blocks these signals. Another thread waits for them, and sends SIGTERM to
    this one.
    """
    interrupted, over = threading.Event(), threading.Event()
    from_terminal = {one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN}

    def end(_: int, frame: FrameType | None) -> None:
        interrupted.set()
        modules = [one.f_globals.get("__name__", "") for one, _ in traceback.walk_stack(frame)]
        if any(name.startswith(NOT_TO_INTERRUPT) for name in modules):
            signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_PUT_OFF)
        else:
            raise KeyboardInterrupt

    def pass_on() -> None:
        while True:
            signal.sigwait(from_terminal)
            if over.is_set():
                return
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    waiter = threading.Thread(target=pass_on, daemon=True)
    before = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGALRM)}
    try:
        if from_terminal:
            signal.pthread_sigmask(signal.SIG_BLOCK, from_terminal)
            waiter.start()
        try:
            yield interrupted
        except KeyboardInterrupt:  # one before the block is the caller's
            interrupted.set()
    finally:
        over.set()
        signal.setitimer(signal.ITIMER_REAL, 0)
        for one, handler in before.items():
            signal.signal(one, handler)
        if waiter.ident:
            signal.pthread_kill(waiter.ident, min(from_terminal))
            waiter.join()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, from_terminal)


def end_with_parent() -> None:
    """From now on, end this process when the one that started it as its worker is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
