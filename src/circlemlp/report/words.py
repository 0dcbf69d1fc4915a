"""The report's sentences. Each is a function of the results, and claims what they support."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from circlemlp import wording
from circlemlp.report import regimes, statistics
from circlemlp.report.boundary import true_boundary
from circlemlp.report.cell_results import CellResult, grid, numbered
from circlemlp.report.comparison import MOST_COMPARED, Comparison, Difference
from circlemlp.report.rulers import best_line_error, constant_error
from circlemlp.report.statistics import FEWEST, FEWEST_PAIRED, Interval

THRESHOLD = 0.95
"""The accuracy that the first version of this experiment claimed for every model without looking."""
MOST_NAMED = 6
"""Names in a sentence."""
LACKS = {
    "rate": (
        "diverged at every rate",
        "no best learning rate, because at every one more than a quarter of the replicates diverged",
    ),
    "confirmation": ("is not confirmed", "nothing is claimed, because no new replicates have the best learning rate"),
}
"""Why nothing is claimed of an architecture: in short, and as a sentence has it."""
MOST_ASKED = 10_000
"""Replicates of a cell: the configuration allows no more."""


def headline(comparison: Comparison) -> tuple[str, str, str]:
    """Say what explains the true error, how the architectures compare, and what limits both answers."""
    return explained(comparison), compared(comparison), limits(comparison)


def explained(comparison: Comparison) -> str:
    """Say how much of the true error learning rate and architecture each explain."""
    values, rates = grid(comparison.cells)
    total = len({cell.learning_rate for cell in comparison.cells})
    reason = None
    if len(values) < 2 or total < 2:
        reason = f"there is only one {'architecture' if len(values) < 2 else 'learning rate'}"
    elif len(rates) < 2:
        reason = "there are no two learning rates at which the true error of every architecture is known"
    elif math.isnan(statistics.shares(values)["rows"]):
        reason = "no two networks differ in it"
    if reason:
        return f"How much of the true error learning rate and architecture each explain cannot be said: {reason}."
    part = {name: f"{share:.0%}" for name, share in statistics.shares(values).items()}
    grid_of = "the tuning grid" if comparison.confirmation else "the grid"
    where = f"over {grid_of}" + (f", {len(rates)} of its {total} rates, without holes" if len(rates) < total else "")
    rest = (
        f"their interaction {part['interaction']}, and {part['replicates']} is left to replicates"
        if values.shape[2] > 1
        else f"and {part['interaction']} is their interaction or chance, which one replicate does not tell apart"
    )
    return (
        f"Of the differences in true error (sums of squares of its logarithm, {where}), the learning rate explains "
        f"{part['columns']}, the architecture {part['rows']}, {rest}."
    )


def compared(comparison: Comparison) -> str:
    """Say how the architecture with the lowest estimated error compares with the others."""
    lowest = min(comparison.best, key=lambda one: one.rank)
    if len(comparison.best) == 1:
        return "There is one architecture, so none is compared."
    if lowest.rank[0]:
        return "No architecture has a known true error at a best learning rate, so none is compared."
    start = (
        f"{_chosen(comparison)} the lowest estimate of the true error is that of {lowest.cell.architecture}: "
        f"{interval(lowest.judged.error)}"
    )
    if reason := nothing_claimed(comparison):
        return f"{start}; {reason}."
    groups: dict[str, list[str]] = {}
    for one in comparison.last.differences:
        if lowest in (one.first, one.second):
            other = one.second if one.first is lowest else one.first
            edge = lowest.edge or other.edge
            kind = "edge" if edge and one.verdict != "none" else "lower" if one.lower is lowest else one.verdict
            groups.setdefault(kind, []).append(other.cell.architecture)
    words = {
        "lower": "it is lower than that of",
        "equal": "it is practically equal to that of",
        "open": "it is undecided against",
        "edge": "nothing is claimed, as a best rate is at an edge of the grid, against",
        "none": "it is not comparable with that of",
    }
    words |= dict.fromkeys(("first", "second"), "against the order of the estimates, it is higher than that of")
    return "; ".join([start, *(f"{words[kind]} {some(names)}" for kind, names in groups.items())]) + "."


def _chosen(comparison: Comparison) -> str:
    rates = {cell.learning_rate for cell in comparison.cells}
    new = f" and on {count(_judging(comparison), 'new replicate')}" if comparison.confirmation else ""
    return f"{'Each at its own learning rate' if len(rates) > 1 else f'At learning rate {min(rates):g}'}{new},"


def _judging(comparison: Comparison) -> int:
    """Return how many replicates judge."""
    return (comparison.confirmation or comparison.cells)[0].replicates


def nothing_claimed(comparison: Comparison) -> str | None:
    """Say why no difference between architectures is claimed, if none is."""
    n = _judging(comparison)
    if n == 1:
        return "one replicate of each cell does not tell chance from a difference, so none is claimed"
    if n < FEWEST_PAIRED:
        return (
            f"with {n} replicates no difference is claimed: the smallest p-value that they can give is "
            f"{2.0 ** (1 - n):.4f}, and six comparisons need 0.0083, which takes {FEWEST_PAIRED}"
        )
    if len(comparison.best) > MOST_COMPARED:
        return f"more than {MOST_COMPARED} architectures are not compared with each other"
    return None


def limits(comparison: Comparison) -> str:
    """Say what limits the answers: epochs, the grid, the data, and that choice and judgement share replicates."""
    cells = comparison.cells
    falling = sum(regimes.still_improving(cell.trained) for cell in cells)
    epochs = cells[0].trained.config.training.epochs
    improve = "improves" if falling == 1 else "improve"
    best = [one.judged for one in comparison.best if one.exists]
    of_these = ""
    if best and len(cells) > len(best):
        at_best = sum(regimes.still_improving(cell.trained) for cell in best)
        where = "in the confirmation" if comparison.confirmation else "at the best learning rates"
        of_these = f", {where} {at_best} of {len(best)}"
    parts = [f"{falling} of {count(len(cells), 'cell')} still {improve} after {count(epochs, 'epoch')}{of_these}"]
    if edges := [one.cell.architecture for one in comparison.best if one.edge]:
        rates = "rate of {} is" if len(edges) == 1 else "rates of {} are"
        parts.append(f"the best learning {rates.format(some(edges))} at an edge of the grid")
    shared = cells[0].trained.config.data.draws == "shared"
    if shared or _judging(comparison) == 1:
        judged = " that are judged" * (not shared and bool(comparison.confirmation))
        parts.append(f"all networks{judged} were trained on one draw of the data")
    if _shares_replicates(comparison):
        parts.append("the replicates that chose the learning rates also judge them")
    *before, last = parts
    return f"What limits this: {', '.join(before)}{', and ' * bool(before)}{last}."


def _shares_replicates(comparison: Comparison) -> bool:
    """Whether the replicates that are judged had a learning rate to choose."""
    return not comparison.confirmation and _had_a_choice(comparison)


def _had_a_choice(comparison: Comparison) -> bool:
    return len(comparison.cells) > len(comparison.best)


def population(comparison: Comparison) -> str:
    """Say which replicates judge, and what the intervals speak about."""
    config = comparison.cells[0].trained.config
    varied = ["initialisation"] + ["shuffling"] * (config.training.batch_size is not None)
    fresh = config.data.draws == "fresh"
    if fresh:
        varied = ["points", *varied]
        shared = "replicates of the same number have the same points in all cells"
        population = "fresh draws of the data with fresh initialisations"
    else:
        shared, population = "all share one draw of the data", "these points, and not about other points"
    text = (
        f"{stages(comparison)} "
        f"Replicates differ in {', '.join(varied[:-1])}{' and ' * (len(varied) > 1)}{varied[-1]}; {shared}. "
        f"So intervals and verdicts speak about networks that this recipe gives on {population}."
    )
    if _judging(comparison) < FEWEST:
        text += f" There are no intervals: they take at least {FEWEST} replicates."
    return text


def stages(comparison: Comparison) -> str:
    """Say which replicates chose the learning rates, and which judge."""
    chose = sentence(numbered(comparison.cells[0].trained.replicates))
    verb = "s" if comparison.cells[0].replicates == 1 else ""
    if comparison.confirmation:
        judging = numbered(comparison.confirmation[0].trained.replicates)
        points = "new" if comparison.cells[0].trained.config.data.draws == "fresh" else "the same"
        judges = "judges" if _judging(comparison) == 1 else "judge"
        if not _had_a_choice(comparison):
            return f"{sentence(judging)}, on {points} points, {judges}: there was no learning rate to choose."
        return (
            f"{chose} chose the learning rates (tuning); {judging}, on {points} points, {judges} them (confirmation)."
        )
    if not _had_a_choice(comparison):
        return f"{chose} judge{verb} each architecture at its one learning rate."
    return (
        f"{chose} chose the learning rates and also judge{verb} them, so the errors there are a little optimistic, "
        "and claims can be wrong more often than the intervals say."
    )


def sentence(text: str) -> str:
    """Return a text with a capital letter."""
    return text[:1].upper() + text[1:]


def what_was_run(comparison: Comparison) -> tuple[str, str]:
    """Say what the experiment was, and on what data."""
    config = comparison.cells[0].trained.config
    training, data = config.training, config.data
    rates = sorted({cell.learning_rate for cell in comparison.cells})
    batches = "the full batch" if training.batch_size is None else f"mini-batches of {training.batch_size}"
    missing = len(rates) * len(comparison.best) - len(comparison.cells)
    holes = f" ({missing} of {len(rates) * len(comparison.best)} cells of the grid are missing)" if missing else ""
    shown = ", ".join(f"{rate:g}" for rate in rates) if len(rates) <= 30 else f"{rates[0]:g} to {rates[-1]:g}"
    up_to = "up to " if config.early_stopping.patience is not None else ""
    constant = constant_error(true_boundary(config))
    drawn = "drawn anew for each replicate" if data.draws == "fresh" else "the same for all replicates"
    return (
        f"{count(len(comparison.best), 'architecture')}, {count(len(rates), 'learning rate')} "
        f"({shown}), {count(comparison.cells[0].replicates, 'replicate')} of each cell{holes}: "
        f"{count(networks(comparison.cells), 'network')}.{_confirmed(comparison)} "
        f"Each was trained by {wording.NAMES[config.optimizer.name]} on {batches} for {up_to}"
        f"{count(training.epochs, 'epoch')} in {training.dtype}.{_departures(comparison)}",
        f"Data: {wording.shape(data)}, {data.n_train} training and {data.n_validation} validation points, "
        f"{drawn}, label noise {data.label_noise:g}. "
        f"Always giving the more frequent answer has true accuracy {1 - constant:.4f}.",
    )


def _confirmed(comparison: Comparison) -> str:
    cells = comparison.confirmation
    if not cells:
        return ""
    return (
        f" Then {count(cells[0].replicates, 'new replicate')} of {count(len(cells), 'chosen cell')}: "
        f"{count(networks(cells), 'network')}."
    )


def networks(cells: Sequence[CellResult]) -> int:
    """Return how many networks cells have."""
    return sum(cell.replicates for cell in cells)


def _departures(comparison: Comparison) -> str:
    """Say what differs from a constant learning rate and the last epoch's parameters."""
    config = comparison.cells[0].trained.config
    text = ""
    if schedule := wording.schedule(config):
        text += f" Schedule: {schedule}."
    if rule := wording.early_stopping(config):
        cells = [*comparison.cells, *comparison.confirmation]
        stopped = [epoch for cell in cells for epoch in cell.trained.summary.stopped_at]
        text += (
            f" Early stopping: after {rule} a replicate stops and restores its best parameters, chosen on the "
            f"validation points; {sum(epoch is not None for epoch in stopped)} of {len(stopped)} did."
        )
    return text


def findings(comparison: Comparison) -> Iterator[str]:
    """Yield what else the numbers support, a sentence or two at a time."""
    yield above_threshold(comparison)
    for lacking, (_, consequence) in LACKS.items():
        if names := [one.cell.architecture for one in comparison.best if one.lacks == lacking]:
            yield f"{some(names)}: {consequence}."
    if edges := [one for one in comparison.best if one.edge]:
        rates = [f"{one.cell.architecture} ({one.cell.learning_rate:g}, the {one.edge})" for one in edges]
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
            f"{some([f'{cell.architecture} at {cell.learning_rate:g}' for cell in stuck])}."
        )
    yield judged_again(comparison)


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
        f"in every one of {count(_judging(comparison), 'new replicate')}"
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
        f"{now.cell.architecture} has {then.cell.learning_rate:g}"
        f"{', which is not confirmed,' * (then.lacks == 'confirmation')} for its best rate instead of "
        f"{now.cell.learning_rate:g}"
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
    return {"equal": "practically equal", "open": "not decided", "none": "not compared"}[one.verdict]


def verdict(one: Difference, practically_equal: float) -> str:
    """Return a verdict as a table has it."""
    if one.verdict == "none":
        reasons = [f"{best.cell.architecture} {LACKS[best.lacks][0]}" for best in (one.first, one.second) if best.lacks]
        return f"not comparable: {'; '.join(reasons)}" if reasons else "not comparable: not every true error is known"
    if one.verdict == "open":
        needed = f"about {one.to_decide}" if (one.to_decide or 0) <= MOST_ASKED else f"more than {MOST_ASKED}"
        return f"not decided; {needed} replicates would"
    width = max(one.ratio.high, 1 / one.ratio.low)
    little = f", by less than {practically_equal:.0%}" if one.lower and width < 1 + practically_equal else ""
    edge = " at these rates, one of which is at an edge" if one.lower and (one.first.edge or one.second.edge) else ""
    return decided(one) + little + edge


def rules(comparison: Comparison) -> str:
    """Say what the names of the regimes mean."""
    line = best_line_error(true_boundary(comparison.cells[0].trained.config))
    equal = comparison.settings.practically_equal
    return (
        "Regimes, the first that holds: diverged, more than a quarter of the replicates did; too slow, the median "
        f"replicate's validation loss still falls by more than {1 - regimes.IMPROVING:.0%} from one tenth of the "
        f"epochs to the last, and a higher rate ended more than {equal:.0%} lower; collapsed, the median true error is "
        f"no lower than that of the best straight line, {line:.4g}; unstable, at least {regimes.UNSTABLE:.0%} of the "
        f"replicates are bad runs or end more than {regimes.SPIKE:g} times above their median of the last tenth; good, "
        "none of these."
    )


def bad_runs(cell: CellResult) -> str:
    """Return how many bad runs a cell has, with Wilson's interval of their share."""
    share = statistics.proportion(cell.bad_runs, cell.replicates)
    return f"{cell.bad_runs} of {cell.replicates} ({share.low:.0%} to {share.high:.0%})"


def interval(value: Interval, digits: str = ".3g") -> str:
    """Return an estimate, with its interval where it has one."""
    if math.isnan(value.estimate):
        return "not known"
    text = f"{value.estimate:{digits}}"
    return f"{text} ({value.low:{digits}} to {value.high:{digits}})" if value.exists else text


def score(cell: CellResult, name: str) -> str:
    """Return a cell's true error, accuracy or loss in words."""
    if regimes.diverged(cell.trained):
        return "diverged"
    if name == "error" and cell.unknown:
        return f"not known of {cell.unknown}"
    return interval(getattr(cell, name), ".4f" if name == "accuracy" else ".3g")


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
