import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import plain
from circlemlp.core.adam import AdamOptions
from circlemlp.core.data import Boundary, sample_dataset
from circlemlp.core.initialisation import initialise
from circlemlp.core.parameters import Layout
from circlemlp.core.streams import stream
from circlemlp.core.training import Trainer, replicates_together, train

DATA = sample_dataset(Boundary(0, 1, 0, 1), n_train=5000, n_validation=2000, label_noise=0, seed=2024)
SMALL = sample_dataset(Boundary(0, 1, 0, 1), n_train=300, n_validation=100, label_noise=0, seed=1)


def run(dataset=SMALL, *, hidden=(8, 4), epochs=5, batch_size=None, dtype="float64", replicates=3, seed=0, adam=None):
    return train(
        dataset,
        hidden_layer_sizes=hidden,
        adam=adam or AdamOptions(),
        epochs=epochs,
        batch_size=batch_size,
        dtype=dtype,
        replicates=replicates,
        seed=seed,
    )


@pytest.mark.parametrize("hidden", [(64,), (128,), (64, 32), (128, 64)])
def test_a_thousand_epochs_follow_the_plain_implementation(hidden):
    _, history = run(DATA, hidden=hidden, epochs=1000, replicates=1)
    layout = Layout.of(hidden)
    start = initialise(layout, seed=0, replicates=[0], dtype="float64")[0]
    expected = plain.train(start, layout.layer_sizes, DATA.x_train, DATA.y_train, epochs=1000, learning_rate=0.001)
    difference = np.abs(history.training_loss[0] / expected - 1).max()
    print(f"{hidden}: largest relative difference {difference:.1e}")
    assert difference < 1e-10


def test_the_curves_are_those_of_the_parameters():
    parameters, history = run(epochs=7)
    layer_sizes = Layout.of((8, 4)).layer_sizes
    start = initialise(Layout.of((8, 4)), seed=0, replicates=range(3), dtype="float64")
    for row, theta in ((0, start), (-1, parameters)):
        for replicate in range(3):
            for curve, x, y in (
                (history.training_loss, SMALL.x_train, SMALL.y_train),
                (history.validation_loss, SMALL.x_validation, SMALL.y_validation),
            ):
                expected = plain.mean_loss(theta[replicate], layer_sizes, x, y)
                assert curve[replicate, row] == pytest.approx(expected, rel=1e-12)
            s, _ = plain.forward(plain.unflatten(theta[replicate], layer_sizes), SMALL.x_validation)
            assert history.validation_accuracy[replicate, row] == np.mean((s > 0) == SMALL.y_validation)


@pytest.mark.parametrize("batch_size", [None, 32, 300, 1000])
def test_no_replicate_knows_of_the_others(batch_size):
    parameters, history = run(batch_size=batch_size, replicates=4)
    trainer = Trainer(
        SMALL,
        hidden_layer_sizes=(8, 4),
        adam=AdamOptions(),
        batch_size=batch_size,
        dtype="float64",
        replicates=range(2, 3),
        seed=0,
    )
    for _ in range(5):
        trainer.epoch()
    np.testing.assert_array_equal(parameters[2], trainer.parameters[0])
    assert len({tuple(row) for row in parameters}) == 4
    assert np.isfinite(history.training_loss).all()


def test_a_mini_batch_of_everything_is_the_full_batch_in_another_order():
    full, _ = run(epochs=20)
    mini, _ = run(epochs=20, batch_size=300)
    np.testing.assert_allclose(mini, full, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("hidden", "rate"), [((6,), 0.001), ((6,), 0.1), ((5, 3), 0.01)])
def test_every_cell_takes_the_same_batches_and_every_point_once(hidden, rate):
    # One step of plain Adam for each batch, in the order of the replicate's own stream, whatever the cell.
    layout = Layout.of(hidden)
    order = np.arange(300)
    stream(5, "shuffling", 0).shuffle(order)
    theta = initialise(layout, seed=5, replicates=[0], dtype="float64")[0]
    m = v = 0.0
    for t, start in enumerate(range(0, 300, 128), start=1):
        batch = order[start : start + 128]
        g = plain.gradient(theta, layout.layer_sizes, SMALL.x_train[batch], SMALL.y_train[batch])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    adam = AdamOptions(learning_rate=rate)
    parameters, _ = run(hidden=hidden, epochs=1, batch_size=128, replicates=1, seed=5, adam=adam)
    np.testing.assert_allclose(parameters[0], theta, rtol=1e-9, atol=1e-12)


def test_the_same_call_gives_the_same_bits_and_another_seed_others():
    first, second, other = run(dtype="float32"), run(dtype="float32"), run(dtype="float32", seed=1)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1].validation_loss, second[1].validation_loss)
    assert (first[0] != other[0]).any()


def test_it_learns_the_circle():
    _, history = run(DATA, hidden=(64, 32), epochs=300, dtype="float32", replicates=2, adam=AdamOptions(0.01))
    assert (history.validation_accuracy[:, -1] > 0.98).all()
    assert (history.diverged_at == -1).all()


def test_divergence_is_a_result():
    huge = replace(SMALL, x_train=SMALL.x_train * 1e200)  # the product of two layers overflows
    _, history = run(huge, epochs=6, adam=AdamOptions(learning_rate=1e120), replicates=2)
    assert (history.diverged_at > 0).all()
    for replicate, epoch in enumerate(history.diverged_at):
        for curve in (history.training_loss, history.validation_loss, history.validation_accuracy):
            assert np.isfinite(curve[replicate, :epoch]).all()
            assert np.isnan(curve[replicate, epoch:]).all()


def test_progress_counts_every_epoch_of_every_replicate():
    for batch_size in (None, 32):
        seen = []
        train(
            SMALL,
            hidden_layer_sizes=(4,),
            adam=AdamOptions(),
            epochs=3,
            batch_size=batch_size,
            dtype="float32",
            replicates=5,
            seed=0,
            on_epoch=seen.append,
        )
        assert seen[-1] == 15
        assert seen == sorted(seen)


def test_small_batches_are_trained_together_and_full_ones_alone():
    layout = Layout.of((64, 32))
    assert replicates_together(layout, None, "float32") == 1
    assert replicates_together(layout, 32, "float32") > 10
    assert replicates_together(layout, 10**6, "float32") == 1


@pytest.mark.parametrize("batch_size", [None, 128])
def test_an_epoch_allocates_nothing(batch_size):
    trainer = Trainer(
        DATA,
        hidden_layer_sizes=(64, 32),
        adam=AdamOptions(),
        batch_size=batch_size,
        dtype="float32",
        replicates=range(2),
        seed=0,
    )
    loss, accuracy = np.empty(2), np.empty(2)

    def epochs(n):
        for _ in range(n):
            trainer.epoch()
            trainer.validate(loss, accuracy)

    epochs(2)
    tracemalloc.start()
    try:
        epochs(1)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        epochs(5)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Views and Python's own small objects remain; one tile of one layer is ten times this.
    assert peak - before < 12_000
    assert after - before < 4_000


MILLION = """
import re
from pathlib import Path
from circlemlp import numerics
numerics.pin(numerics.resolve("auto"))
import numpy as np
from circlemlp.core.adam import AdamOptions
from circlemlp.core.data import Boundary, sample_dataset
from circlemlp.core.training import Trainer

def memory(what):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{what}:\\s+(\\d+) kB", status, re.M)[1])

data = sample_dataset(Boundary(0, 1, 0, 1), n_train=1_000_000, n_validation=1000, label_noise=0, seed=0)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
before = memory("VmRSS")
trainer = Trainer(data, hidden_layer_sizes=(128, 64), adam=AdamOptions(), batch_size=None, dtype="float32",
                  replicates=range(1), seed=0)
trainer.epoch()
print(memory("VmHWM") - before)
"""


def test_an_epoch_over_a_million_points_adds_little_memory():
    done = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True)
    added = int(done.stdout)
    print(f"added {added / 1e6:.0f} MB")
    assert 1e6 < added < 200e6  # some of the 16 MB of augmented points go where the sampling has been


def test_the_core_imports_nothing_but_numpy():
    code = (
        "import circlemlp.core.training, sys;"
        "print(sorted(sys.modules.keys() & {'hydra', 'omegaconf', 'dvc', 'mlflow', 'pandas', 'scipy', 'pydantic',"
        " 'matplotlib', 'seaborn', 'sklearn', 'rich'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
