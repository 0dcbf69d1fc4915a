"""Simulate the report's statistics and write what they keep of their promises: python benchmarks/calibrate.py

The table goes into docs/calibration.md, whose text says what is simulated.
"""

import math
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from circlemlp import wording
from circlemlp.report.comparison import verdict
from circlemlp.report.statistics import location, lowest, shares, shares_of_replicates, simultaneous, trimmed_mean
from circlemlp.store import results
from circlemlp.store.trained import join

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs" / "calibration.md"
TUNED = PROJECT / "results" / "architectures_by_learning_rate"
SHIPPED = TUNED.with_name(f"{TUNED.name}_confirmation")
SEED, ROUNDS, FLIPS = 0, 10_000, 199
RATES = 9
TUNING, CONFIRMATION = 10, 30
COMMON, CHOICE_NOISE, MUCH_WORSE = 0.5, 0.5, 10.0
"""Standard deviations of what replicates share across cells, and of loss beside error; how bad other rates are."""

Floats = NDArray[np.float64]
Shape = Callable[[np.random.Generator, tuple[int, ...]], Floats]
Draw = Callable[[np.random.Generator, int], Floats]
SHAPES: dict[str, Shape] = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "lognormal": lambda rng, size: np.exp(0.6 * rng.standard_normal(size)),
    "10 % bad runs": lambda rng, size: rng.standard_normal(size) + 6.0 * (rng.random(size) < 0.1),
}
GOOD_RATES = {
    "1 in every architecture": [1, 1, 1, 1],
    "9 in every architecture": [9, 9, 9, 9],
    "1 in one, 9 in the others": [9, 9, 9, 1],
    "1 in two, 9 in the others": [9, 9, 1, 1],
}


def outcomes(rng: np.random.Generator, good: list[int], shape: Shape, n: int) -> tuple[Floats, Floats]:
    """Return errors and losses of shape (architectures, rates, replicates); at good rates all errors are alike."""
    errors = shape(rng, (len(good), RATES, n)) + COMMON * rng.standard_normal(n)
    errors += MUCH_WORSE * (np.arange(RATES) >= np.array(good)[:, np.newaxis])[..., np.newaxis]
    return errors, errors + CHOICE_NOISE * rng.standard_normal(errors.shape)


def experiment(
    rng: np.random.Generator, good: list[int], shape: Shape, *, n: int, fresh: int | None
) -> tuple[bool, Floats]:
    """Simulate one experiment; ``fresh`` replicates judge, or those that chose.

    Returns
    -------
    false_alarm : bool
        Whether a difference is found.
    judged : ndarray
        The errors of the first architecture.
    """
    errors, losses = outcomes(rng, good, shape, n)
    chosen = [lowest(by_rate) for by_rate in losses]
    if fresh:
        errors, _ = outcomes(rng, good, shape, fresh)
    judged = errors[np.arange(len(good)), chosen]
    differences = [a - b for a, b in combinations(judged, 2)]
    intervals = simultaneous(differences, flips=FLIPS, rng=rng).intervals
    return any(verdict(interval, margin=0.0) in ("first", "second") for interval in intervals), judged[0]


def experiments(
    good: list[int], shape: Shape, *, n: int, fresh: int | None = None, rounds: int = ROUNDS
) -> tuple[float, Floats]:
    """Return the share of experiments with a false alarm, and what they judge, of shape (rounds, replicates)."""
    rng = np.random.default_rng(SEED)
    alarms, judged = zip(*(experiment(rng, good, shape, n=n, fresh=fresh) for _ in range(rounds)), strict=True)
    return float(np.mean(alarms)), np.array(judged)


def coverage(samples: Floats, true: float) -> float:
    """Return the share of samples, of shape (samples, replicates), whose interval holds the true location."""
    return sum(true in location(sample) for sample in samples) / len(samples)


def true_location(shape: Shape, common: float = 0.0) -> float:
    """Return the trimmed mean of very many values; ``common`` is the standard deviation of what is added to them."""
    rng, many = np.random.default_rng(SEED), (1_000_000,)
    return float(trimmed_mean(shape(rng, many) + common * rng.standard_normal(many)))


def shipped(folder: Path) -> dict[str, Floats]:
    """Return the logarithms of the true errors of the replicates of each cell, by its name; none without results."""
    if not folder.is_dir():
        return {}
    return {
        f"{wording.architecture(cell.config.model)} at {cell.config.optimizer.learning_rate:g}": np.log10(
            np.where(cell.history.diverged_at >= 0, 1.0, cell.true_error)
        )
        for cell in join(results.read(folder))
    }


def resampled(values: Floats) -> Shape:
    """Return outcomes that are drawn from these values with replacement."""
    return lambda rng, size: rng.choice(values, size)


def population_location(values: Floats) -> float:
    """Return the exact trimmed mean of what is drawn from these values.

    That is the mean of their quantiles from 1/4 to 3/4. Of four copies of each value, a quarter is a whole number.
    """
    return float(trimmed_mean(np.repeat(values, 4)))


def table(head: list[str], rows: Iterator[list[str]]) -> list[str]:
    """Return the lines of a table, and show each when it is known."""
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for row in rows:
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    return lines


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def by_stages() -> Iterator[list[str]]:
    """Yield false alarms, then coverage, in one stage and in two."""
    cases = [("normal", name) for name in GOOD_RATES]
    cases += [(shape, "1 in two, 9 in the others") for shape in SHAPES if shape != "normal"]
    for shape, name in cases:
        stages: list[tuple[int, int | None]] = [(TUNING, None), (CONFIRMATION, None), (TUNING, CONFIRMATION)]
        true = true_location(SHAPES[shape], COMMON)
        found = [experiments(GOOD_RATES[name], SHAPES[shape], n=n, fresh=fresh) for n, fresh in stages]
        covered = [coverage(judged, true) for _, judged in found]
        yield [shape, name, *(percent(alarms) for alarms, _ in found), *map(percent, covered)]


def without_a_choice(own: dict[str, Floats]) -> Iterator[list[str]]:
    """Yield false alarms among architectures with a single rate."""
    cases = [("normal", SHAPES["normal"], 2), *((name, shape, 4) for name, shape in SHAPES.items())]
    cases += [(name, resampled(values), 4) for name, values in own.items()]
    for name, shape, architectures in cases:
        found = [experiments([1] * architectures, shape, n=n)[0] for n in (8, 10, 30)]
        yield [name, str(architectures), *map(percent, found)]


def one_location(own: dict[str, Floats]) -> Iterator[list[str]]:
    """Yield the coverage of one interval."""
    cases = [(name, shape, true_location(shape)) for name, shape in SHAPES.items()]
    cases += [(name, resampled(values), population_location(values)) for name, values in own.items()]
    for name, shape, true in cases:
        samples = [shape(np.random.default_rng(SEED), (ROUNDS, n)) for n in (5, 10, 20, 30)]
        yield [name, *(percent(coverage(one, true)) for one in samples)]


def in_a_grid(cells: dict[str, Floats]) -> Floats:
    """Return what cells came to, of shape (architectures, rates, replicates)."""
    architectures, rates = ({name.split(" at ")[place] for name in cells} for place in (0, 1))
    return np.array([[cells[f"{one} at {rate}"] for rate in sorted(rates)] for one in sorted(architectures)])


def scattered(grid: Floats, shape: Shape) -> Draw:
    """Return what draws replicates of cells that keep their means and deviations, and scatter in a given shape."""
    mean, deviation = grid.mean(axis=2, keepdims=True), grid.std(axis=2, keepdims=True)
    many = shape(np.random.default_rng(SEED), (1_000_000,))

    def draw(rng: np.random.Generator, n: int) -> Floats:
        standard: Floats = (shape(rng, (*grid.shape[:2], n)) - many.mean()) / many.std()
        drawn: Floats = mean + deviation * standard
        return drawn

    return draw


def shares_of_the_grid(grid: Floats) -> Iterator[list[str]]:
    """Yield how often the intervals of the shares of architecture and learning rate hold these."""
    cases = {name: scattered(grid, shape) for name, shape in SHAPES.items()}
    truths = {name: shares(draw(np.random.default_rng(SEED), 20_000)) for name, draw in cases.items()}
    cases["its own replicates"] = lambda rng, n: grid[..., rng.integers(0, grid.shape[2], n)]
    truths["its own replicates"] = shares(grid)
    for name, draw in cases.items():
        covered = []
        for n in (TUNING, CONFIRMATION):
            rng = np.random.default_rng(SEED)
            found = [shares_of_replicates(draw(rng, n)) for _ in range(ROUNDS)]
            covered += [sum(truths[name][of] in one[of] for one in found) / ROUNDS for of in ("rows", "columns")]
        yield [name, *map(percent, covered)]


def explained(grid: Floats) -> list[str]:
    head = [f"{of}, {n} replicates" for n in (TUNING, CONFIRMATION) for of in ("architecture", "learning rate")]
    return [
        "Coverage of the intervals of what architecture and learning rate explain, in the shipped grid, in percent:",
        "",
        *table(["outcomes", *head], shares_of_the_grid(grid)),
        "",
    ]


def main() -> None:
    own, tuned = shipped(SHIPPED), shipped(TUNED)
    stages = [f"one stage, {TUNING}", f"one stage, {CONFIRMATION}", f"two stages, {TUNING} and {CONFIRMATION}"]
    head = ["outcomes", f"good rates of {RATES}", *(f"false alarms: {s}" for s in stages)]
    lines = [
        "Family-wise false alarms (nominal 5) and coverage of the chosen location (nominal 95), in percent:",
        "",
        *table([*head, *(f"coverage: {s}" for s in stages)], by_stages()),
        "",
        "Family-wise false alarms without a choice, in percent:",
        "",
        *table(["outcomes", "architectures", "8 replicates", "10", "30"], without_a_choice(own)),
        "",
        "Coverage of the interval of one location without a choice, in percent:",
        "",
        *table(["outcomes", "5 replicates", "10", "20", "30"], one_location(own)),
        "",
        *(explained(in_a_grid(tuned)) if tuned else []),
        *(
            []
            if own and tuned
            else ["The shipped experiment's own replicates were not there; what rests on them is left out.", ""]
        ),
        f"Seed {SEED}, {ROUNDS} experiments or samples a number, so the standard error of a 5 is "
        f"{100 * math.sqrt(0.05 * 0.95 / ROUNDS):.1f}; {FLIPS} random flips for each experiment. One core took "
        f"{time.process_time() / 60:.0f} minutes.",
    ]
    before, mark, _ = PAGE.read_text().partition("## Measured\n")
    PAGE.write_text(before + mark + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
