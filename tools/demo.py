"""The demo: a real allocation trace through a heap on both planes, and what can be seen of it.

``python -m tools.demo`` (``make demo``). Exits 1 when the planes disagree or a heap does not
validate.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import psutil
from tabulate import tabulate

from hakmem.generate import mirror
from hakmem.heap.api import Heap
from hakmem.policy import HeaderCodec, Policy
from tools import trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hakmem.views.parts.slabs import SlabRecord

BAR_WIDTH = 32
REGION_BYTES = 1 << 30
COMPARED = (
    "unit",
    "class_index",
    "used_count",
    "carved_count",
    "free_list",
    "remote_list",
    "claim_seq",
    "flags",
    "unit_count",
)
"""Fields of the slab records that both planes must agree on, bit for bit."""


def say(title: str) -> None:
    """A section's heading."""
    print("\n" + f"== {title} ".ljust(100, "="))


def with_progress(label: str, steps: Iterator[int], first: int, end: int) -> float:
    """Runs ``steps`` to the end, with a bar when standard error is a terminal; returns the
    seconds."""
    start = time.perf_counter()
    shown = sys.stderr.isatty()
    for done in steps:
        if shown:
            filled = BAR_WIDTH * (done - first) // max(end - first, 1)
            print(
                f"\r{label:<28} [{'#' * filled:<{BAR_WIDTH}}] {done:>9,} of {end:,}",
                end="",
                file=sys.stderr,
                flush=True,
            )
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return time.perf_counter() - start


def mib(count: int) -> str:
    """Bytes as MiB."""
    return f"{count / (1 << 20):.1f} MiB"


def record() -> NDArray[np.void]:
    """The trace, and a line on each part of it."""
    parts = {
        "ast over the Python plane's sources": trace.record_ast(keep=20),
        "NumPy signals and spectra": trace.record_numpy(),
    }
    rows = []
    for name, events in parts.items():
        sizes = events["size"][events["size"] > 0]
        rows.append(
            (
                name,
                len(events),
                len(sizes),
                int(np.median(sizes)),
                int(sizes.max()),
                mib(trace.peak(events)[1]),
            )
        )
    print(
        tabulate(
            rows,
            ("taken from", "events", "blocks", "median B", "largest B", "peak alive"),
            intfmt=",",
        )
    )
    return trace.joined(*parts.values())


def planes_agree(native: Heap, python: Heap) -> bool:
    """Whether both planes have the same slabs, records and decisions; prints what differs."""
    mine, other = native.slabs.array, python.slabs.array
    if len(mine) != len(other):
        print(f"the planes differ: {len(mine)} slabs natively, {len(other)} in Python")
        return False
    wrong = [name for name in COMPARED if not np.array_equal(mine[name], other[name])]
    same_spans = np.array_equal(native.spans.array["unit"], python.spans.array["unit"])
    if wrong or not same_spans:
        print(f"the planes differ in {', '.join(wrong) or 'spans'}")
        return False
    print(
        f"both planes agree: {len(mine)} slab records ({', '.join(COMPARED)}) and "
        f"{len(native.spans)} spans are the same bit for bit"
    )
    return True


def interesting_slab(heap: Heap) -> SlabRecord:
    """The slab whose blocks are in the most states, small enough for one screen."""
    array = heap.slabs.array
    states = sum(
        (array[name] > 0).astype(int)
        for name in ("application_count", "free_count", "cached_count", "uncarved_count")
    )
    small = (array["block_count"] <= 700) & (array["block_count"] >= 100)
    return heap.slabs[int(np.argmax(states * 1000 * small + array["fill"]))]


def show_headers(events: NDArray[np.void]) -> bool:
    """One slab of a heap in which every class has headers, its bytes decoded and compared with the
    registry."""
    with Heap(Policy.default().replace(headers="all"), region_bytes=REGION_BYTES) as heap:
        for _ in trace.replay(heap, events, {}, stop=2000):
            pass
        slab = interesting_slab(heap)
        print(slab.table(limit=12))
        codec = HeaderCodec("all")
        decoded = [
            (block, codec.decode(block.header))
            for block in slab.for_each_block()
            if block.header is not None
        ]
        right = [
            header is not None
            and header.class_index == slab.class_index
            and (header.state == "live") == (block.state == "application")
            for block, header in decoded
        ]
        print(
            f"\n{sum(right)} of {len(right)} header bytes name class {slab.class_index}, as the "
            "registry does, and the block's state"
        )
        return all(right)


def show_back_to_os(
    heap: Heap, addresses: dict[int, int], events: NDArray[np.void], at: int
) -> None:
    """Frees everything and says what went back to the OS, by the heap's figures and by the
    process's."""
    process = psutil.Process()
    rows = []

    def note(when: str, back: str = "") -> None:
        stats = heap.stats()
        rows.append(
            (
                when,
                mib(stats.in_use_bytes),
                mib(stats.dirty_bytes),
                mib(int(process.memory_info().rss)),
                back,
            )
        )

    note("at the peak")
    with_progress(
        "native plane, to the end", trace.replay(heap, events, addresses, at), at, len(events)
    )
    note("all blocks freed")
    given = heap.trim()
    note("after trim()", f"trim() gave back {mib(given)}")
    print(tabulate(rows, ("", "heap: live", "heap: dirty", "process: RSS", "")))
    print(
        "live: units in slabs and spans; dirty: free units whose pages may still be resident; "
        "RSS counts Python too"
    )


def main() -> int:
    """Runs the demo; the exit code."""
    started = time.perf_counter()
    say("A real allocation trace")
    events = record()
    at = trace.peak(events)[0]
    good = True
    with (
        Heap(region_bytes=REGION_BYTES, plane="native") as native,
        Heap(region_bytes=REGION_BYTES, plane="python") as python,
    ):
        say("The same trace through both planes, up to its peak")
        blocks: dict[str, dict[int, int]] = {"native": {}, "python": {}}
        rows = []
        for heap in (native, python):
            heap.hold_clock(
                1
                # what goes back to the OS in between depends on the time, and the planes run at
                # different speeds
            )
            label = f"{heap.plane} plane, to the peak"
            seconds = with_progress(
                label, trace.replay(heap, events, blocks[heap.plane], stop=at), 0, at
            )
            rows.append(
                (heap.plane, at, f"{seconds:.2f} s", f"{seconds / max(at, 1) * 1e6:.1f} us")
            )
        print(tabulate(rows, ("plane", "events", "time", "an event, from Python"), intfmt=","))
        good &= planes_agree(native, python)
        native.release_clock()
        say("Size classes in use")
        used = native.classes.array["slab_count"] > 0
        print(native.classes[used].table())
        say("Superslabs")
        print(native.superslabs.table())
        say("Slabs")
        print(native.slabs.table(limit=16))
        say("One slab, a letter a block")
        print(interesting_slab(native).map())
        say("One slab of a heap with headers on every block")
        good &= show_headers(events)
        say("Thread caches")
        print(native.threads.table())
        say("OS calls, and memory by the heap's own figures")
        print(native.stats())
        say("Back to the OS")
        show_back_to_os(native, blocks["native"], events, at)
        say("Everything in exactly one place?")
        print(native.validate())
        print(python.validate())
    print(f"\n{time.perf_counter() - started:.1f} s in all; layout {mirror.LAYOUT_HASH:#018x}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
