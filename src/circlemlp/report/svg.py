"""Pictures as text: without what does not show, and in the colours of the page they are in."""

import re

from circlemlp.report.colors import COLORS

PATH = re.compile(r'(?<= d=")[^"]*|(?<=" [xy]=")[^"]*')
NUMBER = re.compile(r"-?\d+\.\d+")
ENLARGED = 1.7
"""Pixels of a page, at the most, for a point of a picture."""
VARIABLES = {color.light: f"var(--{name})" for name, color in COLORS.items()}


def simplified(picture: str) -> str:
    """Return an SVG with all coordinates to a tenth of a pixel, and without points that do not show."""
    return PATH.sub(lambda found: _short(found[0]), picture)


def _short(path: str) -> str:
    steps: list[str] = []
    for line in path.split("\n"):
        step = NUMBER.sub(lambda number: f"{float(number[0]):.1f}".replace("-0.0", "0").removesuffix(".0"), line)
        # After a move, a line of no length is a dot.
        if not (steps and step.startswith("L ") and step == steps[-1]):
            steps.append(step)
    return "\n".join(steps)


def _tight(path: str) -> str:
    """Return a path without white space that is not needed."""
    return re.sub(r"M(\S+ \S+)L\1(?=M|$)", r"M\1h0", re.sub(r"(?<=[MLQCz])\s+|\s+(?=[MLQCz]|$)", "", path))


def for_page(picture: str, name: str) -> str:
    """Return an SVG to be put into a page: its colours are the page's, and its ids begin with a name."""
    inside = PATH.sub(lambda found: _tight(found[0]), picture[picture.index("<svg") :])
    inside = re.sub(r"(?<=>)\s+(?=<)", "", re.sub(r'<g id="[^"]*"', "<g", inside))  # what nothing refers to
    # What matplotlib says of all elements would be about the whole page; the page says it of its pictures.
    inside = re.sub(r"\s*<metadata>.*?</metadata>|\s*<style.*?</style>", "", inside, flags=re.DOTALL)
    inside = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", inside)
    inside = re.sub(r"#[0-9a-f]{6}\b", lambda found: VARIABLES.get(found[0], found[0]), inside)
    inside = re.sub(r'<g><path d="[^"]*" style="fill: var\(--paper\)"/></g>', "", inside, count=1)  # the page is behind
    inside = inside.replace("'DejaVu Sans'", "var(--sans)")
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', inside)
    if box is None:
        raise ValueError("a picture has no view box")
    opening = f'<svg style="max-width: {ENLARGED * float(box[1]) / 16:.1f}rem" {box[0]}>'
    return re.sub("<svg [^>]*>", opening, inside, count=1)
