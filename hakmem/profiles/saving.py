"""A profile as a file: the ending of the name says in which form."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .collapsed import collapsed
from .graph import Graph
from .pprof import pprof
from .records import Profile
from .speedscope import speedscope

FORMS: Final[dict[str, tuple[str, Callable[[Profile, str], bytes | str]]]] = {
    ".pb.gz": ("pprof's, all amounts", lambda profile, _: pprof(profile)),
    ".html": ("a page with a graph", lambda profile, amount: Graph.of(profile, amount).page()),
    ".svg": ("a graph", lambda profile, amount: Graph.of(profile, amount).svg()),
    ".speedscope.json": ("speedscope's, all amounts", speedscope),
    ".collapsed": ("collapsed stacks", collapsed),
}
"""By ending: what it is, and what makes it of a profile and one of `AMOUNTS`."""


def form_of(name: str) -> str:
    """The ending of `FORMS` that a name has. Raises ValueError.

    >>> form_of("shop.pb.gz")
    '.pb.gz'
    """
    found = next((ending for ending in FORMS if name.endswith(ending)), None)
    if found is None:
        known = ", ".join(FORMS)
        raise ValueError(f"{name}: expected a name that ends with {known}")
    return found


def rendered(profile: Profile, form: str, amount: str = "live_bytes") -> bytes:
    """A profile in a form: what a file with that ending holds."""
    made = FORMS[form][1](profile, amount)
    return made if isinstance(made, bytes) else made.encode(errors="replace")


def save(
    profile: Profile,
    path: str | os.PathLike[str],
    amount: str = "live_bytes",
    *,
    force: bool = False,
) -> None:
    """Write a profile in the form that the file's name asks for.

    Raises ValueError for another ending, FileExistsError unless ``force``.
    """
    place = Path(path)
    data = rendered(profile, form_of(place.name), amount)
    with place.open("wb" if force else "xb") as file:
        file.write(data)
