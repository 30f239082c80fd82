"""``python -m tools.rooms``: the plan of the Python code — rooms, who imports whom, and what breaks
the order.

A room is a folder of ``hakmem/``, a file that stands alone there, or all of ``tools``, ``bench``,
``tests``. An arrow says that one room imports
another; it is *run-time* when Python follows it, at import or inside a function, and *type only*
under ``if TYPE_CHECKING``. A run-time arrow may point down only (`ROOMS`), and files may not import
each other in a circle; `tests/tools/test_rooms.py` holds both, and `EXCEPTIONS` names what is left.

``--at REVISION`` draws the plan of another commit. Rooms that `ROOMS` does not know, as old commits
have, are put where the fewest arrows point upward.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = ("hakmem/", "tools/", "bench/", "tests/")

ROOMS: Final = (
    "hakmem/text.py",
    "hakmem/errors.py",
    "hakmem/layout.py",
    "hakmem/arguments.py",
    "hakmem/traces",
    "hakmem/generate",
    "hakmem/system",
    "hakmem/policy",
    "hakmem/registry.py",
    "hakmem/clib",
    "hakmem/engines",
    "hakmem/plane",
    "hakmem/views/reading",
    "hakmem/views/showing",
    "hakmem/profiles",
    "hakmem/symbols",
    "hakmem/views/parts",
    "hakmem/views/checks",
    "hakmem/views/files",
    "hakmem/views/sites",
    "hakmem/views/answers",
    "hakmem/views/pictures",
    "hakmem/views",
    "hakmem/heap",
    "hakmem/outside",
    "hakmem/gdb",
    "hakmem",
    "tools",
    "bench",
    "hakmem/cli",
    "tests",
)
"""Every room, lowest first: a room imports those before it. ``hakmem`` is what a program sees
(``hakmem.Heap``); ``hakmem/cli`` stands so high since ``hakmem bench`` runs the benchmark."""

RUN_ALONE: Final = "python hakmem/layout.py prints the header, layout.describe() the tables"
VERSION: Final = "a description names the package's version, which stands where packaging wants it"
EXCEPTIONS: Final[Mapping[tuple[str, str], str]] = {
    ("hakmem/layout.py", "hakmem/generate/header.py"): RUN_ALONE,
    ("hakmem/layout.py", "hakmem/generate/description.py"): RUN_ALONE,
    ("hakmem/layout.py", "hakmem/generate/describe.py"): RUN_ALONE,
    ("hakmem/generate/description.py", "hakmem/__init__.py"): VERSION,
}
"""Imports upward or in a circle that must be, with the reason: by importing file or room, and
imported file."""

Kind = Literal["import", "late", "type"]


class Import(NamedTuple):
    """One import of one file by another. ``kind``: at ``import``, ``late`` (inside a function), or
    for the ``type`` checker only."""

    importer: str
    imported: str
    kind: Kind
    line: int

    @property
    def running(self) -> bool:
        """Whether Python follows it."""
        return self.kind != "type"

    @property
    def exception(self) -> tuple[str, str] | None:
        """The entry of `EXCEPTIONS` that allows it to point upward."""
        names = (self.importer, self.imported), (room_of(self.importer), self.imported)
        return next((name for name in names if name in EXCEPTIONS), None)


@dataclass(frozen=True)
class Plan:
    """The files of a commit and their imports of each other."""

    lines: Mapping[str, int]
    """Lines by file."""
    imports: tuple[Import, ...]

    @property
    def rooms(self) -> list[str]:
        """Its rooms, lowest first."""
        present = {room_of(file) for file in self.lines}
        return [room for room in ROOMS if room in present] if present <= {*ROOMS} else self._sorted

    @property
    def _sorted(self) -> list[str]:
        """The rooms, lowest first: the next is always the one with the fewest imports of the rooms
        that are left."""
        arrows = {pair for pair, kinds in self.arrows().items() if kinds["import"] or kinds["late"]}
        left, order = {room_of(file) for file in self.lines}, list[str]()
        while left:
            room = min(
                left,
                key=lambda room: (
                    sum(a == room and b in left for a, b in arrows),
                    -sum(b == room and a in left for a, b in arrows),
                    room,
                ),
            )
            left.remove(room)
            order.append(room)
        return order

    def arrows(self) -> dict[tuple[str, str], Counter[Kind]]:
        """From room to room: how many imports of each kind."""
        found: dict[tuple[str, str], Counter[Kind]] = {}
        for item in self.imports:
            pair = room_of(item.importer), room_of(item.imported)
            if pair[0] != pair[1]:
                found.setdefault(pair, Counter())[item.kind] += 1
        return found

    def without_exceptions(self) -> Plan:
        """The plan as if the imports that `EXCEPTIONS` allows were not there."""
        return Plan(self.lines, tuple(item for item in self.imports if item.exception is None))

    def upward(self, *, running: bool = True) -> list[Import]:
        """Imports of a higher room: those that run, or those of types only."""
        rank = {room: place for place, room in enumerate(self.rooms)}
        return [
            item
            for item in self.imports
            if item.running == running
            and rank[room_of(item.importer)] < rank[room_of(item.imported)]
        ]

    def circles(self, *, running: bool = True) -> list[list[str]]:
        """Files that import each other, directly or through others; with imports of types when not
        ``running``."""
        edges: dict[str, set[str]] = {file: set() for file in self.lines}
        for item in self.imports:
            if item.running or not running:
                edges[item.importer].add(item.imported)
        reached = {file: set(_reach(edges, file)) for file in edges}
        circles = {
            tuple(sorted({file} | {other for other in reached[file] if file in reached[other]}))
            for file in edges
            if file in reached[file]
        }
        return sorted([*circle] for circle in circles)


def _reach(edges: Mapping[str, Iterable[str]], start: str) -> Iterator[str]:
    waiting, seen = list(edges[start]), set[str]()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            yield file
            waiting += edges[file]


def room_of(file: str) -> str:
    """The room of a file.

    >>> room_of("hakmem/views/parts/slabs.py"), room_of("hakmem/layout.py")
    ('hakmem/views/parts', 'hakmem/layout.py')
    >>> room_of("hakmem/__init__.py"), room_of("hakmem/__main__.py"), room_of("bench/programs/a.py")
    ('hakmem', 'hakmem/cli', 'bench')
    """
    folder, _, name = file.rpartition("/")
    if not folder.startswith("hakmem"):
        return folder.partition("/")[0]
    if name == "__main__.py":
        return "hakmem/cli"
    return file if folder == "hakmem" and name != "__init__.py" else folder


def _may_hold_imports(node: ast.AST) -> bool:
    """Whether a node is no expression: most nodes are, and an import stands in none of them."""
    return isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case)


def _imports(file: str, text: str, files: Iterable[str]) -> Iterator[Import]:
    """The imports of other ``files`` in a file's text, one for each file, kind and line."""
    known = set(files)

    def file_of(dotted: list[str]) -> str | None:
        path = "/".join(dotted)
        return next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in known), None)

    def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str | None]:
        if isinstance(node, ast.Import):
            yield from (file_of(alias.name.split(".")) for alias in node.names)
            return
        base = file.split("/")[: -node.level] if node.level else []
        base = base + (node.module.split(".") if node.module else [])
        yield from (file_of([*base, alias.name]) or file_of(base) for alias in node.names)

    def walk(nodes: Iterable[ast.AST], kind: Kind) -> Iterator[Import]:
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for target in targets(node):
                    if target is not None and target != file:
                        yield Import(file, target, kind, node.lineno)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from walk(node.body, "type")
                yield from walk(node.orelse, kind)
            else:
                inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                late: Kind = "late" if inner and kind == "import" else kind
                yield from walk(filter(_may_hold_imports, ast.iter_child_nodes(node)), late)

    yield from dict.fromkeys(walk(ast.parse(text).body, "import"))


def read_plan(revision: str | None = None) -> Plan:
    """The plan of the work tree, or of a commit. Raises SystemExit for a commit that git does not
    know."""
    texts: dict[str, str] = {}
    if revision is None:
        for folder in FOLDERS:
            for path in sorted((ROOT / folder).rglob("*.py")):
                texts[path.relative_to(ROOT).as_posix()] = path.read_text()
        return plan_of(texts)
    done = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True)
    if done.returncode:
        raise SystemExit(f"git archive {revision}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            if member.name.startswith(FOLDERS) and member.name.endswith(".py"):
                file = archive.extractfile(member)
                assert file is not None
                texts[member.name] = file.read().decode()
    return plan_of(texts)


def plan_of(texts: Mapping[str, str]) -> Plan:
    """The plan of files, given as text by path."""
    imports = [item for name, text in texts.items() for item in _imports(name, text, texts)]
    return Plan({name: text.count("\n") for name, text in texts.items()}, tuple(imports))


def describe(plan: Plan) -> str:
    """The plan for people: a line a room, then what breaks the order."""
    pairs = plan.arrows()
    running = sum(1 for kinds in pairs.values() if kinds["import"] or kinds["late"])
    late = sum(item.kind == "late" for item in plan.imports)
    circles = plan.circles()
    more = [circle for circle in plan.circles(running=False) if circle not in circles]
    return "\n".join(
        [
            f"{'room, lowest first':<24} files  lines  imports (run-time; [n] of types only)",
            *(_room(plan, room) for room in plan.rooms),
            "",
            f"{len(plan.lines)} files in {len(plan.rooms)} rooms; {running} arrows between rooms, "
            f"and {len(pairs) - running} of types only; {late} imports inside functions",
            *_upward("imports upward", plan.upward()),
            *_upward("imports upward, of types only", plan.upward(running=False)),
            *_circles("circles between files", circles),
            *_circles("circles that types close", more),
        ]
    )


def _room(plan: Plan, room: str) -> str:
    """A room's line: files, lines, and the imports of other rooms; ↑ marks a higher one."""
    arrows, rooms = plan.arrows(), plan.rooms
    uses = []
    for other in rooms:
        kinds = arrows.get((room, other), Counter())
        running = kinds["import"] + kinds["late"]
        counts = f"{running or ''}" + (f"[{kinds['type']}]" if kinds["type"] else "")
        if counts:
            mark = "↑" if rooms.index(other) > rooms.index(room) else ""
            uses.append(f"{mark}{other.removeprefix('hakmem/')} {counts}")
    lines = [count for file, count in plan.lines.items() if room_of(file) == room]
    return f"{room:<24} {len(lines):>5} {sum(lines):>6}  {', '.join(uses)}".rstrip()


def _upward(title: str, items: list[Import]) -> Iterator[str]:
    arrows = {(room_of(item.importer), room_of(item.imported)) for item in items}
    yield f"{title}: {len(items)}, in {len(arrows)} arrows" if items else f"{title}: none"
    for item in items:
        reason = f": {EXCEPTIONS[item.exception]}" if item.exception else ""
        yield f"  {item.importer}:{item.line} -> {item.imported}{reason}"


def _circles(title: str, circles: list[list[str]]) -> Iterator[str]:
    yield f"{title}: {len(circles) or 'none'}"
    yield from (f"  {' <-> '.join(circle)}" for circle in circles)


def main(arguments: list[str] | None = None) -> None:
    """Print a plan."""
    parser = argparse.ArgumentParser(prog="python -m tools.rooms", description=__doc__)
    parser.add_argument("--at", metavar="REVISION", help="a commit instead of the work tree")
    print(describe(read_plan(parser.parse_args(arguments).at)))


if __name__ == "__main__":
    main()
