import json
import os
import subprocess
import sys

import joblib
import pytest

from circlemlp import pinning
from circlemlp.errors import UserError
from conftest import SOURCE, TINY

needs_avx2 = pytest.mark.skipif(pinning.resolve("auto") != "portable", reason="needs Linux on x86-64 with AVX2")


def in_a_process(code, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS", "NPY_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", "import json\nfrom circlemlp import pinning\n" + code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


READ_BACK = "pinning.pin('{0}')\nfrom circlemlp import numerics\nprint(json.dumps(numerics.read_back('{0}')))"
NOT_PINNED = "from circlemlp import numerics\nnumerics.read_back('portable')"


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
    if "avx512f" in pinning.processor_flags():
        assert "X86_V4" in found["simd"]
        assert found["blas"][0]["architecture"] == "SkylakeX"


@needs_avx2
def test_a_pin_that_did_not_take_is_an_error():
    said = in_a_process(NOT_PINNED, OPENBLAS_CORETYPE="Sandybridge", OPENBLAS_NUM_THREADS="1")
    assert "numerics=portable: the BLAS kernel is ['Sandybridge'], not Haswell" in said
    said = in_a_process(
        NOT_PINNED,
        OPENBLAS_CORETYPE="Haswell",
        OPENBLAS_NUM_THREADS="1",
        NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL",
    )
    assert "numerics=portable: NumPy's SIMD level is" in said


@needs_avx2
@pytest.mark.skipif(joblib.cpu_count() < 2, reason="on one core, a BLAS takes one thread")
def test_a_second_thread_is_an_error():
    said = in_a_process(NOT_PINNED, OPENBLAS_CORETYPE="Haswell", OPENBLAS_NUM_THREADS="2")
    assert "BLAS did not take one thread" in said


def test_a_pin_that_comes_too_late_is_an_error():
    said = in_a_process("import numpy\npinning.pin('native')", OPENBLAS_CORETYPE="Sandybridge")
    assert "NumPy is already loaded in this process with other kernels" in said


def test_portable_is_refused_where_it_cannot_be(monkeypatch):
    monkeypatch.setattr(pinning, "processor_flags", lambda: {"avx"})
    with pytest.raises(UserError, match="numerics=portable: needs Linux on x86-64 with AVX2"):
        pinning.resolve("portable")
    assert pinning.resolve("auto") == pinning.resolve("native") == "native"


def checkout(*command, **environment):
    """Run a program that begins as the entry points do."""
    code = "import sys\nsys.path.insert(0, 'pipelines')\nimport checkout\nimport json\n" + "\n".join(command)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS", "NPY_", "OMP_", "CIRCLEMLP"))}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCE, env={**clean, **environment}, capture_output=True, text=True
    )


def test_a_program_that_has_left_its_folder_is_found_again(tiny):
    relative = f"{tiny.folder.name}/pipelines/train.py"
    command = f"cd .. && exec python {relative} numerics=native model=mlp_64 {' '.join(TINY)}"
    assert tiny.states(tiny.run("bash", "-c", command)) == ["trained"]


RESTARTS = (
    "from circlemlp import numerics, pinning",
    "import os",
    "print(os.getpid(), flush=True)",
    "if not pinning.is_pinned('native'): pinning.restart('native')",
    "print(numerics.read_back('native')['mode'], pinning.is_pinned('native'))",
)


def test_a_program_is_started_again_once_for_another_mode():
    before, after, said = checkout(*RESTARTS).stdout.splitlines()
    assert before == after  # it is the same process
    assert said == "native True"


@needs_avx2
def test_an_entry_point_pins_the_default_whatever_the_environment_says():
    done = checkout(
        "from circlemlp import numerics",
        "print(numerics.read_back(checkout.MODE)['blas'][0]['architecture'])",
        OPENBLAS_CORETYPE="Sandybridge",
        OPENBLAS_NUM_THREADS="2",
    )
    assert done.stdout == "Haswell\n", done.stderr


def test_a_processor_without_what_the_system_lists_is_one_line(tmp_path):
    # NumPy raises this where the features asked for are not there, as under an emulator of an older processor.
    (tmp_path / "numpy.py").write_text("raise RuntimeError('You cannot enable CPU features\\n(X86_V3)')\n")
    done = checkout(PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        "error: /proc/cpuinfo lists features that this processor does not have: "
        "You cannot enable CPU features (X86_V3)\n"
    )


def test_without_proc_the_native_kernels_serve(monkeypatch):
    def nothing(*_):
        raise FileNotFoundError(2, "No such file or directory", "/proc/cpuinfo")

    monkeypatch.setattr(pinning.Path, "read_text", nothing)
    assert pinning.processor_flags() == set()
    assert pinning.resolve("auto") == "native"
