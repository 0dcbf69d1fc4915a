"""The report's sentences below its headline, and how it says numbers. Each is a function of the results."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from circlemlp.report import regimes, statistics
from circlemlp.report.boundary import true_boundary
from circlemlp.report.cell_results import CellResult
from circlemlp.report.comparison import Comparison, Difference
from circlemlp.report.rulers import best_line_error, constant_error
from circlemlp.report.statistics import Interval

THRESHOLD = 0.95
"""The accuracy that the first version of this experiment claimed for every model without looking."""
MOST_NAMED = 6
"""Names in a sentence."""
LACKS = {
    "rate": (
        "has more than a quarter of the replicates diverged at every rate",
        "no best learning rate, because at every one more than a quarter of the replicates diverged",
    ),
    "confirmation": ("is not confirmed", "nothing is claimed, because no new replicates have the best learning rate"),
}
"""Why nothing is claimed of an architecture: in short, and as a sentence has it."""
MOST_ASKED = 10_000
"""Replicates of a cell: the configuration allows no more."""
MOST_SHOWN = 1e12
"""The largest ratio of true errors that there can be."""


def findings(comparison: Comparison) -> Iterator[str]:
    """Yield what else the numbers support, a sentence or two at a time."""
    yield above_threshold(comparison)
    for lacking, (_, consequence) in LACKS.items():
        if names := [one.cell.architecture for one in comparison.best if one.lacks == lacking]:
            yield f"{some(names)}: {consequence}."
    if edges := [one for one in comparison.best if one.edge]:
        rates = [f"{one.cell.architecture} ({rate(one.cell.learning_rate)}, the {one.edge})" for one in edges]
        yield (
            f"The best learning rate is at an edge of the grid: {some(rates)}. A better one may lie beyond it, so "
            "nothing is claimed from the rank of such an architecture."
        )
    yield diverged(comparison)
    if unknown := sum(cell.unknown for cell in (*comparison.cells, *comparison.confirmation)):
        yield f"The true error of {count(unknown, 'network')} could not be computed; cells with one are not compared."
    cells, where = comparison.cells, " of the grid" if comparison.confirmation else ""
    regimes_found = Counter(cell.regime for cell in cells)
    yield (
        f"Of {count(len(cells), 'cell')}{where}: "
        + ", ".join(f"{n} {name}" for name, n in regimes_found.most_common())
        + "."
    )
    constant = constant_error(true_boundary(cells[0].trained.config))
    if stuck := [cell for cell in cells if np.median(cell.true_errors) >= constant - 1e-12]:
        yield (
            f"The median network does no better than always giving one answer, which has true error {constant:.4g}: "
            f"{some([f'{cell.architecture} at {rate(cell.learning_rate)}' for cell in stuck])}."
        )


def diverged(comparison: Comparison) -> str:
    """Say how many networks diverged."""

    def part(cells: Sequence[CellResult]) -> str:
        return f"{sum(cell.diverged for cell in cells) or 'none'} of {count(networks(cells), 'network')}"

    confirmed = f" in tuning, {part(comparison.confirmation)} in confirmation" if comparison.confirmation else ""
    return f"{sentence(part(comparison.cells))} diverged{confirmed}."


def above_threshold(comparison: Comparison) -> str:
    """Say which architectures have a true accuracy above 95 % in every network that is judged."""
    best, noise = comparison.best, comparison.cells[0].trained.config.data.label_noise
    above = [
        one.exists and 1 - float(one.judged.true_errors.max()) > THRESHOLD for one in best
    ]  # what is not known is not above
    possible = (
        f" The true accuracy counts no flipped labels; validation accuracy can be about {1 - noise:.4g} at best."
        if noise
        else ""
    )
    every = (
        f"in every one of {count(comparison.judging.replicates, 'new replicate')}"
        if comparison.confirmation
        else ("in every replicate")
    )
    if all(above):
        lowest = min(1 - float(one.judged.true_errors.max()) for one in best)
        return (
            f"Every architecture exceeds {THRESHOLD:.0%} true accuracy at its best learning rate, {every} "
            f"(the lowest: {lowest:.4f}).{possible}"
        )
    not_above = [one.cell.architecture for one, passed in zip(best, above, strict=True) if not passed]
    exceed = "exceeds" if sum(above) == 1 else "exceed"
    return (
        f"{sum(above)} of {count(len(best), 'architecture')} {exceed} {THRESHOLD:.0%} true accuracy, {every}, at the "
        f"best learning rate; not: {some(not_above)}.{possible}"
    )


def judged_again(comparison: Comparison) -> str:
    """Say where the median of the last tenth of the epochs would have chosen or decided otherwise."""
    start = (
        "Chosen and judged by the median validation loss of the last tenth of the epochs, and not by the last network"
    )
    rates = [
        f"{now.cell.architecture} has {rate(then.cell.learning_rate)}"
        f"{', which is not confirmed,' * (then.lacks == 'confirmation')} for its best rate instead of "
        f"{rate(now.cell.learning_rate)}"
        for now, then in zip(comparison.last.best, comparison.typical.best, strict=True)
        if now.exists and now.cell is not then.cell
    ]
    verdicts = [
        f"{now.first.cell.architecture} and {now.second.cell.architecture}: {decided(then, 'loss')} instead of "
        f"{decided(now)}"
        for now, then in zip(comparison.last.differences, comparison.typical.differences, strict=True)
        if now.verdict != then.verdict
    ]
    if not rates and not verdicts:
        return f"{start}, the same learning rates are best, and the same is claimed."
    return f"{start}: {some([*rates, *verdicts], joined='; ')}."


def decided(one: Difference, judged: str = "error") -> str:
    """Return a verdict in a few words; ``judged`` is what it is about."""
    if one.lower:
        return f"{one.lower.cell.architecture} has the lower {judged}"
    others = {"equal": "practically equal", "open": "not decided", "edge": "not claimed", "none": "not compared"}
    return others[one.verdict]


def verdict(one: Difference, practically_equal: float) -> str:
    """Return a verdict as a table has it."""
    if one.verdict == "none":
        reasons = [f"{best.cell.architecture} {LACKS[best.lacks][0]}" for best in (one.first, one.second) if best.lacks]
        return f"not comparable: {'; '.join(reasons) or 'not every true error is known'}"
    if one.verdict == "edge":
        return "nothing is claimed: a best rate is at an edge of the grid"
    if one.verdict == "open":
        needed = f"about {one.to_decide}" if (one.to_decide or 0) <= MOST_ASKED else f"more than {MOST_ASKED}"
        return f"not decided; if the ratio is as estimated, {needed} replicates would"
    width = max(one.ratio.high, 1 / one.ratio.low)
    little = f", by less than {practically_equal:.0%}" if one.lower and width < 1 + practically_equal else ""
    return decided(one) + little


def without_bounds(differences: Sequence[Difference]) -> str | None:
    """Say why intervals have no bounds, if some have none."""
    if not any(one.ratio.high > MOST_SHOWN for one in differences):
        return None
    return (
        "There are no bounds: the ratios of some pair take so few values that many flips of signs make them equal, "
        "which says nothing of how far off they can be; and the intervals of all pairs hold together."
    )


def rules(comparison: Comparison) -> str:
    """Say what the names of the regimes mean."""
    line = best_line_error(true_boundary(comparison.cells[0].trained.config))
    equal = comparison.settings.practically_equal
    return (
        "Regimes, the first that holds: diverged, more than a quarter of the replicates did; too slow, the median "
        f"replicate's validation loss still falls by more than {1 - regimes.IMPROVING:.0%} from one tenth of the "
        f"epochs to the last, and a higher rate ended lower by a factor of more than {1 + equal:g}; collapsed, the "
        f"median true error is no lower than that of the best straight line, {line:.4g}; unstable, at least "
        f"{regimes.UNSTABLE:.0%} of the replicates are bad runs (diverged, or a true error above "
        f"{rate(comparison.settings.bad_run_error)}) or end more than {regimes.SPIKE:g} times above their median of "
        "the last tenth; good, none of these."
    )


def bad_runs(cell: CellResult) -> str:
    """Return how many bad runs a cell has, with Wilson's interval of their share."""
    share = statistics.proportion(cell.bad_runs, cell.replicates)
    return f"{cell.bad_runs} of {cell.replicates} ({share.low:.0%} to {share.high:.0%})"


def interval(value: Interval, digits: str = ".3g") -> str:
    """Return an estimate, with its interval where it has one."""
    if math.isnan(value.estimate):
        return "not known"
    text = number(value.estimate, digits)
    if not value.exists:
        return text
    if math.isinf(value.high):
        return f"{text} ({number(value.low, digits)} to ∞)"
    if value.high > MOST_SHOWN:
        return f"{text} (no bounds)"
    return f"{text} ({number(value.low, digits)} to {number(value.high, digits)})"


def score(cell: CellResult, name: str) -> str:
    """Return a cell's true error, accuracy or loss in words."""
    if regimes.diverged(cell.trained):
        return "diverged"
    if name == "error" and cell.unknown:
        return f"not known of {cell.unknown}"
    return interval(getattr(cell, name), ".4f" if name == "accuracy" else ".3g")


def number(value: float, digits: str = ".3g") -> str:
    """Return a number, with a minus sign that is one, or nothing where it is not known."""
    return f"{value:{digits}}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else ""


def rate(value: float) -> str:
    """Return a learning rate, or what else was set, as it was set."""
    return number(value, "g")


def epochs(number: float) -> str:
    """Return a number of epochs."""
    return f"{number:g}" if math.isfinite(number) else "never"


def gigaflop(operations: float) -> str:
    """Return a number of floating-point operations, in thousands of millions."""
    if not math.isfinite(operations):
        return "never"
    return np.format_float_positional(operations / 1e9, precision=3, fractional=False, trim="-")


def some(names: Sequence[str], joined: str = ", ") -> str:
    """Return a list in words, and how many are left out of a long one."""
    if len(names) > MOST_NAMED:
        return joined.join(names[:MOST_NAMED]) + f"{joined}and {len(names) - MOST_NAMED} more"
    return joined.join(names)


def count(n: int, noun: str) -> str:
    """Return a number of things."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def networks(cells: Sequence[CellResult]) -> int:
    """Return how many networks cells have."""
    return sum(cell.replicates for cell in cells)


def sentence(text: str) -> str:
    """Return a text with a capital letter."""
    return text[:1].upper() + text[1:]
