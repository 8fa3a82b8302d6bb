"""One self-contained HTML page: sections of text, pictures as data URIs, and tables; nothing from outside.

A page that answers to its reader brings a style and a script of its own; all others have no script.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2430; background: #f6f7f9; margin: 0; }
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 0 0 .4rem; }
section { background: #fff; border: 1px solid #e2e6ec; border-radius: 8px; padding: 1.1rem 1.3rem; margin: 1.1rem 0; }
p { margin: .3rem 0 .8rem; max-width: 70rem; }
img { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid #e2e6ec; }
small { color: #5b6675; }
th:first-child, td:first-child { text-align: left; }
"""


def page(title: str, lead: str, sections: Sequence[str], style: str = "", script: str = "") -> str:
    """The whole document, with what the page adds to the common style, and its script."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    body = f"<h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>" + "".join(sections)
    end = f"<script>{script}</script>" if script else ""
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}{style}</style></head>'
        f"<body><main>{body}</main>{end}</body></html>\n"
    )


def section(title: str, text: str, *parts: str) -> str:
    """A titled box with text, then pictures or tables."""
    return f"<section><h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{''.join(parts)}</section>"


def figure(uri: str, description: str) -> str:
    """A picture with its description for those who cannot see it."""
    return f'<img src="{uri}" alt="{html.escape(description)}">'


def caption(text: str) -> str:
    """Small print below a picture."""
    return f"<p><small>{html.escape(text)}</small></p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column names the row."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"
