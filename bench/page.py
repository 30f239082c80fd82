"""One self-contained HTML page of a session: its tables and pictures, nothing from elsewhere."""

from __future__ import annotations

import re
from html import escape

from bench import analysis
from bench.pictures import pictures
from bench.records import Session
from bench.report import allocator_line, circumstances, failures, sections
from bench.targets import verdicts

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
    padding: 0 1rem; color: #212121; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums;
    display: block; overflow-x: auto; }
th, td { padding: 2px 9px; border-bottom: 1px solid #e0e0e0; text-align: right;
    white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.bad { background: #ffebee; }
svg { max-width: 100%; height: auto; }
code { background: #f5f5f5; padding: 1px 4px; }
"""
BAD = re.compile(r"behind|crashed|hung|failed|not loaded|missed")


def html_table(text: str) -> str:
    """A Markdown table as HTML; cells that say something bad are marked."""
    lines = [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()
    ]
    head, body = lines[0], lines[2:]
    rows = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    for line in body:
        cells = (
            f'<td class="bad">{escape(cell)}</td>'
            if BAD.search(cell)
            else f"<td>{escape(cell)}</td>"
            for cell in line
        )
        rows.append("".join(cells))
    return "<table>\n" + "\n".join(f"<tr>{row}</tr>" for row in rows) + "\n</table>"


def marked(text: str) -> str:
    """A line of text with its code marked."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))


def page(session: Session, base: str | None = None) -> str:
    """The whole page."""
    base = analysis.choose_base(session, base)
    drawn = pictures(session, base)
    parts = [f"<h1>Benchmark of {escape(session.date)}</h1>"]
    parts += [f"<p>{'<br>'.join(marked(line) for line in circumstances(session, base))}</p>"]
    parts.append("<ul>")
    parts += [f"<li>{marked(allocator_line(info))}</li>" for info in session.allocators]
    parts.append("</ul>")
    lines = [*verdicts(session), *failures(session)]
    if lines:
        parts += [
            "<h2>Targets and failures</h2>",
            "<ul>",
            *(f"<li>{marked(line)}</li>" for line in lines),
            "</ul>",
        ]
    parts += [drawn.pop(name, "") for name in ("time", "peak")]
    for heading, how, table in sections(session, base):
        parts += [f"<h2>{escape(heading)}</h2>", f"<p>{marked(how)}</p>", html_table(table)]
    if drawn:
        parts += ["<h2>Over time, and tails</h2>", *drawn.values()]
    head = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Benchmark of '
        f"{escape(session.date)}</title>\n<style>{STYLE}</style>\n"
    )
    return head + "\n".join(part for part in parts if part) + "\n</html>\n"
