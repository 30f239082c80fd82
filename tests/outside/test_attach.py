"""attach(): heaps of other processes through the views of this one's, and every reason why not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hakmem
from hakmem.clib import binding
from hakmem.generate import description, mirror
from hakmem.outside import denial, image
from hakmem.outside.live import LiveProcess
from hakmem.views.answers.glance import Glance

Start = Callable[..., subprocess.Popen[str]]
NOBODY = 65534


def said(error: type[Exception], call: Callable[[], object]) -> str:
    """What an error says."""
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def test_python_is_seen(python: Start) -> None:
    program = python("blocks = [bytearray(900) for _ in range(5000)]\nlarge = bytearray(300_000)")
    view = hakmem.attach(program.pid)
    shape = next(row for row in view.classes if row.capacity_bytes >= 901)
    assert shape.application_count >= 5000
    assert any(span.asked_bytes >= 300_000 for span in view.spans)
    assert f"process {program.pid}'s malloc" in view.title()
    assert view.validate().exact and view.unclean() == []
    assert view.policy == hakmem.Policy.default()
    assert view.stats().committed_bytes >= view.stats().in_use_bytes > 5000 * 901


def test_whatis_agrees_with_the_process_itself(python: Start) -> None:
    program = python(
        "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = "
        "ctypes.c_void_p\nprint(libc.malloc(700))",
        wait=False,
    )
    assert program.stdout is not None
    block = int(program.stdout.readline())
    assert program.stdout.readline() == "ready\n"
    view = hakmem.attach(program.pid)
    found = view.whatis(block + 5)
    assert (found.kind, found.state, found.block, found.offset) == (
        "block",
        "application",
        block,
        5,
    )
    assert view.whatis(4096).sentence().endswith(f"in no region of a heap of process {program.pid}")


def test_the_process_is_described(python: Start) -> None:
    program = python(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), "
        "daemon=True).start()"
    )
    view = hakmem.attach(program.pid)
    facts = view.process
    assert facts is not None and facts.pid == program.pid and facts.command[0] == sys.executable
    assert facts.library == str(binding.find()) and facts.build_id == image.file_build_id() != ""
    assert facts.python_malloc == "malloc" and len(facts.thread_names) == 2
    name = Path(f"/proc/{program.pid}/comm").read_text().strip()
    assert [thread.name for thread in view.threads if thread.os_id == program.pid] == [name]


def test_all_heaps_of_a_process(python: Start) -> None:
    heaps = "import hakmem\nheaps = [hakmem.Heap(region_bytes=1 << 26) for _ in range(3)]"
    program = python(
        f"{heaps}\nprint(*(heap.alloc(5000 * (i + 1)) for i, heap in enumerate(heaps)))",
        HAKMEM_LIBRARY=str(binding.find()),
        wait=False,
    )
    assert program.stdout is not None
    blocks = [int(word) for word in program.stdout.readline().split()]
    assert program.stdout.readline() == "ready\n"
    view = hakmem.attach(program.pid)
    assert [heap.capture.is_process_heap for heap in view.heaps] == [True, False, False, False]
    assert view.heaps[0] is view
    owners = [view.whatis(block) for block in blocks]
    assert [found.state for found in owners] == ["application"] * 3
    assert len({found.heap for found in owners}) == 3
    assert all(heap.validate().exact for heap in view.heaps)


def test_again_is_a_new_moment(launch: Start) -> None:
    more = "x = [bytearray(3000) for _ in range(2000)]\nprint('more', flush=True)\nsys.stdin.read()"
    program = launch(
        sys.executable,
        "-c",
        f"import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n{more}",
        PYTHONMALLOC="malloc",
    )
    before = hakmem.attach(program.pid)
    count = int(before.classes["application_count"].sum())
    assert program.stdin is not None and program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "more\n"
    assert int(before.classes["application_count"].sum()) == count
    assert int(before.again().classes["application_count"].sum()) >= count + 2000


def test_own_process_from_outside() -> None:
    with hakmem.Heap(region_bytes=1 << 24) as heap:
        blocks = heap.alloc_many([500] * 100)
        view = next(
            view
            for view in hakmem.attach(os.getpid()).heaps
            if view.capture.address == heap.address
        )
        assert view.whatis(int(blocks[3])).state == "application"
        assert np.array_equal(
            view.classes.array["application_count"], heap.classes.array["application_count"]
        )


def test_redis_is_seen(launch: Start, tmp_path: Path) -> None:
    redis = shutil.which("redis-server")
    if redis is None:
        pytest.skip("no redis-server")
    socket = tmp_path / "socket"
    program = launch(
        redis,
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--save",
        "",
        "--loglevel",
        "warning",
        "--dir",
        str(tmp_path),
        wait=False,
    )
    limit = time.monotonic() + 20
    while not socket.exists() and time.monotonic() < limit:
        time.sleep(0.02)
    view = hakmem.attach(program.pid)
    if view.stats().in_use_bytes < 1 << 20:
        pytest.skip("this redis-server brings its own malloc")
    assert view.validate().exact or view.validate().why_not
    assert {name for name in view.threads["name"].tolist() if name} >= {"redis-server"}


# --- a library that is not where it was -----------------------------------------------------------


def test_deleted_library_is_read_from_memory(launch: Start, tmp_path: Path) -> None:
    copy = tmp_path / "libhakmem-copy.so"
    shutil.copy(binding.find(), copy)
    program = launch(
        sys.executable,
        "-c",
        "import sys; print('ready', flush=True); sys.stdin.read()",
        LD_PRELOAD=str(copy),
    )
    copy.unlink()
    view = hakmem.attach(program.pid)
    assert view.process is not None and view.process.library == f"{copy} (deleted)"
    assert view.process.build_id == image.file_build_id()


def test_another_mount_namespace(launch: Start, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    inside = tmp_path / "only-there"
    inside.mkdir()
    library = inside / "libinside-hakmem.so"
    wait = f"exec {sys.executable} -c 'import sys; print(\"ready\", flush=True); sys.stdin.read()'"
    script = (
        f"mount -t tmpfs none {inside} && cp {binding.find()} {library} && "
        f"LD_PRELOAD={library} {wait}"
    )
    if (
        unshare is None
        or subprocess.run([unshare, "-mp", "--fork", "true"], capture_output=True).returncode
    ):
        pytest.skip("no namespaces of its own here")
    program = launch(unshare, "-m", "sh", "-c", script, preload=False)
    assert not any(inside.iterdir())
    view = hakmem.attach(program.pid)
    assert (
        view.validate().exact
        and view.process is not None
        and view.process.library.endswith("libinside-hakmem.so")
    )


def test_thread_ids_of_a_pid_namespace(launch: Start) -> None:
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-p", "--fork", "true"], capture_output=True).returncode
    ):
        pytest.skip("no pid namespace here")
    program = launch(
        unshare,
        "-p",
        "--fork",
        "--kill-child",
        sys.executable,
        "-c",
        "import sys; print('ready', flush=True); sys.stdin.read()",
    )
    child = int(Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()[0])
    threads = hakmem.attach(child).threads
    assert threads["os_id"].tolist() == [1] and threads[0].name.startswith("python")


# --- what cannot be read --------------------------------------------------------------------------


def test_no_such_process() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert (
        said(hakmem.ProcessNotFound, lambda: hakmem.attach(child.pid))
        == f"there is no process {child.pid}"
    )


@pytest.mark.parametrize("pid", [0, -1, 1 << 31, 1 << 70])
def test_no_pid(pid: int) -> None:
    assert (
        said(ValueError, lambda: hakmem.attach(pid))
        == f"pid = {pid}: expected a process id, 1 or more"
    )


@pytest.mark.parametrize("pid", ["1", 1.0, None, True])
def test_no_number(pid: object) -> None:
    with pytest.raises(TypeError, match="pid: expected an int"):
        hakmem.attach(pid)  # type: ignore[arg-type]


def test_zombie() -> None:
    child = subprocess.Popen(["true"])
    while "Z" not in Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2][:3]:
        time.sleep(0.005)
    try:
        text = said(hakmem.ProcessNotFound, lambda: hakmem.attach(child.pid))
        assert (
            text
            == f"process {child.pid} (true) has ended: a zombie without memory, until its parent "
            f"{os.getpid()} waits for it"
        )
    finally:
        child.wait()


def test_kernel_thread() -> None:
    if not Path("/proc/2/stat").exists() or "kthreadd" not in Path("/proc/2/stat").read_text():
        pytest.skip("kernel threads are not to be seen here")
    error = hakmem.AttachError if os.geteuid() == 0 else hakmem.AttachDenied
    assert "process 2" in said(error, lambda: hakmem.attach(2))


def test_a_process_without_the_library(launch: Start) -> None:
    program = launch(
        sys.executable, "-c", "print('ready', flush=True); input()", preload=False, LD_PRELOAD=""
    )
    text = said(hakmem.NoHakmem, lambda: hakmem.attach(program.pid))
    assert text.startswith(f"process {program.pid} ({sys.executable} -c print('ready'")
    assert text.endswith("start it with: hakmem run -- COMMAND")


def test_the_library_without_a_heap() -> None:
    code = (
        "import os, hakmem.clib.binding\nhakmem.clib.binding.library()\nhakmem.attach(os.getpid())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(
        r"NoHakmem: process \d+ .* has the library, .*, but has made no heap yet", done.stderr
    )


def test_another_users_process(python: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    program = python()
    code = (
        f"import os\nimport hakmem, numpy, hakmem.outside.attaching\nos.setgid({NOBODY}); "
        f"os.setuid({NOBODY})\nhakmem.attach({program.pid})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        f"AttachDenied: process {program.pid} may not be read: it belongs to user 0 and this "
        f"process to user {NOBODY}" in done.stderr
    )
    assert "run this as user 0, or with CAP_SYS_PTRACE and CAP_DAC_OVERRIDE" in done.stderr


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (
            0,
            "it may have gained privileges or made itself unreadable (prctl PR_SET_DUMPABLE), a "
            "sandbox forbids it, or /proc is another pid namespace's: run this with",
        ),
        (
            1,
            "ptrace_scope) is 1: a process may be read by its ancestors only, unless it opts in, "
            "as programs started by `hakmem run` do; run",
        ),
        (
            2,
            "ptrace_scope) is 2: only a process with CAP_SYS_PTRACE may read others; run this "
            "with CAP_SYS_PTRACE (as root)",
        ),
        (
            3,
            "ptrace_scope) is 3: no process may read another until the next boot, which is to "
            "set a lower one",
        ),
    ],
)
def test_what_is_needed_is_said(scope: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel says here is no matter: a process of one's own that may not be read, under
    each scope of Yama."""
    monkeypatch.setattr(denial, "_scope", lambda: scope)
    text = str(denial.denied(os.getpid()))
    assert text.startswith(f"process {os.getpid()} may not be read: ") and said in text
    assert ("(as root)" in text) == (scope < 3)
    assert ("CAP_DAC_OVERRIDE" in text) == (scope == 0), "what Yama keeps is a file of one's own"


def test_another_layout_names_both_builds(python: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    program = python()
    monkeypatch.setattr(mirror, "LAYOUT_HASH", 0x1234)
    monkeypatch.setattr(description, "SYMBOL", b"of no use")  # one that does not describe itself
    text = said(hakmem.LayoutMismatch, lambda: hakmem.attach(program.pid))
    assert "0x0000000000001234" in text and text.count(image.file_build_id()) == 2


def test_exec_while_it_is_read(launch: Start) -> None:
    code = (
        "import os, sys\nprint('ready', "
        "flush=True)\nsys.stdin.readline()\nos.execv('/bin/sleep', ['sleep', '60'])"
    )
    program = launch(sys.executable, "-c", code)
    view = hakmem.attach(program.pid)
    assert program.stdin is not None
    program.stdin.write("\n")
    program.stdin.flush()
    while b"sleep" not in Path(f"/proc/{program.pid}/cmdline").read_bytes()[:6]:
        time.sleep(0.005)
    wanted = (
        f"process {program.pid} ended, or became another program (exec), while it was read; "
        "attach again"
    )
    assert said(hakmem.ProcessNotFound, view.again) == wanted
    assert view.classes.array["slab_count"].sum() > 0, "what was copied stays"
    program.kill()
    program.wait()
    assert said(hakmem.ProcessNotFound, view.again) == f"there is no process {program.pid}"


def test_where_the_system_call_is_forbidden(python: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from hakmem.outside import live

    program = python("x = [bytearray(600) for _ in range(1000)]")
    monkeypatch.setattr(live, "copy_from", lambda *_: (memoryview(b""), 0, errno.ENOSYS))
    assert hakmem.attach(program.pid).validate().exact


# --- while it runs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_mt_attach_under_mutation(launch: Start, workload: Path) -> None:
    """16 threads that never stop: every view can be made, counts stay possible, and the program is
    none the wiser."""
    program = launch("nice", "-n", "10", workload, "16")  # else the reader gets an 8th of a core
    looks = 0
    limit = time.monotonic() + 3
    while time.monotonic() < limit or looks < 2:
        view = hakmem.attach(program.pid)
        assert 16 * 1500 < int(view.classes["application_count"].sum()) < 16 * 4000
        assert len(view.threads) >= 17
        assert view.slabs["application_count"].sum() > 16 * 1500
        for slab in view.slabs[:: max(1, len(view.slabs) // 10)]:
            assert len(slab.letters()) == slab.block_count
        assert view.superslabs.array["slab_count"].sum() == len(view.slabs)
        looks += 1
    found = view.validate()
    assert found.exact or found.why_not.startswith("moved during the walk: ")
    out, _ = program.communicate()
    assert (out, program.returncode) == ("sum 0\n", 0)


def test_mt_python_of_16_threads(python: Start) -> None:
    """A CPython whose 16 threads build and drop lists: looked at live and stopped, it prints what
    it would have printed."""
    code = """
import threading
def work(number):
    for turn in range(300):
        rows = [[str(place) * 9, {'n': place}] for place in range(400)]
        sums[number] += sum(row[1]['n'] for row in rows)
sums = [0] * 16
threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
print('ready', flush=True)
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(sums))
"""
    program = python(code)
    for stop in (False, True) * 4:
        view = hakmem.attach(program.pid, stop=stop)
        assert int(view.classes["application_count"].sum()) > 10_000
        if stop:
            view.validate()
        look = Glance(LiveProcess(program.pid), view.capture.address)
        assert int(look.classes["slab_count"].sum()) > 0
    assert program.communicate()[0].split() == [str(16 * 300 * 399 * 200), "ready"]


def test_mt_validate_of_a_busy_process_never_raises(launch: Start, workload: Path) -> None:
    program = launch("nice", "-n", "10", workload, "4")
    assert not hakmem.attach(program.pid).validate().exact


def test_mt_source_refuses_what_is_not_mapped(launch: Start, workload: Path) -> None:
    from hakmem.views import MemoryUnreadable

    program = launch(workload, "2")
    assert f"not mapped, or not readable in process {program.pid}" in said(
        MemoryUnreadable, lambda: LiveProcess(program.pid).read(4096, 8)
    )
