"""Adam."""

from dataclasses import dataclass

import numpy as np

from circlemlp.core.parameters import Floats


@dataclass(frozen=True)
class AdamOptions:
    """What is chosen: the step size and the decay rates.

    Attributes
    ----------
    learning_rate : float
        Step size, eta > 0.
    beta_1, beta_2 : float
        Decay rates of the first and second moment, in [0, 1).
    epsilon : float
        Added to the root of the *corrected* second moment, > 0.
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8


class Adam:
    """Algorithm 1 of Kingma and Ba [1]_, on flat buffers.

    At step t, with gradient g::

        m <- beta_1 m + (1 - beta_1) g
        v <- beta_2 v + (1 - beta_2) g^2
        theta <- theta - eta (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    This is the original form: epsilon is added after the bias correction, as in PyTorch, JAX (optax) and
    the paper's Algorithm 1. scikit-learn and Keras use the paper's second form, in which the same epsilon
    weighs 1 / sqrt(1 - beta_2^t) times more: 31.6 times at t = 1 with beta_2 = 0.999.

    Parameters
    ----------
    options : AdamOptions
    parameters : ndarray
        Of any shape, float32 or float64; updated in place.

    References
    ----------
    .. [1] Kingma and Ba (2015), "Adam: a method for stochastic optimization", ICLR.
    """

    def __init__(self, options: AdamOptions, parameters: Floats) -> None:
        self.options = options
        self.parameters = parameters
        self.first_moment = np.zeros_like(parameters)
        self.second_moment = np.zeros_like(parameters)
        self.steps = 0
        self._numerator = np.empty_like(parameters)
        self._denominator = np.empty_like(parameters)

    def step(self, gradient: Floats) -> None:
        """Take one step along a gradient of the parameters' shape."""
        o, m, v = self.options, self.first_moment, self.second_moment
        numerator, denominator = self._numerator, self._denominator
        self.steps += 1

        np.multiply(m, o.beta_1, out=m)
        np.multiply(gradient, 1 - o.beta_1, out=numerator)
        np.add(m, numerator, out=m)

        np.multiply(v, o.beta_2, out=v)
        np.multiply(gradient, gradient, out=denominator)
        np.multiply(denominator, 1 - o.beta_2, out=denominator)
        np.add(v, denominator, out=v)

        np.divide(v, 1 - o.beta_2**self.steps, out=denominator)
        np.sqrt(denominator, out=denominator)
        np.add(denominator, o.epsilon, out=denominator)
        np.multiply(m, o.learning_rate / (1 - o.beta_1**self.steps), out=numerator)
        np.divide(numerator, denominator, out=numerator)
        np.subtract(self.parameters, numerator, out=self.parameters)
