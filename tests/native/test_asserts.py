"""Debug builds: a lock out of order, a claim that is not held: each is told in one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hakmem.generate.header import c_header

NATIVE = Path(__file__).parents[2] / "hakmem/native"

# Code, and the function whose assert it meets. No heap is needed: of a slab only its fields count.
WRONG = {
    "the root lock, then record 0's": (
        "hak_rank_take(HAK_RANK_ROOT), hak_rank_take(HAK_RANK_RECORD);",
        "hak_rank_take",
    ),
    "the run lock twice": (
        "hak_rank_take(HAK_RANK_RUN), hak_rank_take(HAK_RANK_RUN);",
        "hak_rank_take",
    ),
    "the root lock under a claim": (
        "hak_claim_try(&slab), hak_rank_take(HAK_RANK_ROOT);",
        "hak_rank_take",
    ),
    "a lock given back that was not taken": ("hak_rank_drop(HAK_RANK_RUN);", "hak_rank_drop"),
    "a claim under the run lock": (
        "hak_rank_take(HAK_RANK_RUN), hak_claim_try(&slab);",
        "hak_claim_note",
    ),
    "three claims": (
        "hak_claim_try(&slab), hak_claim_try(&second), hak_claim_try(&third);",
        "hak_claim_note",
    ),
    "another thread's claim released": (
        "slab.claim_seq = 1, hak_claim_release(&slab);",
        "hak_claim_drop",
    ),
    "blocks counted under another thread's claim": (
        "slab.claim_seq = 1, hak_used_add(&slab, 1);",
        "hak_used_add",
    ),
}
RIGHT = """
    hak_rank_take(HAK_RANK_ONCE), hak_rank_take(HAK_RANK_RECORD), hak_rank_take(HAK_RANK_ROOT);
    if (!hak_claim_try(&slab) || !hak_claim_try(&second) || hak_claim_try(&slab)) return 3;
    slab.carved_count = 2, hak_used_add(&slab, 2), hak_used_sub(&slab, 1);
    hak_rank_take(HAK_RANK_RUN), hak_rank_drop(HAK_RANK_RUN);
    hak_claim_release(&second), hak_claim_release(&slab);
    hak_rank_drop(HAK_RANK_ROOT);
    if (hak_rank_is_free(HAK_RANK_ONCE) || !hak_rank_is_free(HAK_RANK_FORK)) return 4;
    return slab.used_count == 1 ? 0 : 5;
"""
Run = Callable[[int], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a case by its number, out of one program for all of them; the last one is RIGHT."""
    compiler = next(filter(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang")), None)
    if compiler is None:
        pytest.skip("no C compiler: the asserts cannot be built")
    home = tmp_path_factory.mktemp("asserts")
    codes = [code for code, _ in WRONG.values()] + [RIGHT]
    cases = "\n".join(f"    case {number}: {code} break;" for number, code in enumerate(codes))
    (home / "hak_layout.h").write_text(c_header())
    (home / "cases.c").write_text(
        '#include <stdlib.h>\n#include <unistd.h>\n#include "lists.h"\n'
        "void hak_os_say(const char *text, uint64_t bytes) { (void)!write(2, text, bytes); }\n"
        "int main(int count, char **words) {\n"
        "    static hak_slab slab, second, third;\n"
        f"    switch (count + atoi(words[1]) - 2) {{\n{cases}\n    }}\n"
        "    return (int)third.kind + 2;\n}\n"
    )
    options = ["-std=gnu11", "-DHAK_DEBUG=1", "-Wall", "-Werror", f"-I{NATIVE}", "-I."]
    files = ["cases.c", NATIVE / "asserts.c", "-o", "cases"]
    subprocess.run([compiler, *options, *files], cwd=home, check=True)

    def run(number: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [home / "cases", str(number)], capture_output=True, text=True, check=False
        )

    return run


def test_the_right_order_passes(run: Run) -> None:
    done = run(len(WRONG))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told(run: Run, name: str) -> None:
    done = run(list(WRONG).index(name))
    assert done.returncode < 0, done.returncode  # abort
    function = WRONG[name][1]
    line = rf"hakmem: assert failed: [^\n]+: {function}, \S+/native/\w+\.[ch]:\d+\n"
    assert re.fullmatch(line, done.stderr), done.stderr
