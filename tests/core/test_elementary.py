import json
import os
import platform
import subprocess
import sys
from functools import cache

import pytest

from circlemlp.core.elementary import elementary_digest

TRAINING = """
import hashlib, json, math
from circlemlp.core.data import sample_dataset
from circlemlp.core.elementary import elementary_digest
from circlemlp.core.optimizers import AdamW
from circlemlp.core.recipe import Recipe
from circlemlp.core.schedules import Schedule
from circlemlp.core.training import train

numbers = {"draws": "shared", "n_train": 500, "n_validation": 200, "label_noise": 0.1, "seed": 0}
data = sample_dataset({"shape": "rings", "inner_radius": 0.3, "outer_radius": 0.7, **numbers})
trained = {}
for dtype in ("float32", "float64"):
    for activation in ("relu", "tanh", "gelu"):
        for batch_size in (None, 64):
            settings = {"activation": activation, "dtype": dtype, "batch_size": batch_size, "replicates": 2}
            recipe = Recipe((32, 16), AdamW(0.003), schedule=Schedule("cosine", 0.1), epochs=30, **settings)
            parameters, history = train(data, recipe)
            results = b"".join(array.tobytes() for array in (parameters, *vars(history).values()))
            trained[f"{dtype} {activation} {batch_size}"] = hashlib.sha256(results).hexdigest()
print(json.dumps({
    "trained": trained,
    "digests": {dtype: elementary_digest(dtype) for dtype in ("float32", "float64")},
    "library": hashlib.sha256(repr([math.exp(-k / 1000) for k in range(20_000)]).encode()).hexdigest(),
}))
"""


@cache
def trained_under(tunables):
    environment = {**os.environ, "GLIBC_TUNABLES": tunables}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variable is glibc's")
@pytest.mark.parametrize(
    "tunables",
    ["glibc.cpu.hwcaps=-FMA", "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX,-AVX512F", "glibc.cpu.hwcaps=-AVX2_Usable"],
)
def test_what_the_c_library_changes_is_in_the_digest_or_changes_no_bit(tunables):
    usual, other = trained_under(""), trained_under(tunables)
    print(f"another exponential: {other['library'] != usual['library']}")
    for name, result in usual["trained"].items():
        dtype = name.split()[0]
        assert other["trained"][name] == result or other["digests"][dtype] != usual["digests"][dtype]
    if other["library"] != usual["library"]:
        assert other["digests"]["float64"] != usual["digests"]["float64"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="NumPy's own float32 functions are those of x86-64")
def test_nothing_of_float32_comes_from_the_c_library():
    usual, other = (trained_under(tunables) for tunables in ("", "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX,-AVX512F"))
    assert other["digests"]["float32"] == usual["digests"]["float32"]
    for name, result in usual["trained"].items():
        if name.startswith("float32"):
            assert other["trained"][name] == result


def test_the_digest_is_that_of_a_type():
    assert elementary_digest("float32") == elementary_digest("float32") != elementary_digest("float64")
