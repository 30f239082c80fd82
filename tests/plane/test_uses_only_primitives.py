"""The Python plane calls nothing of C but the primitives."""

from __future__ import annotations

import ast
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bent_policies import policies

import hakmem.plane
from hakmem import layout
from hakmem.clib import binding
from hakmem.plane import PythonEngine
from hakmem.policy import Policy


class Recorder:
    """Stands in for the library and counts the calls of each function."""

    def __init__(self, real: binding.Library) -> None:
        self._real = real
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._real, name)

        def counted(*arguments: object) -> object:
            self.calls[name] += 1
            return function(*arguments)

        return counted


def exercise(engine: PythonEngine) -> None:
    """Every method of an engine, all bands."""
    rng = random.Random(7)
    live: list[int] = []
    for _ in range(400):
        size = rng.choice((rng.randrange(1024), rng.randrange(53_248), rng.randrange(1 << 21)))
        live.append(engine.alloc(size, rng.choice((1, 64, 1 << 17)), rng.random() < 0.5))
        live.extend(
            engine.alloc_many(
                np.full(rng.randrange(20), rng.randrange(9000), dtype=np.uint64)
            ).tolist()
        )
        rng.shuffle(live)
        if rng.random() < 0.4:
            half = len(live) // 2
            assert engine.free_many(np.array(live[half:], dtype=np.uintp)) == (
                len(live) - half,
                None,
            )
            del live[half:]
        if live:
            live[-1], fault = engine.realloc(live[-1], rng.randrange(1 << 22))
            assert fault is None and engine.usable_size(live[-1])[1] is None
    assert engine.free(1) is not None
    for address in live:
        assert engine.free(address) is None
    engine.prewarm()
    engine.flush()
    engine.hold_clock(10**15)
    engine.tick()
    engine.release_clock()
    engine.trim()
    assert engine.heap.dirty_units == 0


@pytest.mark.parametrize("name", ["default", "no caches", "eager purge", "headers all"])
def test_every_call_into_c_is_a_primitive(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(binding.library())
    monkeypatch.setattr(binding, "_library", recorder)
    engine = PythonEngine(policies()[name](), 256 << 20, checked=True)
    exercise(engine)
    engine.destroy()
    assert set(recorder.calls) <= binding.PRIMITIVES
    assert recorder.calls["hak_os_release"] == 1
    assert {"hak_load64", "hak_store32", "hak_cas32", "hak_cas64", "hak_os_map"} <= set(
        recorder.calls
    )


def test_sources_name_no_other_function_of_c() -> None:
    named: set[str] = set()
    for folder in hakmem.plane.__path__:
        for path in Path(folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                name = node.attr if isinstance(node, ast.Attribute) else ""
                assert name not in ("CDLL", "PyDLL", "cdll", "pythonapi"), path
                if name.startswith("hak_"):
                    named.add(name)
    assert named <= binding.PRIMITIVES
    assert "hak_cas64" in named


def test_a_subclass_decides_in_the_python_plane() -> None:
    from dataclasses import dataclass

    from hakmem.policy import ArenaGrowth

    asked: list[int] = []

    @dataclass(frozen=True, slots=True)
    class Watched(ArenaGrowth):
        def chunk_bytes(self, index: int) -> int:
            asked.append(index)
            return 3 << 20

    engine = PythonEngine(Policy.default().replace(arenas=Watched()), 64 << 20)
    for _ in range(10):
        assert engine.alloc(1 << 20)
    made = list(engine.heap.arena_units[: engine.heap.arena_count])
    assert 0 in asked and made == [(3 << 20) >> layout.UNIT_SHIFT] * len(made) and len(made) > 2
    engine.destroy()
