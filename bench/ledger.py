"""The ledger of the fast path: what each instruction of a malloc and a free is for.

``ledger.toml`` lists the instructions of both in their order, each with its purpose. ``check``
compares it with the disassembly of a library, so that it is never about another build: what one
more feature costs is one more line there. Registers are written by their width and distances to a
field as ``d``: another register or another layout is no other instruction.

The fast path is what runs from the first instruction to the first return with no conditional jump
taken; every conditional jump leaves for a slow path.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import ROOT, BenchError
from bench.driver import path_shown

LEDGER = ROOT / "bench" / "ledger.toml"
FUNCTIONS = ("malloc", "free")
CANDIDATE = ("what", "instructions", "time", "accepted", "why")
_LINE = re.compile(r"^\s*[0-9a-f]+:\s+(\S.*)$")
_WIDTHS = (
    (re.compile(r"%(?:[abcd]l|[sd]il|[sb]pl|r\d+b)\b"), "r8"),
    (re.compile(r"%(?:e[a-ds][xip]|r\d+d)\b"), "r32"),
    (re.compile(r"%r(?:[a-d]x|[sd]i|[sb]p|\d+)\b"), "r64"),
)


@dataclass(frozen=True, slots=True)
class Ledger:
    """``compiler`` and ``arch``: whose instructions they are. ``purposes``: a sentence by name.
    ``spent``: for each function its instructions in their order, with the name of the purpose.
    ``candidates``: what was measured to go in or to come out, and whether it did, by column."""

    compiler: str
    arch: str
    purposes: Mapping[str, str]
    spent: Mapping[str, tuple[tuple[str, str], ...]]
    candidates: tuple[Mapping[str, str], ...]

    def count(self, function: str) -> int:
        """The instructions of one function."""
        return len(self.spent[function])

    def by_purpose(self) -> dict[str, tuple[int, ...]]:
        """How many each purpose takes of each of ``FUNCTIONS``."""
        return {
            name: tuple(
                sum(purpose == name for _, purpose in self.spent[function])
                for function in FUNCTIONS
            )
            for name in self.purposes
        }


def load(path: Path = LEDGER) -> Ledger:
    """Read a ledger. Raises BenchError for one that names a purpose it does not explain, or
    explains one that nothing has."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        spent = {
            name: tuple((str(shape), str(purpose)) for shape, purpose in document[name])
            for name in FUNCTIONS
        }
        candidates = tuple(
            {column: _shown(candidate[column]) for column in CANDIDATE}
            for candidate in document["candidates"]
        )
        found = Ledger(
            document["compiler"], document["arch"], document["purposes"], spent, candidates
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path_shown(path)}: not a ledger: {error}") from None
    named = {purpose for lines in spent.values() for _, purpose in lines}
    for name in sorted(named ^ set(found.purposes)):
        what = "has no instruction" if name in found.purposes else "is not explained"
        raise BenchError(f"{path_shown(path)}: the purpose {name!r} {what}")
    return found


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def shape_of(instruction: str) -> str:
    """An instruction without the choice of registers, the distance of a field, the place of a
    jump.

    >>> shape_of("mov    0x1c0(%rdx),%rax")
    'mov d(r64),r64'
    >>> shape_of("jae    f5b8 <free+0x78>")
    'jae slow'
    >>> shape_of("and    $0xffffff00,%edx")
    'and $0xffffff00,r32'
    """
    text = " ".join(instruction.partition("#")[0].split())
    if text.startswith("j"):
        return f"{text.split()[0]} slow"
    for pattern, width in _WIDTHS:
        text = pattern.sub(width, text)
    return re.sub(r"(?<![$\w])-?0x[0-9a-f]+\(", "d(", text)


def fast_path(listing: str, function: str) -> list[str]:
    """The shapes of a function's fast path, out of objdump's listing of it. Raises BenchError where
    there is no such function or its first way ends in no return."""
    _, found, body = listing.partition(f"<{function}>:\n")
    shapes: list[str] = []
    for line in body.splitlines() if found else []:
        match = _LINE.match(line)
        if match is None:
            break
        shapes.append(shape_of(match.group(1)))
        if shapes[-1].split()[0] in ("ret", "retq", "repz"):
            return shapes
        if shapes[-1] == "jmp slow":
            break
    raise BenchError(f"the disassembly has no fast path of {function} that ends in a return")


def disassemble(library: Path, function: str) -> str:
    """objdump's listing of one function. Raises BenchError without objdump."""
    tool = shutil.which("objdump")
    if tool is None:
        raise BenchError(
            "the ledger needs objdump (binutils; Debian, Ubuntu: apt-get install binutils)"
        )
    command = [tool, "-d", "--no-show-raw-insn", f"--disassemble={function}", str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def check(ledger: Ledger, library: Path) -> list[str]:
    """Where a library's fast path is another than the ledger says, a line for each function."""
    return [
        line
        for function in FUNCTIONS
        if (
            line := difference(
                ledger, function, fast_path(disassemble(library, function), function)
            )
        )
    ]


def account(library: Path, counted: Mapping[str, float]) -> tuple[str, list[str]]:
    """The ledger as a table, and what disagrees with it: the library's code, or what was
    counted."""
    from bench.report import table  # needs tabulate, which the ledger itself does not

    book = load()
    body = [
        [name, *(f"{count or '-'}" for count in counts), book.purposes[name]]
        for name, counts in book.by_purpose().items()
    ]
    body.append(["in all", *(str(book.count(name)) for name in FUNCTIONS), ""])
    text = table(body, ["the pair, by purpose", *FUNCTIONS, "what for"])
    told = CANDIDATE[:-1]  # why stands in the ledger
    measured = table([[item[column] for column in told] for item in book.candidates], list(told))
    return f"{text}\n\n{measured}", [*check(book, library), *check_counts(book, counted)]


def check_counts(ledger: Ledger, counted: Mapping[str, float]) -> list[str]:
    """Where what callgrind counted is not as many as the ledger lists, a line each."""
    return [
        f"ledger: {name} has {ledger.count(name)} instructions accounted for, {count:g} were "
        "counted"
        for name, count in counted.items()
        if count != ledger.count(name)
    ]


def difference(ledger: Ledger, function: str, found: list[str]) -> str | None:
    """The first instruction that differs, with what to do; None when none does."""
    lines = ledger.spent[function]
    kept = [shape for shape, _ in lines]
    if kept == found:
        return None
    at = next(
        (i for i, (then, now) in enumerate(zip(kept, found, strict=False)) if then != now),
        min(len(kept), len(found)),
    )
    then = f"{kept[at]} ({lines[at][1]})" if at < len(kept) else "no more"
    now = found[at] if at < len(found) else "no more"
    return (
        f"ledger: {function} has {len(found)} instructions, {len(kept)} are accounted for; the "
        f"first that differs is number {at + 1}: {now}, accounted {then}; say in "
        f"{path_shown(LEDGER)} what each is for"
    )
