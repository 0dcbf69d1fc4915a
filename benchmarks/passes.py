"""What each pass over a layer costs, written plainly and as the core does it: python benchmarks/passes.py

One layer of 64 nodes, 5000 samples, float32, portable mode, one core; the two ways in turns. Below, the bill of a
whole epoch of 2-64-1: the passes that no rearrangement spares, added up, beside what the epoch takes.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from circlemlp import numerics

ROUNDS, REPEATS = 25, 20
NODES, SAMPLES, N_VALIDATION = 64, 5000, 2000

Pass = Callable[[], Any]


def main() -> int:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    numerics.pin(numerics.resolve("auto"))
    print(f"{'':52} {'plain µs':>9} {'here µs':>8} {'ratio':>6}")
    for name, plain, here in ways():
        times = in_turns({"plain": plain, "here": here})
        ratio = statistics.median(a / b for a, b in zip(times["plain"], times["here"], strict=True))
        medians = [statistics.median(times[way]) for way in ("plain", "here")]
        print(f"{name:52} {medians[0]:9.1f} {medians[1]:8.1f} {ratio:6.2f}", flush=True)
    print("\nThe bill of an epoch of 2-64-1, validation included")
    times = in_turns(bill())
    epoch = times.pop("the epoch")
    for name, values in times.items():
        print(f"  {name:50} {statistics.median(values):9.1f}")
    print(f"  {'the passes together':50} {sum(map(statistics.median, times.values())):9.1f}")
    print(f"  {'the epoch':50} {statistics.median(epoch):9.1f}")
    return 0


def in_turns(passes: dict[str, Pass]) -> dict[str, list[float]]:
    """Return the microseconds each takes, round by round."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(ROUNDS):
        for name, call in passes.items():
            call()
            start = time.perf_counter()
            for _ in range(REPEATS):
                call()
            times[name].append(1e6 * (time.perf_counter() - start) / REPEATS)
    return times


def ways() -> Iterator[tuple[str, Pass, Pass]]:
    """Yield a pass's name and two ways to do it."""
    import numpy as np

    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    x = np.vstack([normal(2, SAMPLES), np.ones((1, SAMPLES), np.float32)])
    augmented, weights, bias = np.ones((NODES + 1, SAMPLES), np.float32), normal(3, NODES), normal(NODES, 1)
    s, error, out = augmented[:-1], normal(NODES, SAMPLES), normal(NODES, SAMPLES)
    s[:] = normal(NODES, SAMPLES)
    narrow = np.ascontiguousarray(weights[:-1].T)
    zeros = np.zeros((1, SAMPLES), np.float32)

    def add_bias() -> None:
        np.matmul(narrow, x[:-1], out=out)
        np.add(out, bias, out=out)

    yield "scores: bias added | a row of ones below", add_bias, lambda: np.matmul(weights.T, x, out=out)
    yield (
        "relu: against the scalar 0 | against a row of zeros",
        lambda: np.maximum(s, 0, out=out),
        lambda: np.maximum(s, zeros, out=out),
    )

    bits, ones, relu = np.maximum(s, 0).view(np.int32), np.ones((1, SAMPLES), np.int32), np.maximum(s, 0)

    def in_integers() -> None:
        np.minimum(bits, ones, out=bits)
        np.multiply(bits, out.view(np.int32), out=out.view(np.int32))

    yield "relu': times a boolean | in integers", lambda: np.multiply(out, relu > 0, out=out), in_integers

    top_error, top_weights, gradient = normal(1, SAMPLES), normal(NODES, 1), np.empty((3, NODES), np.float32)

    def wide() -> None:
        np.matmul(top_weights, top_error, out=out)
        np.multiply(out, error, out=out)

    yield "last layer: wide error by matmul | w after the sum", wide, lambda: np.multiply(error, top_error, out=out)

    def by_feature() -> None:
        for feature in range(3):
            np.matmul(error, x[feature, :, None], out=gradient[feature, :, None])

    yield "bottom gradient: one product | one for each input", lambda: np.matmul(x, error.T, out=gradient), by_feature

    apart, together = np.ones((10, NODES + 1, 32), np.float32)[:, :-1], np.ones((NODES + 1, 10, 32), np.float32)[:-1]
    nothing = np.zeros_like(together)
    of_each = nothing.transpose(1, 0, 2).copy()

    yield (
        "relu, ten replicates of 32: they first | nodes first",
        lambda: np.maximum(apart, of_each, out=apart),
        lambda: np.maximum(together, nothing, out=together),
    )

    from circlemlp.core.loss import LossSum

    logits, signs, total = normal(1, SAMPLES), np.sign(normal(SAMPLES)), LossSum(1, SAMPLES, np.float32)
    labels, kept = (signs + 1) / 2, np.empty((1, SAMPLES), np.float32)

    def loss() -> None:
        np.copyto(kept, logits)
        total.add_losses(kept, signs)

    yield (
        "loss: logaddexp | with NumPy's own exp and log",
        lambda: np.mean(np.logaddexp(0, logits) - labels * logits),
        loss,
    )

    from circlemlp.core.optimizers import Adam, State

    theta, g = normal(8513), normal(8513)
    adam, state = Adam(), State.of(theta)
    m, v = np.zeros_like(theta), np.zeros_like(theta)

    def textbook() -> None:
        m[:] = 0.9 * m + 0.1 * g
        v[:] = 0.999 * v + 0.001 * g**2
        theta[:] = theta - 0.001 * (m / (1 - 0.9**10)) / (np.sqrt(v / (1 - 0.999**10)) + 1e-8)

    yield "Adam, 8513 parameters: as written | in place", textbook, lambda: adam.step(state, g, theta, 0.001)


def bill() -> dict[str, Pass]:
    """Return the passes of an epoch that cannot be spared, and the epoch."""
    import numpy as np

    from circlemlp.core.data import Boundary, sample_dataset
    from circlemlp.core.optimizers import Adam
    from circlemlp.core.training import Recipe, Trainer

    boundary = Boundary(0, 1, 0, 1)
    points = sample_dataset(boundary, n_train=SAMPLES, n_validation=N_VALIDATION, label_noise=0, seed=0)
    trainer, of_validation = Trainer(points, Recipe((NODES,), Adam(), epochs=10**6), range(1)), np.empty((2, 1))

    def epoch() -> None:
        trainer.epoch()
        trainer.validate(*of_validation)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, SAMPLES + N_VALIDATION)).astype(np.float32)
    augmented = np.ones((NODES + 1, SAMPLES + N_VALIDATION), np.float32)
    weights, top, h = x[:, :NODES].copy(), augmented[:, 0].copy(), augmented[:-1]
    logits, zeros = np.empty(SAMPLES + N_VALIDATION, np.float32), np.zeros_like(x[:1])
    training = np.ones((NODES + 1, SAMPLES), np.float32)
    bits, ones = training[:-1].view(np.int32), np.ones((1, SAMPLES), np.int32)
    delta, error = np.ones((NODES, SAMPLES), np.float32), x[:1, :SAMPLES].copy()
    few, many = np.empty(NODES, np.float32), np.empty(NODES + 1, np.float32)
    features = x[:, :SAMPLES].copy()
    return {
        "scores of 7000 samples": lambda: np.matmul(weights.T, x, out=h),
        "relu": lambda: np.maximum(h, zeros, out=h),
        "logits": lambda: np.matmul(top, augmented, out=logits),
        "top gradient": lambda: np.matmul(training, error[0], out=many),
        "relu', first pass": lambda: np.minimum(bits, ones, out=bits),
        "relu', second pass": lambda: np.multiply(bits, error.view(np.int32), out=delta.view(np.int32)),
        "bottom gradient": lambda: [np.matmul(delta, feature, out=few) for feature in features],
        "the epoch": epoch,
    }


if __name__ == "__main__":
    sys.exit(main())
