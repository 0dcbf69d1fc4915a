"""How a configuration is said in words, wherever a person reads it."""

import re
from typing import Any

from circlemlp.config import CellConfig, Data, Disk, Model, QuarterCircle
from circlemlp.core.parameters import Layout

NAMES = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
PLAIN = re.compile(r"(?!(?i:null|true|false|nan|inf)$)[A-Za-z/][\w.:/-]*", re.ASCII)
"""A text that Hydra reads as itself without quotes."""


def architecture(model: Model) -> str:
    """Return the name a network goes by: ``2-64-32-1``, or ``2-64-32-1 tanh``, or ``2-64-32-1 glorot``."""
    sizes = "-".join(map(str, Layout.of(model.hidden_layer_sizes).layer_sizes))
    return " ".join([sizes, *(one for one in (model.activation, model.initialisation) if one not in ("relu", "he"))])


def anchor(text: str) -> str:
    """Return a text as an anchor of a page: its letters and digits, with hyphens between."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def anchor_of_cell(architecture: str, learning_rate: float) -> str:
    """Return where a cell's row is in a report: ``report.html#cell-2-64-1-at-0.01``."""
    return anchor(f"cell {architecture} at {learning_rate:g}")


def in_hydra(value: Any) -> str:
    """Return a value as Hydra reads it on a command line; a shell may want quotes around it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(in_hydra, value))}]"
    if isinstance(value, str) and not PLAIN.fullmatch(value):
        # A backslash escapes a quote and the beginning of an interpolation; before these, and before the quote at the
        # end, it is escaped itself.
        return "'" + re.sub(r"(\\+)\Z", r"\1\1", re.sub(r"(\\*)('|\$\{)", r"\1\1\\\2", value)) + "'"
    return str(value)


def optimizer(config: CellConfig) -> str:
    """Return what the optimizer is called, with its settings but the learning rate: ``SGD (momentum 0.9)``."""
    settings = [
        f"{key} {value:g}" if not isinstance(value, bool) else key
        for key, value in config.optimizer.model_dump().items()
        if key not in ("name", "learning_rate") and value is not False
    ]
    return f"{NAMES[config.optimizer.name]} ({', '.join(settings)})"


def schedule(config: CellConfig) -> str | None:
    """Return what becomes of the learning rate, or None where it stays as it is."""
    section = config.schedule
    parts = []
    if section.warmup_fraction:
        parts.append(f"a warm-up over {section.warmup_fraction:.3g} of the steps")
    if section.decay == "cosine":
        end = f"{section.final_fraction:g} of it" if section.final_fraction else "0"
        parts.append(f"half a cosine from the learning rate to {end}")
    return ", then ".join(parts) or None


def early_stopping(config: CellConfig) -> str | None:
    """Return when a replicate stops, or None where it never does."""
    section = config.early_stopping
    if section.patience is None:
        return None
    better = f" by {section.min_delta:g}" if section.min_delta else ""
    return f"{section.patience} epochs without a lower validation loss{better}"


def shape(data: Data) -> str:
    """Return where points are and which of them are of class 1."""
    if isinstance(data, QuarterCircle):
        return f"uniform on the unit square, y = 1 inside the arc of radius {data.radius:g}"
    if isinstance(data, Disk):
        return f"uniform on [-1, 1]², y = 1 inside the circle of radius {data.radius:g}"
    radii = f"{data.inner_radius:g} and {data.outer_radius:g}"
    return f"uniform on [-1, 1]², y = 1 between the circles of radius {radii}"
