"""The library as another version might have it: its layout edited, its C compiled anew."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import hakmem
from tests.support.programs import compiled

PACKAGE: Final = Path(hakmem.__file__).resolve().parent
Edit = tuple[str, str]

RENAMED: Final = {
    "lock_wait_count": "lock_waits",
    "newer": "next_freed",
    "drain_block_count": "drained",
    "trim_bytes": "trimmed",
}
"""Fields that this version lacks in the other, and the other in this: C names them so."""
CONSTANTS: Final = {
    "HAK_KIND_SPAN": 3,
    "HAK_KIND_RUN": 2,
    "HAK_SLAB_FRESH": 4,
    "HAK_SLAB_HOLES": 1,
    "HAK_THREAD_LIVE": 2,
    "HAK_THREAD_PARKED": 1,
    "HAK_TAG_SPAN": 62,
    "HAK_TAG_FREE": 61,
}
EDITS: Final[Sequence[Edit]] = (
    # a field added, in front of others; the record is no power of two any more
    (
        'Field("claim_seq", "u32", "count", "claimer by CAS',
        'Field("colour", "u64", "", "", "of the future"),\n            '
        'Field("claim_seq", "u32", "count", "claimer by CAS',
    ),
    ('"hak_slab": 64', '"hak_slab": 72'),
    # fields moved, the geometry among them
    (
        'Field("policy_offset", "u64"',
        'Field("future", "u64", "", "", "of the future", 3),\n            '
        'Field("policy_offset", "u64"',
    ),
    ("HEAP_BYTES: Final = 6144", "HEAP_BYTES: Final = 8192"),
    # registry entries of 32 bits, head units from bit 8 on
    ('Table("registry", "u64", 1, 1)', 'Table("registry", "u32", 1, 1)'),
    ('Constant("HAK_ENTRY_HEAD_SHIFT", UNIT_SHIFT,', 'Constant("HAK_ENTRY_HEAD_SHIFT", 8,'),
    # numbers of another width, and one more of the policy
    ('Field("arena_count", "u32"', 'Field("arena_count", "u64"'),
    ('Field("lost_count", "u32", "slabs"', 'Field("lost_count", "u64", "slabs"'),
    (
        '    floor_bytes: int = _number("u64"',
        '    nap_ms: int = _number("u64", "ms", (2, 500), "pause", default=20)\n'
        '    floor_bytes: int = _number("u64"',
    ),
)
NATIVE_EDITS: Final[Sequence[tuple[str, str, str]]] = (
    ("hak_internal.h", "uint64_t *hak_registry(", "uint32_t *hak_registry("),
    (
        "tables.c",
        "case REGISTRY: return page_up(units * sizeof(uint64_t));",
        "case REGISTRY: return page_up(units * sizeof(uint32_t));",
    ),
    ("fast.h", "hak_load_relaxed((uint64_t *)", "hak_load_relaxed((uint32_t *)"),
    (
        "fast.h",
        "offset - entry + class_index",
        "offset - ((uint64_t)hak_entry_head(entry) << HAK_UNIT_SHIFT)",
    ),
)
"""What of C such entries are written and read by."""


def sources(place: Path, edits: Sequence[Edit] = EDITS, *, whole: bool = False) -> Path:
    """A copy of the package whose layout is edited, with all that names its fields; ``whole``: with
    the views, which run then as they are."""
    made = place / "hakmem"
    left_out = () if whole else ("views", "cli", "outside", "heap")
    ignored = shutil.ignore_patterns(*left_out, "__pycache__", "*.so")
    shutil.copytree(PACKAGE, made, ignore=ignored)
    layout = made / "layout.py"
    text = layout.read_text()
    for before, after in edits:
        assert text.count(before) == 1, f"layout.py has another line now: {before}"
        text = text.replace(before, after)
    for name, value in CONSTANTS.items():
        text, count = re.subn(rf'(Constant\("{name}", )\d+', rf"\g<1>{value}", text)
        assert count == 1, name
    layout.write_text(text)
    for name, before, after in NATIVE_EDITS:
        file = made / "native" / name
        assert file.read_text().count(before) == 1, f"{name} has another line now: {before}"
        file.write_text(file.read_text().replace(before, after))
    rest = made.rglob("*.py") if whole else [layout]
    for file in [*rest, *made.glob("native/*.[ch]")]:
        text = file.read_text()
        for before, after in RENAMED.items():
            text = re.sub(rf"\b{before}\b", after, text)
        file.write_text(text)
    return made


def build(place: Path, edits: Sequence[Edit] = EDITS) -> Path:
    """The other version's library, in the empty or absent folder ``place`` with its sources."""
    package = sources(place, edits)
    alone = [sys.executable, "-I", "-S", "-B"]
    for file, command in (
        ("hak_layout.h", [package / "layout.py"]),
        ("hak_description.c", [package / "layout.py", "description"]),
        ("hak_builtin_policy.c", [package / "policy" / "emit.py"]),
    ):
        done = subprocess.run([*alone, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (package / "native" / file).write_text(done.stdout)
    files = sorted(package.glob("native/*.c"))
    options = "-std=gnu11 -O1 -fPIC -shared -pthread -fvisibility=hidden -ftls-model=initial-exec"
    command = [
        os.environ.get("CC", "cc"),
        *options.split(),
        *("-fno-builtin-malloc", "-fexceptions", "-Wl,--build-id", "-Wl,-z,now,-z,nodelete"),
        *(str(file.relative_to(place)) for file in files),
        "-ldl",
    ]
    library = place / "libhakmem.so"
    shutil.copy(compiled("other_layout", package.glob("native/*.[ch]"), command, place), library)
    return library
