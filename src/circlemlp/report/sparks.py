"""Small pictures for one cell's row: its replicates as a strip, and its curve."""

import numpy as np
from markupsafe import Markup

from circlemlp.report import words
from circlemlp.report.cell_results import CellResult

WIDTH, HEIGHT, MOST_POINTS, STEPS = 300, 40, 100, 40
"""Pixels of a picture; replicates in a strip; points of a curve."""


def limits(cells: list[CellResult]) -> tuple[float, float]:
    """Return the lowest and the highest logarithm of a true error that is known, for strips one can compare."""
    known = [value for cell in cells for value in cell.log_errors if np.isfinite(value)]
    return (min(known), max(known)) if known else (-1.0, 0.0)


def strip(cell: CellResult, low: float, high: float) -> Markup:
    """Return a cell's true errors as points on a logarithmic axis that ends at ``low`` and ``high``."""
    errors = np.sort(cell.log_errors[np.isfinite(cell.log_errors)])[:MOST_POINTS]
    places = 5 + (errors - low) / max(high - low, 1e-9) * (WIDTH - 10)
    points = "".join(f"M{x:.1f} 12h0" for x in places)
    ends = [words.number(10**end) for end in (low, high)]
    return Markup(
        '<svg role="img" aria-label="True errors: {}" class="spark" viewBox="0 0 300 40"><path d="M5 24H295"/>'
        '<path class="dots" d="{}"/>'
        '<text x="5" y="38">{}</text><text x="295" y="38" text-anchor="end">{}</text></svg>'
    ).format(", ".join(words.number(10**error) for error in errors) or "not known", points, *ends)


def curve(cell: CellResult) -> Markup:
    """Return the median of a cell's validation losses, epoch by epoch, on a logarithmic axis."""
    losses = cell.trained.history.validation_loss
    rows = np.unique(np.linspace(0, losses.shape[1] - 1, STEPS).astype(int))
    finished = cell.trained.history.diverged_at < 0
    if not finished.any():
        return Markup("")
    medians = np.log10(np.maximum(np.median(losses[finished][:, rows], axis=0), 1e-12))
    low, high = float(medians.min()), float(medians.max())
    x = 5 + rows / max(rows[-1], 1) * (WIDTH - 10)
    y = 4 + (high - medians) / max(high - low, 1e-9) * (HEIGHT - 16)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    first, last = (words.number(10 ** medians[place]) for place in (0, -1))
    return Markup(
        '<svg role="img" aria-label="Median validation loss: from {} to {}" class="spark" viewBox="0 0 300 40">'
        '<polyline points="{}"/><text x="5" y="38">{}</text><text x="295" y="38" text-anchor="end">{}</text></svg>'
    ).format(first, last, line, first, last)
