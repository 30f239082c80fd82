"""A page of HTML that needs nothing else: a template, the look and script that all pages share, and
data that its script unpacks."""

from __future__ import annotations

import base64
import re
import zlib
from html import escape
from importlib.resources import files


def page(template: str, title: str, data: bytes) -> str:
    """A template with ``{{title}}``, ``{{style}}``, ``{{script}}`` and ``{{data}}`` filled in."""
    parts = {
        "title": escape(title),
        "style": files(__package__).joinpath("page.css").read_text(encoding="utf-8"),
        "script": files(__package__).joinpath("page.js").read_text(encoding="utf-8"),
        "data": base64.b64encode(zlib.compress(data, 9)).decode(),
    }
    return re.sub(r"\{\{(title|style|script|data)\}\}", lambda found: parts[found[1]], template)
