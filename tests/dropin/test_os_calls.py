"""Which OS calls the library makes: the page that lists them, and programs that allow no others."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import hakmem
from hakmem.clib.binding import check_pages
from tests.support.preload import library_of, preloaded

ROOT = Path(__file__).resolve().parent.parent.parent
WORKS = ("small", "spans", "zeroed", "resized", "threads", "forks", "accounts", "epochs")
KILLED = 31
Programs = Callable[..., Path]


def listed() -> dict[str, str]:
    """The calls of the page's table, and when each is made."""
    page = (
        (ROOT / "docs" / "deploy.md").read_text().partition("## OS calls")[2].partition("\n## ")[0]
    )
    rows = re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", page, re.MULTILINE)
    return {name: when for names, when in rows for name in re.findall(r"`(\w+)", names)}


def run(program: Path, environment: dict[str, str], *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(program), *words], capture_output=True, text=True, env=environment, timeout=60
    )
    return done.returncode, done.stdout.splitlines()[-1] if done.stdout else done.stderr


@pytest.mark.parametrize("work", WORKS)
def test_mt_a_program_that_allows_what_glibc_needs_runs(
    native_program: Programs, work: str
) -> None:
    program = native_program("late_sandbox_plain")
    assert run(program, preloaded(Path(""), LD_PRELOAD=""), work) == (0, "done"), "glibc's own"
    assert run(program, preloaded(library_of(native_program)), work) == (0, "done")


@pytest.mark.parametrize("work", ("small", "zeroed", "accounts", "epochs"))
def test_what_else_helps_is_made_only_where_it_is_asked_for(
    native_program: Programs, work: str
) -> None:
    """The list is a real one: with all calls allowed to the library, the same programs are
    killed."""
    program, library = native_program("late_sandbox_plain"), library_of(native_program)
    code, said = run(program, preloaded(library, HAKMEM_OS_CALLS="wide"), work)
    assert code == KILLED and said.startswith("system call "), said


@pytest.mark.parametrize("size", (16384, 65536))
def test_other_os_pages_are_refused_with_one_line(
    native_program: Programs, tmp_path: Path, size: int
) -> None:
    """A library in front says that the kernel's OS pages are larger."""
    source, other = tmp_path / "pages.c", tmp_path / "pages.so"
    source.write_text(
        "#include <elf.h>\n"
        "unsigned long getauxval(unsigned long what) {\n"
        f"    return what == AT_PAGESZ ? {size} : 0;\n"
        "}\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(other), str(source)], check=True)
    environment = preloaded(Path(""), LD_PRELOAD=f"{other}:{library_of(native_program)}")
    program = native_program("late_sandbox_plain")
    done = subprocess.run([str(program), "small"], capture_output=True, text=True, env=environment)
    said = f"hakmem: OS pages of {size} bytes: expected 4096; run the program without the library\n"
    assert (done.returncode, done.stdout, done.stderr) == (127, "", said)


def test_python_refuses_other_os_pages() -> None:
    with pytest.raises(hakmem.LayoutMismatch, match="OS pages of 16384 bytes: expected 4096"):
        check_pages(16384)


def test_the_page_lists_all_calls_that_the_sources_make() -> None:
    sources = "\n".join(
        path.read_text() for path in sorted((ROOT / "hakmem" / "native").glob("*.[ch]"))
    )
    made = {name.removesuffix("64") for name in re.findall(r"\bSYS_(\w+)", sources)}
    assert {name.removesuffix("64") for name in listed()} == made


def test_mt_strace_sees_no_other_calls(native_program: Programs, tmp_path: Path) -> None:
    """Of what the program itself does not do on glibc, only what the page says is made always."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-o", tmp_path / "x", "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    program = native_program("late_sandbox_plain")

    def seen(environment: dict[str, str]) -> set[str]:
        found: set[str] = set()
        words = [f"-E{name}={value}" for name, value in environment.items()]
        for work in ("small", "spans", "threads", "epochs"):
            trace = tmp_path / "trace"
            command = ["strace", "-f", "-qq", *words, "-o", str(trace), str(program), work, "free"]
            assert subprocess.run(command, capture_output=True).returncode == 0
            found |= set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)", trace.read_text(), re.MULTILINE))
        return found

    always = {name for name, when in listed().items() if when.startswith("always")}
    here = seen({"LD_PRELOAD": str(library_of(native_program))})
    assert here - seen({"LD_PRELOAD": ""}) <= always
