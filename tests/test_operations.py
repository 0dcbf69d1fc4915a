import math

import numpy as np
import pytest

from circlemlp.config import AdamWSection, SGDSection
from circlemlp.core.activations import LeakyRelu
from circlemlp.report import operations
from circlemlp.store.trained import join
from made_up import made_up
from plain import gradient


class Counted:
    """A number that counts what is done with such numbers."""

    operations = 0

    def __init__(self, value):
        self.value = value

    @classmethod
    def result(cls, value):
        cls.operations += 1
        return cls(value)

    def __add__(self, other):
        return self.result(self.value + other.value)

    def __sub__(self, other):
        return self.result(self.value - other.value)

    def __mul__(self, other):
        return self.result(self.value * other.value)

    def __truediv__(self, other):
        return self.result(self.value / other.value)

    def root(self):
        return self.result(math.sqrt(self.value))

    def activation(self):
        return self.result(max(self.value, LeakyRelu.SLOPE * self.value))

    def slope(self):
        return self.result(1.0 if self.value > 0 else LeakyRelu.SLOPE)


def counted(array):
    return [counted(row) for row in array] if np.ndim(array) else Counted(float(array))


def forward(weights, biases, x):
    """Return the logit, every layer's inputs and the hidden layers' scores."""
    inputs, scores = [x], []
    for level, (rows, bias) in enumerate(zip(weights, biases, strict=True)):
        scores.append(list(bias))
        for node, row in enumerate(rows):
            for weight, h in zip(row, inputs[-1], strict=True):
                scores[-1][node] += weight * h
        if level < len(weights) - 1:
            inputs.append([s.activation() for s in scores[-1]])
    (logit,) = scores.pop()
    return logit, inputs, scores


def backward(weights, inputs, scores, delta, weight_sums, bias_sums):
    """Add a sample's gradient to the sums."""
    for level in range(len(weights) - 1, -1, -1):
        for node, error in enumerate(delta):
            bias_sums[level][node] += error
            for place, h in enumerate(inputs[level]):
                weight_sums[level][node][place] += error * h
        if level:
            below = []
            for place, score in enumerate(scores[level - 1]):
                terms = [row[place] * error for row, error in zip(weights[level], delta, strict=True)]
                below.append(sum(terms[1:], terms[0]) * score.slope())
            delta = below


def adam(parameter, m, v, g):
    beta_1, beta_2, a, b = map(Counted, (0.9, 0.999, 0.1, 1e-8))
    m = beta_1 * m + g
    v = beta_2 * v + g * g
    return parameter - a * (m / (v.root() + b))


def test_the_rule_counts_what_a_plain_implementation_does():
    """An epoch of 2-3-2-1, one number after another; its gradient is the one of another implementation."""
    sizes, n, n_validation = (2, 3, 2, 1), 4, 3
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((3, 2), (2, 3), (1, 2))]
    biases = [rng.normal(size=size) for size in sizes[1:]]
    x, y = rng.random((n, 2)), np.array([0, 1, 1, 0])
    own_weights, own_biases = [counted(w) for w in weights], [counted(b) for b in biases]
    of_weights, of_biases = [counted(0 * w) for w in weights], [counted(0 * b) for b in biases]
    Counted.operations = 0
    for sample, label in zip(x, y, strict=True):
        logit, inputs, scores = forward(own_weights, own_biases, counted(sample))
        error = Counted((1 / (1 + math.exp(-logit.value)) - label) / n)  # not counted
        backward(own_weights, inputs, scores, [error], of_weights, of_biases)
    for sample in rng.random((n_validation, 2)):
        forward(own_weights, own_biases, counted(sample))
    plain = gradient(
        np.concatenate([np.vstack([w.T, b]).ravel() for w, b in zip(weights, biases, strict=True)]),
        sizes,
        x,
        y,
        "leaky_relu",
    )
    found = [
        np.array([[one.value for one in row] for row in [*zip(*rows, strict=True), bias]]).ravel()
        for rows, bias in zip(of_weights, of_biases, strict=True)
    ]
    assert np.concatenate(found) == pytest.approx(plain)
    for parameter in plain:
        adam(Counted(0.5), Counted(0.0), Counted(0.0), Counted(parameter))
    assert operations.per_epoch(config(hidden=(3, 2), n_train=n, n_validation=n_validation)) == Counted.operations


def config(hidden=(3,), n_train=4, n_validation=5, **sections):
    (cell,) = join([made_up(hidden, 0.1, [0.2])])
    data = cell.config.data.model_copy(update={"n_train": n_train, "n_validation": n_validation})
    return cell.config.model_copy(update={"data": data, **sections})


def test_an_epoch_of_2_3_1_by_hand():
    # Forward 2 (2 3 + 3 1) + 3 = 21; backward 18 + 4 biases + 2 (3 1) + 3 slopes = 31; 13 parameters.
    assert operations.per_epoch(config()) == 4 * (21 + 31) + 13 * 10 + 5 * 21


def test_every_batch_takes_a_step_the_last_and_smaller_one_too():
    one = config()
    batches = config(training=one.training.model_copy(update={"batch_size": 3}))
    assert operations.per_epoch(batches) - operations.per_epoch(one) == 13 * 10


def test_the_other_optimizers():
    rate = {"learning_rate": 0.1}
    adamw = AdamWSection(
        name="adamw", beta_1=0.9, beta_2=0.999, epsilon=1e-8, epsilon_hat=False, weight_decay=0.1, **rate
    )
    sgd, nesterov = (SGDSection(name="sgd", momentum=0.9, nesterov=form, **rate) for form in (False, True))
    without = 4 * (21 + 31) + 5 * 21
    steps = [operations.per_epoch(config(optimizer=optimizer)) - without for optimizer in (adamw, sgd, nesterov)]
    assert steps == [13 * 11, 13 * 4, 13 * 6]


def test_a_training_has_the_epochs_that_it_really_ran():
    (cell,) = join([made_up((4,), 0.1, [0.1, 0.1, None])])
    assert operations.of_training(cell) == 6 * operations.per_epoch(cell.config)
    cell.history.stopped_at[:2] = 3, 4
    assert operations.of_training(cell) == 4 * operations.per_epoch(cell.config)


def test_a_goal_that_is_never_reached_costs_infinitely_much():
    (cell,) = join([made_up((4,), 0.1, [0.1] * 3)])
    assert operations.to_goal(cell) == math.inf
    cell.history.validation_accuracy[:2, 2:] = 0.99
    assert operations.to_goal(cell) == 2 * operations.per_epoch(cell.config)
