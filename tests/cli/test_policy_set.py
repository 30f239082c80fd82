"""``hakmem policy set``, ``show``, ``reset`` of a process that runs, and the same in Python."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Target, hakmem, refused, said

import hakmem as package
from hakmem import cli
from hakmem.errors import HakmemError, PolicyError
from hakmem.policy import Policy
from hakmem.policy.changing import assigned
from tests.support.heaps import Make

CALLS = """
import ctypes, threading
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def calls(count, size):
    for block in [libc.malloc(size) for _ in range(count)]: libc.free(block)
    print('done', flush=True)
"""


def test_set_show_and_reset(launch: Callable[..., Target]) -> None:
    program = launch(CALLS)
    said(program)
    changed = hakmem("policy", "set", program.pid, "retain.floor_bytes=0", "caches.batch_count=8")
    assert "retain.floor_bytes" in changed.stdout and changed.returncode == 0, changed.stderr
    again = hakmem("policy", "set", "--json", program.pid, "HAKMEM_RETAIN_MB=1")
    rows = json.loads(again.stdout)["changes"]
    assert rows == [{"field": "retain.floor_bytes", "first": 0, "second": 1 << 20}]
    view = package.attach(program.pid)
    assert view.policy.retain.floor_bytes == 1 << 20
    sizes, caches = view.policy.size_classes, view.policy.caches
    assert {caches.class_cache(sizes, index).batch_count for index in range(1, 10)} == {8}
    shown = hakmem("policy", "show", "--toml", program.pid).stdout
    assert "floor_bytes = 1048576" in shown
    assert hakmem("policy", "reset", program.pid).returncode == 0
    assert package.attach(program.pid).policy == Policy.default()
    assert "nothing to change" in hakmem("policy", "reset", program.pid).stdout
    assert program.poll() is None


@pytest.mark.parametrize(
    ("word", "wrong"),
    [
        ("headers.mode=all", "in a running heap, since blocks that are out have the headers"),
        ("caches.magazines=true", "False in a running heap, since a thread's magazines"),
        ("retain.flor_bytes=1", "did you mean retain.floor_bytes?"),
        ("HAKMEM_RETAIN_MBS=1", "did you mean HAKMEM_RETAIN_MB?"),
        ("retain.floor_bytes=much", "a whole number from 0 to"),
        ("acquire.order=hot,cold", "write the names of stages"),
        ("arenas.init_mb=9", "arenas.max_mb"),
        ("caches.classes.99.batch_count=1", "a class of 1 to"),
        ("caches.classes.3.batch=1", "did you mean batch_count?"),
        ("retain", "name=value"),
    ],
)
def test_what_is_refused_leaves_the_policy(
    launch_shared: Callable[..., Target], targets: dict[str, Target], word: str, wrong: str
) -> None:
    if "one" not in targets:
        targets["one"] = launch_shared(CALLS)
        said(targets["one"])
    pid = targets["one"].pid
    refused(hakmem("policy", "set", pid, word), cli.USAGE, wrong)
    assert package.attach(pid).policy == Policy.default()


@pytest.fixture(scope="module")
def targets() -> dict[str, Target]:
    """The program that tests of refusals share."""
    return {}


def test_next_is_an_image_for_the_next_start(launch: Callable[..., Target], tmp_path: Path) -> None:
    program, file = launch(CALLS), tmp_path / "next.image"
    said(program)
    kept = hakmem("policy", "set", program.pid, "headers.mode=all", "--next", file)
    assert kept.stdout == f"kept in {file}; start the program with HAKMEM_POLICY={file}\n"
    assert package.attach(program.pid).policy == Policy.default()
    refused(
        hakmem("policy", "set", program.pid, "headers.mode=all", "--next", file), cli.USAGE, "-f"
    )
    following = launch(CALLS, env={"HAKMEM_POLICY": str(file)})
    said(following)
    assert package.attach(following.pid).policy.headers.mode == "all"


def test_assigned_to_an_attached_heap(launch: Callable[..., Target]) -> None:
    program = launch(CALLS)
    said(program)
    view = package.attach(program.pid)
    view.policy = view.policy.replace(retain=replace(view.policy.retain, floor_bytes=123 << 16))
    assert view.policy.retain.floor_bytes == 123 << 16
    assert package.attach(program.pid).policy == view.policy
    with pytest.raises(PolicyError, match="in a running heap"):
        view.policy = view.policy.replace(headers="all")
    program.kill()
    program.wait()
    with pytest.raises(HakmemError, match=str(program.pid)):
        view.policy = Policy.default()


def test_mt_of_two_writers_the_last_wins_and_the_other_is_told(
    launch: Callable[..., Target],
) -> None:
    program = launch(
        CALLS + "threading.Thread(target=lambda: [calls(9, 99) for _ in iter(int, 1)]"
        ", daemon=True).start()"
    )
    ended = time.monotonic() + 5
    wished = [assigned(Policy.default(), [f"retain.floor_bytes={n << 16}"]) for n in (1, 2)]
    answers: list[tuple[int, bool]] = []
    said(program)

    def write(number: int) -> None:
        view = package.attach(program.pid)
        while time.monotonic() < ended:
            answer = view.set_policy(wished[number])
            assert answer.served
            answers.append((number, answer.overtaken))

    threads = [threading.Thread(target=write, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number for number, _ in answers} == {0, 1} and not all(late for _, late in answers)
    assert package.attach(program.pid).policy in wished
    assert program.poll() is None


def test_a_heap_of_this_process(make: Make) -> None:
    heap = make(checked=False)
    heap.policy = heap.policy.replace(caches=replace(heap.policy.caches, cap_bytes_tiny=64))
    assert heap.policy.caches.cap_bytes_tiny == 64 and heap.view().policy != Policy.default()
    blocks = [heap.alloc(100) for _ in range(2000)]
    for block in blocks:
        heap.free(block)
    with pytest.raises(PolicyError, match="the classes it has"):
        sizes = heap.policy.size_classes
        heap.policy = heap.policy.replace(size_classes=replace(sizes, classes=sizes.classes[:-1]))
    with pytest.raises(TypeError, match="expected a Policy"):
        heap.policy = "lean.toml"  # type: ignore[assignment]
    assert heap.policy.caches.cap_bytes_tiny == 64
    heap.view().validate()
