"""Processes that are hard to look at: the first thread has ended, the library has another name and
lives in other namespaces, the files they have mapped lie about their tables."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hakmem
from hakmem import cli
from hakmem.clib import binding
from hakmem.outside import asking, image
from hakmem.system import procfs

Launch = Callable[..., subprocess.Popen[str]]
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def leaderless_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of leader.cpp."""
    program = tmp_path_factory.mktemp("leader") / "leaderless"
    command = ["g++", "-O1", "-pthread", "-o", str(program), str(HERE / "leader.cpp")]
    subprocess.run(command, check=True)
    return program


@pytest.fixture
def leaderless(launch: Launch, leaderless_program: Path) -> int:
    """The process id of a process on the library whose first thread has ended."""
    pid = launch(leaderless_program).pid
    limit = time.monotonic() + 5
    while procfs.task_state(pid, pid) != "Z" and time.monotonic() < limit:
        time.sleep(0.005)
    assert procfs.task_state(pid, pid) == "Z" and len(procfs.tasks(pid)) >= 3
    return pid


def listed(capsys: pytest.CaptureFixture[str]) -> list[int]:
    """What ``hakmem ps -q`` lists."""
    cli.main(["ps", "-q"])
    return [int(line) for line in capsys.readouterr().out.split()]


def test_mt_first_thread_ended(leaderless: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert leaderless in listed(capsys)
    view = hakmem.attach(leaderless)
    facts = view.process
    assert facts is not None and facts.program.endswith("leaderless") and facts.rss_bytes > 1 << 20
    assert facts.command[0].endswith("leaderless")
    assert view.validate() is not None and len(view.slabs) > 30
    assert cli.main(["why", str(leaderless)]) == 0
    assert "leaderless): " in " ".join(capsys.readouterr().out.split())


def test_mt_first_thread_ended_and_all_stopped(leaderless: int) -> None:
    view = hakmem.attach(leaderless, stop=True)
    assert view.process is not None and view.process.stopped
    assert view.validate() is not None
    assert procfs.task_state(leaderless, procfs.readable_task(leaderless)) in "SR"


def test_mt_first_thread_ended_and_asked(leaderless: int) -> None:
    view = hakmem.attach(leaderless)
    trimmed = asking.trim(view, 5)
    assert trimmed.served and trimmed.rss_after > 1 << 20
    drained = asking.drain(view, 5)
    assert drained.served and drained.pending == ()


def test_a_renamed_library_is_found(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "liballoc.so"
    shutil.copy(binding.find(), copy)
    program = launch("sh", "-c", "echo ready; read line", LD_PRELOAD=str(copy))
    assert program.pid in listed(capsys)
    facts = hakmem.attach(program.pid).process
    assert facts is not None and facts.library == str(copy)


@pytest.mark.skipif(
    subprocess.run(["unshare", "-mp", "--fork", "true"], capture_output=True).returncode != 0,
    reason="the kernel allows no namespaces of one's own here",
)
def test_a_renamed_library_in_other_namespaces(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container as the kernel sees it: process ids and mounts of its own."""
    inside = tmp_path / "only-there"
    inside.mkdir()
    library = inside / "liballoc.so"
    script = (
        f"mount -t tmpfs none {inside} && cp {binding.find()} {library} && "
        f"LD_PRELOAD={library} exec {sys.executable} -c "
        "'print(\"ready\", flush=True); import sys; sys.stdin.read()'"
    )
    command = ("unshare", "-mp", "--fork", "--kill-child", "sh", "-c", script)
    program = launch(*command, preload=False)
    child = int(Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()[0])
    assert child in listed(capsys) and not library.exists()
    view = hakmem.attach(child)
    assert view.process is not None and view.process.library == str(library)
    assert view.threads["os_id"].tolist() == [1] and view.validate().exact


# --- files that lie about their tables ------------------------------------------------------------

DYNAMIC, TABLES = 0x200, 0x400


def lying_elf(**tags: int) -> bytes:
    """The first page of a library whose dynamic section has these tags."""
    names = {"strings": 5, "symbols": 6, "hash": 4, "gnu_hash": 0x6FFFFEF5}
    dynamic = b"".join(struct.pack("<qQ", names[name], at) for name, at in tags.items())
    head = bytearray(b"\x7fELF\x02\x01\x01".ljust(16, b"\0"))
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, 1 << 20, 1 << 20, 4096)
    head += struct.pack("<IIQQQQQQ", 2, 4, DYNAMIC, DYNAMIC, DYNAMIC, len(dynamic), 0, 8)
    return bytes(head.ljust(DYNAMIC, b"\0") + dynamic).ljust(4096, b"\0")


class Liar:
    """A process of which all that is behind the first page reads as one word, for ever."""

    name = "a liar"

    def __init__(self, page: bytes, word: int) -> None:
        self.page, self.word, self.read_bytes = page, word.to_bytes(4, "little"), 0

    def read(self, address: int, size_bytes: int) -> bytes:
        """Bytes from an address on."""
        self.read_bytes += size_bytes
        if address + size_bytes <= len(self.page):
            return self.page[address : address + size_bytes]
        return (self.word * (size_bytes // 4 + 2))[address % 4 :][:size_bytes]


@pytest.mark.parametrize("table", ["hash", "gnu_hash"])
@pytest.mark.parametrize("word", [2, 0x7FFFFFFE, 0xFFFFFFFE, 0xFFFFFFFF, 0])
def test_a_hash_chain_without_an_end(table: str, word: int) -> None:
    tags = {"strings": 1 << 16, "symbols": 1 << 17, table: 1 << 18}
    liar = Liar(lying_elf(**tags), word)
    entry = procfs.Mapping(0, 1 << 20, "r--p", 0, "/tmp/lib.so")
    began = time.monotonic()
    assert image.find_images(liar, [entry]) == []  # type: ignore[arg-type]
    assert liar.read_bytes < image.CHAIN_LIMIT * 64 and time.monotonic() - began < 5


def test_a_dynamic_section_of_a_tebibyte_is_not_read() -> None:
    page = bytearray(lying_elf(strings=1 << 16, symbols=1 << 17, gnu_hash=1 << 18))
    struct.pack_into("<Q", page, 64 + 56 + 32, 1 << 40)
    liar = Liar(bytes(page), 2)
    entry = procfs.Mapping(0, 1 << 20, "r--p", 0, "/tmp/lib.so")
    assert image.find_images(liar, [entry]) == []  # type: ignore[arg-type]
    assert liar.read_bytes < 4096


def test_ps_beside_a_process_that_has_such_a_file_mapped(
    tmp_path: Path, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its chain goes on for 64 MiB of even words."""
    lie = tmp_path / "lib.so"
    with open(lie, "wb") as file:
        file.write(lying_elf(strings=1 << 16, symbols=1 << 17, gnu_hash=1 << 18))
        file.truncate(1 << 18)
        file.seek(1 << 18)
        file.write(struct.pack("<5I", 1, 1, 0, 0, 1) + b"\2\0\0\0" * (1 << 24))
    code = (
        f"import mmap, sys; file = open({str(lie)!r}, 'rb'); "
        "held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); "
        "print('ready', flush=True); sys.stdin.read()"
    )
    program = launch(sys.executable, "-c", code, preload=False)
    began = time.process_time()
    assert program.pid not in listed(capsys)
    assert time.process_time() - began < 10 and os.path.exists(f"/proc/{program.pid}")
