import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plain
from circlemlp.core.data import Dataset, sample_dataset
from circlemlp.core.initialisation import initialise
from circlemlp.core.loss import top_error
from circlemlp.core.network import Network
from circlemlp.core.optimizers import SGD, Adam, AdamW
from circlemlp.core.parameters import Layout
from circlemlp.core.recipe import EarlyStopping, Recipe
from circlemlp.core.schedules import Schedule
from circlemlp.core.streams import stream
from circlemlp.core.tiles import Cut, augment
from circlemlp.core.training import Trainer, replicates_together, train


def points(replicates=1, **changes):
    described = {"shape": "quarter_circle", "radius": 1.0, "n_validation": 100, "label_noise": 0.0, "seed": 1}
    return sample_dataset({"draws": "shared", **described, **changes}, replicates)


DATA = points(n_train=5000, n_validation=2000, seed=2024)
SMALL = points(n_train=300)
FRESH = points(5, n_train=300, draws="fresh")


def recipe(**changes):
    usual = {"hidden_layer_sizes": (8, 4), "optimizer": Adam(), "epochs": 5, "dtype": "float64", "replicates": 3}
    return Recipe(**{**usual, **changes})


def run(dataset=SMALL, **changes):
    return train(dataset, recipe(**changes))


@pytest.mark.parametrize("hidden", [(64,), (128,), (64, 32), (128, 64)])
def test_a_thousand_epochs_follow_the_plain_implementation(hidden):
    _, history = run(DATA, hidden_layer_sizes=hidden, epochs=1000, replicates=1)
    layout = Layout.of(hidden)
    start = initialise(layout, seed=0, replicates=[0], dtype="float64")[0]
    expected = plain.train(
        start, layout.layer_sizes, DATA.x_train[0], DATA.y_train[0], epochs=1000, learning_rate=0.001
    )
    difference = np.abs(history.training_loss[0] / expected - 1).max()
    print(f"{hidden}: largest relative difference {difference:.1e}")
    assert difference < 1e-10


def test_a_batch_of_several_tiles_follows_the_plain_implementation():
    layout, optimizer = Layout.of((8, 4)), Adam(0.01)
    data = points(n_train=10_300, n_validation=10)
    start = initialise(layout, seed=0, replicates=[0], dtype="float64")[0]
    expected = plain.train(start, layout.layer_sizes, data.x_train[0], data.y_train[0], epochs=5, learning_rate=0.01)
    _, full = run(data, epochs=5, optimizer=optimizer, replicates=1)
    np.testing.assert_allclose(full.training_loss[0], expected, rtol=1e-11)
    _, mini = run(data, epochs=5, optimizer=optimizer, batch_size=10_300, replicates=1)
    np.testing.assert_allclose(mini.training_loss[0, 1:], expected[:-1], rtol=1e-11)


@pytest.mark.parametrize("data", [SMALL, FRESH], ids=["shared", "fresh"])
def test_the_curves_are_those_of_the_parameters(data):
    parameters, history = run(data, epochs=7)
    layer_sizes = Layout.of((8, 4)).layer_sizes
    start = initialise(Layout.of((8, 4)), seed=0, replicates=range(3), dtype="float64")
    for row, theta in ((0, start), (-1, parameters)):
        for replicate in range(3):
            draw = replicate % data.draws
            for curve, x, y in (
                (history.training_loss, data.x_train[draw], data.y_train[draw]),
                (history.validation_loss, data.x_validation[draw], data.y_validation[draw]),
            ):
                expected = plain.mean_loss(theta[replicate], layer_sizes, x, y)
                assert curve[replicate, row] == pytest.approx(expected, rel=1e-12)
            s, _, _ = plain.forward(plain.unflatten(theta[replicate], layer_sizes), data.x_validation[draw])
            assert history.validation_accuracy[replicate, row] == np.mean((s > 0) == data.y_validation[draw])


@pytest.mark.parametrize("data", [SMALL, FRESH], ids=["shared", "fresh"])
@pytest.mark.parametrize("batch_size", [None, 32, 300, 1000])
def test_no_replicate_knows_of_the_others(batch_size, data):
    parameters, history = run(data, batch_size=batch_size, replicates=4)
    trainer = Trainer(data, recipe(batch_size=batch_size), range(2, 3))
    for _ in range(5):
        trainer.epoch()
    np.testing.assert_array_equal(parameters[2], trainer.parameters[0])
    assert len({tuple(row) for row in parameters}) == 4
    assert np.isfinite(history.training_loss).all()


@pytest.mark.parametrize("draws", ["shared", "fresh"])
@pytest.mark.parametrize("batch_size", [None, 128, 3000])
def test_nor_do_the_curves_of_many_windows(batch_size, draws):
    data = points(4, n_train=5000, n_validation=17_000, draws=draws)
    mini = recipe(batch_size=batch_size, epochs=3, dtype="float32")
    curves = []
    for group in (range(2, 3), range(4)):
        trainer, loss, accuracy = Trainer(data, mini, group), np.empty(len(group)), np.empty(len(group))
        for _ in range(3):
            training_loss = trainer.epoch().copy()
            trainer.validate(loss, accuracy)
            curves.append((training_loss[-1 - (group.stop - 3)], loss[2 - group.start], accuracy[2 - group.start]))
    assert curves[:3] == curves[3:]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [None, 32, 300])
@pytest.mark.parametrize("hidden", [(8,), (8, 4)])
def test_replicates_train_on_their_own_draws_as_if_one_by_one(hidden, batch_size, dtype):
    settings = {"hidden_layer_sizes": hidden, "batch_size": batch_size, "dtype": dtype, "replicates": 5}
    parameters, history = run_side_by_side(5, FRESH, **settings)
    for replicate in range(5):
        # What other replicates have decides nothing: here all have the points of this one.
        its = FRESH.of_replicates(range(replicate, replicate + 1))
        alone, its_history = run_side_by_side(1, its, **settings)
        assert parameters[replicate].tobytes() == alone[replicate].tobytes()
        for name, array in vars(history).items():
            assert array[replicate].tobytes() == getattr(its_history, name)[replicate].tobytes()
    shared, _ = run(SMALL, **settings)
    copies = Dataset(**{name: np.repeat(array, 5, axis=0) for name, array in vars(SMALL).items()})
    assert run(copies, **settings)[0].tobytes() == shared.tobytes() != parameters.tobytes()


@pytest.mark.parametrize("batch_size", [None, 32])
def test_ranges_of_replicates_are_parts_of_one_whole(batch_size):
    settings = {"batch_size": batch_size, "dtype": "float32"}
    whole = run(FRESH, replicates=5, **settings)
    for first, n in ((0, 2), (2, 3), (4, 1)):
        rows = slice(first, first + n)
        part = run(FRESH.of_replicates(range(first, first + n)), first_replicate=first, replicates=n, **settings)
        assert part[0].tobytes() == whole[0][rows].tobytes()
        for name, array in vars(part[1]).items():
            assert array.tobytes() == getattr(whole[1], name)[rows].tobytes()


def test_a_replicate_without_a_draw_is_refused():
    with pytest.raises(ValueError, match="fewer than 6 replicates need"):
        run(FRESH, replicates=6)


def test_a_batch_that_is_larger_than_the_data_is_the_data():
    (exact, _), (larger, _) = (run(batch_size=size, dtype="float32") for size in (300, 1000))
    np.testing.assert_array_equal(exact, larger)


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
        g = plain.gradient(theta, layout.layer_sizes, SMALL.x_train[0, batch], SMALL.y_train[0, batch])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    parameters, _ = run(
        hidden_layer_sizes=hidden, epochs=1, batch_size=128, replicates=1, seed=5, optimizer=Adam(learning_rate=rate)
    )
    np.testing.assert_allclose(parameters[0], theta, rtol=1e-9, atol=1e-12)


def test_the_same_call_gives_the_same_bits_and_another_seed_others():
    first, second, other = run(dtype="float32"), run(dtype="float32"), run(dtype="float32", seed=1)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1].validation_loss, second[1].validation_loss)
    assert (first[0] != other[0]).any()


def test_it_learns_the_circle():
    _, history = run(DATA, hidden_layer_sizes=(64, 32), epochs=300, dtype="float32", replicates=2, optimizer=Adam(0.01))
    assert (history.validation_accuracy[:, -1] > 0.98).all()
    assert (history.diverged_at == -1).all()


def test_divergence_is_a_result():
    # One step makes every weight 1e120, and the product of three layers overflows.
    _, history = run(epochs=6, optimizer=Adam(learning_rate=1e120), replicates=2)
    assert (history.diverged_at > 0).all()
    for replicate, epoch in enumerate(history.diverged_at):
        for curve in (history.training_loss, history.validation_loss, history.validation_accuracy):
            assert np.isfinite(curve[replicate, :epoch]).all()
            assert np.isnan(curve[replicate, epoch:]).all()


def test_the_schedule_scales_every_step():
    # Plain gradient descent, so that the parameters show the rates.
    schedule = Schedule("cosine", warmup_fraction=0.25, final_fraction=0.1)
    layout = Layout.of((4,))
    theta = initialise(layout, seed=0, replicates=[0], dtype="float64")[0]
    for step in range(1, 9):
        g = plain.gradient(theta, layout.layer_sizes, SMALL.x_train[0], SMALL.y_train[0])
        theta = theta - 0.5 * schedule.factor(step, 8) * g
    parameters, _ = run(
        hidden_layer_sizes=(4,), optimizer=SGD(0.5, momentum=0.0), schedule=schedule, epochs=8, replicates=1
    )
    np.testing.assert_allclose(parameters[0], theta, rtol=1e-11, atol=1e-14)


def test_the_schedule_counts_the_steps_of_all_epochs():
    # 3 batches an epoch, 4 epochs: the last of 12 steps has the last factor of a cosine over 12 steps.
    whole, _ = run(batch_size=100, epochs=4, schedule=Schedule("cosine"))
    flat, _ = run(batch_size=100, epochs=4)
    assert not np.allclose(whole, flat)
    factors = []

    class Watched(SGD):
        def step(self, state, gradient, parameters, factor):
            super().step(state, gradient, parameters, factor)
            factors.append(factor)

    run(batch_size=100, epochs=4, replicates=1, optimizer=Watched(0.5), schedule=Schedule("cosine"))
    assert factors == [Schedule("cosine").factor(step, 12) for step in range(1, 13)]


@pytest.mark.parametrize("batch_size", [None, 40])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "gelu"])
@pytest.mark.parametrize("hidden", [(5,), (5, 3)])
def test_a_step_goes_down_the_gradient_of_the_chosen_activation(hidden, activation, batch_size):
    # Data of three features, so that nothing relies on there being two.
    x = stream(0, "points").standard_normal((40, 3))
    data = Dataset(x[np.newaxis], (x[np.newaxis, :, 0] > 0).astype("u1"), x[np.newaxis, :7], np.zeros((1, 7), "u1"))
    layout = Layout.of(hidden, 3)
    start = initialise(layout, seed=0, replicates=[0], dtype="float64")[0]
    g = plain.gradient(start, layout.layer_sizes, data.x_train[0], data.y_train[0], activation)
    settings = {"hidden_layer_sizes": hidden, "activation": activation, "epochs": 1, "batch_size": batch_size}
    parameters, _ = run(data, optimizer=SGD(0.5, momentum=0.0), replicates=1, **settings)
    np.testing.assert_allclose(parameters[0], start - 0.5 * g, rtol=1e-12, atol=1e-14)


def test_a_full_batch_is_taken_in_the_order_of_the_data():
    # Another order would round differently; and so would arithmetic of another type.
    layout, learning_rate = Layout.of((8, 4)), np.float32(0.5)
    theta = initialise(layout, seed=0, replicates=[0], dtype="float32")
    network, cut = Network(layout, theta), Cut.of(layout, "float32", 1, 300)
    inputs = augment(SMALL.x_train[0], "float32")
    signs = plain.signs_of_labels(SMALL.y_train, "float32")
    for start, stop in cut.tiles(300):
        x, y = (cut.blocked(array[..., start:stop]) for array in (inputs, signs))
        logits = np.empty((1, *x.shape[1::2]), "float32")
        network.forward(x, logits)
        top_error(logits, y, 300, network.top_error(x))
        network.backward(x, starts_batch=start == 0, ends_batch=stop == 300)
    parameters, _ = run(dtype="float32", optimizer=SGD(0.5, momentum=0.0), epochs=1, replicates=1)
    np.testing.assert_array_equal(parameters, theta - learning_rate * network.gradient)
    assert parameters.dtype == np.float32


@pytest.mark.parametrize("optimizer", [Adam(0.01), AdamW(0.01), SGD(0.3), SGD(0.3, nesterov=True)], ids=str)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "gelu"])
def test_every_optimizer_and_activation_learns(optimizer, activation):
    _, history = run(hidden_layer_sizes=(16,), optimizer=optimizer, activation=activation, epochs=300, replicates=2)
    assert (history.training_loss[:, -1] < 0.6 * history.training_loss[:, 0]).all()
    assert (history.validation_accuracy[:, -1] > 0.85).all()


def overfitting(**changes):
    """Few noisy points and a large step: the validation loss soon rises."""
    noisy = points(n_train=40, n_validation=200, label_noise=0.3, seed=3)
    settings = {"hidden_layer_sizes": (32,), "optimizer": Adam(0.05), "epochs": 150, **changes}
    return train(noisy, recipe(**settings)), noisy


@pytest.mark.parametrize("batch_size", [None, 16])
def test_early_stopping_restores_the_best_parameters(batch_size):
    (_, without), _ = overfitting(batch_size=batch_size)
    (parameters, history), data = overfitting(batch_size=batch_size, early_stopping=EarlyStopping(patience=10))
    assert (without.stopped_at == -1).all()
    layer_sizes = Layout.of((32,)).layer_sizes
    for replicate, stopped in enumerate(history.stopped_at):
        curve = without.validation_loss[replicate]
        best = int(np.argmin(curve[: stopped + 1]))
        assert 0 < stopped < 150
        assert stopped - best == 10
        for name in ("training_loss", "validation_loss", "validation_accuracy"):
            ours, theirs = getattr(history, name)[replicate], getattr(without, name)[replicate]
            np.testing.assert_array_equal(ours[:stopped], theirs[:stopped])
            assert (ours[stopped:] == theirs[best]).all()
        of_parameters = plain.mean_loss(parameters[replicate], layer_sizes, data.x_validation[0], data.y_validation[0])
        assert of_parameters == pytest.approx(curve[best], rel=1e-12)


def test_an_improvement_smaller_than_min_delta_does_not_count():
    rule = EarlyStopping(patience=3, min_delta=10.0)
    _, history = run(epochs=8, early_stopping=rule)
    assert (history.stopped_at == 3).all()
    assert (history.validation_loss == history.validation_loss[:, :1]).all(axis=1).sum() == 0
    np.testing.assert_array_equal(history.validation_loss[:, -1], history.validation_loss[:, 0])


def test_patience_that_is_never_exhausted_changes_nothing():
    plainly, stopping = run(epochs=6), run(epochs=6, early_stopping=EarlyStopping(patience=6))
    np.testing.assert_array_equal(plainly[0], stopping[0])
    np.testing.assert_array_equal(plainly[1].validation_loss, stopping[1].validation_loss)
    assert (stopping[1].stopped_at == -1).all()


def test_a_loss_that_stays_the_same_is_no_improvement():
    # Steps too small to change a parameter, so every epoch has the loss of the first.
    _, history = run(epochs=8, optimizer=SGD(1e-300), early_stopping=EarlyStopping(patience=2))
    assert (history.stopped_at == 2).all()


def test_epochs_after_the_last_replicate_stopped_are_not_trained():
    steps = []

    class Counted(SGD):
        def step(self, state, *rest):
            super().step(state, *rest)
            steps.append(state.steps)

    run(epochs=50, optimizer=Counted(1e-300), early_stopping=EarlyStopping(patience=4), replicates=1)
    assert steps == [1, 2, 3, 4]


CURVES = ("training_loss", "validation_loss", "validation_accuracy")
STEEP = {"hidden_layer_sizes": (64, 32), "optimizer": SGD(10.0, momentum=0.99), "activation": "leaky_relu"}


@pytest.mark.parametrize(
    ("patience", "diverged_at", "stopped_at"),
    [
        (None, [7, 7, 8], [-1, -1, -1]),
        (6, [-1, -1, -1], [6, 6, 6]),
        (7, [7, 7, -1], [-1, -1, 7]),
        (8, [7, 7, 8], [-1, -1, -1]),
        (9, [7, 7, 8], [-1, -1, -1]),
    ],
)
def test_what_diverges_in_the_epoch_in_which_its_patience_ends_diverged(patience, diverged_at, stopped_at):
    rule = EarlyStopping(patience=patience)
    _, history = run(**STEEP, epochs=12, dtype="float32", early_stopping=rule)
    assert history.diverged_at.tolist() == diverged_at
    assert history.stopped_at.tolist() == stopped_at
    assert history.diverged_at.dtype == history.stopped_at.dtype == np.int64


FEW = points(n_train=60, n_validation=40, label_noise=0.2)
FRESH_FEW = points(3, n_train=60, n_validation=40, label_noise=0.2, draws="fresh")
unstable = st.fixed_dictionaries(
    {
        "hidden_layer_sizes": st.sampled_from([(3,), (6, 4), (4, 4, 4)]),
        "optimizer": st.builds(SGD, st.floats(-1, 3).map(lambda power: 10**power), st.sampled_from([0.0, 0.9, 0.99])),
        "activation": st.sampled_from(["relu", "leaky_relu"]),
        "batch_size": st.sampled_from([None, 16, 60]),
        "dtype": st.sampled_from(["float32", "float64"]),
        "epochs": st.integers(1, 12),
        "seed": st.integers(0, 100),
    }
)
rules = st.builds(EarlyStopping, st.integers(1, 12), st.sampled_from([0.0, 0.01, 1.0]))


def end_of_patience(curve, rule):
    """Return the epoch after which a replicate has no patience left, or None."""
    best = 0
    for epoch in range(1, len(curve)):
        best = epoch if curve[epoch] < curve[best] - rule.min_delta else best
        if epoch - best == rule.patience:
            return epoch, best
    return None


@settings(max_examples=300)
@given(unstable, rules)
def test_divergence_comes_first_whatever_the_patience(changes, rule):
    plainly, patiently = (run(FEW, early_stopping=stopping, **changes)[1] for stopping in (EarlyStopping(), rule))
    for replicate in range(3):
        diverged_at, stopped_at = plainly.diverged_at[replicate], -1
        end = end_of_patience(plainly.validation_loss[replicate], rule)
        if end is not None and (diverged_at == -1 or end[0] < diverged_at):
            diverged_at, stopped_at = -1, end[0]
        assert patiently.diverged_at[replicate] == diverged_at
        assert patiently.stopped_at[replicate] == stopped_at
        for name in CURVES:
            expected = getattr(plainly, name)[replicate].copy()
            if stopped_at >= 0:
                expected[stopped_at:] = expected[end[1]]
            np.testing.assert_array_equal(getattr(patiently, name)[replicate], expected)


@settings(max_examples=100)
@given(unstable, rules, st.sampled_from([FEW, FRESH_FEW]))
def test_no_replicate_stops_or_diverges_because_of_the_others(changes, rule, data):
    alone, together = (run_side_by_side(n, data, early_stopping=rule, **changes) for n in (1, 3))
    assert alone[0].tobytes() == together[0].tobytes()
    for name, array in vars(alone[1]).items():
        assert array.tobytes() == getattr(together[1], name).tobytes()


def run_side_by_side(together, *arguments, **changes):
    """Train with this number of replicates in a group, whatever the batch size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("circlemlp.core.training.replicates_together", lambda *_: together)
        return run(*arguments, **changes)


def test_the_final_values_end_the_curves():
    _, history = run(epochs=6, optimizer=Adam(learning_rate=1e120), replicates=2)
    healthy = run(epochs=6, replicates=2)[1]
    names = ["training_loss", "validation_loss", "validation_accuracy"]
    assert history.final() == {name: [None, None] for name in names}
    assert healthy.final() == {name: getattr(healthy, name)[:, 6].tolist() for name in names}


def test_progress_counts_every_epoch_of_every_replicate():
    for batch_size in (None, 32):
        seen = []
        train(SMALL, recipe(epochs=3, batch_size=batch_size, replicates=5), seen.append)
        assert seen[-1] == 15
        assert seen == sorted(seen)
    seen = []
    rule = EarlyStopping(patience=4)
    stopping = recipe(epochs=50, batch_size=32, optimizer=SGD(1e-300), early_stopping=rule, replicates=5)
    train(SMALL, stopping, seen.append)
    assert seen[-1] == 250
    assert seen == sorted(seen)


def test_small_batches_are_trained_together_and_full_ones_alone():
    layout = Layout.of((64, 32))
    assert replicates_together(layout, None, "float32") == 1
    assert replicates_together(layout, 10**6, "float32") == 1
    # As many as fill two tiles of 2560 samples, or of 1280 where numbers take twice the bytes; 32 at the most.
    assert [replicates_together(layout, size, "float32") for size in (1, 32, 512, 2560, 2561)] == [32, 32, 10, 2, 1]
    assert replicates_together(layout, 512, "float64") == 5


@pytest.mark.parametrize(
    ("activation", "batch_size", "draws"),
    [
        ("relu", None, 1),
        ("relu", 128, 1),
        ("leaky_relu", None, 1),
        ("tanh", 128, 1),
        ("gelu", None, 1),
        ("relu", None, 3),
        ("relu", 128, 3),
    ],
)
def test_an_epoch_allocates_nothing(activation, batch_size, draws):
    # More points than a window holds, so that no buffer of any kind is small.
    many = points(draws, n_train=20_000, n_validation=20_000, seed=0, draws="fresh")
    settings = {"hidden_layer_sizes": (64, 32), "activation": activation, "batch_size": batch_size, "dtype": "float32"}
    trainer = Trainer(many, recipe(**settings), range(draws))
    loss, accuracy = np.empty(draws), np.empty(draws)

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
    print(f"{peak - before} bytes at the most, {after - before} for good")
    # Views and Python's own small objects remain; the labels of one window, the smallest of all arrays, are more.
    assert peak - before < 12_000
    assert after - before < 4_000


MILLION = """
import re
from pathlib import Path
from circlemlp import pinning
pinning.pin(pinning.resolve("auto"))
import numpy as np
from circlemlp.core.data import sample_dataset
from circlemlp.core.optimizers import Adam
from circlemlp.core.recipe import Recipe
from circlemlp.core.training import Trainer

def memory(what):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{what}:\\s+(\\d+) kB", status, re.M)[1])

numbers = {"draws": "shared", "n_train": 1_000_000, "n_validation": 1000, "label_noise": 0.0, "seed": 0}
data = sample_dataset({"shape": "quarter_circle", "radius": 1.0, **numbers})
Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
before = memory("VmRSS")
trainer = Trainer(data, Recipe((128, 64), Adam()), range(1))
trainer.epoch()
print(memory("VmHWM") - before)
touched = np.ones(8_000_000)
print(memory("VmHWM") - before)
"""


def test_an_epoch_over_a_million_points_adds_little_memory():
    done = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True)
    added, with_64_mb = map(int, done.stdout.split())
    print(f"added {added / 1e6:.1f} MB")
    assert 60e6 < with_64_mb - added < 80e6  # the reading is live
    assert added < 20e6


def test_the_core_imports_nothing_but_numpy():
    code = (
        "import circlemlp.core.training, sys;"
        "print(sorted(sys.modules.keys() & {'hydra', 'omegaconf', 'dvc', 'mlflow', 'pandas', 'scipy', 'pydantic',"
        " 'matplotlib', 'seaborn', 'sklearn', 'rich'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
