"""The heap of the views' tests: every test that takes ``heap`` runs on both planes."""

from __future__ import annotations

import pytest

import hakmem
from tests.support.heaps import Make


@pytest.fixture
def heap(make: Make) -> hakmem.Heap:
    return make(name="test heap")
