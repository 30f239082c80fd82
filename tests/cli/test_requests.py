"""trim and drain: a process obeys at its slow paths; who sleeps is named."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import Target, clean, hakmem, refused, said

import hakmem as package
from hakmem import cli
from hakmem.system import procfs

pytestmark = pytest.mark.slow

MALLOC = """
import ctypes, threading
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def work(count=4000, size=640):
    blocks = [libc.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks:
        libc.free(block)
"""
THREADS = (
    MALLOC
    + """
wake = threading.Event()
def sleeper():
    open(f"/proc/self/task/{threading.get_native_id()}/comm", "w").write("dreamer")
    work()
    asleep.set()
    wake.wait()
    work()
    awake.set()
    threading.Event().wait()
asleep, awake = threading.Event(), threading.Event()
threading.Thread(target=sleeper, daemon=True).start()
asleep.wait()
"""
)
ALTERNATE = """
import signal
signal.signal(signal.SIGUSR1, lambda *_: wake.set())
print("ready", flush=True)
while not wake.is_set(): work(3000)
awake.wait()
print("woken", flush=True)
"""


def tell(program: Target, code: str, word: str) -> None:
    """Runs a line in the program, and waits until it says ``word``."""
    assert program.stdin is not None
    program.stdin.write(f"{code}; print({word!r}, flush=True)\n")
    program.stdin.flush()
    said(program, word)


def test_trim_waits_for_a_slow_path_and_stands(launch: Callable[..., Target]) -> None:
    program = launch(MALLOC + "work(20000)")
    said(program)
    done = hakmem("trim", "--no-stop", "--timeout", "0.2", program.pid)
    assert (
        done.returncode == cli.PENDING == 3 and done.stdout == "" and done.stderr.count("\n") == 1
    )
    assert (
        "within 0.2 s" in done.stderr
        and "the request stands" in done.stderr
        and f"python {program.pid} sleeping" in done.stderr
    )
    heap = package.attach(program.pid).capture.heap
    assert heap.trim_request and heap.trim_served != heap.trim_request
    tell(program, "work()", "worked")
    heap = package.attach(program.pid).capture.heap
    assert (
        heap.trim_served == heap.trim_request and heap.trim_bytes > 1 << 20 and heap.trim_busy == 0
    )


def test_trim_of_a_program_at_work(launch: Callable[..., Target]) -> None:
    program = launch(MALLOC + "work(20000); print('ready', flush=True)\nwhile True: work(3000)")
    said(program)
    done = hakmem("trim", "--json", program.pid)
    found = json.loads(done.stdout)
    assert (
        done.returncode == 0
        and found["served"]
        and found["pending"] == []
        and found["given_bytes"] > 1 << 20
    )
    assert found["rss_after"] < found["rss_before"] and found["seconds"] < 2
    text = hakmem("trim", program.pid)
    assert (
        text.returncode == 0 and " given back: " in text.stdout and "resident before" in text.stdout
    )
    assert hakmem("trim", "-q", program.pid).stdout == ""


UNTOUCHED = """
spans = [libc.malloc(1 << 20) for _ in range(3)]
used = [libc.malloc(1 << 20) for _ in range(6)]
for at in used: ctypes.memset(at, 1, 1 << 20)
for at in spans + used: libc.free(at)
"""


def test_mt_a_trim_says_what_went(launch: Callable[..., Target]) -> None:
    """Memory that was free but never resident is not given back: the figure is what the resident
    memory fell by."""
    program = launch(MALLOC + UNTOUCHED, env={"HAKMEM_RETAIN_MB": "64", "HAKMEM_EAGER_PCT": "0"})
    said(program)
    assert " given back: " in tell_while(program, "trim", program.pid)
    tell(program, f"exec({UNTOUCHED!r})", "prepared")
    found = json.loads(tell_while(program, "trim", "--json", program.pid))
    fell = found["rss_before"] - found["rss_after"]
    assert abs(found["given_bytes"] - max(fell, 0)) <= 1 << 17, found
    assert found["purged_bytes"] >= found["given_bytes"] + (1 << 20), found
    assert found["given_bytes"] > 5 << 20, found


def tell_while(program: Target, *words: object) -> str:
    """What a command prints that waits while the program comes to slow paths."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(hakmem, *words)
        while not done.done():
            tell(program, "libc.free(libc.malloc(1 << 20))", "went on")
            time.sleep(0.05)
    assert done.result().returncode == 0, done.result().stderr
    return str(done.result().stdout)


def test_a_span_freed_is_a_slow_path_too(launch: Callable[..., Target]) -> None:
    program = launch(MALLOC + "span = libc.malloc(1 << 20)")
    said(program)
    assert hakmem("trim", "-q", "--timeout", "0", program.pid).returncode == 3
    tell(program, "libc.free(span)", "freed")
    heap = package.attach(program.pid).capture.heap
    assert heap.trim_served == heap.trim_request


def test_mt_drain_names_the_threads_that_sleep(launch: Callable[..., Target]) -> None:
    program = launch(THREADS + ALTERNATE)
    said(program)
    view = package.attach(program.pid)
    held = {thread.name: int(thread.cached_bytes) for thread in view.threads}
    assert held["dreamer"] > 50_000
    done = hakmem("drain", "--no-stop", "--timeout", "1", program.pid)
    assert (
        done.returncode == 3
        and "1 thread has not obeyed within 1 s" in done.stderr
        and "leave out --no-stop" in done.stderr
        and "dreamer" in done.stderr
    )
    assert "python" not in done.stderr and "drained from caches" in done.stdout
    after = {
        thread.name: int(thread.cached_bytes) for thread in package.attach(program.pid).threads
    }
    assert after["dreamer"] == held["dreamer"]
    program.send_signal(signal.SIGUSR1)
    said(program, "woken")
    view = package.attach(program.pid)
    row = view.threads[view.threads["name"] == "dreamer"][0]
    assert row.drain_served == view.capture.heap.drain_request != 0, "it obeyed when it woke"


def test_mt_the_background_thread_trims_while_all_sleep(
    native_program: Callable[..., Path], tmp_path: Path
) -> None:
    """Its long wait is ended from outside; nothing stays stopped, and its program ends as it would
    have."""
    out = tmp_path / "out"
    with open(out, "w") as file:
        command = [
            sys.executable,
            "-m",
            "hakmem",
            "run",
            native_program("giveback"),
            "4",
            "20",
            "64",
            "sleep",
            "12",
        ]
        environment = clean(HAKMEM_RETAIN_MB="4", HAKMEM_BACKGROUND_MB="16")
        program = subprocess.Popen(command, env=environment, stdout=file)
    try:
        waiting, root = package.layout.constant("HAK_BACKGROUND_WAITING"), None
        limit = time.monotonic() + 40
        while root is None or root.background != waiting:
            assert time.monotonic() < limit, "it never came to wait"
            time.sleep(0.1)
            try:
                source = package.attach(program.pid).capture.source
                root = source._root(source.images[0])  # type: ignore[attr-defined]
            except package.HakmemError:
                continue
        found = json.loads(hakmem("trim", "--json", program.pid).stdout)
        assert found["served"] and found["seconds"] < 1.5
        assert {procfs.task_state(program.pid, task) for task in procfs.tasks(program.pid)} <= {
            "S",
            "R",
        }
        drained = hakmem("drain", "--no-stop", "--timeout", "0.5", program.pid)
        assert (
            drained.returncode == 3
            and "giveback" in drained.stderr
            and "hakmem " not in drained.stderr.partition(": ")[2]
        )
        assert program.wait(60) == 0 and out.read_text().startswith("threads 4 classes 20")
    finally:
        program.kill()
        program.wait()


def test_mt_requests_of_several_readers_are_all_answered(launch: Callable[..., Target]) -> None:
    from hakmem.outside import asking

    program = launch(MALLOC + "print('ready', flush=True)\nwhile True: work(3000)")
    said(program)
    answers: list[bool] = []

    def ask() -> None:
        view = package.attach(program.pid)
        answers.extend(
            request(view, 20.0).served for _ in range(10) for request in (asking.trim, asking.drain)
        )

    readers = [threading.Thread(target=ask) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert answers == [True] * 80
    package.attach(program.pid, stop=True).validate()


@pytest.mark.parametrize("command", ["trim", "drain"])
def test_bad_requests(command: str, tmp_path: Path) -> None:
    refused(hakmem(command, 2**22 + 7), 1, "there is no process")
    refused(hakmem(command, tmp_path / "heap.npz"), 2, "expected a process id")
    refused(hakmem(command, "--timeout", "-1", "7"), 2, "expected seconds")
    refused(hakmem(command), 2, "PID")
