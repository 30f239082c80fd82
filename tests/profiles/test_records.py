"""The records of a profile: what they say of themselves, and what they add up to."""

from __future__ import annotations

import doctest
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from hakmem.profiles import records
from hakmem.profiles.records import AMOUNTS, Frame, Module, Profile, SiteRecord

FRAME = Frame("parse", "src/parse.c", 41, "/usr/bin/app", 0x401136)


def test_examples() -> None:
    failed, attempted = doctest.testmod(records)
    assert (failed, attempted) == (0, 6)


def test_totals_are_of_all_sites() -> None:
    first = SiteRecord((FRAME,), 1, 1, 2, 3, 4, 5, 100, 200)
    second = SiteRecord((), 2, 10, 20, 30, 40, 50, 0, 0)
    totals = Profile((first, second)).totals()
    assert tuple(totals) == AMOUNTS and [*totals.values()] == [11, 22, 33, 44, 55]


def test_records_stay_as_they_are() -> None:
    module = Module("/lib/x.so", 0x1000, 0x3000, 0x2000, "ab")
    for record, field in ((FRAME, "line"), (module, "start"), (Profile(()), "pid")):
        with pytest.raises(FrozenInstanceError):
            setattr(record, field, 1)
        assert pickle.loads(pickle.dumps(record)) == record and hash(record) == hash(record)


def test_they_load_nothing_else() -> None:
    code = (
        "import sys; before = {*sys.modules}; import hakmem.profiles.records\n"
        "print(*sorted(name for name in {*sys.modules} - before if name.split('.')[0] in "
        "('numpy', 'tabulate', 'ctypes', 'elftools')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
