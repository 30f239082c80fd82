"""``hakmem sites``: who allocated what a process holds, and what that pins."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from textwrap import fill
from typing import IO, TYPE_CHECKING, Any

from . import OK, USAGE, CommandError
from .targets import (
    about,
    add_output,
    add_target,
    add_volume,
    count_argument,
    heading,
    open_target,
    output,
    rows,
    writable,
    write_json,
)

if TYPE_CHECKING:
    from ..profiles.records import Stack
    from ..views.heap_view import HeapView
    from ..views.sites.sites import SitesView

DESCRIPTION = """\
The call stacks that allocated what a process holds, from its samples (hakmem profile, hakmem run
--profile): a line a stack, named by its innermost function outside the C and C++ libraries and
CPython, -v with all of it. Live bytes and blocks; pinned: resident bytes of their slabs that nobody
uses, shared among the slabs' live blocks; total: allocated since sampling began. All amounts are
estimates from samples: of n samples alike about one part in the square root of n is their error.
With -o a name's ending says the form: .pb.gz (pprof), .html and .svg (flame graph, by pinned bytes
a waste graph), .collapsed, .speedscope.json; any other name gets the table."""
EXAMPLES = """\
  hakmem sites 4711
  hakmem sites --by pinned -v 4711
  hakmem sites 4711 --by pinned -o waste.html
  hakmem sites heap.npz -o heap.pb.gz     for go tool pprof
  hakmem sites --lifetimes=class 4711
  hakmem sites --class 18 --json 4711"""
WIDTH = 100
CACHES_SHOWN = 3
SHOWN = 20
SORTED = {
    "live": "live_bytes",
    "pinned": "pinned_bytes",
    "total": "total_bytes",
    "age": "oldest_ns",
}
FORMS = {
    "pprof": ".pb.gz",
    "collapsed": ".collapsed",
    "speedscope": ".speedscope.json",
    "flame": ".html",
    "waste": ".html",
}
"""What ``--format`` takes, and the ending that means the same."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target, the order, how many, which form."""
    add_target(parser)
    parser.add_argument(
        "--by", choices=tuple(SORTED), default=None, help="most of what first: live, the default"
    )
    parser.add_argument(
        "--limit", metavar="N", type=count_argument, default=SHOWN, help=f"lines: {SHOWN}"
    )
    parser.add_argument(
        "--class", dest="class_index", metavar="N", type=count_argument, help="one class; 0: spans"
    )
    parser.add_argument(
        "--lifetimes",
        choices=("site", "class"),
        nargs="?",
        const="site",
        help="how old freed samples became, by site or class; whose blocks outlive those beside",
    )
    parser.add_argument("--format", choices=tuple(FORMS), help="of -o, whatever the file's name")
    add_output(parser)
    add_volume(parser, "without the heading", "also the call stacks")


def _chosen(view: HeapView, arguments: argparse.Namespace) -> SitesView:
    found = view.sites
    if arguments.class_index is not None:
        found = found.by_class
        found = found[found["class_index"] == arguments.class_index]
    field = SORTED[arguments.by or "live"]
    return found[(-found[field].astype("i8")).argsort(kind="stable")]


def _json(view: HeapView, found: SitesView, limit: int) -> dict[str, Any]:
    from dataclasses import asdict

    names = [name for name in found.array.dtype.names or () if name != "lifetimes"]
    listed = rows(found.array[:limit], names)
    stacks = found.stacks
    for row, lifetimes in zip(listed, found.array["lifetimes"].tolist(), strict=False):
        row["lifetimes"] = lifetimes
        row["frames"] = _frames(stacks[row["stack"]])
    return {**about(view), "sampling": asdict(view.sampling), "sites": listed}


def _frames(stack: Stack) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(frame) for frame in stack]


def _text(view: HeapView, found: SitesView, arguments: argparse.Namespace, file: IO[str]) -> None:
    from ..views.parts.view import Hints

    if not arguments.quiet:
        file.write(f"{heading(view)}\n\n")
    hints = Hints(columns=" (a wider terminal shows them; --json has all)")
    if not arguments.verbose:
        file.write(f"{found.drawn(limit=arguments.limit, hints=hints).text()}\n")
        if not arguments.quiet:
            file.write(_caches(view))
        return
    for site in found[: arguments.limit]:
        file.write(f"{site.title()}\n")
        file.write("".join(f"    {line}\n" for line in site.lines()))
    if len(found) > arguments.limit:
        file.write(f"... {len(found) - arguments.limit:,} more\n")


def _caches(view: HeapView) -> str:
    """What only caches hold, which is no site's, by thread."""
    from ..views.showing.tables import format_bytes

    rows = view.threads.array
    rows = rows[rows["cached_bytes"] > 0]
    if not len(rows):
        return ""
    most = rows[(-rows["cached_bytes"].astype("i8")).argsort(kind="stable")][:CACHES_SHOWN]
    named = ", ".join(
        f"thread {row['index']}{' (' + name + ')' if (name := str(row['name'])) else ''} "
        f"{format_bytes(int(row['cached_bytes']))}"
        for row in most
    )
    rest = f", {len(rows) - len(most):,} more" if len(rows) > len(most) else ""
    total = format_bytes(int(rows["cached_bytes"].sum()))
    return f"free in thread caches, no site's: {total}: {named}{rest}\n"


def _form(arguments: argparse.Namespace) -> str:
    """The ending of the form that a file is to have; empty: a table."""
    from ..profiles.saving import form_of

    if arguments.format is not None:
        if arguments.output is None:
            raise CommandError(f"--format {arguments.format}: name a file with -o", USAGE)
        name = str(arguments.output)
        return (
            ".svg"
            if FORMS[arguments.format] == ".html" and name.endswith(".svg")
            else FORMS[arguments.format]
        )
    try:
        return "" if arguments.output is None or arguments.json else form_of(arguments.output)
    except ValueError:
        return ""


def _save(view: HeapView, arguments: argparse.Namespace, form: str) -> None:
    """Write the profile in another form, beside the file, and put it in place."""
    from ..profiles.saving import rendered
    from ..views.sites.exporting import profile_of

    by = arguments.by or ("pinned" if arguments.format == "waste" else "live")
    amount = SORTED[by] if by != "age" else "live_bytes"
    place = Path(writable(arguments.output, force=arguments.force))
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        part.write_bytes(rendered(profile_of(view), form, amount))
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _lifetimes(view: HeapView, arguments: argparse.Namespace) -> int:
    """The histograms, and the sites that are mixed in among what lives shorter."""
    from ..views.sites.lifetimes import by_class_alone, mixed_in, table_of

    by_site = arguments.lifetimes == "site"
    found = _chosen(view, arguments).array if by_site else by_class_alone(view)
    if not by_site and arguments.class_index is not None:
        found = found[found["class_index"] == arguments.class_index]
    mixed = mixed_in(view)
    with output(arguments) as file:
        if arguments.json:
            names = ("where", "class_index", "pinned_bytes", "live_samples", "median_ns")
            listed = rows(found[: arguments.limit], names)
            for row, counts in zip(listed, found["lifetimes"].tolist(), strict=False):
                row["lifetimes"] = counts
            said = [{**one._asdict(), "remedy": one.remedy()} for one in mixed]
            write_json({**about(view), "lifetimes": listed, "mixed": said}, file)
            return OK
        if not arguments.quiet:
            file.write(f"{heading(view)}\n\n")
        table = table_of("", found[: arguments.limit], arguments.lifetimes)
        file.write(f"{table.text()}\n")
        if len(found) > arguments.limit:
            file.write(f"... {len(found) - arguments.limit:,} more\n")
        for one in mixed:
            file.write(f"\n{fill(one.sentence(), WIDTH)}\n")
    return OK


def main(arguments: argparse.Namespace) -> int:
    """Shows the sites, or writes them in another form."""
    form = _form(arguments)
    view = open_target(arguments.target, stop=arguments.stop, number=arguments.heap)
    if form:
        _save(view, arguments, form)
        return OK
    if arguments.lifetimes is not None:
        return _lifetimes(view, arguments)
    found = _chosen(view, arguments)
    with output(arguments) as file:
        if arguments.json:
            write_json(_json(view, found, arguments.limit), file)
        else:
            _text(view, found, arguments, file)
    return OK
