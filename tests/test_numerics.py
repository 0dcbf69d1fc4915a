import json
import os
import subprocess
import sys

import pytest

from circlemlp import numerics
from circlemlp.errors import UserError

needs_avx2 = pytest.mark.skipif(numerics.resolve("auto") != "portable", reason="needs Linux on x86-64 with AVX2")


def in_a_process(code, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS", "NPY_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", "import json\nfrom circlemlp import numerics\n" + code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


READ_BACK = "numerics.pin('{0}')\nprint(json.dumps(numerics.read_back('{0}')))"


@needs_avx2
def test_portable_pins_kernel_level_and_threads_whatever_the_environment_says():
    found = json.loads(
        in_a_process(
            READ_BACK.format("portable"),
            OPENBLAS_CORETYPE="Sandybridge",
            NPY_DISABLE_CPU_FEATURES="X86_V3",
            OPENBLAS_NUM_THREADS="2",
        )
    )
    assert found["simd"] == ["X86_V2", "X86_V3"]
    assert [(pool["architecture"], pool["num_threads"]) for pool in found["blas"]] == [("Haswell", 1)]


def test_native_takes_the_widest_kernels_and_one_thread():
    found = json.loads(in_a_process(READ_BACK.format("native")))
    assert found["mode"] == "native"
    assert all(pool["num_threads"] == 1 for pool in found["blas"])
    if "avx512f" in numerics.processor_flags():
        assert "X86_V4" in found["simd"]
        assert found["blas"][0]["architecture"] == "SkylakeX"


@needs_avx2
def test_a_pin_that_did_not_take_is_an_error():
    said = in_a_process(
        "import numpy\nnumerics.read_back('portable')", OPENBLAS_CORETYPE="Sandybridge", OPENBLAS_NUM_THREADS="1"
    )
    assert "numerics=portable: the BLAS kernel is ['Sandybridge'], not Haswell" in said
    said = in_a_process(
        "import numpy\nnumerics.read_back('portable')",
        OPENBLAS_CORETYPE="Haswell",
        OPENBLAS_NUM_THREADS="1",
        NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL",
    )
    assert "numerics=portable: NumPy's SIMD level is" in said
    said = in_a_process(
        "import numpy\nnumerics.read_back('portable')", OPENBLAS_CORETYPE="Haswell", OPENBLAS_NUM_THREADS="2"
    )
    assert "BLAS did not take one thread" in said


def test_a_pin_that_comes_too_late_is_an_error():
    said = in_a_process("import numpy\nnumerics.pin('native')", OPENBLAS_CORETYPE="Sandybridge")
    assert "NumPy is already loaded in this process with other kernels" in said


def test_portable_is_refused_where_it_cannot_be(monkeypatch):
    monkeypatch.setattr(numerics, "processor_flags", lambda: {"avx"})
    with pytest.raises(UserError, match="numerics=portable: needs Linux on x86-64 with AVX2"):
        numerics.resolve("portable")
    assert numerics.resolve("auto") == numerics.resolve("native") == "native"
