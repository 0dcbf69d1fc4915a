"""What each trick of the core gives, beside the plain way: python benchmarks/passes.py native

In float32, the two ways in turns on one core. First what is done to a layer of 64 nodes and 5000 samples, then what is
done once a batch. A ratio over one says how many times faster the core's way is.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from circlemlp import pinning

ROUNDS, REPEATS = 25, 20
NODES, ABOVE, SAMPLES, BLOCK = 64, 32, 5000, 125

Pass = Callable[[], Any]
Pair = tuple[str, Pass, Pass]


def main(choice: str) -> int:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    mode = pinning.resolve(choice)
    pinning.pin(mode)
    print(f"{mode + ': plain | the core':64} {'plain µs':>9} {'core µs':>9} {'ratio':>6}")
    for pairs in (of_a_layer, of_a_product, of_a_batch):
        for name, plain, core in pairs():
            times = in_turns(plain, core)
            ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
            medians = map(statistics.median, times)
            print(f"{name:64} {next(medians):9.1f} {next(medians):9.1f} {ratio:6.2f}", flush=True)
    return 0


def in_turns(*passes: Pass) -> list[list[float]]:
    """Return the microseconds each takes, round by round."""
    times: list[list[float]] = [[] for _ in passes]
    for _ in range(ROUNDS):
        for own, call in zip(times, passes, strict=True):
            call()
            start = time.perf_counter()
            for _ in range(REPEATS):
                call()
            own.append(1e6 * (time.perf_counter() - start) / REPEATS)
    return times


def normal(*shape: int) -> Any:
    import numpy as np

    from circlemlp.core.parameters import aligned_zeros

    array = aligned_zeros(shape, "float32")
    np.copyto(array, np.random.default_rng(0).standard_normal(shape))
    return array


def of_a_layer() -> Iterator[Pair]:
    """Yield element-wise passes."""
    import numpy as np

    from circlemlp.core.activations import ACTIVATIONS, LEAST_ROW

    s, error = normal(1, SAMPLES // BLOCK, BLOCK, NODES), normal(1, SAMPLES // BLOCK, BLOCK, NODES)
    relu = ACTIVATIONS["relu"](s)
    yield "relu: against the scalar 0 | against a row of zeros", lambda: np.maximum(s, 0, out=s), relu.forward
    relu.forward()
    h = s.copy()
    yield (
        "relu' times an error: a product with booleans | in integers",
        lambda: np.multiply(error, h > 0, out=error),
        lambda: relu.error_below(error),
    )
    np.copyto(s, h)
    positive = np.empty(s.shape, bool)

    def by_booleans() -> None:
        np.greater(s, 0, out=positive)
        np.copyto(s, positive)

    yield "relu' alone: booleans, then a copy | min(h, unit)", by_booleans, relu.slope

    row = normal(LEAST_ROW)

    def against_rows(buffer: int) -> Pass:
        def call() -> None:
            before = np.setbufsize(buffer)
            np.maximum(s.reshape(-1)[: 75 * LEAST_ROW].reshape(-1, LEAST_ROW), row, out=other)
            np.setbufsize(before)

        return call

    other = normal(75, LEAST_ROW)
    yield "rows of 4096 against one: NumPy's default buffers | small ones", against_rows(8192), against_rows(16)

    unaligned = np.empty(s.size + 16, np.float32)[1 : 1 + s.size].reshape(s.shape)
    weights, x = normal(1, 3, NODES), normal(3, SAMPLES // BLOCK, BLOCK).transpose(1, 2, 0)
    yield (
        "scores of the bottom layer: anywhere | at a cache line",
        lambda: np.matmul(x, weights, out=unaligned[0]),
        lambda: np.matmul(x, weights, out=s[0]),
    )


def of_a_product() -> Iterator[Pair]:
    """Yield matrix products."""
    import numpy as np

    blocks = SAMPLES // BLOCK
    h, above, weights = normal(blocks, BLOCK, NODES + 1), normal(blocks, BLOCK, ABOVE), normal(NODES + 1, ABOVE)
    whole = h.reshape(SAMPLES, -1), above.reshape(SAMPLES, -1)
    yield (
        "scores of a layer above: one product | a product a block",
        lambda: np.matmul(whole[0], weights, out=whole[1]),
        lambda: np.matmul(h, weights, out=above),
    )
    one, parts = normal(NODES + 1, ABOVE), normal(blocks, NODES + 1, ABOVE)

    def by_block() -> None:
        np.matmul(h.mT, above, out=parts)
        np.add.reduce(parts, axis=0, out=one)

    yield "its gradient: one product | a product a block", lambda: np.matmul(whole[0].T, whole[1], out=one), by_block

    below, transposed = normal(blocks, BLOCK, NODES), weights[:-1].T.copy()
    yield (
        "error below: times W as it lies | transposed",
        lambda: np.matmul(above, weights[:-1].T, out=below),
        lambda: np.matmul(above, transposed, out=below),
    )
    d, w = normal(2, blocks, BLOCK).transpose(1, 2, 0), normal(2, ABOVE)
    d[..., 1], w[1] = 0, 0
    yield (
        "d w': a column and a row | with companions of zeros",
        lambda: np.matmul(d[..., :1], w[:1], out=above),
        lambda: np.matmul(d, w, out=above),
    )
    x, gradient = normal(4, blocks, BLOCK).transpose(1, 0, 2), normal(blocks, 4, NODES)
    x[:, 3] = 0
    yield (
        "bottom gradient: three inputs | a fourth of zeros",
        lambda: np.matmul(x[:, :3], below, out=gradient[:, :3]),
        lambda: np.matmul(x, below, out=gradient),
    )


def of_a_batch() -> Iterator[Pair]:
    """Yield what is done to all samples' logits, or to all parameters."""
    import numpy as np

    from circlemlp.core.loss import LossSum
    from circlemlp.core.optimizers import Adam, State

    logits, signs, total = normal(1, SAMPLES), np.sign(normal(1, SAMPLES)), LossSum(1, SAMPLES, "float32")
    labels, kept = (signs + 1) / 2, np.empty((1, SAMPLES), np.float32)

    def loss() -> None:
        np.copyto(kept, logits)
        total.add_losses(kept, signs)

    yield (
        "loss: logaddexp | with NumPy's own exp and log",
        lambda: np.mean(np.logaddexp(0, logits) - labels * logits),
        loss,
    )
    theta, g = normal(8705), normal(8705)
    adam, state = Adam(), State.of(theta)
    m, v = np.zeros_like(theta), np.zeros_like(theta)

    def textbook() -> None:
        m[:] = 0.9 * m + 0.1 * g
        v[:] = 0.999 * v + 0.001 * g**2
        theta[:] = theta - 0.001 * (m / (1 - 0.9**10)) / (np.sqrt(v / (1 - 0.999**10)) + 1e-8)

    yield "Adam, 8705 parameters: as written | in place", textbook, lambda: adam.step(state, g, theta)

    dead, subnormal = np.zeros_like(g), np.full_like(g, 4 * np.finfo(np.float32).smallest_subnormal)

    def of_dead_nodes(sums: Any) -> Pass:
        fading = State.of(theta)

        def step() -> None:
            np.copyto(fading.first_moment, sums)
            fading.steps = 0
            adam.step(fading, dead, theta)

        return step

    yield "Adam of dead nodes: sums left subnormal | set to zero", of_dead_nodes(subnormal), of_dead_nodes(dead)


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["auto"])))
