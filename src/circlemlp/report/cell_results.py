"""What the replicates of each cell came to: true errors and losses, their locations, and the regime they show.

A replicate that diverged counts as the worst possible, and is never dropped: its true error is 1, its accuracy 0, and
its loss infinite. Replicates are paired across cells by their number, which fixes their random streams, so all cells
have to have the same ones.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circlemlp import wording
from circlemlp.config import Report
from circlemlp.errors import UserError
from circlemlp.report import regimes, statistics
from circlemlp.report.boundary import true_boundary
from circlemlp.report.rulers import best_line_error
from circlemlp.report.statistics import Interval
from circlemlp.store.records import Record
from circlemlp.store.trained import Trained, join

Floats = NDArray[np.float64]

LEAST, MOST = 1e-12, 1e12
"""Where losses and errors end, so that each has a logarithm. An area is no more certain than the first; the second
stands for an infinite loss where losses are ranked."""
MOST_RANGES = 6
"""Ranges of replicates whose numbers are written out."""


@dataclass(frozen=True, eq=False)
class CellResult:
    """One cell's line of the comparison.

    Attributes
    ----------
    true_errors : ndarray of shape (replicates,)
        1 where a replicate diverged, NaN where it is not known.
    log_errors, log_losses, log_typical_losses : ndarray of shape (replicates,)
        Logarithms of the true errors, of the last validation losses, and of their medians over the last tenth.
    error, accuracy, loss : Interval
        True error and validation scores. Those of error and loss are trimmed means of logarithms, given back; what
        rests on a loss of a replicate that diverged is infinite.
    unknown, bad_runs, diverged : int
        How many replicates have no known true error; diverged or have a large one; diverged.
    regime : str
        As in ``regimes.regime``.
    """

    trained: Trained
    architecture: str
    learning_rate: float
    true_errors: Floats
    log_errors: Floats
    log_losses: Floats
    log_typical_losses: Floats
    error: Interval
    accuracy: Interval
    loss: Interval
    unknown: int
    bad_runs: int
    diverged: int
    regime: str = ""

    @property
    def replicates(self) -> int:
        """How many there are."""
        return len(self.true_errors)

    @property
    def key(self) -> tuple[str, float]:
        """What tells it from the other cells."""
        return self.architecture, self.learning_rate


def by_architecture(records: Sequence[Record], settings: Report) -> list[list[CellResult]]:
    """Return the cells of each architecture by rising learning rate; smaller architectures come first.

    An architecture is the sizes of the layers, their activation and how their weights are drawn.

    Raises
    ------
    UserError
        If the cells differ in more than architecture and learning rate, or have other replicates.
    """

    def order(cell: Trained) -> tuple[int, list[int], str, float]:
        model = cell.config.model
        n_parameters, rate = cell.summary.n_parameters, cell.config.optimizer.learning_rate
        return n_parameters, model.hidden_layer_sizes, wording.architecture(model), rate

    cells = join(records)
    check_comparable(cells)
    results = [_result(cell, settings) for cell in sorted(cells, key=order)]
    return [list(group) for _, group in groupby(results, key=lambda cell: cell.architecture)]


def check_comparable(cells: Sequence[Trained], ignored: Sequence[str] = ()) -> None:
    """Refuse cells that differ in more than architecture and learning rate, and say in what."""
    first, *others = (dict(_deciding(cell)) for cell in cells)
    keys = dict.fromkeys(key for other in others for key in first | other if key not in ignored)
    differing = [key for key in keys if any(first.get(key) != other.get(key) for other in others)]
    if differing:
        raise UserError(
            "the report compares architectures and learning rates; these results differ in something else too: "
            + ", ".join(differing)
        )


def _deciding(cell: Trained) -> Iterator[tuple[str, Any]]:
    """Yield all that decided a cell but what is compared, each under the key that a person knows it by.

    Its points follow from the configuration and the numbers of its replicates.
    """
    ingredients = cell.records[0].ingredients
    for key, value in _flat(ingredients["config"]):
        if key == "training.replicates":
            yield key, cell.numbers.tolist()
        elif key not in ("training.first_replicate", "optimizer.learning_rate") and not key.startswith("model."):
            yield key, value
    yield "the code of the core", ingredients["code"]
    yield from _flat(ingredients["numerics"], "numerics.")


def _flat(section: dict[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{name}{key}.")
        else:
            yield f"{name}{key}", value


def _result(cell: Trained, settings: Report) -> CellResult:
    history = cell.history
    diverged = history.diverged_at >= 0
    # Without what rounding makes of one and the same area, which would decide who is lower.
    true_errors = np.where(diverged, 1.0, cell.true_error.round(12))
    errors, losses = _logarithms(true_errors), _logarithms(history.validation_loss[:, -1], diverged)
    return CellResult(
        trained=cell,
        architecture=wording.architecture(cell.config.model),
        learning_rate=cell.config.optimizer.learning_rate,
        true_errors=true_errors,
        log_errors=errors,
        log_losses=losses,
        log_typical_losses=_logarithms(regimes.tenth(cell), diverged),
        error=statistics.location(errors).to_powers_of_ten(),
        accuracy=statistics.location(np.where(diverged, 0.0, history.validation_accuracy[:, -1])),
        loss=statistics.location(np.where(diverged, math.inf, losses)).to_powers_of_ten(),
        unknown=int(np.isnan(true_errors).sum()),
        bad_runs=int((diverged | (true_errors > settings.bad_run_error)).sum()),
        diverged=int(diverged.sum()),
    )


def _logarithms(values: Floats, worst: NDArray[np.bool_] | bool = False) -> Floats:
    logarithms: Floats = np.log10(np.clip(np.where(worst, MOST, values), LEAST, MOST))
    return logarithms


def with_regimes(group: Sequence[CellResult], settings: Report) -> list[CellResult]:
    """Return an architecture's cells, by rising learning rate, with their regimes."""
    line = best_line_error(true_boundary(group[0].trained.config))
    means = [float(statistics.trimmed_mean(cell.log_losses)) for cell in group]
    margin = math.log10(1 + settings.practically_equal)
    return [
        replace(
            cell,
            regime=regimes.regime(
                cell.trained,
                cell.true_errors,
                higher_is_better=min(means[place:]) < means[place] - margin,
                line=line,
                bad_run_error=settings.bad_run_error,
            ),
        )
        for place, cell in enumerate(group)
    ]


def numbered(replicates: NDArray[np.int64]) -> str:
    """Return replicates by their numbers: ``replicates 0 to 9``, ``replicates 0, 2 to 4``, ``replicate 3``."""
    if len(replicates) == 1:
        return f"replicate {replicates[0]}"
    ranges = np.split(replicates, np.flatnonzero(np.diff(replicates) != 1) + 1)
    if len(ranges) > MOST_RANGES:
        return f"{len(replicates)} replicates between {replicates[0]} and {replicates[-1]}"
    return "replicates " + ", ".join(f"{one[0]} to {one[-1]}" if len(one) > 1 else f"{one[0]}" for one in ranges)


def grid(cells: Sequence[CellResult]) -> tuple[Floats, list[float]]:
    """Return the logarithms of the true errors, and the learning rates at which every architecture's are all known.

    Returns
    -------
    ndarray of shape (architectures, rates, replicates)
    list of float
    """
    names = dict.fromkeys(cell.architecture for cell in cells)
    known = {cell.key: cell.log_errors for cell in cells if not cell.unknown}
    rates = [
        rate for rate in sorted({cell.learning_rate for cell in cells}) if all((name, rate) in known for name in names)
    ]
    return np.array([[known[name, rate] for rate in rates] for name in names]), rates
