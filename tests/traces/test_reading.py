"""Traces read: what was written comes back; what is damaged, hostile or cut is told."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import Event, chunk, written

from hakmem.traces import format as form
from hakmem.traces.reading import load
from hakmem.traces.records import TraceError
from hakmem.traces.varints import decode, encode


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_numbers_come_back(numbers: list[int]) -> None:
    assert decode(b"".join(map(encode, numbers))).tolist() == numbers


@pytest.mark.parametrize("wrong", [b"\x80", b"\x01\xff", b"\xff" * 9 + b"\x01"])
def test_numbers_that_are_none_are_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError):
        decode(wrong)


def a_program(seed: int, threads: int, steps: int) -> dict[int, list[Event]]:
    """Events of threads that take each other's objects, each object at most once."""
    draw = random.Random(seed)
    events: dict[int, list[Event]] = {thread: [] for thread in range(threads)}
    made, live = [0] * threads, list[tuple[int, int]]()
    for _ in range(steps):
        thread = draw.randrange(threads)
        name = draw.choice(("malloc", "calloc", "aligned", "realloc", "free"))
        maker, number, size = -1, 0, draw.choice((0, 1, 127, 128, 1 << 20, (1 << 48) - 1))
        if name in ("realloc", "free"):
            if not live:
                continue
            maker, number = live.pop(draw.randrange(len(live)))
        if name == "aligned":
            number = draw.randrange(20)
        if name != "free":
            live.append((thread, made[thread]))
            made[thread] += 1
        events[thread].append((name, 0 if name == "free" else size, maker, number))
    return events


@settings(max_examples=40, deadline=None)
@given(st.integers(), st.integers(1, 5), st.integers(1, 200), st.integers(1, 40))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, seed: int, threads: int, steps: int, length: int
) -> None:
    program = a_program(seed, threads, steps)
    chunks = []
    for thread, events in program.items():
        for at in range(0, len(events), length):
            before = sum(event[0] != "free" for event in events[:at])
            part = events[at : at + length]
            chunks.append(chunk(thread, at // length, before, at * 10, part))
    trace = load(written(tmp_path_factory.mktemp("made") / "a.trace", chunks))
    assert trace.remarks == ()
    makers = trace.makers()
    firsts = [int(np.flatnonzero(makers == at)[0]) if (makers == at).any() else 0
              for at in range(len(trace.threads))]  # fmt: skip
    for index, number in enumerate(trace.numbers.tolist()):
        found = []
        for event in trace.threads[index]:
            name, maker, place = form.KIND_NAMES[event["kind"]], -1, 0
            if event["taken"] >= 0:
                owner = int(makers[event["taken"]])
                maker = int(trace.numbers[owner])
                place = int(event["taken"]) - firsts[owner]
            if name == "aligned":
                place = int(event["align_log2"])
            found.append((name, int(event["size"]), maker, place))
        assert found == program[number]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A trace of two threads."""
    first = [("malloc", 100, -1, 0), ("calloc", 300, -1, 0), ("free", 0, 0, 0)]
    second = [("free", 0, 0, 1), ("aligned", 500, -1, 6)]
    return written(tmp_path / "a.trace", [chunk(0, 0, 0, 0, first), chunk(1, 0, 0, 5, second)])


def test_no_flipped_bit_goes_unnoticed(small: Path) -> None:
    whole = small.read_bytes()
    used = [*range(600), *range(form.HEAD_BYTES, len(whole))]
    for at in used:
        for bit in (0, 7):
            small.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            try:
                trace = load(small)
            except TraceError as error:
                assert str(small) in str(error) and "\n" not in str(error)
            else:  # a segment's magic at 0 ends the file; behind the check nothing is read
                in_segment = at - form.HEAD_BYTES
                assert 0 <= in_segment < 4 or 24 <= in_segment < form.SEGMENT_HEAD_BYTES, at
                assert trace.event_count == 5, at


def test_a_cut_file_is_read_to_its_last_whole_chunk(small: Path) -> None:
    whole = small.read_bytes()
    counts = set()
    for length in range(form.HEAD_BYTES, len(whole)):
        small.write_bytes(whole[:length])
        trace = load(small)
        counts.add(trace.event_count)
        if length >= form.HEAD_BYTES + form.SEGMENT_HEAD_BYTES:
            assert "cut" in " ".join(trace.remarks), length
    assert counts == {0, 3}
    small.write_bytes(whole[: form.HEAD_BYTES - 1])
    with pytest.raises(TraceError, match="no trace"):
        load(small)


HOSTILE = {
    "taken twice": [
        chunk(0, 0, 0, 0, [("malloc", 1, -1, 0), ("free", 0, 0, 0), ("free", 0, 0, 0)])
    ],
    "nobody made": [chunk(0, 0, 0, 0, [("free", 0, 7, 0)])],
    "expected 0": [chunk(0, 1, 0, 0, [("malloc", 1, -1, 0)])],
    "counts its objects": [chunk(0, 0, 5, 0, [("malloc", 1, -1, 0)])],
    "alignment of 2\\^60": [chunk(0, 0, 0, 0, [("aligned", 1, -1, 60)])],
    "block of": [chunk(0, 0, 0, 0, [("malloc", 1 << 50, -1, 0)])],
    "backward": [chunk(0, 0, 0, 9, [("malloc", 1, -1, 0)]), chunk(0, 1, 1, 3, [("free", 0, 0, 0)])],
    "has no end": [chunk(0, 0, 0, 0, [])._replace(columns=(b"\x01", b"\x80", b""))],
    "other columns": [chunk(0, 0, 0, 0, [])._replace(columns=(b"\x01", b"", b""))],
    "kind 6": [chunk(0, 0, 0, 0, [])._replace(columns=(b"\x06", b"", b""))],
    "before it is made": [chunk(0, 0, 0, 0, [])._replace(columns=(b"\x05", b"", b"\x00"))],
}


@pytest.mark.parametrize("message", HOSTILE)
def test_a_hostile_trace_is_refused(tmp_path: Path, message: str) -> None:
    place = written(tmp_path / "a.trace", HOSTILE[message])
    with pytest.raises(TraceError, match=message):
        load(place)


def test_another_version_is_refused(tmp_path: Path) -> None:
    place = written(tmp_path / "a.trace", [], version=form.VERSION + 1)
    with pytest.raises(TraceError, match="record it again"):
        load(place)


def test_a_chunk_that_says_it_inflates_to_much_is_refused(small: Path) -> None:
    data = bytearray(small.read_bytes())
    at = form.HEAD_BYTES + form.SEGMENT_HEAD_BYTES
    lengths = struct.calcsize("<IIQQQQ") + at
    struct.pack_into("<IIII", data, lengths, 1 << 30, 0, 0, 8)
    struct.pack_into("<Q", data, at + struct.calcsize(form.CHUNK_CODE) - 8, 0)
    struct.pack_into("<I", data, at, 0)
    length = struct.calcsize(form.CHUNK_CODE) + 8
    total = form.checksum(bytes(data[at : at + length]))
    struct.pack_into("<Q", data, at + struct.calcsize(form.CHUNK_CODE) - 8, total)
    struct.pack_into("<I", data, at, form.CHUNK_MAGIC)
    small.write_bytes(data)
    with pytest.raises(TraceError, match="says it is"):
        load(small)
