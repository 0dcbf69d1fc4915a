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

from circlemlp.core.data import Boundary
from circlemlp.core.network import Network
from circlemlp.core.parameters import Layout
from circlemlp.store.records import Record

GRID_POINTS = 97
LEVELS = np.linspace(0, 1, 11)
SHADES = LinearSegmentedColormap.from_list("shades", ["#e58a7b", "#f4cdc2", "#fbfbf9", "#c3d9ea", "#7fb0d6"])
LEARNED: dict[str, Any] = {"color": "black", "linewidth": 1.5}
TRUE: dict[str, Any] = {"color": "#d97706", "linewidth": 1.8, "linestyle": (0, (4, 2))}


def true_boundary(record: Record) -> Boundary:
    """Return the boundary of the data that a record was trained on."""
    return Boundary.of(record.ingredients["config"]["data"])


def median_replicate(record: Record) -> int:
    """Return the replicate with the median final validation loss, a typical one; diverged ones come last."""
    loss = record.history.validation_loss[:, -1]
    alive = max(1, int(np.isfinite(loss).sum()))
    return int(np.argsort(loss, kind="stable")[(alive - 1) // 2])  # NaN comes last


def draw_boundary(axes: Axes, record: Record, replicate: int) -> Any:
    """Draw filled probability contours, the 0.5 contour and the true circle; return the filled contours."""
    boundary = true_boundary(record)
    ticks = np.linspace(boundary.low, boundary.high, GRID_POINTS)
    x, y = np.meshgrid(ticks, ticks)
    model, parameters = record.config.model, record.parameters[replicate : replicate + 1]
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


def draw_record(record: Record, path: Path) -> None:
    """Write a PNG of the boundary of a record's median replicate."""
    with mpl.style.context("default"):  # nothing of the user's own settings
        _draw_record(record, path)


def _draw_record(record: Record, path: Path) -> None:
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    replicate = median_replicate(record)
    filled = draw_boundary(axes, record, replicate)
    if filled is not None:
        figure.colorbar(filled, ax=axes, label="p(y = 1 | x)")
    accuracy = record.summary.validation_accuracy[replicate]
    axes.set_title(
        f"replicate {replicate}, the median by validation loss"
        + ("" if accuracy is None else f"; accuracy {accuracy:.4f}"),
        fontsize=10,
    )
    figure.savefig(path, dpi=110, metadata={"Software": None})
