"""What the report begins with: its three main sentences, their words, whom they are about, and what was run."""

import math
from typing import Any

from circlemlp import wording
from circlemlp.report import regimes, statistics, words
from circlemlp.report.boundary import true_boundary
from circlemlp.report.cell_results import grid, numbered
from circlemlp.report.comparison import MOST_COMPARED, Comparison
from circlemlp.report.rulers import constant_error
from circlemlp.report.statistics import FEWEST, FEWEST_PAIRED

MOST_RATES = 30
"""Learning rates that are written out."""


def headline(comparison: Comparison) -> tuple[str, str, str]:
    """Say what explains the true error, how the architectures compare, and what limits both answers."""
    return explained(comparison), compared(comparison), limits(comparison)


def asked(comparison: Comparison) -> str:
    """Return the question that the grid asks: what its cells differ in."""
    models = [cell.trained.config.model for cell in comparison.cells]
    kinds: dict[str, set[Any]] = {
        "shape": {tuple(model.hidden_layer_sizes) for model in models},
        "activation": {model.activation for model in models},
        "initialisation": {model.initialisation for model in models},
        "learning rate": {cell.learning_rate for cell in comparison.cells},
    }
    varied = [name for name, values in kinds.items() if len(values) > 1]
    if not varied:
        return "What does a network learn?"
    return f"How {'does' if len(varied) == 1 else 'do'} {_and(varied)} decide what a network learns?"


def _and(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)}{' and ' * bool(others)}{last}"


def terms(comparison: Comparison) -> str:
    """Explain the words of the three sentences, by the example of the architecture with the lowest estimate."""
    lowest = min(comparison.best, key=lambda one: one.rank).cell
    config = lowest.trained.config
    *others, last = config.model.hidden_layer_sizes
    nodes = words.count(last, "node")
    hidden = f"hidden layers of {', '.join(map(str, others))} and {nodes}" if others else f"a hidden layer of {nodes}"
    interaction = (
        " Interaction is what a learning rate does to one architecture and not to another."
        if min(len(comparison.best), len({cell.learning_rate for cell in comparison.cells})) > 1
        else ""
    )
    return (
        f"{lowest.architecture} is a network of two inputs, {hidden}, and one output. It learns from points that are "
        f"{wording.shape(config.data)}, and its true error is the share of the square where it answers wrongly. A cell "
        "is an architecture at a learning rate, the grid is all cells, and a replicate is one training of a cell; "
        f"those of a cell differ in {_and(_varied(comparison))}. An estimate is the mean of the middle half of the "
        f"replicates, on the scale of the logarithm.{interaction}"
    )


def _varied(comparison: Comparison) -> list[str]:
    """Return what replicates differ in."""
    config = comparison.cells[0].trained.config
    points = ["points"] * (config.data.draws == "fresh")
    return [*points, "initial weights", *["order of the points"] * (config.training.batch_size is not None)]


def explained(comparison: Comparison) -> str:
    """Say how much of the true error learning rate and architecture each explain."""
    values, rates = grid(comparison.cells)
    total = len({cell.learning_rate for cell in comparison.cells})
    reason = None
    if len(values) < 2 or total < 2:
        reason = f"there is only one {'architecture' if len(values) < 2 else 'learning rate'}"
    elif len(rates) < 2:
        reason = "there are no two learning rates at which the true error of every architecture is known"
    elif math.isnan((found := statistics.shares_of_replicates(values))["rows"].estimate):
        reason = "no two networks differ in it"
    if reason:
        return f"How much of the true error learning rate and architecture each explain cannot be said: {reason}."
    part = {name: f"{share.estimate:.0%}" for name, share in found.items()}
    rate, shape = (words.interval(found[name], ".0%") for name in ("columns", "rows"))
    grid_of = "the tuning grid" if comparison.confirmation else "the grid"
    where = f"over {grid_of}" + (f", {len(rates)} of its {total} rates, without holes" if len(rates) < total else "")
    rest = (
        f"their interaction {part['interaction']}, and {part['replicates']} is left to replicates"
        if values.shape[2] > 1
        else f"and {part['interaction']} is their interaction or chance, which one replicate does not tell apart"
    )
    return (
        f"Of the differences in true error (sums of squares of its logarithm, {where}), the learning rate explains "
        f"{rate}, the architecture {shape}, {rest}."
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
        f"{words.interval(lowest.judged.error)}"
    )
    if reason := nothing_claimed(comparison):
        return f"{start}; {reason}."
    groups: dict[str, list[str]] = {}
    for one in comparison.last.differences:
        if lowest in (one.first, one.second):
            other = one.second if one.first is lowest else one.first
            kind = "lower" if one.lower is lowest else one.verdict
            groups.setdefault(kind, []).append(other.cell.architecture)
    say = {
        "lower": "it is lower than that of",
        "equal": "it is practically equal to that of",
        "open": "it is undecided against",
        "edge": "nothing is claimed, as a best rate is at an edge of the grid, against",
        "none": "it is not comparable with that of",
    }
    say |= dict.fromkeys(("first", "second"), "against the order of the estimates, it is higher than that of")
    return "; ".join([start, *(f"{say[kind]} {words.some(names)}" for kind, names in groups.items())]) + "."


def _chosen(comparison: Comparison) -> str:
    rates = {cell.learning_rate for cell in comparison.cells}
    new = f" and on {words.count(comparison.judging.replicates, 'new replicate')}" if comparison.confirmation else ""
    return (
        f"{'Each at its own learning rate' if len(rates) > 1 else f'At learning rate {words.rate(min(rates))}'}{new},"
    )


def nothing_claimed(comparison: Comparison) -> str | None:
    """Say why no difference between architectures is claimed, if none is."""
    n = comparison.judging.replicates
    if n == 1:
        return "one replicate of each cell does not tell chance from a difference, so none is claimed"
    if n < FEWEST_PAIRED:
        return (
            f"with {n} replicates no difference is claimed: they give no p-value below {2.0 ** (1 - n):.4f}, and "
            f"six comparisons together, say, need 0.0083, which takes {FEWEST_PAIRED} replicates"
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
        where = "of those compared" if comparison.confirmation else "at the best learning rates"
        of_these = f", {where} {at_best} of {len(best)}"
    parts = [
        f"{falling} of {words.count(len(cells), 'cell')} still {improve} after {words.count(epochs, 'epoch')}{of_these}"
    ]
    if edges := [one.cell.architecture for one in comparison.best if one.edge]:
        rates = "rate of {} is" if len(edges) == 1 else "rates of {} are"
        parts.append(f"the best learning {rates.format(words.some(edges))} at an edge of the grid")
    shared = cells[0].trained.config.data.draws == "shared"
    if shared or comparison.judging.replicates == 1:
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
    """Say what the intervals speak about."""
    if comparison.cells[0].trained.config.data.draws == "fresh":
        shared = "replicates of the same number have the same points in all cells"
        population = "fresh draws of the data with fresh initialisations"
    else:
        shared, population = "all share one draw of the data", "these points, and not about other points"
    text = (
        f"Replicates differ in {_and(_varied(comparison))}; {shared}. "
        f"So intervals and verdicts speak about networks that this recipe gives on {population}."
    )
    values, rates = grid(comparison.cells)
    of_shares = min(len(values), len(rates)) > 1 and statistics.shares_of_replicates(values)["rows"].exists
    if of_shares:
        text += " The intervals of the shares of learning rate and architecture are the jackknife's, and approximate."
    if comparison.judging.replicates < FEWEST:
        none = "Errors have no intervals" if of_shares else "There are no intervals"
        text += f" {none}: they take at least {FEWEST} replicates."
    return text


def stages(comparison: Comparison) -> str:
    """Say which replicates chose the learning rates, and which judge."""
    chose = words.sentence(numbered(comparison.cells[0].trained.numbers))
    verb = "s" if comparison.cells[0].replicates == 1 else ""
    if comparison.confirmation:
        judging = numbered(comparison.confirmation[0].trained.numbers)
        points = "new" if comparison.cells[0].trained.config.data.draws == "fresh" else "the same"
        judges = "judges" if comparison.judging.replicates == 1 else "judge"
        if not _had_a_choice(comparison):
            return f"{words.sentence(judging)}, on {points} points, {judges}: there was no learning rate to choose."
        return (
            f"{chose} chose the learning rates by their validation loss (tuning); {judging}, on {points} points, "
            f"{judges} them (confirmation)."
        )
    if not _had_a_choice(comparison):
        return f"{chose} judge{verb} each architecture at its one learning rate."
    return (
        f"{chose} chose the learning rates and also judge{verb} them, so the errors there are a little optimistic, "
        "and claims can be wrong more often than the intervals say."
    )


def counted(comparison: Comparison) -> str:
    """Say in a line how much was run."""
    cells, confirmed = comparison.cells, comparison.confirmation
    rates = len({cell.learning_rate for cell in cells})
    whole = rates * len(comparison.best)
    missing = whole - len(cells)
    holes = f" ({missing} of {words.count(whole, 'cell')} {'is' if missing == 1 else 'are'} missing)" if missing else ""
    then = f"; then {words.count(len(confirmed), 'cell')} × {confirmed[0].replicates}" if confirmed else ""
    return (
        f"{words.count(len(comparison.best), 'architecture')} × {words.count(rates, 'rate')} × "
        f"{words.count(cells[0].replicates, 'replicate')}{holes}{then}."
    )


def recipe(comparison: Comparison) -> str:
    """Say how the networks were trained."""
    config = comparison.cells[0].trained.config
    rates = list(map(words.rate, sorted({cell.learning_rate for cell in comparison.cells})))
    listed = ", ".join(rates) if len(rates) <= MOST_RATES else f"{rates[0]} to {rates[-1]}"
    networks = words.count(words.networks(comparison.cells), "network")
    if comparison.confirmation:
        networks += f" for the tuning, then {words.networks(comparison.confirmation)} for the confirmation"
    size = config.training.batch_size
    batches = "the full batch" if size is None else f"mini-batches of {size}"
    up_to = "up to " if config.early_stopping.patience is not None else ""
    return (
        f"{networks}, each trained by {wording.NAMES[config.optimizer.name]} on {batches} for {up_to}"
        f"{words.count(config.training.epochs, 'epoch')} in {config.training.dtype}. "
        f"Learning rates: {listed}.{_departures(comparison)}"
    )


def second_choice(comparison: Comparison) -> str:
    """Say which other cells are confirmed, if there are some."""
    if len(comparison.confirmation) <= len(comparison.best):
        return ""
    return (
        " Where the median loss of the last tenth of the epochs chooses another rate than the last loss, both cells "
        "are confirmed."
    )


def data(comparison: Comparison) -> str:
    """Say what data the networks were trained on."""
    config = comparison.cells[0].trained.config
    described = config.data
    drawn = "drawn anew for each replicate" if described.draws == "fresh" else "the same for all replicates"
    return (
        f"Data: {wording.shape(described)}, {described.n_train} training and {described.n_validation} validation "
        f"points, {drawn}, label noise {words.rate(described.label_noise)}. Always giving the more frequent answer has "
        f"true accuracy {1 - constant_error(true_boundary(config)):.4f}."
    )


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
