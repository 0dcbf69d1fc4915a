"""One contestant of benchmarks/bench.py, in a process of its own: python benchmarks/contestant.py core-native 1

It pins itself to one core and its kernels to one mode before NumPy is imported, then reads tasks as lines of
JSON, and answers each with the seconds one replicate takes for one epoch.

All do the same work: float32 (the plain one float64), Adam, the training loss of every epoch, and validation loss
and accuracy of 2000 points after every epoch. scikit-learn's ``fit`` has no place for the latter, so it predicts those
points once for every epoch when it has trained; it is timed without that, too.
"""

import json
import os
import runpy
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from circlemlp import pinning

Task = dict[str, Any]
Epochs = Callable[[int], None]

PLAIN = Path(__file__).parents[1] / "tests" / "plain.py"
N_TRAIN, N_VALIDATION, SQUARE = 5000, 2000, 1024


def main(name: str, core: int) -> int:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    mode: pinning.Mode = "portable" if name.endswith("portable") else "native"
    pinning.pin(mode)
    if name == "jax":
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ["JAX_PLATFORMS"] = "cpu"
    maker = CONTESTANTS[name.rpartition("-")[0] or name]
    ready: dict[str, Epochs] = {}
    try:
        print(version(name, mode), flush=True)
        for line in sys.stdin:
            task = json.loads(line)
            if line not in ready:
                ready[line] = maker(task)
                ready[line](task["epochs"])  # compiles, and makes workspaces
            start = time.perf_counter()
            ready[line](task["epochs"])
            print((time.perf_counter() - start) / task["epochs"] / task["replicates"], flush=True)
    except ImportError as error:
        print(f"missing: {error}", flush=True)
        return 1
    return 0


def version(name: str, mode: pinning.Mode) -> str:
    """Return what is measured, for the table's head."""
    if name.partition("-")[0] in ("sklearn", "torch", "jax"):
        module = __import__(name.partition("-")[0])
        return f"{name} {module.__version__}"
    from circlemlp.numerics import read_back

    environment = read_back(mode)
    return f"{name}: BLAS {environment['blas'][0]['architecture']}, SIMD {environment['simd'][-1]}"


def data() -> Any:
    from circlemlp.core.data import sample_dataset

    numbers = {"draws": "shared", "n_train": N_TRAIN, "n_validation": N_VALIDATION, "label_noise": 0.0, "seed": 2024}
    return sample_dataset({"shape": "quarter_circle", "radius": 1.0, **numbers})


def arrays() -> Any:
    """Return the data without the axis of draws."""
    return SimpleNamespace(**{name: array[0] for name, array in vars(data()).items()})


def core(task: Task) -> Epochs:
    import numpy as np

    from circlemlp.core.optimizers import Adam
    from circlemlp.core.recipe import Recipe
    from circlemlp.core.training import Trainer

    replicates = task["replicates"]
    recipe = Recipe(task["hidden"], Adam(), epochs=10**6, batch_size=task["batch_size"])
    trainer = Trainer(data(), recipe, range(replicates))
    loss, accuracy = np.empty(replicates), np.empty(replicates)

    def epochs(n: int) -> None:
        for _ in range(n):
            trainer.epoch()
            trainer.validate(loss, accuracy)

    return epochs


def products(task: Task) -> Epochs:
    """Multiply the matrices of the hidden layers as the core does in an epoch, and do nothing else."""
    import numpy as np

    from circlemlp.core.parameters import Layout, aligned_zeros
    from circlemlp.core.tiles import Cut, input_rows

    layout = Layout.of(task["hidden"])
    features, *nodes, _ = layout.layer_sizes

    @cache
    def normal(*shape: int, place: int) -> Any:
        array = aligned_zeros(shape, "float32")
        array[:] = np.random.default_rng(place).standard_normal(shape)
        return array

    def of_tile(blocks: int, block: int, *, trains: bool) -> Iterator[tuple[Any, Any, Any]]:
        x = normal(1, input_rows(features), blocks, block, place=0).swapaxes(1, 2)
        below, transposed, fan_in = x[..., : features + 1, :], x, features
        for layer, fan_out in enumerate(nodes, start=1):
            h = normal(1, blocks, block, fan_out + (layer < len(nodes)), place=layer)
            scores = h[..., :fan_out]
            yield below.mT, normal(1, 1, fan_in + 1, fan_out, place=layer), scores
            if trains:
                yield transposed, scores, normal(1, blocks, transposed.shape[-2], fan_out, place=layer)
            if trains and layer > 1:
                yield scores, normal(1, 1, fan_out, fan_in, place=layer), below.mT[..., :fan_in]
            below = transposed = h.mT
            fan_in = fan_out

    calls: list[tuple[Any, Any, Any]] = []
    for n in (N_TRAIN, N_VALIDATION):
        cut = Cut.of(layout, "float32", 1, n)
        for start, stop in cut.tiles(n):
            block = min(cut.block, stop - start)
            calls += of_tile((stop - start) // block, block, trains=n == N_TRAIN)

    def epochs(n: int) -> None:
        for _ in range(n):
            for a, b, product in calls:
                np.matmul(a, b, out=product)

    return epochs


def sgemm(_: Task) -> Epochs:
    """Multiply two square matrices: the rate to hold the others against."""
    import numpy as np

    a = np.random.default_rng(0).standard_normal((SQUARE, SQUARE)).astype("float32")
    product = np.empty_like(a)

    def epochs(n: int) -> None:
        for _ in range(n):
            np.matmul(a, a, out=product)

    return epochs


def plain(task: Task) -> Epochs:
    import numpy as np

    from circlemlp.core.initialisation import initialise
    from circlemlp.core.parameters import Layout

    functions = runpy.run_path(str(PLAIN))
    layout = Layout.of(task["hidden"])
    sizes, points = layout.layer_sizes, arrays()
    theta = initialise(layout, seed=0, replicates=[0], dtype="float64")[0]

    def epochs(n: int) -> None:
        functions["train"](theta, sizes, points.x_train, points.y_train, epochs=n, learning_rate=0.001)
        for _ in range(n):
            functions["mean_loss"](theta, sizes, points.x_validation, points.y_validation)
            logits = functions["forward"](functions["unflatten"](theta, sizes), points.x_validation)[0]
            np.mean((logits > 0) == points.y_validation)

    return epochs


def sklearn(task: Task) -> Epochs:
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    points = arrays()
    x, x_validation = points.x_train.astype("float32"), points.x_validation.astype("float32")

    def epochs(n: int) -> None:
        model = MLPClassifier(
            task["hidden"],
            batch_size=task["batch_size"] or N_TRAIN,
            max_iter=n,
            tol=0,
            n_iter_no_change=10**6,
            alpha=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged, and is not meant to
            model.fit(x, points.y_train)
        for _ in range(n if task["validates"] else 0):
            p = model.predict_proba(x_validation)[:, 1]
            np.mean(np.log(np.where(points.y_validation, p, 1 - p)))
            np.mean((p > 0.5) == points.y_validation)

    return epochs


def torch(task: Task) -> Epochs:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    sizes = (2, *task["hidden"], 1)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    mean_loss = nn.BCEWithLogitsLoss()
    points = arrays()
    x, x_validation = (torch.tensor(a, dtype=torch.float32) for a in (points.x_train, points.x_validation))
    y, y_validation = (torch.tensor(a, dtype=torch.float32)[:, None] for a in (points.y_train, points.y_validation))
    batch_size = task["batch_size"]

    def step(x: Any, y: Any) -> float:
        optimizer.zero_grad()
        loss = mean_loss(network(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def epochs(n: int) -> None:
        for _ in range(n):
            if batch_size is None:
                step(x, y)
            else:
                order = torch.randperm(N_TRAIN)
                for start in range(0, N_TRAIN, batch_size):
                    chosen = order[start : start + batch_size]
                    step(x[chosen], y[chosen])
            with torch.inference_mode():
                logits = network(x_validation)
                mean_loss(logits, y_validation).item()
                ((logits > 0) == (y_validation > 0)).float().mean().item()

    return epochs


def jax(task: Task) -> Epochs:
    import jax
    import jax.numpy as jnp

    sizes, batch_size, replicates = (2, *task["hidden"], 1), task["batch_size"], task["replicates"]
    points = arrays()
    x, x_validation = (jnp.asarray(a, jnp.float32) for a in (points.x_train, points.x_validation))
    y, y_validation = (jnp.asarray(a, jnp.float32) for a in (points.y_train, points.y_validation))
    each = jax.tree_util.tree_map

    def start(key: Any) -> Any:
        keys = jax.random.split(key, len(sizes))
        parameters = [
            (jax.random.normal(k, (fan_in, fan_out)) * (2 / fan_in) ** 0.5, jnp.zeros(fan_out))
            for k, fan_in, fan_out in zip(keys, sizes, sizes[1:], strict=False)
        ]
        zeros = each(jnp.zeros_like, parameters)
        return (parameters, zeros, zeros, jnp.float32(0)), keys[-1]

    def logits(parameters: Any, x: Any) -> Any:
        h = x
        for weights, bias in parameters[:-1]:
            h = jax.nn.relu(h @ weights + bias)
        weights, bias = parameters[-1]
        return (h @ weights + bias)[:, 0]

    def mean_loss(parameters: Any, x: Any, y: Any) -> Any:
        s = logits(parameters, x)
        return jnp.mean(jnp.logaddexp(0, s) - y * s)

    def step(state: Any, batch: Any) -> Any:
        parameters, m, v, t = state
        loss, gradient = jax.value_and_grad(mean_loss)(parameters, *batch)
        t = t + 1
        m = each(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = each(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        a, b = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        parameters = each(lambda p, m, v: p - 0.001 * (m * a) / (jnp.sqrt(v * b) + 1e-8), parameters, m, v)
        return (parameters, m, v, t), loss

    def epoch(carry: Any, _: Any) -> Any:
        state, key = carry
        if batch_size is None:
            state, loss = step(state, (x, y))
        else:
            key, own = jax.random.split(key)
            order = jax.random.permutation(own, N_TRAIN)
            whole = N_TRAIN // batch_size * batch_size
            xs, ys = x[order], y[order]
            batches = xs[:whole].reshape(-1, batch_size, 2), ys[:whole].reshape(-1, batch_size)
            state, losses = jax.lax.scan(step, state, batches)
            loss = losses.mean()
            if whole < N_TRAIN:
                state, _ = step(state, (xs[whole:], ys[whole:]))
        s = logits(state[0], x_validation)
        accuracy = jnp.mean((s > 0) == (y_validation > 0))
        return (state, key), (loss, mean_loss(state[0], x_validation, y_validation), accuracy)

    def run(carry: Any, n: int) -> Any:
        return jax.lax.scan(epoch, carry, None, length=n)

    key = jax.random.key(0)
    if batch_size is None:
        carry, run = start(key), jax.jit(run, static_argnums=1)
    else:
        carry = jax.vmap(start)(jax.random.split(key, replicates))
        run = jax.jit(jax.vmap(run, in_axes=(0, None)), static_argnums=1)

    def epochs(n: int) -> None:
        nonlocal carry
        carry, curves = run(carry, n)
        jax.block_until_ready((carry, curves))

    return epochs


CONTESTANTS: dict[str, Callable[[Task], Epochs]] = {
    "core": core,
    "products": products,
    "sgemm": sgemm,
    "plain": plain,
    "sklearn": sklearn,
    "torch": torch,
    "jax": jax,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
