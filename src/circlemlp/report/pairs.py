"""Every two architectures as a matrix: how the error of the row's compares with that of the column's."""

from circlemlp.report import words
from circlemlp.report.choosing import BestRate
from circlemlp.report.comparison import Difference, Judgement
from circlemlp.report.document import Table
from circlemlp.report.statistics import Interval

MOST_IN_MATRIX = 8
"""Architectures; of more, no matrix can be read."""
FROM_THE_ROW = {"equal": "equal", "open": "undecided", "edge": "not claimed", "none": "not compared"}


def matrix(judgement: Judgement) -> Table | None:
    """Return the ratios, with intervals, wins and verdicts; None if there are too many architectures, or one.

    The lowest estimate comes first. A cell is about the row: the ratio of its error to the column's, in how many
    replicates it was lower, and the verdict.
    """
    ranked = sorted(judgement.best, key=lambda one: one.rank)
    if not 2 <= len(ranked) <= MOST_IN_MATRIX or not judgement.flips:
        return None
    found = {(one.first.cell.architecture, one.second.cell.architecture): one for one in judgement.differences}
    lines = [[_cell(found, row, column) for column in ranked] for row in ranked]
    names = [one.cell.architecture for one in ranked]
    return Table(
        ["row against column", *names],
        [[name, *(text for text, _ in line)] for name, line in zip(names, lines, strict=True)],
        shades=[["", *(shade for _, shade in line)] for line in lines],
    )


def _cell(found: dict[tuple[str, str], Difference], row: BestRate, column: BestRate) -> tuple[str, str]:
    """Return what a cell says, and the word that it is shaded by."""
    if row is column:
        return "", ""
    key = row.cell.architecture, column.cell.architecture
    first = key in found
    one = found[key] if first else found[key[::-1]]
    of_row = "lower" if one.lower is row else "higher"
    word = of_row if one.lower else FROM_THE_ROW[one.verdict]
    if one.verdict == "none":
        return word, ""
    ratio = one.ratio if first else Interval(1 / one.ratio.estimate, 1 / one.ratio.high, 1 / one.ratio.low)
    wins = one.wins if first else one.losses
    return f"{words.interval(ratio)}, {wins} of {one.first.judged.replicates}: {word}", word
