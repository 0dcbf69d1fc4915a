"""The process that answers for a served network, with the kernels that the network was trained with.

``recommended.py`` copies this file into the model, and beside it what it imports, so that a model needs no circlemlp to
be installed; ``served_model.py`` starts it there. It says in one line which type its probabilities have, or what is
wrong. Then it reads how many points there are, in eight bytes, and their coordinates, and writes their probabilities,
until its input ends.
"""

import json
import platform
import signal
import sys
from pathlib import Path
from typing import Any

from circlemlp import pinning
from circlemlp.errors import UserError

ROOT = Path(__file__).resolve().parent
"""In a model, where the circlemlp is that came with the network; Python finds that first."""
ABOUT, PARAMETERS = "network.json", "parameters.npz"


def main() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, and when it ends, so does the input
    about = json.loads((ROOT / ABOUT).read_text())
    try:
        mode = pinning.resolve(about["numerics"]["mode"])
        pinning.pin(mode)
        _check(mode, about["dtype"], about["numerics"])
    except UserError as error:
        print(error, flush=True)
    else:
        print(about["dtype"], flush=True)
        _answer(about)


def _check(mode: pinning.Mode, dtype: str, trained: dict[str, Any]) -> None:
    """Refuse a numeric environment in which last bits can be others than in that of the training."""
    from circlemlp.core.elementary import elementary_digest
    from circlemlp.numerics import read_back

    here = {**read_back(mode), "elementary": elementary_digest(dtype)}
    if dtype == "float64":
        here["c_library"] = " ".join(platform.libc_ver())
    differing = [key for key, value in here.items() if value != trained[key]]
    if differing:
        found, wanted = ({key: environment[key] for key in differing} for environment in (here, trained))
        raise UserError(f"the last bits would be others than where the network was trained: {found}, and not {wanted}")


def _answer(about: dict[str, Any]) -> None:
    import numpy as np

    from circlemlp.core.network import Network
    from circlemlp.core.parameters import Layout

    network = Network(
        Layout.of(about["hidden_layer_sizes"]), np.load(ROOT / PARAMETERS)["parameters"], about["activation"]
    )
    while count := sys.stdin.buffer.read(8):
        x = np.frombuffer(sys.stdin.buffer.read(int.from_bytes(count) * 16)).reshape(-1, 2)
        sys.stdout.buffer.write(network.probabilities(x).tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
