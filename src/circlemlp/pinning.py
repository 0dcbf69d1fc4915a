"""Which kernels NumPy is to use: chosen through the environment, before NumPy is imported.

The bits of a matrix product depend on the BLAS kernel, those of an exponential on the SIMD level, and both libraries
choose by the processor when they are loaded. ``portable`` fixes the choice to what every x86-64 processor with AVX2
has, so that all of them give the same bits; ``native`` takes the widest the processor has. ``numerics`` reads back
what was loaded.
"""

import os
import platform
import re
import sys
from pathlib import Path
from typing import Literal, NoReturn

from circlemlp.errors import UserError

Mode = Literal["portable", "native"]

CHOSEN = "CIRCLEMLP_NUMERICS"
"""The variable that tells a process started again, and those it starts, which mode was asked for."""
_STARTED_IN = os.getcwd()
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_CHOOSING = ("OPENBLAS_CORETYPE", "NPY_ENABLE_CPU_FEATURES", "NPY_DISABLE_CPU_FEATURES")
_PORTABLE = {"OPENBLAS_CORETYPE": "Haswell", "NPY_ENABLE_CPU_FEATURES": "X86_V3"}
_AVX2 = {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"}  # the processor flags of x86-64-v3
_AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}  # those of x86-64-v4


def processor_flags() -> set[str]:
    """Return the processor's feature flags, or nothing where the system does not list them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return set()
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
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


def _wanted(mode: Mode) -> dict[str, str | None]:
    """Return the environment of a mode: the value of each variable, None for one that must not be there."""
    wanted: dict[str, str | None] = dict.fromkeys(_CHOOSING) | dict.fromkeys(_THREADS, "1")
    if mode == "portable":
        wanted |= _PORTABLE
    elif processor_flags() >= _AVX512:
        # Left alone, OpenBLAS takes its AVX2 kernels on processors newer than itself.
        wanted["OPENBLAS_CORETYPE"] = "SkylakeX"
    return wanted


def is_pinned(mode: Mode) -> bool:
    """Say whether the environment is that of a mode."""
    return all(os.environ.get(name) == value for name, value in _wanted(mode).items())


def pin(mode: Mode) -> None:
    """Set the environment of a mode, for this process and those it starts.

    Raises
    ------
    UserError
        If NumPy is loaded already and was not chosen so: its kernels cannot change any more.
    """
    if not is_pinned(mode) and "numpy" in sys.modules:
        raise UserError(
            f"numerics={mode}: NumPy is already loaded in this process with other kernels; "
            "run cells of different numerics in separate sweeps"
        )
    for name, value in _wanted(mode).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def restart(mode: Mode) -> NoReturn:
    """Start this program again with the kernels of a mode; the process stays the same one."""
    os.environ[CHOSEN] = mode
    os.chdir(_STARTED_IN)  # where the names on the command line are found
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
