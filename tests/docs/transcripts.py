"""Transcripts of README.md and docs/: read, run again, compared.

A transcript is a fenced block of Markdown whose first word is ``console`` or ``pycon``.

- ``console``: ``$ COMMAND`` and what it prints, stdout and stderr. All of a page go through one
  bash, in a folder with a link to ``docs`` and with the ``hakmem`` under test in PATH; so ``$!``
  and files last from block to block.
- ``pycon``: ``>>>`` and ``...`` as the prompt shows them, all of a page in one interpreter. Of an
  exception its last line stands. Numbers must be the same, unless the fence says ``pycon figures``.

What is not compared (`plain`): addresses, unit numbers, the widths of columns, where a text's lines
are broken, and, in ``console`` and ``figures``, each number with the size of its unit. A line
``[...]`` stands for any lines. The folder of the ``hakmem`` under test is shown as `BIN`.
``python -m tests.docs.regenerate`` writes what is printed today into the pages.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CASES: Final = {"redis": "redis-server", "node": "node"}
"""Pages of docs/cases/ that are run where their program is present."""
ELLIPSIS: Final = "[...]"
FENCE: Final = re.compile(r"^```(console|pycon)( figures)?$")
BIN: Final = "/srv/app/.venv/bin"
HERE: Final = str(Path(sys.executable).parent)


@dataclass
class Step:
    """One command of a page: its source, what the page says that it prints, and where that is."""

    kind: str
    source: str
    expected: list[str]
    first: int
    """The index of the first line of what it prints, from 0."""
    figures: bool
    said: list[str] = field(default_factory=list)


def steps_of(text: str) -> list[Step]:
    """Every step of a page, in order."""
    steps: list[Step] = []
    kind, figures = "", False
    for index, line in enumerate(text.splitlines()):
        if not kind:
            if found := FENCE.fullmatch(line):
                kind, figures = found[1], bool(found[2]) or found[1] == "console"
        elif line == "```":
            kind = ""
        elif line.startswith("$ " if kind == "console" else ">>> "):
            source = line.split(" ", 1)[1]
            steps.append(Step(kind, source, [], index + 1, figures))
        elif kind == "pycon" and (line == "..." or line.startswith("... ")):
            steps[-1].source += "\n" + line[4:]
            steps[-1].first = index + 1
        elif kind == "console" and steps[-1].source.endswith("\\") and not steps[-1].expected:
            steps[-1].source += "\n" + line
            steps[-1].first = index + 1
        else:
            steps[-1].expected.append(line)
    return steps


# ---- running -------------------------------------------------------------------------------------


class Shell:
    """One bash for all commands of a page."""

    def __init__(self, folder: Path) -> None:
        variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("HAKMEM_") and name not in ("LD_PRELOAD", "PYTHONMALLOC")
        }
        variables["PATH"] = os.pathsep.join([HERE, os.environ["PATH"]])
        self._bash = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=folder,
            env=variables | {"COLUMNS": "100"},
            start_new_session=True,
        )

    def run(self, command: str) -> list[str]:
        """What a command prints."""
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\necho; echo {END}\n")
        self._bash.stdin.flush()
        lines: list[str] = []
        for line in self._bash.stdout:
            if line.rstrip("\n") == END:
                break
            lines.append(line.rstrip("\n"))
        return trimmed(lines)

    def close(self) -> None:
        """Ends the shell and all that it started."""
        _end(self._bash)


END: Final = "-- end of the step --"


def trimmed(lines: list[str]) -> list[str]:
    """Lines without blanks at their ends and at the end of all."""
    kept = [line.rstrip().replace(HERE, BIN) for line in lines]
    while kept and not kept[-1]:
        kept.pop()
    return kept


class Prompt:
    """One interpreter for all inputs of a page; started with the first."""

    def __init__(self, folder: Path) -> None:
        code = (
            "import json, sys; from tests.docs.transcripts import run_python; names = {}; out = "
            "sys.stdout\nfor line in sys.stdin: print(json.dumps(run_python(json.loads(line), "
            "names)), file=out, flush=True)"
        )
        path = os.pathsep.join([HERE, os.environ["PATH"]])
        variables = {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
        self._python = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | variables,
            start_new_session=True,
        )

    def run(self, source: str) -> list[str]:
        """What an input prints."""
        assert self._python.stdin is not None and self._python.stdout is not None
        self._python.stdin.write(json.dumps(source) + "\n")
        self._python.stdin.flush()
        said: list[str] = json.loads(self._python.stdout.readline())
        return said

    def close(self) -> None:
        """Ends the interpreter and all that it started."""
        _end(self._python)


def _end(leader: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.communicate()


def run_python(source: str, names: dict[str, object]) -> list[str]:
    """What one input at the prompt prints; an exception's last line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(source + "\n", "<page>", "single"), names)
        except Exception as error:
            print(traceback.format_exception_only(error)[-1], end="")
    return trimmed(out.getvalue().splitlines())


def run_page(text: str, folder: Path) -> list[Step]:
    """Runs a page's steps in a folder; each step says what it printed."""
    (folder / "docs").symlink_to(ROOT / "docs")
    steps, shell, prompt = steps_of(text), Shell(folder), Prompt(folder)
    try:
        for step in steps:
            step.said = (shell if step.kind == "console" else prompt).run(step.source)
    finally:
        shell.close()
        prompt.close()
    return steps


# ---- comparing -----------------------------------------------------------------------------------


def plain(line: str, figures: bool) -> str:
    """A line as it is compared.

    >>> plain("slab at  0x7fa318620000, 12 blocks", False)
    'slab at ADDRESS, 12 blocks'
    >>> plain("27.5 MiB in 1,789 slabs  +3.1%", True)
    'N in N slabs N'
    """
    line = re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", line)
    line = re.sub(r"\bunit [\d,]+", "unit N", line)
    if figures:
        line = re.sub(r"^( *[\d,]+ +)[#.corp-]+$", r"\1LETTERS", line)
        line = re.sub(r"[-+]?\b\d[\d,]*(\.\d+)?( ?([KMG]iB|B|ms|µs|ns|s|%))?(?!\w)", "N", line)
    return re.sub(r"-{3,}", "--", " ".join(line.split()))


def matches(step: Step) -> bool:
    """Whether what a step printed is what its page says, line by line or as one text."""
    return aligned(step) is not None or _flows(step)


def _flows(step: Step) -> bool:
    """Whether it is the same text, with its lines broken elsewhere."""

    def one(lines: list[str]) -> str:
        return " ".join(plain(" ".join(lines), step.figures).split())

    parts: list[list[str]] = [[]]
    for line in trimmed(step.expected):
        if line.strip() == ELLIPSIS:
            parts.append([])
        else:
            parts[-1].append(line)
    wanted = ".*".join(re.escape(one(part)) for part in parts)
    return re.fullmatch(wanted, one(step.said), re.DOTALL) is not None


def aligned(step: Step) -> list[str] | None:
    """The page's lines with those printed in their place; None where they are others."""
    said = [plain(line, step.figures) for line in step.said]
    expected = trimmed(step.expected)
    made: list[str] = []
    at, skipping = 0, False
    for line in expected:
        if line.strip() == ELLIPSIS:
            made.append(line)
            skipping = True
            continue
        wanted = plain(line, step.figures)
        while skipping and at < len(said) and said[at] != wanted:
            at += 1
        if at == len(said) or said[at] != wanted:
            return None
        made.append(step.said[at])
        at, skipping = at + 1, False
    if at < len(said) and not skipping:
        return None
    return made


def differences(steps: list[Step]) -> Iterator[str]:
    """What to say of each step that printed something else."""
    for step in steps:
        if not matches(step):
            head = f"line {step.first}: {step.source}"
            yield "\n".join([head, "the page:", *step.expected, "printed:", *step.said, ""])


def rewritten(text: str, steps: list[Step]) -> str:
    """The page with what its steps printed; elided lines stay so where the rest is as before, and
    a text that is only broken elsewhere stays whole."""
    lines = text.splitlines()
    for step in reversed(steps):
        made = aligned(step) or (step.expected if _flows(step) else None)
        lines[step.first : step.first + len(step.expected)] = step.said if made is None else made
    return "\n".join(lines) + "\n"
