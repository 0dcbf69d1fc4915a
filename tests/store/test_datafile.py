import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from circlemlp.config import QuarterCircle
from circlemlp.core.data import sample_dataset
from circlemlp.errors import UserError
from circlemlp.run.compose import compose_jobs
from circlemlp.store.datafile import generate, read_dataset
from circlemlp.store.npz import pack

MEGABYTE = 10**6


def described(folder, **changes):
    settings = {"n_train": 50, "n_validation": 20, "radius": 1.0, "label_noise": 0.0, "seed": 1, "draws": "fresh"}
    return QuarterCircle(shape="quarter_circle", file=str(folder / "data.npz"), **settings | changes)


def drawn(config, draws=1):
    return sample_dataset(config.model_dump(), draws)


def test_what_is_read_is_what_was_written(tmp_path):
    config = described(tmp_path)
    dataset = generate(config, 3)
    again = read_dataset(config, 3)
    for name, array in vars(dataset).items():
        np.testing.assert_array_equal(getattr(again, name), array)
        assert not getattr(again, name).flags.writeable
    assert again.digest() == dataset.digest()


def test_only_the_draws_that_are_asked_for_are_read_and_decide_the_digest(tmp_path):
    config = described(tmp_path)
    generate(config, 5)
    for draws in (1, 3, 5):
        dataset = read_dataset(config, draws)
        assert dataset.draws == draws
        assert dataset.digest() == drawn(config, draws).digest()
    forged(config, **changed(config, "x_train", (3, 7, 0), 0.5, draws=5))
    assert read_dataset(config, 3).digest() == drawn(config, 3).digest()
    with pytest.raises(UserError, match="the points are not those that the configuration draws"):
        read_dataset(config, 4)


def test_later_draws_are_read_alone(tmp_path):
    config = described(tmp_path)
    dataset = generate(config, 5)
    assert read_dataset(config, 2, first=3).digest() == dataset.of_replicates(range(3, 5)).digest()
    with pytest.raises(
        UserError,
        match=r"holds 5 draws of the data, and 6 replicates.* training\.first_replicate=3 training\.replicates=3$",
    ):
        read_dataset(config, 3, first=3)
    one = described(tmp_path, draws="shared")
    generate(one)
    assert read_dataset(one, 2, first=3).digest() == drawn(one).digest()


def test_a_shared_draw_is_for_any_number_of_replicates(tmp_path):
    config = described(tmp_path, draws="shared")
    generate(config, 3)
    one = read_dataset(config, 3)
    assert one.draws == read_dataset(config, 7).draws == 1
    assert one.digest() == drawn(config).digest() != drawn(described(tmp_path)).digest()


@pytest.mark.parametrize(("there", "says"), [(1, "1 draw"), (3, "3 draws")])
def test_a_file_with_too_few_draws_says_how_to_make_enough(tmp_path, there, says):
    config = described(tmp_path)
    generate(config, there)
    with pytest.raises(UserError) as error:
        read_dataset(config, 4)
    assert f": holds {says} of the data, and 4 replicates need one each; make it with: python" in str(error.value)
    assert str(error.value).endswith(" training.replicates=4")


@pytest.mark.parametrize("name", ["my data", "it's (1)=a,b", "${x}", "a\\b"])
def test_the_command_that_makes_the_file_works(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for config in (described(folder, label_noise=1e-5), described(folder, label_noise=1e-5, draws="shared")):
        with pytest.raises(UserError) as error:
            read_dataset(config, 2)
        command = str(error.value).partition("make it with: ")[2]
        (job,) = compose_jobs(shlex.split(command)[2:]).jobs
        assert (job.config.data, job.config.data.file) == (config, config.file)
        generate(job.config.data, job.config.training.replicates)
        assert read_dataset(config, 2).draws == (2 if config.draws == "fresh" else 1)


def forged(config, **arrays):
    """Write a data file that claims to hold what the configuration draws."""
    content = vars(drawn(config)) | arrays
    path = Path(config.file)
    path.write_bytes(pack({**content, "config": np.array(json.dumps(config.model_dump()))}))


def changed(config, name, place, value, draws=1):
    arrays = vars(drawn(config, draws))
    arrays[name][place] = value
    return arrays


@pytest.mark.parametrize(
    "change",
    [
        lambda config: changed(config, "x_train", (0, 3, 0), np.nan),
        lambda config: changed(config, "x_train", (0, 3, 0), 0.5),
        lambda config: changed(config, "y_validation", (0, 3), 7),
        lambda config: {"x_train": drawn(config).x_train[:, :10], "y_train": drawn(config).y_train[:, :10]},
        lambda config: {name: array[0] for name, array in vars(drawn(config)).items()},
        lambda config: {"y_train": drawn(config, 2).y_train[1:]},
        lambda config: {"x_train": drawn(config).x_train.astype(np.float32)},
        lambda config: {"y_train": 1 - drawn(config).y_train},
    ],
)
def test_points_that_the_configuration_does_not_draw_are_refused(tmp_path, change):
    config = described(tmp_path)
    forged(config)
    read_dataset(config)
    forged(config, **change(config))
    with pytest.raises(
        UserError, match=r"data\.npz: the points are not those that the configuration draws; make it with: python "
    ):
        read_dataset(config)


def test_a_file_of_another_configuration_says_which_key_differs_and_how_to_make_the_right_one(tmp_path):
    generate(described(tmp_path))
    other = described(tmp_path / "with space", seed=2)
    (tmp_path / "data.npz").rename(Path(other.file).parent.mkdir() or other.file)
    with pytest.raises(UserError, match=r"holds data\.seed=1, the configuration says 2") as error:
        read_dataset(other)
    assert shlex.quote(f"data.file='{other.file}'") in str(error.value)  # quoted for Hydra and for the shell


@pytest.mark.parametrize("array", [np.array(1.0), np.array("text")])
def test_arrays_without_an_axis_are_no_data(tmp_path, array):
    config = described(tmp_path)
    forged(config, x_train=array)
    with pytest.raises(UserError, match="cannot be read as a data file"):
        read_dataset(config)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    config = described(tmp_path)
    match kind:
        case "pipe":
            os.mkfifo(config.file)
        case "device":
            Path(config.file).symlink_to("/dev/zero")
        case "folder":
            Path(config.file).mkdir()
    with pytest.raises(UserError, match="cannot be read as a data file"):
        read_dataset(config)


LIMITED = """
import json, re, resource, sys
from pathlib import Path
from circlemlp import pinning
pinning.pin(pinning.resolve("auto"))
import numpy as np
from circlemlp.config import QuarterCircle
from circlemlp.core.optimizers import Adam
from circlemlp.core.recipe import Recipe
from circlemlp.core.training import Trainer
from circlemlp.store.datafile import read_dataset

config, allowance = QuarterCircle(**json.loads(sys.argv[1])), int(sys.argv[2])
now = 1024 * int(re.search(r"^VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text(), re.M)[1])
resource.setrlimit(resource.RLIMIT_DATA, (now + allowance,) * 2)
dataset = read_dataset(config, int(sys.argv[4]))
trainer = Trainer(dataset, Recipe((64,), Adam(), batch_size=int(sys.argv[3]) or None), range(int(sys.argv[4])))
print(trainer.epoch()[0], trainer.epoch()[0])
try:
    np.array(dataset.x_train)
except MemoryError:
    print("as it should be, there is no room for the points")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize(
    ("batch_size", "n", "draws", "allowance"),
    [(0, 6_000_000, 1, 64), (1000, 10_000_000, 1, 100), (0, 2_000_000, 3, 64), (1000, 3_500_000, 3, 100)],
)
def test_training_reads_a_file_that_is_larger_than_the_memory_it_may_take(tmp_path, batch_size, n, draws, allowance):
    # Shuffled mini-batches need their order, 4 bytes a point, where the file has 17.
    config = described(tmp_path, n_train=n)
    generate(config, draws)
    allowance *= MEGABYTE
    assert Path(config.file).stat().st_size > 1.5 * allowance
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, json.dumps(vars(config)), str(allowance), str(batch_size), str(draws)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    losses, refused = done.stdout.splitlines()
    before, after = map(float, losses.split())
    assert 0 < after < before < 2
    assert refused.startswith("as it should be")
