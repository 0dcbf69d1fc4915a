"""The report: what was run, what came out, and what that supports. Every number in it is computed here.

``report.md`` and its figures are the same bytes for the same results; wall times, which are not, go to
``timing.md`` beside it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from circlemlp.config import Data, Report
from circlemlp.core.data import sample_dataset
from circlemlp.errors import UserError
from circlemlp.report import headline, words
from circlemlp.report.boundary import median_replicate
from circlemlp.report.cell_results import numbered
from circlemlp.report.choosing import RULE
from circlemlp.report.commands import commands, making
from circlemlp.report.comparison import Comparison, compare
from circlemlp.report.document import Block, Bullets, Code, Heading, Picture, as_markdown, as_page
from circlemlp.report.figures import MOST_PANELS, draw_all
from circlemlp.report.health import checks
from circlemlp.report.pairs import matrix
from circlemlp.report.subdivision import draw_regions
from circlemlp.report.tables import (
    Runs,
    best_table,
    cells_table,
    choice_table,
    costs_table,
    differences,
    facts,
    grid_table,
    timing,
    true_errors,
)
from circlemlp.store import disk
from circlemlp.store.identity import canonical
from circlemlp.store.records import Record, Store
from circlemlp.store.tables import CURVES, curve_rows

REGIONS = "regions.svg"
LONG = ("Health", "Every cell", "Cost")
"""Sections that the page alone has."""


def write_report(
    folder: Path,
    title: str,
    records: Sequence[Record],
    data: Data,
    store: Store,
    settings: Report,
    runs: Runs,
    confirmation: Sequence[Record] | None = None,
) -> None:
    """Write report.md, report.html, true_error.json, timing.md and the figures into a folder.

    All are written aside first, so that a full disk does not leave new figures beside an old report.

    Parameters
    ----------
    folder : Path
    title : str
    records : sequence of Record
        The results. The data that they were trained on are drawn again.
    data : Data
        A data set whose file the commands in the report are to name.
    store : Store
        Where the training times are found, if they are known here.
    settings : Report
    runs : Runs
        Their experiment is also that whose commands in ``conf/`` make the results.
    confirmation : sequence of Record, optional
        As in ``compare``.

    Raises
    ------
    UserError
        If the results cannot be compared or their data cannot be drawn, or the folder cannot be written.
    """
    comparison = compare(records, settings, confirmation)
    used = [record for cell in (*comparison.cells, *comparison.confirmation) for record in cell.trained.records]
    _check_points(used)
    how = commands(used, data)
    shown = [*comparison.best[:MOST_PANELS], min(comparison.best, key=lambda one: one.rank)]
    curves = _table(
        curve_rows(record for one in shown for record in one.judged.trained.records), ["replicate", "epoch"]
    )
    with disk.plain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with disk.lock(folder / ".lock"):
            disk.clear_abandoned(folder)
            with disk.aside(folder) as temporary:
                made = temporary / "report"
                made.mkdir()
                pictures = draw_all(made / "figures", comparison, curves)
                pictures |= _draw_regions(made / "figures", comparison)
                sections = report(comparison, pictures, used, how, runs)
                _write(made / "report.md", as_markdown(title, list(_in_short(sections))))
                _write(made / "report.html", as_page(title, list(_in_full(sections)), made / "figures"))
                _write(made / "true_error.json", json.dumps(true_errors(comparison), indent=2) + "\n")
                _write(made / "timing.md", as_markdown("Training times", timing(used, store)))
                (folder / "figures").mkdir(exist_ok=True)
                for path in [path for path in made.rglob("*") if path.is_file()]:
                    path.replace(folder / path.relative_to(made))


def _check_points(records: Sequence[Record]) -> None:
    """Refuse records whose points are not what their configurations draw."""
    drawn = {
        (canonical(one.ingredients["config"]["data"]), one.config.training.numbers, one.ingredients["data"])
        for one in records
    }
    for described, numbers, digest in drawn:
        if sample_dataset(json.loads(described), len(numbers), numbers.start).digest() != digest:
            raise UserError("these results' points are those that an earlier version drew; train the cells again")


def _table(rows: Iterable[dict[str, Any]], key: list[str]) -> pd.DataFrame:
    """Return tidy rows; a replicate that several records of a cell have is there once."""
    table = pd.DataFrame(rows).astype(dict.fromkeys(CURVES, float))
    return table.drop_duplicates(["architecture", "learning_rate", *key])


def _draw_regions(folder: Path, comparison: Comparison) -> dict[str, Picture]:
    """Draw how one network divides the square: that of the lowest true error of which this can be drawn."""
    for one in sorted(comparison.best, key=lambda one: one.rank):
        trained = one.judged.trained
        row = median_replicate(trained)
        drawn = draw_regions(trained.records[0].ingredients["config"], trained.parameters[row], folder / REGIONS)
        if drawn:
            which = f"It is replicate {trained.numbers[row]} at learning rate {words.rate(one.cell.learning_rate)}."
            return {"regions": replace(drawn, note=which)}
    return {}


def _write(path: Path, text: str) -> None:
    disk.write(path, text.encode())


def report(
    comparison: Comparison,
    pictures: Mapping[str, Picture],
    records: Sequence[Record],
    how: Sequence[str],
    runs: Runs,
) -> dict[str, list[Block]]:
    """Return the sections of the report by their titles; ``how`` are the commands that train its records."""
    sections: dict[str, Iterable[Block]] = {
        "The answer": [
            *headline.headline(comparison),
            pictures["answer"],
            f"{headline.terms(comparison)} {headline.stages(comparison)}",
        ],
        "What was asked and run": [headline.asked(comparison), headline.counted(comparison)],
        "Learning rate against error": _learning_rates(comparison, pictures),
        "What the networks learned": _shown(pictures, "boundaries", "replicates"),
        "Architectures in pairs": _architectures(comparison),
        "Health": _health(comparison, pictures),
        "Every cell": _every_cell(comparison, records, how, runs),
        "Cost": _costs(comparison, pictures),
        "Method and provenance": _method(comparison, pictures, records, making(runs.experiments["tuning"])),
    }
    return {title: list(blocks) for title, blocks in sections.items()}


def _in_full(sections: Mapping[str, Sequence[Block]]) -> Iterator[Block]:
    for title, blocks in sections.items():
        yield Heading(title)
        yield from blocks


def _in_short(sections: Mapping[str, Sequence[Block]]) -> Iterator[Block]:
    """Yield all but what is long, and say where that is."""
    yield from _in_full({title: blocks for title, blocks in sections.items() if title not in LONG})
    yield f"The sections {', '.join(LONG)} are in report.html beside this file."


def _shown(pictures: Mapping[str, Picture], *names: str) -> list[Block]:
    return [pictures[name] for name in names if name in pictures]


def _learning_rates(comparison: Comparison, pictures: Mapping[str, Picture]) -> Iterator[Block]:
    if "learning_rates" in pictures:
        yield pictures["learning_rates"]
    elif len({cell.learning_rate for cell in comparison.cells}) == 1:
        yield "There is one learning rate, so there is no picture of the error against it."
    else:
        yield "No true error is known, so there is no picture of it against the learning rate."
    tuned = numbered(comparison.cells[0].trained.numbers)
    mean = "the 25% trimmed mean on the scale of the logarithm, " * (comparison.cells[0].replicates > 1)
    yield (
        f"True error of every cell, {mean}of {tuned}, and the regime its learning rate is in. {words.rules(comparison)}"
    )
    yield grid_table(comparison)


def _architectures(comparison: Comparison) -> Iterator[Block]:
    settings, judged = comparison.settings, numbered(comparison.judging.trained.numbers)
    yield (
        f"All numbers here are of {judged}. The true error is the area where the network answers wrongly, as a share "
        "of the square; it is computed from the parameters, in real arithmetic and not from samples, and flipped "
        "labels do not count. Errors and losses are 25% trimmed means on the scale of the logarithm, accuracies 25% "
        "trimmed means"
        + (", with 95% intervals (Hesterberg's, of resamples). " if comparison.judging.accuracy.exists else ". ")
        + f"A bad run diverged or has a true error above {words.rate(settings.bad_run_error)}; in parentheses is the "
        "95% interval of their share (Wilson's). A replicate that diverged counts as the worst possible: "
        "error 1, accuracy 0, loss ∞."
    )
    yield best_table(comparison.best)
    text, *table = differences(comparison)
    yield text
    if ratios := matrix(comparison.last):
        yield ratios
    yield from table
    yield words.judged_again(comparison)
    if ratios := matrix(comparison.typical):
        yield "Ratios of the median validation losses of the last tenth:"
        yield ratios


def _health(comparison: Comparison, pictures: Mapping[str, Picture]) -> Iterator[Block]:
    yield checks(comparison)
    yield Bullets(list(words.findings(comparison)))
    tuned = numbered(comparison.cells[0].trained.numbers)
    if len(comparison.cells) > len(comparison.best) and any(one.lacks != "rate" for one in comparison.best):
        yield (
            f"How sure the choice of each learning rate is, of {tuned}. Not separated from it are the rates whose "
            "validation loss may be as low: the 95% interval of the difference, one of those that hold together for an "
            "architecture, includes 0. Replicates are resampled with replacement, the same ones for all rates."
        )
        yield choice_table(comparison)
        yield (
            "Sensitivity to the learning rate is the mean, over the rates of the grid that every architecture has, of "
            "how much higher the validation loss ends than at the best of them; no rate counts as worse than not to "
            "train at all (Wortsman et al. 2023, arXiv 2309.14322)."
        )
    yield pictures["loss_curves"]


def _every_cell(comparison: Comparison, records: Sequence[Record], how: Sequence[str], runs: Runs) -> Iterator[Block]:
    yield (
        f"All numbers here are of {numbered(comparison.cells[0].trained.numbers)}. Each row has more: every replicate, "
        "the curve, and commands that train the cell, or find its record, and print its means, and its runs in MLflow, "
        f"which make ui shows: the links expect it on port {runs.port}."
    )
    yield cells_table(comparison, records, how, runs)


def _costs(comparison: Comparison, pictures: Mapping[str, Picture]) -> Iterator[Block]:
    yield from _shown(pictures, "costs")
    yield (
        "What a training of one replicate costs: its floating-point operations in the textbook's algorithm, in 10⁹ "
        "(GFLOP), for passes forward and back, the optimizer's steps, and validation after every epoch. Until 99% "
        "validation accuracy it is the median over replicates, and who never gets there takes infinitely many."
    )
    yield costs_table(comparison.best)


def _method(
    comparison: Comparison, pictures: Mapping[str, Picture], records: Sequence[Record], making: Sequence[str]
) -> Iterator[Block]:
    yield headline.recipe(comparison)
    yield headline.data(comparison)
    yield f"{RULE}{headline.second_choice(comparison)}"
    yield headline.population(comparison)
    if "regions" in pictures:
        yield (
            "True errors are exact: the square is divided into polygons on which the network is linear, these are cut "
            "by the two boundaries, and the areas where the answer is wrong are added."
        )
        yield pictures["regions"]
    if making:
        yield "All of this is made again by:"
        yield from map(Code, making)
    else:
        yield "The results are made again by the commands of their cells."
    yield "What decided the numbers:"
    yield facts(records)
    yield "The code is under the MIT licence; how to cite it is in CITATION.cff."
