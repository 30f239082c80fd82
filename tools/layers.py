"""``python -m tools.layers``: the layers of the C sources, and who calls whom.

The layers, and the calls upward that must be, stand in the top comment of ``hak_internal.h``: a
file calls into those above its own line only. The calls are found lexically: a file calls another
when one of its functions or macros names a function or macro that the other defines for all.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from .ctext import blank, functions, line_of, without_directives

SOURCES: Final = Path(__file__).resolve().parents[1] / "hakmem/native"
MAP: Final = "hak_internal.h"
GENERATED: Final = ("hak_layout.h",)

_FILES: Final = r"\w+\.(?:\[hc\]|h|c)"
_LAYER: Final = re.compile(rf"^ \* +(\d+)  ({_FILES}(?: {_FILES})*) +(\S.*)$", re.M)
_UPWARD: Final = re.compile(r"^ \*   (\w+\.[hc]) (\w+) +(\S.*)$", re.M)
_MACRO: Final = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)\(((?:[^\n]*\\\n)*[^\n]*)", re.M)
_STATIC: Final = re.compile(r"\bstatic\b[^;{}]*\Z")
_NAME: Final = re.compile(r"\b\w+\b")


class Layer(NamedTuple):
    """A line of the map."""

    number: int
    """As written."""
    files: tuple[str, ...]
    """Sources and headers."""
    concern: str
    """What the files are for."""


class Call(NamedTuple):
    """One function of a file that calls one of another."""

    file: str
    """File of the caller."""
    line: int
    """Where the caller's body begins, from 1."""
    caller: str
    """Function or macro."""
    callee: str
    """Function or macro."""
    callee_file: str
    """File that defines the callee."""


def read_layers(text: str) -> list[Layer]:
    """The layers that a text of ``hak_internal.h`` states, lowest first."""
    layers = []
    for number, names, concern in _LAYER.findall(text):
        files = re.sub(r"(\w+)\.\[hc\]", r"\1.h \1.c", names).split()
        layers.append(Layer(int(number), tuple(files), concern))
    return layers


def read_upward(text: str) -> dict[tuple[str, str], str]:
    """The calls upward that a text of ``hak_internal.h`` allows: file and callee to the reason."""
    return {(file, callee): reason for file, callee, reason in _UPWARD.findall(text)}


def _bodies(name: str, text: str) -> Iterator[tuple[str, int, str, bool]]:
    """Functions and macros with parameters of a file: name, line, body, whether others may call
    it."""
    plain = blank(text)
    for macro in _MACRO.finditer(plain):
        yield macro[1], line_of(plain, macro.start()), macro[2], name.endswith(".h")
    code = without_directives(plain)
    for found in functions(code):
        own = name.endswith(".c") and _STATIC.search(code[: found.start])
        yield found.name, line_of(code, found.start), code[found.start : found.end], not own


def calls_between(texts: Mapping[str, str]) -> list[Call]:
    """Every call of one file's function by another file's, in order."""
    bodies = {name: list(_bodies(name, text)) for name, text in texts.items()}
    home = {
        function: name
        for name, found in bodies.items()
        for function, _, _, public in found
        if public
    }
    made: dict[Call, None] = {}
    for name, found in bodies.items():
        mine = {function for function, *_ in found}
        for caller, line, body, _ in found:
            for callee in _NAME.findall(body):
                where = home.get(callee, name)
                if where != name and callee not in mine:
                    made[Call(name, line, caller, callee, where)] = None
    return list(made)


def read_sources(directory: Path = SOURCES) -> dict[str, str]:
    """The C sources by name. Raises FileNotFoundError where the map is not among them."""
    texts = {path.name: path.read_text() for path in sorted(directory.glob("*.[ch]"))}
    if MAP not in texts:
        raise FileNotFoundError(f"no {MAP} in {directory}: run this in a checkout")
    return texts


def problems(texts: Mapping[str, str]) -> list[str]:
    """What is wrong with the layers of these sources, a line each."""
    layers, allowed = read_layers(texts[MAP]), read_upward(texts[MAP])
    place = {file: n for n, layer in enumerate(layers) for file in layer.files}
    found = [
        f"{MAP}: layer {layer.number} should be number {n}"
        for n, layer in enumerate(layers, 1)
        if layer.number != n
    ]
    found += [f"{name}: in no layer of {MAP}" for name in texts if name not in place]
    found += [f"{MAP}: {file} is a layer and no file" for file in place if file not in texts]
    used: set[tuple[str, str]] = set()
    for call in calls_between(texts):
        if place.get(call.file, 0) >= place.get(call.callee_file, 0):
            continue
        if (call.file, call.callee) in allowed:
            used.add((call.file, call.callee))
            continue
        found.append(
            f"{call.file}:{call.line}: {call.caller} calls {call.callee} upward, of "
            f"{call.callee_file}: move one of them, or give the reason in {MAP}"
        )
    found += [
        f"{MAP}: no call of {callee} by {file} is left: take it out of the calls upward"
        for file, callee in allowed
        if (file, callee) not in used
    ]
    return found


def table(texts: Mapping[str, str]) -> str:
    """The layers, with the files that each calls."""
    from tabulate import tabulate

    layers = read_layers(texts[MAP])
    place = {file: n for n, layer in enumerate(layers) for file in layer.files}
    called: dict[int, set[int]] = {}
    for call in calls_between(texts):
        if call.file in place and call.callee_file in place:
            called.setdefault(place[call.file], set()).add(place[call.callee_file])
    rows = [
        (
            layer.number,
            " ".join(layer.files),
            layer.concern,
            " ".join(str(other + 1) for other in sorted(called.get(n, set()) - {n})),
        )
        for n, layer in enumerate(layers)
    ]
    return tabulate(rows, headers=["layer", "files", "concern", "calls layers"])


def main(words: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.layers", description=__doc__)
    parser.add_argument("--sources", type=Path, default=SOURCES, help="directory of the C sources")
    options = parser.parse_args(words)
    try:
        texts = read_sources(options.sources)
    except FileNotFoundError as error:
        print(f"layers: {error}", file=sys.stderr)
        return 2
    print(table(texts))
    print()
    for (file, callee), reason in read_upward(texts[MAP]).items():
        print(f"upward: {file} calls {callee}: {reason}")
    wrong = problems(texts)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
