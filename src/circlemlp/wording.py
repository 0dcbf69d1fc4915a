"""How a configuration is said in words, in the report and in the names of runs."""

from collections.abc import Mapping
from typing import Any

NAMES = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}


def optimizer(config: Mapping[str, Any]) -> str:
    """Return what the optimizer is called, with its settings but the learning rate: ``SGD (momentum 0.9)``."""
    section = config["optimizer"]
    settings = [
        f"{key} {value:g}" if not isinstance(value, bool) else key
        for key, value in section.items()
        if key not in ("name", "learning_rate") and value is not False
    ]
    return f"{NAMES[section['name']]} ({', '.join(settings)})"


def schedule(config: Mapping[str, Any]) -> str | None:
    """Return what becomes of the learning rate, or None where it stays as it is."""
    section = config["schedule"]
    parts = []
    if section["warmup_fraction"]:
        parts.append(f"a warm-up over {section['warmup_fraction']:.3g} of the steps")
    if section["decay"] == "cosine":
        end = f"{section['final_fraction']:g} of it" if section["final_fraction"] else "0"
        parts.append(f"half a cosine from the learning rate to {end}")
    return ", then ".join(parts) or None


def early_stopping(config: Mapping[str, Any]) -> str | None:
    """Return when a replicate stops, or None where it never does."""
    section = config["early_stopping"]
    if section["patience"] is None:
        return None
    better = f" by {section['min_delta']:g}" if section["min_delta"] else ""
    return f"{section['patience']} epochs without a lower validation loss{better}"
