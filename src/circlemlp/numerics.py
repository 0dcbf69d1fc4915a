"""The numeric environment of a run: which kernels compute it.

The bits of a matrix product depend on the BLAS kernel, those of an exponential on the SIMD level, and
both libraries choose by the processor when they are loaded. ``portable`` fixes the choice to what every
x86-64 processor with AVX2 has, so that all of them give the same bits; ``native`` takes the widest the
processor has. Either is set through environment variables *before* NumPy is imported, and then read back.
"""

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any, Literal

from circlemlp.errors import UserError

Mode = Literal["portable", "native"]

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_CHOOSING = ("OPENBLAS_CORETYPE", "NPY_ENABLE_CPU_FEATURES", "NPY_DISABLE_CPU_FEATURES")
_PORTABLE = {"OPENBLAS_CORETYPE": "Haswell", "NPY_ENABLE_CPU_FEATURES": "X86_V3"}
_AVX2 = {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"}  # the processor flags of x86-64-v3
_AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}  # those of x86-64-v4


def processor_flags() -> set[str]:
    """Return the processor's feature flags, or nothing where the system does not list them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return set()
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return set(found[1].split()) if found else set()


def resolve(choice: str) -> Mode:
    """Turn ``auto`` into what this machine can do; refuse ``portable`` where it cannot.

    Raises
    ------
    UserError
    """
    possible = processor_flags() >= _AVX2
    if choice == "portable" and not possible:
        raise UserError("numerics=portable: needs Linux on x86-64 with AVX2; numerics=native works here")
    if choice == "native" or not possible:
        return "native"
    return "portable"


def pin(mode: Mode) -> None:
    """Choose the kernels, for this process and those it starts.

    Raises
    ------
    UserError
        If NumPy is loaded already and was not chosen so: its kernels cannot change any more.
    """
    wanted = dict.fromkeys(_THREADS, "1")
    if mode == "portable":
        wanted |= _PORTABLE
    elif processor_flags() >= _AVX512:
        # Left alone, OpenBLAS takes its AVX2 kernels on processors newer than itself.
        wanted["OPENBLAS_CORETYPE"] = "SkylakeX"
    changed = {name for name, value in wanted.items() if os.environ.get(name) != value}
    changed |= {name for name in _CHOOSING if name in os.environ and name not in wanted}
    if changed and "numpy" in sys.modules:
        raise UserError(
            f"numerics={mode}: NumPy is already loaded in this process with other kernels; "
            "run cells of different numerics in separate sweeps"
        )
    for name in changed:
        os.environ.pop(name, None)
    os.environ.update(wanted)


def read_back(mode: Mode) -> dict[str, Any]:
    """Import NumPy and return which kernels it really uses: the numeric environment of a run.

    Raises
    ------
    UserError
        If a pin did not take. Both libraries ignore a name they do not know, so this is looked up, never
        assumed.
    """
    import numpy as np
    from threadpoolctl import threadpool_info

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
        if kernels != [_PORTABLE["OPENBLAS_CORETYPE"]]:
            raise UserError(f"numerics=portable: the BLAS kernel is {kernels}, not Haswell; is NumPy the locked wheel?")
        if environment["simd"] != ["X86_V2", "X86_V3"]:
            raise UserError(f"numerics=portable: NumPy's SIMD level is {environment['simd']}, not X86_V3")
    return environment
