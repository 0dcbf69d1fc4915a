"""What all pictures share: how they look, and what comes with one."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from circlemlp.core.data import Boundary
from circlemlp.report import svg, words
from circlemlp.report.colors import light
from circlemlp.report.document import Table
from circlemlp.report.rulers import rulers_by_name
from circlemlp.store import disk

STYLE: Any = {
    "svg.hashsalt": "circlemlp",  # ids in the file are hashes of their content, not random
    "svg.fonttype": "none",  # text stays text, which can be read, searched and set in the page's own font
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": light("soft"),
    "axes.facecolor": "none",
    "axes.labelcolor": light("ink"),
    "axes.linewidth": 0.7,
    "grid.color": light("line"),
    "grid.linewidth": 0.5,
    "hatch.color": light("soft"),
    "legend.frameon": False,
    "figure.facecolor": light("paper"),
    "patch.edgecolor": light("ink"),
    "text.color": light("ink"),
    "xtick.color": light("soft"),
    "ytick.color": light("soft"),
    "xtick.labelcolor": light("ink"),
    "ytick.labelcolor": light("ink"),
}
WIDTH, WIDE = 6.0, 9.0
"""Inches of a picture whose text can be read on a phone, and of one with many panels."""
MOST_TICKS = 8
"""Ticks of an axis."""
NEAR = 0.2
"""The share of an axis below which the names of two rulers would hide each other."""
SHORT = 60
"""The range of a logarithmic axis on which powers of ten are too few."""


@dataclass(frozen=True)
class Drawing:
    """A figure, and what it shows; the attributes are those of ``document.Picture``."""

    figure: Figure
    finding: str
    note: str = ""
    data: Table | None = None
    wide: bool = False


def save(figure: Figure, path: Path) -> None:
    """Write a figure as an SVG without a date and without what does not show."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    disk.write(path, svg.simplified(text.getvalue()).encode())


def plain_logarithms(axis: Axis, most: int = MOST_TICKS) -> None:
    """Label a logarithmic axis with plain numbers: powers of ten, and 2 and 5 times these where it is short."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < SHORT * low else (1,), numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: words.rate(value)))
    axis.set_minor_formatter(NullFormatter())


def aside(n: int) -> NDArray[np.float64]:
    """Return places between -0.5 and 0.5 for points that would hide each other: neighbours are far apart."""
    places: NDArray[np.float64] = (np.arange(n) * (np.sqrt(5) - 1) / 2) % 1 - 0.5
    return places


def dots(axes: Axes, x: ArrayLike, y: ArrayLike, color: str, size: float) -> None:
    """Draw points as one path of lines without length, a tenth of the text of as many markers."""
    places = np.repeat(np.column_stack([x, y]), 2, axis=0)
    if len(places):
        path = Outline(places, np.tile([Outline.MOVETO, Outline.LINETO], len(places) // 2))
        path.should_simplify = False
        patch = PathPatch(path, fill=False, edgecolor=color, alpha=0.5, linewidth=size, capstyle="round", zorder=2)
        axes.add_patch(patch)


def rulers(panels: Sequence[Axes], boundary: Boundary, low: float, high: float, *, vertical: bool = False) -> str:
    """Draw the rulers between two true errors, and return a sentence about them; nothing if there are none."""
    between = {name: error for name, error in rulers_by_name(boundary).items() if low < error < high}
    near = [math.log(above / below) < NEAR * math.log(high / low) for above, below in pairwise(between.values())]
    sides = [below - above for above, below in zip([False, *near], [*near, False], strict=True)]
    for axes in panels:
        place = axes.get_subplotspec()
        outside = place is not None and place.is_last_col()
        named = outside or axes is panels[-1]
        for (name, error), side in zip(between.items(), sides, strict=False):
            label = _ruler(axes, error, name if named else "", side, vertical=vertical)
            label.set_in_layout(outside)  # within the picture there is room for a name, since a panel is missing
    shown = ", ".join(f"{name} {error:.3g}" for name, error in between.items())
    return f" Dashed are the lowest true errors of simpler answers: {shown}." if between else ""


def _ruler(axes: Axes, error: float, name: str, side: int, *, vertical: bool) -> Annotation:
    """Draw a ruler, with its name outside the panel, where it hides nothing: 1 is above its line, and -1 below it."""
    line: Any = {"color": light("soft"), "linewidth": 0.9, "linestyle": (0, (2, 2)), "zorder": 1}
    label: Any = {"textcoords": "offset points", "fontsize": 7.5, "color": light("soft")}
    if vertical:
        axes.axvline(error, **line)
        ha = ("center", "left", "right")[side]
        return axes.annotate(name, (error, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), ha=ha, **label)
    axes.axhline(error, **line)
    va, text = ("center", "bottom", "top")[side], "\n".join(name.rsplit(" ", 1))
    return axes.annotate(text, (1, error), xycoords=("axes fraction", "data"), xytext=(3, 0), va=va, **label)


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Return those values that are finite numbers."""
    array = np.asarray(values, np.float64)
    return array[np.isfinite(array)]


def context() -> Any:
    """Return the context in which pictures are drawn: nothing of the user's own settings counts."""
    return mpl.style.context(["default", STYLE])
