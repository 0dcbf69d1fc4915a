"""The colours of pages and pictures, each with the one that takes its place on a dark page.

A picture is drawn in the light ones. ``svg.for_page`` replaces each by the variable of its name, so one file is light
and dark. No two colours have the same light value: it is what they are found by.
"""

import zlib
from typing import NamedTuple


class Color(NamedTuple):
    """A colour on a light page, and on a dark one."""

    light: str
    dark: str


COLORS = {
    "paper": Color("#ffffff", "#16181d"),
    "ink": Color("#1f2328", "#e6e8eb"),
    "soft": Color("#59616a", "#a3acb6"),
    "line": Color("#d8dbdf", "#3a4049"),
    "wash": Color("#f4f5f6", "#1f232a"),
    "link": Color("#0b57b0", "#8abaf5"),
    "arc": Color("#a85a00", "#f0a645"),
    "wrong": Color("#d2447e", "#ff7eb0"),
    "zero": Color("#f6ddd6", "#4a302b"),
    "one": Color("#d9e7f3", "#22384d"),
    "zero-cut": Color("#eba596", "#7d4437"),
    "one-cut": Color("#93bddd", "#2f5f8a"),
    "too-slow": Color("#dfe8f2", "#23323f"),
    "good": Color("#d3ecd9", "#1f3d2a"),
    "unstable": Color("#faecc5", "#453a18"),
    "collapsed": Color("#f5dcd3", "#47291f"),
    "diverged": Color("#e9d7ee", "#3c2a44"),
    "a1": Color("#0c66b0", "#6ab2f0"),
    "a2": Color("#b4470c", "#f2935f"),
    "a3": Color("#0a7551", "#4fca9c"),
    "a4": Color("#87409b", "#d19fe3"),
    "a5": Color("#7d6200", "#d8b647"),
    "a6": Color("#0d7080", "#56c4d8"),
    "a7": Color("#b02a55", "#f28aac"),
    "a8": Color("#4f5b9a", "#a4aef0"),
    "a9": Color("#5c6b1c", "#b2c65a"),
    "a10": Color("#7a5040", "#cfa48f"),
    "a11": Color("#545b61", "#b6bec6"),
    "a12": Color("#8e2fa8", "#e07af5"),
}
KNOWN = ("2-64-1", "2-128-1", "2-64-32-1", "2-128-64-1")
"""Architectures with a colour of their own: those of conf/model."""
OTHERS = 8
"""Colours that are left to all other architectures."""


def light(name: str) -> str:
    """Return a colour as pictures have it."""
    return COLORS[name].light


def of_architecture(name: str) -> str:
    """Return an architecture's colour: a function of its name alone, whatever else is in a report.

    Others than those of conf/model share some colours, so a picture names them too.
    """
    place = KNOWN.index(name) if name in KNOWN else len(KNOWN) + zlib.crc32(name.encode()) % OTHERS
    return light(f"a{place + 1}")
