"""The heaps of the planes' tests: one on each plane, which every test leaves alike and sound."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twins import Twins

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
