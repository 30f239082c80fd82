"""Prints the C source of the built-in policy image; run at build time, standard library only.

``python -I -S -B hakmem/emit.py`` — the header of the layout is printed by ``hakmem/layout.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path


def policy_source() -> str:
    """``hak_builtin_policy`` as C: the default policy's bytes."""
    from hakmem.policy import Policy

    image = Policy.default().image()
    words = [int.from_bytes(image[i : i + 8].ljust(8, b"\0"), "little") for i in range(0, len(image), 8)]
    lines = ["/* hak_builtin_policy.c: printed by hakmem/emit.py. */", '#include "hak_layout.h"', ""]
    lines.append(f"const _Alignas(64) uint64_t hak_builtin_policy_words[{len(words)}] = {{")
    for start in range(0, len(words), 6):
        lines.append("    " + " ".join(f"0x{word:x}u," for word in words[start : start + 6]))
    lines += ["};", "_Static_assert(sizeof hak_builtin_policy_words >= sizeof(hak_policy), \"built-in policy image\");", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    print(policy_source(), end="")
