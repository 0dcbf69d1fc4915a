"""A report as data, and its two forms: Markdown, and a web page that is one file and loads nothing.

Templates lay both out. Whatever a template inserts is escaped for its form, so a title with a ``|`` or a ``<script>``
in it is a title with these characters.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


class Code(str):
    """Text to be shown as code."""

    def __html__(self) -> str:
        return Markup("<code>{}</code>").format(str(self))


class Strong(str):
    """Text to be emphasised."""

    def __html__(self) -> str:
        return Markup("<strong>{}</strong>").format(str(self))


@dataclass(frozen=True)
class Heading:
    """The heading of a section."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences, each of them in parts."""

    sentences: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """An SVG file in the folder of figures."""

    name: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under the names of the columns."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = str | Heading | Bullets | Picture | Table
"""A ``str`` is a paragraph."""


def as_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return a document as Markdown, which finds its pictures in the folder ``figures``."""
    return _MARKDOWN.get_template("report.md.j2").render(title=title, blocks=blocks)


def as_page(title: str, blocks: Sequence[Block], figures: Path) -> str:
    """Return a document as a web page, with the pictures of a folder inside it."""

    def encoded(name: str) -> str:
        return base64.b64encode((figures / name).read_bytes()).decode()

    return _HTML.get_template("page.html.j2").render(title=title, blocks=blocks, encoded=encoded)


def _in_markdown(value: object) -> Markup:
    """Return a value as Markdown that shows it; what is Markdown already, a macro's output, is left as it is."""
    if isinstance(value, Markup):
        return value
    text = re.sub(r"[\r\n]+", " ", str(value))  # a new line could begin something else than a paragraph
    if isinstance(value, Code):
        # Between backticks nothing can be escaped; between tags it can.
        return Markup(f"<code>{_escaped(text)}</code>" if re.search(r"[`|\\]", text) else f"`{text}`")
    return Markup(f"**{_escaped(text)}**" if isinstance(value, Strong) else _escaped(text))


def _escaped(text: str) -> str:
    """Put a backslash before what Markdown would read as a mark, and not before a ``_`` inside a word."""
    return re.sub(r"[\\`*<>\[\]#~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)", r"\\\g<0>", text)


def _in_cell(value: object) -> Markup:
    return Markup(_in_markdown(value).replace("|", r"\|"))


_OPTIONS: Any = {
    "loader": FileSystemLoader(Path(__file__).parent / "templates"),
    "autoescape": True,
    "undefined": StrictUndefined,
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": True,
}
_HTML = Environment(**_OPTIONS)
_MARKDOWN = Environment(**_OPTIONS, finalize=_in_markdown)
_MARKDOWN.filters["cell"] = _in_cell
