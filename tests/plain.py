"""The same mathematics, plainly: float64, one network, a fresh array for every operation, no tricks.

Written from the derivation in docs/backpropagation.md, not from the core, so that the two check each other. The
forward pass and the loss take complex parameters too, for derivatives by a complex step.
"""

from itertools import pairwise

import numpy as np

C, A = np.sqrt(2 / np.pi), 0.044715


def signs_of_labels(y, dtype):
    """Return 2y - 1: labels 0 and 1 as -1 and +1, shape kept."""
    return 2 * y.astype(dtype) - 1


def gate(s):
    """Return the tanh of GELU."""
    return np.tanh(C * (s + A * s**3))


ACTIVATIONS = {
    "relu": lambda s: s * (s.real > 0),
    "leaky_relu": lambda s: np.where(s.real > 0, s, 0.01 * s),
    "tanh": np.tanh,
    "gelu": lambda s: 0.5 * s * (1 + gate(s)),
}
SLOPES = {
    "relu": lambda s: (s > 0) * 1.0,
    "leaky_relu": lambda s: np.where(s > 0, 1, 0.01),
    "tanh": lambda s: 1 - np.tanh(s) ** 2,
    "gelu": lambda s: 0.5 * (1 + gate(s)) + 0.5 * s * (1 - gate(s) ** 2) * C * (1 + 3 * A * s**2),
}


def unflatten(flat, layer_sizes):
    """Split a flat vector into the weights (fan_out, fan_in) and biases (fan_out,) of each layer."""
    layers, start = [], 0
    for fan_in, fan_out in pairwise(layer_sizes):
        block = flat[start : start + fan_out * (fan_in + 1)].reshape(fan_in + 1, fan_out)
        layers.append((block[:-1].T, block[-1]))
        start += block.size
    return layers


def forward(layers, x, activation="relu"):
    """Return the logits (n,), every layer's inputs (n, fan_in) and the hidden layers' scores (n, fan_out)."""
    inputs, scores = [x], []
    for weights, bias in layers[:-1]:
        scores.append(inputs[-1] @ weights.T + bias)
        inputs.append(ACTIVATIONS[activation](scores[-1]))
    weights, bias = layers[-1]
    return (inputs[-1] @ weights.T + bias)[:, 0], inputs, scores


def mean_loss(flat, layer_sizes, x, y, activation="relu"):
    """Return -mean log p(y | s) = mean(log(1 + e^-z)) with z = (2y - 1) s."""
    s, _, _ = forward(unflatten(flat, layer_sizes), x, activation)
    z = (2.0 * y - 1) * s
    return np.mean(np.where(z.real < 0, -z, 0) + np.log1p(np.exp(np.where(z.real < 0, z, -z))))


def gradient(flat, layer_sizes, x, y, activation="relu"):
    """Return the gradient of the mean loss, flat."""
    layers = unflatten(flat, layer_sizes)
    s, inputs, scores = forward(layers, x, activation)
    delta = ((1 / (1 + np.exp(-s)) - y) / len(y))[:, np.newaxis]
    blocks = []
    for level in range(len(layers) - 1, -1, -1):
        blocks.append(np.vstack([inputs[level].T @ delta, delta.sum(axis=0)]).ravel())
        if level:
            delta = (delta @ layers[level][0]) * SLOPES[activation](scores[level - 1])
    return np.concatenate(blocks[::-1])


def train(flat, layer_sizes, x, y, *, epochs, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    """Return the loss before each epoch and after the last, by full-batch Adam."""
    theta, m, v = flat.astype(np.float64), 0.0, 0.0
    losses = []
    for t in range(1, epochs + 1):
        losses.append(mean_loss(theta, layer_sizes, x, y))
        g = gradient(theta, layer_sizes, x, y)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        theta = theta - learning_rate * (m / (1 - beta_1**t)) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
    return np.array([*losses, mean_loss(theta, layer_sizes, x, y)])
