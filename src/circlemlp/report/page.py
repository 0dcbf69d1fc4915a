"""The report as a web page of its own: one file that loads nothing."""

import base64
import re
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fbfbfa; color: #1f2328; font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid #dcdcd8; }
img { display: block; max-width: 100%; height: auto; margin: 1.25rem auto; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid #e6e6e2; white-space: nowrap; }
th { font-weight: 600; border-bottom-color: #b9b9b3; }
code { font: .85em ui-monospace, monospace; }
td code { white-space: normal; overflow-wrap: anywhere; }
"""


def html(title: str, text: str, folder: Path) -> str:
    """Return the report as one page that loads nothing: pictures are inside it."""
    body = MarkdownIt("commonmark").enable("table").render(text)

    def inline(found: re.Match[str]) -> str:
        encoded = base64.b64encode((folder / found[1]).read_bytes()).decode()
        return f'src="data:image/svg+xml;base64,{encoded}"'

    body = re.sub(r'src="([^":]+\.svg)"', inline, body)
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    return PAGE.format(title=escape(title), style=STYLE, body=body)
