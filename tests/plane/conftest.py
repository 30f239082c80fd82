"""The heaps of the planes' tests: one on each plane, which every test leaves alike and sound."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
from twins import Twins

from hakmem import layout
from hakmem.views.checks.validation import validate
from hakmem.views.heap_view import HeapView
from hakmem.views.reading.source import OwnProcess


@pytest.fixture
def twins(request: pytest.FixtureRequest) -> Iterator[Twins]:
    """An unchecked heap of 1 GiB under the default policy on both planes; an indirect parameter is
    a dict of what differs: ``name`` of the policy, ``checked``."""
    usual = {"name": "default", "region_bytes": 1 << 30, "checked": False}
    made = Twins(**(usual | getattr(request, "param", {})))
    yield made
    made.check("the test")
    for engine in made.engines:
        validate(HeapView(OwnProcess(), engine.address, engine.plane))
    made.close()


def in_windows() -> set[tuple[int, int]]:
    """What is mapped where heaps have their windows, as (first address, bytes)."""
    found = set()
    with open("/proc/self/maps", encoding="ascii") as file:
        for line in file:
            low, high = (int(word, 16) for word in line.split(" ")[0].split("-"))
            if layout.WINDOW_LOW <= low < layout.WINDOW_HIGH:
                found.add((low, high - low))
    return found


@pytest.fixture
def clean_windows() -> Iterator[None]:
    """Unmaps what a test leaves behind that lets unmapping fail: in the next heap's way, it would
    be a foreign mapping."""
    before, heaps = in_windows(), OwnProcess().heaps()
    yield
    if OwnProcess().heaps() != heaps:
        return  # a test that failed has left its heaps
    libc = ctypes.CDLL(None, use_errno=True)
    for first, size in in_windows() - before:
        libc.munmap(ctypes.c_void_p(first), ctypes.c_size_t(size))
