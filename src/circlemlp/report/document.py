"""A report as data, and its two forms: Markdown, and a web page that is one file, loads nothing and needs no script.

Templates lay both out. Whatever a template inserts is escaped for its form, so a title with a ``|`` or a ``<script>``
in it is a title with these characters.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from circlemlp import wording
from circlemlp.report import svg
from circlemlp.report.colors import COLORS


class Code(str):
    """Text to be shown as code."""

    def __html__(self) -> str:
        return Markup("<code>{}</code>").format(str(self))


class Numeric(str):
    """The name of a column of numbers."""


class Link(str):
    """Text that leads somewhere: to an anchor of the same document, ``#health``, or to an address."""

    address: str

    def __new__(cls, text: str, address: str) -> Self:
        """Make one of a text and where it leads to."""
        link = super().__new__(cls, text)
        link.address = address
        return link


@dataclass(frozen=True)
class Heading:
    """The heading of a section."""

    text: str

    @property
    def anchor(self) -> str:
        """What a link to it names."""
        return wording.anchor(self.text)


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of cells under the names of the columns; a row may have an anchor.

    A table may have a word for each cell, which a page shades it by, and of each row more, which a page shows on demand
    in a table that can be sorted and filtered; Markdown leaves it out.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    anchors: Sequence[str] = ()
    shades: Sequence[Sequence[str]] = ()
    more: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Picture:
    """An SVG file in the folder of figures.

    Attributes
    ----------
    name : str
        The file's.
    finding : str
        What the picture shows, in words: its caption, and what is read out in its place.
    note : str
        How to read it.
    data : Table, optional
        The numbers in it.
    wide : bool
        Whether it has small parts, so that it should have all the room there is.
    """

    name: str
    finding: str
    note: str = ""
    data: Table | None = field(default=None, repr=False)
    wide: bool = False


Block = str | Heading | Bullets | Picture | Table
"""A ``str`` is a paragraph."""


def as_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return a document as Markdown, which finds its pictures in the folder ``figures``."""
    return _MARKDOWN.get_template("report.md.j2").render(title=title, blocks=blocks)


def as_page(title: str, blocks: Sequence[Block], figures: Path) -> str:
    """Return a document as a web page, with the pictures of a folder inside it."""

    def inline(picture: Picture) -> Markup:
        # The text in a picture was escaped when it was drawn.
        text = svg.for_page((figures / picture.name).read_text(), Path(picture.name).stem)
        label = Markup('<svg role="img" aria-label="{}"').format(picture.finding)
        return label + Markup(text.removeprefix("<svg"))

    return _HTML.get_template("page.html.j2").render(title=title, blocks=blocks, inline=inline, colors=COLORS)


def _in_markdown(value: object) -> Markup:
    """Return a value as Markdown that shows it; what is Markdown already, a macro's output, is left as it is."""
    if isinstance(value, Markup):
        return value
    text = re.sub(r"[\r\n]+", " ", str(value))  # a new line could begin something else than a paragraph
    if isinstance(value, Code):
        # Between backticks nothing can be escaped; between tags it can.
        return Markup(f"<code>{_escaped(text)}</code>" if re.search(r"[`|\\]", text) else f"`{text}`")
    return Markup(_escaped(text))


def _escaped(text: str) -> str:
    """Put a backslash before what Markdown would read as a mark, and not before a ``_`` inside a word."""
    return re.sub(r"[\\`*<>\[\]#~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)", r"\\\g<0>", text)


def _in_cell(value: object) -> Markup:
    return Markup(_in_markdown(value).replace("|", r"\|"))


UNBROKEN = re.compile(r"\d+(?:-\d+)+|\d+ of \d+|\([\d.%]+ to [\d.%]+\)")
"""Architectures, counts and intervals."""


def _on_one_line(value: object) -> Markup:
    """Return a value for a page, in which no line breaks inside a name or an interval."""
    if isinstance(value, Code | Markup):
        return escape(value)
    text = Markup(UNBROKEN.sub(r'<span class="unbroken">\g<0></span>', str(escape(str(value)))))
    return Markup('<a href="{}">{}</a>').format(value.address, text) if isinstance(value, Link) else text


_OPTIONS: Any = {
    "loader": FileSystemLoader(Path(__file__).parent / "templates"),
    "autoescape": True,
    "undefined": StrictUndefined,
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": True,
}
_HTML = Environment(**_OPTIONS)
_HTML.filters["on_one_line"] = _on_one_line
_HTML.tests["numeric"] = lambda name: isinstance(name, Numeric)
_MARKDOWN = Environment(**_OPTIONS, finalize=_in_markdown)
_MARKDOWN.filters["cell"] = _in_cell
_MARKDOWN.tests["numeric"] = _HTML.tests["numeric"]
