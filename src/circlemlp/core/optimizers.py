"""Optimizers: functions of a gradient and an explicit state.

An optimizer holds its settings and never changes. ``State.of`` makes the state of one training. ``step`` updates the
state and the parameters in place, and nothing is hidden: equal states, gradients and parameters give equal results. All
arithmetic is element by element on flat buffers.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from circlemlp.core.parameters import Floats


@dataclass
class State:
    """What an optimizer remembers from step to step.

    Attributes
    ----------
    steps : int
        The number of steps so far.
    first_moment, second_moment : ndarray like the parameters
        Discounted sums of the gradients and of their squares. An optimizer without a second moment does not use it.
    first_decay, second_decay : float
        The decay rates of the moments to the power of ``steps``, which only Adam needs. They are running products,
        whose bits IEEE 754 fixes; those of the C library's power function depend on the library and the processor.
    scratch : ndarray like the parameters
        It holds nothing between steps.
    """

    steps: int
    first_moment: Floats
    second_moment: Floats
    first_decay: float
    second_decay: float
    scratch: Floats

    @classmethod
    def of(cls, parameters: Floats) -> "State":
        """Return the state before the first step."""
        return cls(0, np.zeros_like(parameters), np.zeros_like(parameters), 1.0, 1.0, np.empty_like(parameters))


FLUSH_EVERY = 64
"""The number of steps from one search for subnormal sums to the next."""


def _flush_subnormals(state: State, sums: Floats) -> None:
    """Set subnormal sums to zero, once in ``FLUSH_EVERY`` steps.

    The gradients of a dead node are zero, and a sum that only decays ends as a subnormal number, which rounding keeps
    from becoming zero. Processors take tens of times longer over such numbers. They are too small to move a parameter:
    with the usual epsilon, the step that one gives is below 1e-29 of the learning rate.
    """
    if state.steps % FLUSH_EVERY == 0:
        tiny, normal = np.finfo(sums.dtype).tiny, state.scratch
        np.abs(sums, out=normal)
        np.minimum(normal, tiny, out=normal)
        np.divide(normal, tiny, out=normal)
        np.floor(normal, out=normal)  # 1, or 0 for a subnormal number
        np.multiply(sums, normal, out=sums)


class Optimizer(Protocol):
    """What the training loop needs from an optimizer."""

    def step(self, state: State, gradient: Floats, parameters: Floats, factor: float = 1.0) -> None:
        """Take one step: update ``parameters`` and ``state``.

        Parameters
        ----------
        state : State
        gradient, parameters : ndarray
            Arrays of the same shape and type.
        factor : float
            It scales the optimizer's learning rate. A schedule gives it.
        """


@dataclass(frozen=True)
class Adam:
    """Adam, Algorithm 1 of Kingma and Ba [1]_.

    At step t, with gradient g::

        m <- beta_1 m + (1 - beta_1) g
        v <- beta_2 v + (1 - beta_2) g^2
        theta <- theta - eta (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    This is the original form: epsilon is added after the bias correction, as in PyTorch, JAX (optax) and the paper's
    Algorithm 1. With ``epsilon_hat`` it is the paper's second form, which scikit-learn and Keras use: epsilon is added
    to sqrt(v) before the correction. There the same number has 1 / sqrt(1 - beta_2^t) times the effect, 31.6 times at
    t = 1 with beta_2 = 0.999.

    The state keeps the moments as the sums M = m / (1 - beta_1) and V = v / (1 - beta_2). Each takes one operation less
    to update, and the constants become two numbers, a and b::

        M <- beta_1 M + g,   V <- beta_2 V + g^2,   theta <- theta - a M / (sqrt(V) + b)

    Attributes
    ----------
    learning_rate : float
        The step size, eta > 0.
    beta_1, beta_2 : float
        The decay rates of the first and the second moment, in [0, 1).
    epsilon : float
        The number that is added to the denominator, > 0.
    epsilon_hat : bool
        Whether the second form is used.

    Examples
    --------
    Three steps down the parabola x^2 + y^2, whose gradient is (2 x, 2 y). The first step has the length of the learning
    rate in every coordinate.

    >>> import numpy as np
    >>> from circlemlp.core.optimizers import Adam, State
    >>> optimizer, theta = Adam(learning_rate=0.1), np.array([1.0, -2.0])
    >>> state = State.of(theta)
    >>> for step in range(3):
    ...     optimizer.step(state, 2 * theta, theta)
    ...     print(theta.round(4))
    [ 0.9 -1.9]
    [ 0.8004 -1.8002]
    [ 0.7016 -1.7006]

    References
    ----------
    .. [1] Kingma and Ba (2015), "Adam: a method for stochastic optimization", ICLR; the second form is at the
       end of section 2.
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False

    def step(self, state: State, gradient: Floats, parameters: Floats, factor: float = 1.0) -> None:
        """Take one step."""
        state.steps += 1
        state.first_decay *= self.beta_1
        state.second_decay *= self.beta_2
        first, second, scratch = state.first_moment, state.second_moment, state.scratch
        np.multiply(first, self.beta_1, out=first)
        np.add(first, gradient, out=first)
        np.multiply(second, self.beta_2, out=second)
        np.multiply(gradient, gradient, out=scratch)
        np.add(second, scratch, out=second)
        _flush_subnormals(state, first)
        _flush_subnormals(state, second)

        correction_1 = (1 - self.beta_1) / (1 - state.first_decay)
        correction_2 = math.sqrt((1 - self.beta_2) / (1 - state.second_decay))
        epsilon = self.epsilon / (math.sqrt(1 - self.beta_2) if self.epsilon_hat else correction_2)
        np.sqrt(second, out=scratch)
        np.add(scratch, epsilon, out=scratch)
        np.divide(first, scratch, out=scratch)
        np.multiply(scratch, self.learning_rate * factor * correction_1 / correction_2, out=scratch)
        np.subtract(parameters, scratch, out=parameters)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay [1]_: before the step, theta <- (1 - eta lambda) theta.

    Weights and biases decay alike, as in PyTorch and optax when no mask is given.

    Attributes
    ----------
    weight_decay : float
        The rate of the decay, lambda >= 0.

    References
    ----------
    .. [1] Loshchilov and Hutter (2019), "Decoupled weight decay regularization", ICLR.
    """

    weight_decay: float = 0.01

    def step(self, state: State, gradient: Floats, parameters: Floats, factor: float = 1.0) -> None:
        """Take one step."""
        np.multiply(parameters, 1 - self.learning_rate * factor * self.weight_decay, out=parameters)
        super().step(state, gradient, parameters, factor)


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum mu, plain or in Nesterov's form [1]_.

    With M <- mu M + g, the step is theta <- theta - eta M, or with ``nesterov``
    theta <- theta - eta (g + mu M), as in PyTorch; scikit-learn keeps -eta M in place of M.

    Attributes
    ----------
    learning_rate : float
        The step size, eta > 0.
    momentum : float
        The decay rate of M, mu, in [0, 1).
    nesterov : bool
        Whether the step is that of Nesterov's form.

    References
    ----------
    .. [1] Sutskever, Martens, Dahl, Hinton (2013), "On the importance of initialization and momentum in deep
       learning", ICML.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False

    def step(self, state: State, gradient: Floats, parameters: Floats, factor: float = 1.0) -> None:
        """Take one step."""
        state.steps += 1
        velocity, scratch, rate = state.first_moment, state.scratch, self.learning_rate * factor
        np.multiply(velocity, self.momentum, out=velocity)
        np.add(velocity, gradient, out=velocity)
        _flush_subnormals(state, velocity)
        if self.nesterov:
            np.multiply(velocity, self.momentum, out=scratch)
            np.add(scratch, gradient, out=scratch)
            np.multiply(scratch, rate, out=scratch)
        else:
            np.multiply(velocity, rate, out=scratch)
        np.subtract(parameters, scratch, out=parameters)


OPTIMIZERS: dict[str, type[Adam | AdamW | SGD]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
"""The optimizers by the names they have in configurations."""
