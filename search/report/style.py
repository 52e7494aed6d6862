"""The frame of a page, its sections, and its style sheet. A page needs no network."""

from __future__ import annotations

from html import escape

from plotly.offline import get_plotlyjs

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f8fafc; color: #1f2937; font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 26px; margin: 8px 0 16px; }
h2 { font-size: 19px; margin: 0 0 8px; }
h3 { font-size: 15px; margin: 20px 0 4px; }
section { background: #fff; border: 1px solid #e2e8f0; border-radius: 8px; padding: 18px 20px; margin: 16px 0; }
.note { color: #475569; margin: 0 0 12px; max-width: 80ch; }
.facts { display: flex; flex-wrap: wrap; gap: 12px; }
.facts div { background: #fff; border: 1px solid #e2e8f0; border-radius: 8px; padding: 10px 16px; }
.facts b { display: block; font-size: 20px; }
.facts span { color: #64748b; font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px 5px 0; text-align: left; border-bottom: 1px solid #eef2f6; vertical-align: top; }
th { font-weight: 600; color: #475569; }
.pairs th { font-weight: 400; white-space: nowrap; }
.pairs td { overflow-wrap: anywhere; }
.met { color: #15803d; font-weight: 600; }
.missed { color: #b91c1c; font-weight: 600; }
details { margin-top: 12px; }
summary { cursor: pointer; color: #2a7ab9; }
.members { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 12px; }
figure { margin: 0; border: 1px solid #e2e8f0; border-radius: 8px; padding: 8px; }
figcaption p { margin: 0; font-size: 13px; color: #475569; }
.cell { width: 100%; height: auto; }
.cell .node { font: 11px system-ui, sans-serif; fill: #334155; }
.cell .op { font: 600 11px system-ui, sans-serif; }
"""


def page_html(title: str, body: str) -> str:
    """A whole page, with plotly.js inline."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n{body}\n"
        "</main>\n</body>\n</html>\n"
    )


def section_html(title: str, body: str, note: str = "") -> str:
    """A section; title and note are escaped."""
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>"
