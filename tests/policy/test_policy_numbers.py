"""A policy number is one row of the layout: what follows from it, shown by adding one; its bounds,
its message and its help."""

from __future__ import annotations

import pydoc
import shutil
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import policy_runs
import pytest

import hakmem
from hakmem import Policy, PolicyError, layout
from hakmem.policy import numbers

ROOT = Path(hakmem.__file__).resolve().parent.parent

PARTS: dict[str, Any] = {
    "headers": hakmem.HeaderCodec,
    "arenas": hakmem.ArenaGrowth,
    "caches": hakmem.CachePolicy,
    "acquire": hakmem.AcquirePolicy,
    "retain": hakmem.RetainPolicy,
    "profile": hakmem.ProfilePolicy,
}
ROWS = [
    (part, name, number)
    for part, kind in PARTS.items()
    for name, number in layout.numbers_of(kind).items()
]

ROW = """
    nap_ms: int = _number("u32", "ms", (2, 500), "pause before a purge", default=20,
        variable=Variable("HAKMEM_NAP_MS", "pause before a purge, ms", 2, 500))
"""

ADDED = """
import hakmem
from hakmem import Policy, PolicyError, RetainPolicy, layout
from hakmem.policy import emit, environment

assert RetainPolicy().nap_ms == 20 and "Pause before a purge. In ms; default 20" in (
    RetainPolicy.nap_ms.__objclass__.__slots__["nap_ms"])
try:
    RetainPolicy(nap_ms=1)
except PolicyError as error:
    assert str(error) == (
        "policy field retain.nap_ms = 1: allowed is a whole number from 2 to 500; "
        "choose a value in that range"
    )
else:
    raise AssertionError("out of range, and accepted")
assert Policy.from_environment({"HAKMEM_NAP_MS": "7"}).retain.nap_ms == 7
changed = Policy.from_toml("[retain]\\nnap_ms = 9")
assert Policy.from_image(changed.image()).retain.nap_ms == 9
assert changed.image() != Policy.default().image()
assert "| `HAKMEM_NAP_MS` | 20 | 2 to 500 | pause before a purge, ms |" in environment.markdown()
bound = layout.BOUND["retain.nap_ms"]
assert (bound.low, bound.high) == (2, 500)
source = emit.policy_source()
assert '{"retain.nap_ms", ' in source and '{"HAKMEM_NAP_MS", ' in source
"""

OBEYED = """
#include "hak_layout.h"
uint32_t nap(const hak_policy *policy);
uint32_t nap(const hak_policy *policy) { return policy->retain.nap_ms; }
"""


def test_a_new_number_is_one_row(tmp_path: Path) -> None:
    """The row is added to a copy of the package: object, image, bound, variable, TOML and C header
    have it, and nothing else was edited."""
    shutil.copytree(
        ROOT / "hakmem",
        tmp_path / "hakmem",
        ignore=shutil.ignore_patterns("native", "views", "__pycache__", "*.so"),
    )
    place = tmp_path / "hakmem" / "layout.py"
    text = place.read_text()
    head, mark, tail = text.partition('    """The numbers of `hakmem.RetainPolicy`."""\n')
    assert mark
    rows, mark, rest = tail.partition("\n\n\n@dataclass")
    assert mark
    place.write_text(
        head + '    """The numbers of `hakmem.RetainPolicy`."""\n' + rows + ROW + mark + rest
    )
    alone = [sys.executable, "-I", "-S", "-B"]
    source = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{ADDED}"
    done = subprocess.run([*alone, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = subprocess.run([*alone, str(place)], capture_output=True, text=True)
    (tmp_path / "hak_layout.h").write_text(printed.stdout)
    policy_runs.compile_c(OBEYED, f"-c -Wall -Werror -I{tmp_path}", tmp_path / "nap.o")


@pytest.mark.parametrize(("part", "name", "number"), ROWS, ids=[f"{p}.{n}" for p, n, _ in ROWS])
def test_a_number_is_held_to_its_row(part: str, name: str, number: layout.Number) -> None:
    """Both bounds are accepted, what is next to them is not, and the message names field, value,
    allowed range and what to do."""
    kind = PARTS[part]
    inside: list[object] = [number.low, number.high]
    outside: list[object] = [number.low - 1, number.high + 1, True, 1.0, "1", None]
    if number.choices:
        inside, outside = list(number.choices), [0, "other", None]
    elif number.unit == "bool":
        inside, outside = [True, False], [0, 1, 2, None]
    elif number.power_of_two:
        inside, outside = [0, 1, 2, number.high], [3, number.high * 2, -1, True]
    for value in inside:
        numbers.check_number(f"{part}.{name}", value, number)
    for value in outside:
        with pytest.raises(PolicyError) as caught:
            kind(**{name: value})
        said = str(caught.value)
        assert said.startswith(f"policy field {part}.{name} = {value!r}: allowed is ")
        assert said.count("; ") == 1 and numbers.allowed(number) in said


def test_a_row_of_a_class_is_held_to_its_bounds() -> None:
    sizes = Policy.default().size_classes
    row = hakmem.CachePolicy().class_cache(sizes, 3)
    for name, number in layout.numbers_of(hakmem.ClassCache).items():
        values = {item.name: getattr(row, item.name) for item in fields(row)}
        bad = hakmem.ClassCache(**values | {name: number.high + 1})
        with pytest.raises(PolicyError, match=rf"caches.classes\[3\].{name} = {number.high + 1}"):
            hakmem.CachePolicy(classes=((3, bad),))


@pytest.mark.parametrize("part", PARTS)
def test_help_tells_every_number(part: str) -> None:
    """Meaning, unit, default, allowed values; the variable where there is one."""
    shown = pydoc.render_doc(PARTS[part], renderer=pydoc.plaintext)
    told = dict(pairwise(line.strip(" |") for line in shown.splitlines()))
    for name, number in layout.numbers_of(PARTS[part]).items():
        text = told[name]
        assert text.lower().startswith(number.meaning.lower()) and numbers.allowed(number) in text
        assert f"efault {getattr(PARTS[part](), name)!r}" in text
        assert number.variable is None or number.variable.name in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (hakmem.Policy, {"retain": "RetainPolicy", "size_classes": "SizeClassMap"}),
        (hakmem.CachePolicy, {"classes": "ClassCache"}),
        (hakmem.AcquirePolicy, {"order": "Stage.GROW last"}),
        (hakmem.SizeClass, {"stride_bytes": "In bytes", "unit_count": "64 KiB", "band": "tiny"}),
    ],
)
def test_help_tells_what_is_no_number(kind: Any, words: dict[str, str]) -> None:
    shown = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    told = dict(pairwise(line.strip(" |") for line in shown.splitlines()))
    for name, word in words.items():
        assert word in told[name]
