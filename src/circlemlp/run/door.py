"""What every door has in common: how it ends, whatever happens, and the kernels it computes with."""

import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from circlemlp import numerics, pinning
from circlemlp.config import Config
from circlemlp.errors import UserError, first_line
from circlemlp.project import PROJECT

INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C
DOOR = "CIRCLEMLP_DOOR"
"""The variable that tells workers the process to end with."""
SECONDS_BETWEEN_LOOKS = 0.5
TO_END = (signal.SIGTERM, signal.SIGHUP)


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
    os.environ[DOOR] = str(os.getpid())
    for asked in TO_END:  # to end is to end in order, even where a shell lets Ctrl-C be ignored
        if signal.getsignal(asked) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(asked, signal.default_int_handler)
    sys.stdout, sys.stderr = _Output.of(sys.stdout), _Output.of(sys.stderr)
    try:
        code = door()
        if sys.stdout:
            sys.stdout.flush()  # so that a full disk behind it is told here
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except MemoryError as error:
        print(f"error: not enough memory ({first_line(error)})", file=sys.stderr)
        code = 2
    except OSError as error:
        sys.stdout = None  # Python would try to flush it once more
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        code = INTERRUPTED
    return code


class _Output(io.TextIOWrapper):
    """Standard output or error whose reader may leave, as ``head`` does, without that being a failure."""

    @classmethod
    def of(cls, stream: TextIO) -> TextIO:
        if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, cls):  # closed, or a test's
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
        except BrokenPipeError:
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

    A library can lose the exception: one that met Hydra composing a job came out as an error of Hydra's.

    Programs that are started in the block do not get Ctrl-C from the terminal, which would make each of them print a
    traceback: they inherit that this thread blocks SIGINT. Another one waits for it and sends this one SIGTERM.
    """
    interrupted = threading.Event()

    def end(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def pass_on() -> None:
        while not over.is_set():
            if signal.sigtimedwait({signal.SIGINT}, SECONDS_BETWEEN_LOOKS):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    handled = [asked for asked in TO_END if signal.getsignal(asked) is not signal.SIG_IGN]
    before = {asked: signal.signal(asked, end) for asked in handled}
    over = threading.Event()
    waiter = threading.Thread(target=pass_on, daemon=True)
    catching = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    try:
        with contextlib.suppress(KeyboardInterrupt):
            if catching:
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                waiter.start()
            yield interrupted
    finally:
        over.set()
        for asked, handler in before.items():
            signal.signal(asked, handler)
        if catching:
            waiter.join()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_with_parent() -> None:
    """Watch the door from a worker that it started, and end when it is gone, however it went."""
    door = int(os.environ[DOOR])

    def watch() -> None:
        while os.getppid() == door:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
