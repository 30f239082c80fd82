"""The site checker: every access of the C sources to a slab's free list, remote list, used count
and claim.

``python -m tools.sites`` prints how many sites of each kind each file has, which of them need the
claim, and what is wrong; exit status 1 if anything is. It reads text, not meaning: comments and
strings are blanked, function bodies found by their braces, calls by name and matching parentheses.
It learns the accessors from ``lists.h``: one that asserts ``hak_claim_held`` needs the claim, and
its field is the one its body touches.

A lexical checker has limits: it does not follow values through calls or assignments, takes any
mention of a popped value for a check of it, and cannot tell whether a claim is held. The debug
build asserts that a claim is held; this checker makes sure that no access goes around the
assertion, and catches slips that a reader overlooks.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from tools.ctext import (
    Call,
    Function,
    blank,
    calls,
    closing,
    functions,
    line_of,
    without_directives,
)

FIELDS: Final = ("free_list", "remote_list", "used_count", "claim_seq")
HOME: Final = "lists.h"
SOURCES: Final = Path(__file__).resolve().parents[1] / "hakmem" / "native"

# What accessor names end in, longest first, and the kind of access that each ending means.
KINDS: Final[tuple[tuple[str, str], ...]] = (
    ("_push_chain", "push_chain"),
    ("_take_all", "take_all"),
    ("_pop_chain", "pop"),
    ("_is_empty", "is_empty"),
    ("_is_nonempty", "is_nonempty"),
    ("_debug_pointer", "debug pointer"),
    ("_release", "release"),
    ("_try", "claim"),
    ("_push", "push"),
    ("_pop", "pop"),
    ("_held", "load"),
    ("_adds_up", "load"),
    ("_count", "load"),
    ("_load", "load"),
    ("_break", "store"),
    ("_add", "store"),
    ("_sub", "store"),
    ("_store", "store"),
    ("_reset", "store"),
)
# Functions of slabs.c that try a claim several times: a call of one counts as a claim.
CLAIM_WRAPPERS: Final = ("hak_slab_claim", "hak_slab_claim_wait")
# Pops of other lists (empty slabs, thread records, mailboxes): what they return is checked, too.
OTHER_POPS: Final = ("hak_empty_pop", "list_pop", "hak_mail_take_all")


class Accessor(NamedTuple):
    """One accessor: what it touches, how, and whether the claim must be held."""

    name: str
    """C name."""
    field: str
    """Field of ``hak_slab`` it touches."""
    kind: str
    """push_chain, take_all, pop, load, store, is_empty, is_nonempty, debug pointer, claim or
    release."""
    claimed: bool
    """Whether it asserts that the claim is held."""


class Site(NamedTuple):
    """One call of an accessor."""

    file: str
    """File name."""
    line: int
    """Line, from 1."""
    function: str
    """Function the call stands in."""
    accessor: Accessor
    """What is called."""


class SiteProblem(NamedTuple):
    """One thing that is wrong."""

    file: str
    """File name."""
    line: int
    """Line, from 1."""
    function: str
    """Function, or empty outside of one."""
    what: str
    """What, in words."""

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.function + ': ' if self.function else ''}{self.what}"
        )


def accessors(home: str) -> list[Accessor]:
    """The accessors that the text of ``lists.h`` defines; ValueError for one whose kind its name
    does not tell."""
    text = without_directives(blank(home))
    made: dict[str, Accessor] = {}
    for function in functions(text):
        body = text[function.start : function.end]
        touched = [field for field in FIELDS if re.search(rf"(?:->|\.)\s*{field}\b", body)]
        named = {
            "hak_claim": "claim_seq",
            "hak_free": "free_list",
            "hak_remote": "remote_list",
            "hak_used": "used_count",
        }
        field = next(
            (field for start, field in named.items() if function.name.startswith(start)),
            touched[0] if touched else "",
        )
        if not field:
            continue  # works on words, touches no slab
        kind = next((kind for end, kind in KINDS if function.name.endswith(end)), "")
        if not kind:
            raise ValueError(
                f"{HOME}: accessor {function.name} touches {field}, but its name tells no kind; "
                "add its ending to tools.sites.KINDS"
            )
        made[function.name] = Accessor(
            function.name,
            field,
            kind,
            bool(calls(body, "hak_assert") and re.search(r"(?<!!)hak_claim_is_mine", body)),
        )
    return list(made.values())


def sites_of(name: str, source: str, known: list[Accessor]) -> list[Site]:
    """Every call of an accessor in one file, in order."""
    text = without_directives(blank(source))
    wrappers = [Accessor(wrapper, "claim_seq", "claim", False) for wrapper in CLAIM_WRAPPERS]
    found: list[tuple[int, Site]] = []
    for function in functions(text):
        for accessor in [*known, *wrappers]:
            for call in calls(text, accessor.name, function.start, function.end):
                found.append(
                    (call.start, Site(name, line_of(text, call.start), function.name, accessor))
                )
    return [site for _, site in sorted(found, key=lambda pair: pair[0])]


def _statement(text: str, place: int) -> str:
    """What stands between the last ``;``, ``{``, ``}`` or unmatched ``(`` and ``place``: the left
    side of a call."""
    depth = 0
    for at in range(place - 1, -1, -1):
        depth += (text[at] == ")") - (text[at] == "(")
        if text[at] in ";{}" or depth < 0:
            return text[at + 1 : place]
    return text[:place]


def _governed(text: str, call: Call) -> tuple[int, int]:
    """The body of the ``if``, ``while`` or ``for`` whose condition holds ``!call``; (0, 0) if it
    stands in none."""
    if not re.search(r"!\s*$", text[: call.start]):
        return 0, 0
    depth = 0
    for at in range(call.start - 1, -1, -1):
        depth += (text[at] == ")") - (text[at] == "(")
        if depth < 0:
            if not re.search(r"\b(if|while|for)\s*$", text[:at]):
                return 0, 0
            body = closing(text, at)
            opening = re.compile(r"\s*\{").match(text, body)
            return (
                (body, closing(text, opening.end() - 1))
                if opening
                else (body, text.find(";", body) + 1)
            )
    return 0, 0


def _result(text: str, call: Call) -> set[str]:
    """The variables that receive what a pop returns: the assigned one and the ``&out``
    arguments."""
    depth, at, names = 0, call.start - 1, set()
    while (
        at >= 0 and text[at] not in ";{}"
    ):  # outwards through wrapping calls, to the start of the statement
        depth += (text[at] == ")") - (text[at] == "(")
        if text[at] == "=" and depth <= 0 and text[at - 1] not in "=!<>" and text[at + 1] != "=":
            if target := re.search(r"(\w+)\s*$", text[:at]):
                names.add(target.group(1))
            break
        at -= 1
    names |= {
        argument[1:].strip() for argument in call.arguments if re.fullmatch(r"&\s*\w+", argument)
    }
    return names


def _exclusive(text: str, first: Call, second: Call) -> bool:
    """Whether the block of ``first`` is left through an ``else`` before ``second``."""
    depth = 0
    for at in range(first.end, second.start):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth < 0 and re.compile(r"\}\s*else\b").match(text, at):
            return True
    return bool(depth == 0 and re.match(r"[^{}]*;\s*else\b", text[first.end : second.start]))


def _mentions(text: str, names: set[str]) -> bool:
    return any(re.search(rf"\b{re.escape(name)}\b", text) for name in names)


def _checked(text: str, function: Function, call: Call, name: str) -> bool:
    """Whether a pop's emptiness is looked at: by a question before it, by its place in a condition,
    or after it."""
    before, after, left = (
        text[function.start : call.start],
        text[call.end : function.end],
        _statement(text, call.start),
    )
    slab = call.arguments[0] if call.arguments else ""
    if re.search(r"\breturn\b[^;]*$", before) or re.search(r"\(\s*void\s*\)\s*$", left):
        return True  # the caller looks, or the blocks are thrown away on purpose
    asked = r"\b\w+_(?:is_empty|is_nonempty|count)\s*\(\s*" + re.escape(slab) + r"\s*\)"
    if slab and name not in OTHER_POPS and re.search(asked, before):
        return True
    if re.search(r"\b(?:if|while)\s*\([^;{}]*$", before) or re.search(
        r"\bfor\s*\([^{}]*;[^;{}]*$", before
    ):
        return True
    results = _result(text, call)
    counted = {
        found.group(1)
        for r in results
        for found in re.finditer(rf"(\w+)\s*=\s*hak_word_count\s*\(\s*{re.escape(r)}\s*\)", after)
    }
    for result in results | counted:
        variable = re.escape(result)
        looks = (
            rf"(?:if|while)\s*\(\s*!?\s*{variable}\b|!\s*{variable}\b|;\s*{variable}\s*;|<\s*{variable}\b"
            rf"|\b{variable}\s*(?:==|!=|\?|&&|\|\||<|>)"
        )
        if re.search(looks, after) or re.search(rf"\breturn\s+{variable}\s*;", after):
            return True
    return False


def problems_of(name: str, source: str, known: list[Accessor]) -> list[SiteProblem]:
    """What is wrong in one file."""
    spaced = blank(source)
    text = without_directives(spaced)
    spans = functions(text)
    found: list[tuple[int, SiteProblem]] = []

    def add(place: int, what: str) -> None:
        inside = next((span.name for span in spans if span.start <= place < span.end), "")
        found.append((place, SiteProblem(name, line_of(spaced, place), inside, what)))

    if name != HOME:
        for match in re.finditer(rf"\b({'|'.join(FIELDS)})\b", spaced):
            add(match.start(), f"direct access to {match.group(1)}; use an accessor of {HOME}")
    pops = [accessor.name for accessor in known if accessor.kind in ("pop", "take_all")]
    pushes = [accessor.name for accessor in known if accessor.kind in ("push", "push_chain")]
    for span in spans:
        taken = sorted(
            (call, pop) for pop in pops for call in calls(text, pop, span.start, span.end)
        )
        for (first, pop), (second, again) in pairwise(taken):
            same = (
                first.arguments[:1] == second.arguments[:1]
                and pop.split("_")[1] == again.split("_")[1]
            )
            between = text[first.end : second.start - len(_statement(text, second.start))]
            if (
                same
                and not _exclusive(text, first, second)
                and not _mentions(between, _result(text, first))
            ):
                add(
                    second.start,
                    f"double pop: {again} of {second.arguments[0]} while the blocks of {pop} "
                    "before it are not used",
                )
        others = [
            (call, other)
            for other in OTHER_POPS
            for call in calls(text, other, span.start, span.end)
        ]
        for call, pop in sorted([*taken, *others]):
            if not _checked(text, span, call, pop):
                add(
                    call.start,
                    f"missing check: what {pop} returns is never looked at for being empty",
                )
        given = sorted(
            (call, push) for push in pushes for call in calls(text, push, span.start, span.end)
        )
        for index, (first, push) in enumerate(given):
            begin, end = _governed(text, first)
            for second, again in given[index + 1 :]:
                if (
                    len(first.arguments) < 3
                    or len(second.arguments) < 3
                    or first.arguments[2] != second.arguments[2]
                ):
                    continue
                between = text[first.end : second.start]
                moved = re.search(rf"\b{re.escape(first.arguments[2])}\s*=[^=]", between)
                if (
                    not moved
                    and not begin <= second.start < end
                    and not _exclusive(text, first, second)
                    and "return" not in between
                ):
                    add(
                        second.start,
                        f"double push: {again} of {second.arguments[2]}, which {push} pushed "
                        "before",
                    )
    return [problem for _, problem in sorted(found, key=lambda pair: pair[0])]


def sources(directory: Path = SOURCES) -> dict[str, str]:
    """File name to text of the C sources; FileNotFoundError where ``lists.h`` is not among them."""
    found = {path.name: path.read_text() for path in sorted(directory.glob("*.[ch]"))}
    if HOME not in found:
        raise FileNotFoundError(
            f"no {HOME} in {directory}: an installed package has no C sources; run this in a "
            "checkout"
        )
    return found


def sites(directory: Path = SOURCES) -> list[Site]:
    """Every site of the sources in ``directory``."""
    texts = sources(directory)
    known = accessors(texts[HOME])
    return [site for name, text in texts.items() for site in sites_of(name, text, known)]


def problems(directory: Path = SOURCES) -> list[SiteProblem]:
    """Everything wrong in the sources in ``directory``."""
    texts = sources(directory)
    known = accessors(texts[HOME])
    return [problem for name, text in texts.items() for problem in problems_of(name, text, known)]


def table(found: list[Site]) -> str:
    """Sites by field, kind and file, with totals; claim-protected kinds are marked."""
    from tabulate import tabulate

    files = sorted({site.file for site in found})
    counts = Counter(
        (site.accessor.field, site.accessor.kind, site.accessor.claimed, site.file)
        for site in found
    )
    rows: list[list[object]] = []
    for field, kind, claimed in sorted({key[:3] for key in counts}):
        row = [counts[field, kind, claimed, file] for file in files]
        rows.append(
            [
                field,
                kind,
                "under the claim" if claimed else "",
                *(count or "" for count in row),
                sum(row),
            ]
        )
    totals = [sum(count for key, count in counts.items() if key[3] == file) for file in files]
    rows.append(["total", "", "", *totals, sum(totals)])
    return str(tabulate(rows, headers=["field", "access", "needs", *files, "total"]))


def main(words: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.sites",
        description="Accesses of the C sources to a slab's lists, used count and claim.",
    )
    parser.add_argument("--sources", type=Path, default=SOURCES, help="directory of the C sources")
    parser.add_argument("--all", action="store_true", help="list every site as well")
    options = parser.parse_args(words)
    try:
        found, wrong = sites(options.sources), problems(options.sources)
    except (FileNotFoundError, ValueError) as error:
        print(f"sites: {error}", file=sys.stderr)
        return 2
    if options.all:
        for site in found:
            mark = "  under the claim" if site.accessor.claimed else ""
            call = site.accessor
            print(
                f"{site.file}:{site.line}: {site.function}: {call.name} ({call.field}, "
                f"{call.kind}){mark}"
            )
        print()
    print(table(found))
    print(
        f"\n{len(found)} sites, {sum(site.accessor.claimed for site in found)} under the claim; "
        f"{len(wrong)} problems"
    )
    for problem in wrong:
        print(problem)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
