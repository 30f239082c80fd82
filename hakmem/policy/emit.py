"""Prints the C source of the built-in policy image and of what is known of images; run at build
time, standard library only.

``python -I -S -B hakmem/policy/emit.py`` — the header of the layout is printed by
``hakmem/layout.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path


def policy_source() -> str:
    """The C text: the default policy's bytes, the bounds of an image's fields, the environment
    variables."""
    return "\n".join(
        [
            "/* hak_builtin_policy.c: printed by hakmem/policy/emit.py. */",
            '#include "policy.h"',
            "",
            *_image(),
            *_bounds(),
            *_variables(),
        ]
    )


def _image() -> list[str]:
    from hakmem.policy import Policy

    image = Policy.default().image()
    words = [
        int.from_bytes(image[i : i + 8].ljust(8, b"\0"), "little") for i in range(0, len(image), 8)
    ]
    lines = [f"const _Alignas(64) uint64_t hak_builtin_policy_words[{len(words)}] = {{"]
    for start in range(0, len(words), 6):
        lines.append("    " + " ".join(f"0x{word:x}u," for word in words[start : start + 6]))
    return [
        *lines,
        "};",
        '_Static_assert(sizeof hak_builtin_policy_words >= sizeof(hak_policy), "built-in policy '
        'image");',
        "",
    ]


def _bounds() -> list[str]:
    from hakmem import layout
    from hakmem.generate import mirror

    lines = ["const hak_bound hak_bounds[] = {"]
    for bound in layout.POLICY_BOUNDS:
        place = mirror.policy_place(bound.path)
        numbers = (
            f"{place.offset}, {place.width}, {place.stride}, {bound.low}u, {bound.high}u, "
            f"{bound.step}u, {int(bound.fixed)}"
        )
        lines.append(f'    {{"{bound.path}", {numbers}}},')
    return [
        *lines,
        "};",
        "const uint32_t hak_bound_count = sizeof hak_bounds / sizeof *hak_bounds;",
        "",
    ]


def _variables() -> list[str]:
    from hakmem import layout
    from hakmem.generate import mirror
    from hakmem.policy import CachePolicy

    caches, names = CachePolicy(), [variable.name for variable in layout.ENVIRONMENT]
    lines, rows = [], []
    for variable in layout.ENVIRONMENT:
        words = f"choices_{variable.name.lower()}" if variable.choices else "0"
        if variable.choices:
            quoted = ", ".join(f'"{choice}"' for choice in variable.choices)
            lines.append(f"static const char *const {words}[] = {{{quoted}, 0}};")
        place = mirror.policy_place(variable.field) if variable.field else None
        most = f"&hak_variables[{names.index(variable.at_most)}]" if variable.at_most else "0"
        band = layout.constant(f"HAK_BAND_{variable.band.upper()}") if variable.band else 0
        least = caches.cap_entries_min if variable.band == "tiny" else 0
        numbers = [
            f"{variable.low}u",
            f"{variable.high}u",
            f"{variable.numerator}u",
            f"{variable.denominator}u",
            place.offset if place else 0,
            place.width if place else 0,
            variable.apply,
            band,
            least,
            caches.cap_entries_max,
        ]
        rows.append(
            f'    {{"{variable.name}", {words}, {most}, '
            f"{', '.join(str(number) for number in numbers)}}},"
        )
    return [*lines, f"const hak_variable hak_variables[{len(rows)}] = {{", *rows, "};", ""]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    print(policy_source(), end="")
