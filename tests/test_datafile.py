import subprocess
import sys
import zipfile

import numpy as np
import pytest

from circlemlp.config import QuarterCircle
from circlemlp.store.datafile import generate, read_dataset, write_dataset
from circlemlp.store.records import map_arrays, pack

MEGABYTE = 10**6


def described(folder, **changes):
    settings = {"n_train": 50, "n_validation": 20, "radius": 1.0, "label_noise": 0.0, "seed": 1, **changes}
    return QuarterCircle(shape="quarter_circle", file=str(folder / "data.npz"), **settings)


def test_what_is_read_is_what_was_written(tmp_path):
    config = described(tmp_path)
    dataset = generate(config)
    write_dataset(config, dataset)
    again = read_dataset(config)
    for name, array in vars(dataset).items():
        np.testing.assert_array_equal(getattr(again, name), array)
        assert not getattr(again, name).flags.writeable
    assert again.digest() == dataset.digest()


def test_arrays_of_any_kind_are_mapped_as_numpy_reads_them(tmp_path):
    arrays = {
        "matrix": np.arange(12.0).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "bytes": np.arange(5, dtype=np.uint8),
        "text": np.array("ein Wort, größer"),
        "number": np.array(3.5),
    }
    path = tmp_path / "arrays.npz"
    path.write_bytes(pack(arrays))
    mapped = map_arrays(path)
    assert list(mapped) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(mapped[name], array)
        assert mapped[name].dtype == array.dtype


def test_a_file_that_cannot_be_mapped_is_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez_compressed(path, a=np.arange(3))
    with pytest.raises(ValueError, match="compressed"):
        map_arrays(path)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="Python objects"):
        map_arrays(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"not an array")
    with pytest.raises(ValueError, match="magic"):
        map_arrays(path)


LIMITED = """
import json, re, resource, sys
from pathlib import Path
from circlemlp import numerics
numerics.pin(numerics.resolve("auto"))
import numpy as np
from circlemlp.config import QuarterCircle
from circlemlp.core.optimizers import Adam
from circlemlp.core.training import Recipe, Trainer
from circlemlp.store.datafile import read_dataset

config, allowance = QuarterCircle(**json.loads(sys.argv[1])), int(sys.argv[2])
now = 1024 * int(re.search(r"^VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text(), re.M)[1])
resource.setrlimit(resource.RLIMIT_DATA, (now + allowance,) * 2)
dataset = read_dataset(config)
trainer = Trainer(dataset, Recipe((64,), Adam(), batch_size=int(sys.argv[3]) or None), range(1))
print(trainer.epoch()[0], trainer.epoch()[0])
try:
    np.array(dataset.x_train)
except MemoryError:
    print("as it should be, there is no room for the points")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize(("batch_size", "n", "allowance"), [(0, 6_000_000, 64), (1000, 10_000_000, 100)])
def test_training_reads_a_file_that_is_larger_than_the_memory_it_may_take(tmp_path, batch_size, n, allowance):
    # Shuffled mini-batches need their order, 4 bytes a point, where the file has 17.
    config = described(tmp_path, n_train=n)
    path = write_dataset(config, generate(config))
    allowance *= MEGABYTE
    assert path.stat().st_size > 1.5 * allowance
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, config.model_dump_json(), str(allowance), str(batch_size)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    losses, refused = done.stdout.splitlines()
    before, after = map(float, losses.split())
    assert 0 < after < before < 2
    assert refused.startswith("as it should be")
