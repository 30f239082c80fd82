"""Heaps for the views' tests: every test that takes ``heap`` runs on both planes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import hakmem

REGION_BYTES = 1 << 26


@pytest.fixture(params=["native", "python"])
def plane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(plane: str) -> Iterator[Callable[..., hakmem.Heap]]:
    made: list[hakmem.Heap] = []

    def new(**arguments: object) -> hakmem.Heap:
        heap = hakmem.Heap(plane=plane, **({"region_bytes": REGION_BYTES} | arguments))
        made.append(heap)
        return heap

    yield new
    for heap in made:
        heap.destroy()


@pytest.fixture
def heap(make: Callable[..., hakmem.Heap]) -> hakmem.Heap:
    return make(name="test heap")
