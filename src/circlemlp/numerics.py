"""The numeric environment of a run: which kernels really compute it."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from circlemlp.errors import UserError
from circlemlp.pinning import Mode


def read_back(mode: Mode) -> dict[str, Any]:
    """Return which kernels NumPy uses: what a run's identity says of its numeric environment.

    Raises
    ------
    UserError
        If these are not those that were pinned. Both libraries ignore names that they do not know, so what they
        loaded is looked up, never assumed.
    """
    simd: Any = np.show_config(mode="dicts")
    extensions = simd["SIMD Extensions"]
    environment = {
        "mode": mode,
        "machine": platform.machine(),
        "numpy": np.__version__,
        "simd": sorted({*extensions.get("baseline", []), *extensions.get("found", [])}),
        "blas": [
            {key: pool.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
            for pool in threadpool_info()
            if pool["user_api"] == "blas" and Path(pool["filepath"]).parent.name != "scipy.libs"
        ],
    }
    if any(pool["num_threads"] != 1 for pool in environment["blas"]):
        raise UserError(f"numerics={mode}: BLAS did not take one thread: {environment['blas']}")
    if mode == "portable":
        kernels = [pool["architecture"] for pool in environment["blas"]]
        if kernels != ["Haswell"]:
            raise UserError(f"numerics=portable: the BLAS kernel is {kernels}, not Haswell; is NumPy the locked wheel?")
        if environment["simd"] != ["X86_V2", "X86_V3"]:
            raise UserError(f"numerics=portable: NumPy's SIMD level is {environment['simd']}, not X86_V3")
    return environment
