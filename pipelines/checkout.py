"""Imported first by every script here: each runs the library of its own checkout, with the kernels that were chosen.

So a copy of the project, such as those in which ``dvc exp run --temp`` and ``--queue`` work, reads its own
conf/ and code, and not those of the folder that ``.venv`` was made in. NumPy chooses its kernels when it is loaded, so
they are pinned here, before anything imports it.
"""

import os
import signal
import sys
from pathlib import Path

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until all is imported and a door listens: no traceback

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from circlemlp import pinning

MODE = pinning.resolve("native" if os.environ.get(pinning.CHOSEN) == "native" else "auto")
pinning.pin(MODE)
try:
    import numpy  # noqa: F401, for what it does: it takes the kernels that were pinned
except RuntimeError as error:  # an emulator that passes on the host's /proc/cpuinfo, say
    reason = " ".join(str(error).split())
    print(f"error: /proc/cpuinfo lists features that this processor does not have: {reason}", file=sys.stderr)
    sys.exit(2)
