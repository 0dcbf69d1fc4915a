"""Decision boundaries: what a network learned, beside the true one."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as Outline

from circlemlp.config import CellConfig
from circlemlp.core import geometry
from circlemlp.core.data import Boundary
from circlemlp.core.network import Network
from circlemlp.core.parameters import Layout
from circlemlp.report.colors import light
from circlemlp.store.records import Record
from circlemlp.store.trained import Trained
from circlemlp.wording import architecture

GRID_POINTS = 97
LEVELS = np.linspace(0, 1, 11)
SHADES = LinearSegmentedColormap.from_list("shades", ["#e58a7b", "#f4cdc2", "#fbfbf9", "#c3d9ea", "#7fb0d6"])
LEARNED: dict[str, Any] = {"color": light("ink"), "linewidth": 1.5}
TRUE: dict[str, Any] = {"color": light("arc"), "linewidth": 1.8, "linestyle": (0, (4, 2))}


def true_boundary(config: CellConfig) -> Boundary:
    """Return the boundary of the data that a cell was trained on."""
    return Boundary.of(config.data.model_dump())


def rings(boundary: Boundary) -> tuple[Outline, Outline]:
    """Return the ring of class 1, and the rest of the square, as outlines that go clockwise around their holes."""
    outer, inner = (Outline.circle(radius=radius) for radius in (boundary.outer_radius, boundary.inner_radius))
    square = geometry.square(boundary.low, boundary.high)
    whole = Outline([*square, square[0]], closed=True)
    ring = Outline.make_compound_path(outer, _reversed(inner))
    return ring, Outline.make_compound_path(whole, _reversed(outer), inner)


def _reversed(circle: Outline) -> Outline:
    around = np.asarray(circle.vertices)[-2::-1]  # without the last, which closes it
    return Outline(np.vstack([around, around[:1]]), circle.codes)


def median_replicate(cell: Record | Trained) -> int:
    """Return the row of the replicate with the median true error, a typical one.

    Those that diverged count as the worst, and one is taken only if all did; likewise, where a true error is not known.
    """
    order = np.lexsort((cell.true_error, cell.history.diverged_at >= 0))  # NaN comes last
    known = max(1, int(np.isfinite(cell.true_error).sum()))
    return int(order[min((len(order) - 1) // 2, known - 1)])


def draw_boundary(axes: Axes, cell: Trained, row: int) -> Any:
    """Draw filled probability contours, the 0.5 contour and the true circle; return the filled contours."""
    boundary = true_boundary(cell.config)
    ticks = np.linspace(boundary.low, boundary.high, GRID_POINTS)
    x, y = np.meshgrid(ticks, ticks)
    model, parameters = cell.config.model, cell.parameters[row : row + 1]
    network = Network(Layout.of(model.hidden_layer_sizes), parameters, model.activation)
    p = network.probabilities(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
    filled = None
    if np.isfinite(p).all():
        filled = axes.contourf(x, y, p, levels=LEVELS, cmap=SHADES)
        if p.min() < 0.5 < p.max():
            axes.contour(x, y, p, levels=[0.5], colors=LEARNED["color"], linewidths=LEARNED["linewidth"])
    else:
        axes.text(0.5, 0.5, "diverged", transform=axes.transAxes, ha="center", va="center")
    angle = np.linspace(0, 2 * np.pi, 361)
    for radius in (boundary.inner_radius, boundary.outer_radius):
        if radius > 0:
            axes.plot(radius * np.cos(angle), radius * np.sin(angle), **TRUE)
    axes.set(xlim=(boundary.low, boundary.high), ylim=(boundary.low, boundary.high), xlabel="$x_1$", ylabel="$x_2$")
    axes.set_aspect("equal")
    return filled


def draw_cell(cell: Trained, path: Path) -> None:
    """Write a PNG of the boundary of a cell's median replicate."""
    with mpl.style.context("default"):  # nothing of the user's own settings
        _draw_cell(cell, path)


def _draw_cell(cell: Trained, path: Path) -> None:
    figure = Figure(figsize=(5.2, 5.2))  # everything has its place in it: to find one takes half of the time
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.11, 0.17, 0.72, 0.72))
    row = median_replicate(cell)
    filled = draw_boundary(axes, cell, row)
    if filled is not None:
        figure.colorbar(filled, cax=figure.add_axes((0.86, 0.17, 0.03, 0.72)), label="p(y = 1 | x)")
    error = cell.true_error[row]
    config = cell.config
    name = f"{architecture(config.model)} at {config.optimizer.learning_rate:g}"
    figure.suptitle(
        f"{name}, replicate {cell.numbers[row]}:\n"
        "the median by true error" + (f", {error:.3g}" if np.isfinite(error) else ""),
        fontsize=10,
        y=0.97,
    )
    lines = [Line2D([], [], **LEARNED, label="learned boundary"), Line2D([], [], **TRUE, label="true boundary")]
    figure.legend(handles=lines, loc="lower center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})
