"""Readers of heaps whose words lie: ``python tests/outside/hostile.py --rounds N [--seed S]``.

A heap with blocks of all kinds is made, and looked at as another process's would be
(`LiveProcess`). In each round a child of this process overwrites a few words of the heap's
metadata — counts, sizes, offsets, links, states, of the header, the policy and all tables — with
numbers that are too large, negative or 0, and then every reader is called. Each must answer, or
raise an error of this package, within bounded memory (an address space of so much more than the
child had) and time. What a child finds wrong it says on its last line.
"""

from __future__ import annotations

import argparse
import ctypes
import io
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import hakmem
from hakmem import layout
from hakmem.errors import HakmemError
from hakmem.generate import mirror
from hakmem.outside.live import LiveProcess
from hakmem.views.heap_view import HeapView
from hakmem.views.reading.class_totals import RunningTotals
from hakmem.views.reading.outline import Outline

MORE_BYTES = 768 << 20
SECONDS = 60
VALUES = (0, 1, 7, 63, 255, (1 << 32) - 1, 1 << 31, 1 << 62, 1 << 63, (1 << 64) - 1, (1 << 64) - 8)


def filled_heap(headers: str) -> tuple[hakmem.Heap, list[int]]:
    """A heap with slabs, spans, free runs, caches of several threads and remote frees."""
    policy = hakmem.Policy.default().replace(headers=headers)
    heap = hakmem.Heap(region_bytes=1 << 25, policy=policy)
    blocks = [heap.alloc(8 + index % 3000) for index in range(4000)]
    large = [heap.alloc(100_000 + 7000 * index) for index in range(12)]
    heap.free_many(blocks[::3])
    heap.free_many(large[::2])
    thread = threading.Thread(target=lambda: [heap.free(block) for block in blocks[1::3]])
    thread.start()
    thread.join()
    return heap, blocks[2::3]


def words_of(heap: hakmem.Heap) -> list[tuple[int, int]]:
    """Places of the metadata that readers believe: address and bytes of each field; those of the
    records that are in use."""
    view = heap.view()
    plan, found = view.capture.geometry, []

    def add(struct: str, base: int) -> None:
        made = mirror.structure(struct)
        for name, kind in made._fields_:  # type: ignore[misc]
            place, size = base + getattr(made, name).offset, getattr(made, name).size
            single = ctypes.sizeof(kind._type_ if hasattr(kind, "_length_") else kind)
            item = single if single in (1, 2, 4) else 8
            found.extend((place + at, item) for at in range(0, size, item))

    add("hak_heap", heap.address)
    add("hak_policy", heap.address + plan.policy_offset)
    units = range(plan.meta_units, view.capture.unit_top)
    for unit in units:
        add("hak_slab", heap.address + plan.slabs_offset + unit * ctypes.sizeof(mirror.HakSlab))
        found.append((heap.address + plan.registry_offset + 8 * unit, 8))
    for thread in range(len(view.capture.threads)):
        size = ctypes.sizeof(mirror.HakThread)
        add("hak_thread", heap.address + plan.threads_offset + thread * size)
    return found


def readers(view: HeapView, block: int, folder: str) -> list[Callable[[], object]]:
    """Every way to look at a heap."""
    file = os.path.join(folder, "saved.npz")
    source, address = view.capture.source, view.capture.address
    return [
        lambda: str(view),
        lambda: str(view.stats()),
        lambda: [str(part) for part in (view.classes, view.slabs, view.superslabs, view.spans)],
        lambda: [str(part) for part in (view.threads, view.arenas)],
        lambda: [thread.caches for thread in view.threads],
        lambda: str(view.validate()),
        lambda: str(view.why()),
        lambda: view.whatis(block).state,
        lambda: [view.whatis(block + step).kind for step in (1 << 16, 1 << 20, 1 << 24)],
        lambda: len(view.blocks()),
        lambda: [str(slab.map()) for slab in view.slabs[:9]],
        lambda: view.write_maps(io.StringIO()),
        lambda: (view.save(file, force=True), str(hakmem.load(file)), str(hakmem.load(file).why())),
        lambda: RunningTotals().look(Outline(**Outline.parts(source, address))),
        lambda: view.policy,
    ]


def child(heap: hakmem.Heap, block: int, places: list[tuple[int, int]], seed: int) -> None:
    """Damage a heap, look at it in every way. Raises what no reader may raise."""
    made = random.Random(seed)
    damage = []
    for _ in range(made.choice((1, 1, 2, 3, 8))):
        place, size = made.choice(places)
        if made.random() < 0.5:
            place, size = made.choice(places[: layout.HEAP_BYTES // 8])
        value = made.choice((*VALUES, made.getrandbits(64), made.getrandbits(16)))
        damage.append((place, value, size))
    for place, value, size in damage:
        ctypes.memmove(place, value.to_bytes(8, "little"), size)
    source = LiveProcess(os.getpid())
    now = int(Path("/proc/self/statm").read_text().split()[0]) * layout.OS_PAGE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (now + MORE_BYTES, now + MORE_BYTES))
    signal.alarm(SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        try:
            view = HeapView(source, heap.address)
        except HakmemError as error:
            if "\n" in str(error):
                raise
            return
        for read in readers(view, block, folder):
            try:
                read()
            except HakmemError:
                continue


def run(rounds: int, seed: int, show: bool) -> int:
    """How many rounds went wrong."""
    wrong = 0
    heaps = [filled_heap(headers) for headers in ("none", "all")]
    all_places = [words_of(heap) for heap, _ in heaps]
    for at in range(rounds):
        (heap, blocks), places = heaps[at % 2], all_places[at % 2]
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child(heap, blocks[at % len(blocks)], places, seed + at)
                status = 0
            except BaseException:
                os.write(writer, traceback.format_exc()[-3000:].encode())
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read().decode(errors="replace")
        _, status = os.waitpid(pid, 0)
        if status:
            wrong += 1
            end = said.strip().splitlines()[-1:] or [f"ended by status {status:#x}"]
            print(f"seed {seed + at}: {said if show else end[0]}", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="readers of heaps whose words lie")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="whole tracebacks")
    given = parser.parse_args()
    wrong = run(given.rounds, given.seed, given.show)
    print(f"{given.rounds} rounds, {wrong} wrong")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
