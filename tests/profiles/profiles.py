"""Profiles made by hand, for the tests of every output."""

from __future__ import annotations

import random
from typing import Final

from hakmem.profiles.records import Frame, Module, Profile, SiteRecord

APP: Final = Module("/usr/bin/shop", 0x400000, 0x480000, 0x1000, "8f3a01")
LIBRARY: Final = Module("/usr/lib/libz.so.1", 0x7F0000000000, 0x7F0000010000, 0, "")
MAIN: Final = Frame("main", "/src/main.c", 12, APP.path, 0x400105)
RUN: Final = Frame("shop::run<int>", "/src/run.cc", 40, APP.path, 0x400205)
INNER: Final = Frame("fill", "/src/list.h", 7, APP.path, 0x400305, inlined=True)
OUTER: Final = Frame("load", "/src/load.c", 90, APP.path, 0x400305)
BARE: Final = Frame("libz.so.1+0x1234", "", 0, LIBRARY.path, 0x7F0000001234)
JIT: Final = Frame("0x7e0000000010", "", 0, "", 0x7E0000000010)
PYTHON: Final = Frame("parse", "/srv/app.py", 3, "", 0, language="python")
MODULE: Final = Frame("<module>", "/srv/app.py", 30, "", 0, language="python", entry=True)

SMALL: Final = Profile(
    (
        SiteRecord((INNER, OUTER, RUN, MAIN), 7, 6000, 60, 90000, 900, 120000, 100, 900),
        SiteRecord((INNER, OUTER, RUN, MAIN), 8, 2000, 10, 10000, 50, 8000, 200, 300),
        SiteRecord((BARE, OUTER, MAIN), 9, 1000, 1, 5000, 5, 0, 400, 400),
        SiteRecord((PYTHON, MODULE, MAIN), 0, 0, 0, 70000, 7, 0, 0, 0),
        SiteRecord((JIT,), 3, 500, 5, 500, 5, 700, 500, 600),
        SiteRecord((), 4, 8, 1, 8, 1, 0, 700, 700),
    ),
    process="shop",
    pid=4711,
    rate_bytes=524288,
    time_ns=1_700_000_000_000_000_000,
    duration_ns=90_000_000_000,
    modules=(LIBRARY, APP),
)
"""A site each of what there is: inlined functions, two classes, names missing, Python, no frame."""


def wide(sites: int, depth: int = 24, seed: int = 22) -> Profile:
    """A large profile: stacks that share their outer frames, as those of programs do."""
    chance = random.Random(seed)
    made = []
    for place in range(sites):
        path = [MAIN]
        for level in range(chance.randrange(3, depth)):
            choice = chance.randrange(1 + min(level, 4))
            name = (
                f"server::step_{level}<{chance.choice('abc')}>::{'xyzuv'[choice]}(int, char const*)"
            )
            path.append(
                Frame(name, f"/src/step_{level}.cc", 10 + choice, APP.path, 0x401000 + level)
            )
        live = int(chance.expovariate(1 / 50_000))
        blocks = max(live // 640, 1)
        record = SiteRecord(
            tuple(reversed(path)),
            place % 30,
            live,
            blocks,
            live * 9,
            blocks * 9,
            int(chance.expovariate(1 / 200_000)) if place % 7 == 0 else 0,
            10,
            20,
        )
        made.append(record)
    return Profile(tuple(made), process="server", pid=815, rate_bytes=1 << 19, modules=(APP,))
