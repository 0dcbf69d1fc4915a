"""The same mathematics, plainly: float64, one network, a fresh array for every operation, no tricks.

Written from the derivation in docs/backpropagation.md, not from the core, so that the two check each other.
"""

from itertools import pairwise

import numpy as np


def unflatten(flat, layer_sizes):
    """Split a flat vector into the weights and biases of each layer."""
    layers, start = [], 0
    for fan_in, fan_out in pairwise(layer_sizes):
        block = flat[start : start + fan_out * (fan_in + 1)].reshape(fan_out, fan_in + 1)
        layers.append((block[:, :-1], block[:, -1:]))
        start += block.size
    return layers


def forward(layers, x):
    """Return the logits (n,) and every layer's input, samples as columns."""
    inputs = [x.T]
    for weights, bias in layers[:-1]:
        inputs.append(np.maximum(weights @ inputs[-1] + bias, 0))
    weights, bias = layers[-1]
    return (weights @ inputs[-1] + bias)[0], inputs


def mean_loss(flat, layer_sizes, x, y):
    """Return -mean log p(y | s) = mean(log(1 + e^s) - y s)."""
    s, _ = forward(unflatten(flat, layer_sizes), x)
    return np.mean(np.logaddexp(0, s) - y * s)


def gradient(flat, layer_sizes, x, y):
    """Return the gradient of the mean loss, flat."""
    layers = unflatten(flat, layer_sizes)
    s, inputs = forward(layers, x)
    delta = ((1 / (1 + np.exp(-s)) - y) / len(y))[np.newaxis]
    blocks = []
    for level in range(len(layers) - 1, -1, -1):
        blocks.append(np.hstack([delta @ inputs[level].T, delta.sum(axis=1, keepdims=True)]).ravel())
        if level:
            delta = (layers[level][0].T @ delta) * (inputs[level] > 0)
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
