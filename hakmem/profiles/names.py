"""What a frame is called where a profile is drawn or written as text, and which stacks are one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache

from .records import Frame, SiteRecord


def label(frame: Frame) -> str:
    """The function; of Python with the name of its file, since many are called ``__init__``. What a
    terminal would not print is ``?``: names are other people's.

    >>> label(Frame("<module>", "/srv/app.py", 3, "", 0, language="python"))
    '<module> (app.py)'
    """
    return _label(frame.function, frame.file if frame.language == "python" else "")


@lru_cache(1 << 16)  # the same functions stand in many stacks
def _label(name: str, file: str) -> str:
    if file:
        name = f"{name} ({os.path.basename(file)})"
    if not name.isprintable():
        name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name or "?"


def calls(site: SiteRecord) -> tuple[str, ...]:
    """The labels of a site's frames, outermost first."""
    return tuple(label(frame) for frame in reversed(site.stack))


def summed(sites: Iterable[SiteRecord], amount: str) -> dict[tuple[str, ...], int]:
    """An amount by calls, of all classes together; those that come to nothing are left out."""
    found: dict[tuple[str, ...], int] = {}
    for site in sites:
        if value := int(getattr(site, amount)):
            key = calls(site)
            found[key] = found.get(key, 0) + value
    return found
