"""Schedules of the learning rate: the factor on it at every step."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up, then a constant rate or a half cosine [1]_.

    Of T steps the first W = round(warmup_fraction T) are the warm-up; step t = 1..T has the factor

        t / (W + 1)                                             for t <= W,
        1                                                       after, with ``decay = "constant"``,
        f + (1 - f) (1 + cos(pi (t - 1 - W) / (T - W))) / 2     after, with ``decay = "cosine"``,

    where f is ``final_fraction``.

    Attributes
    ----------
    decay : str
        ``constant`` or ``cosine``.
    warmup_fraction : float
        The part of all steps that belongs to the warm-up, in [0, 1).
    final_fraction : float
        The factor that a cosine falls to, in [0, 1].

    References
    ----------
    .. [1] Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", ICLR, equation
       5, without restarts.
    """

    decay: str = "constant"
    warmup_fraction: float = 0.0
    final_fraction: float = 0.0

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of step 1 <= ``step`` <= ``steps``."""
        warmup = round(self.warmup_fraction * steps)
        if step <= warmup:
            return step / (warmup + 1)
        if self.decay == "constant":
            return 1.0
        fall = (1 + cosine(math.pi * (step - 1 - warmup) / (steps - warmup))) / 2
        # The last digits are rounding errors of the cosine, so they are rounded away.
        return round(self.final_fraction + (1 - self.final_fraction) * fall, 12)


def cosine(angle: float) -> float:
    """Return the cosine of an angle between 0 and pi, to within 1e-15.

    It is the Taylor series 1 - x^2 / (1 2) (1 - x^2 / (3 4) (1 - ...)), whose bits IEEE 754 fixes. Those of the C
    library's cosine depend on the library and the processor.
    """
    square = angle * angle
    total = 1.0
    for k in range(26, 0, -2):
        total = 1 - square / (k * (k - 1)) * total
    return total
