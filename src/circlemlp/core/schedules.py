"""Learning-rate schedules: the factor on the learning rate, step by step."""

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
        The part of all steps that is warm-up, in [0, 1).
    final_fraction : float
        What a cosine comes down to, in [0, 1].

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
        fall = (1 + math.cos(math.pi * (step - 1 - warmup) / (steps - warmup))) / 2
        # Rounded, because the last bit of a cosine differs between C libraries.
        return round(self.final_fraction + (1 - self.final_fraction) * fall, 12)
