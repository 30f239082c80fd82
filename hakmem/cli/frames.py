"""What ``hakmem top`` shows: samples of a heap, and a frame of text made of two of them. Knows no
terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from .. import layout
from ..views.showing.tables import format_age, format_bytes

if TYPE_CHECKING:
    from ..views.answers.glance import Glance
    from ..views.reading.records import Records

HISTORY: Final = 60
SPARK_SHARE, SPARK_BYTES = 8, 1 << 20
"""The bars of resident memory span an eighth of the most at least, and 1 MiB."""
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
KEYS: Final = (
    "q quit   p pause   s S sort   r reverse   Tab other table   t tables   + - interval   ? help"
)
HELP: Final = (
    "q, Ctrl-C   quit",
    "p, Space    pause, go on",
    "s, S        sort by the next column, the one before",
    "r           reverse the order",
    "Tab         sort keys act on the other table",
    "t           classes and threads, classes alone, threads alone, call sites",
    "+, -        twice as often, half as often",
    "?, h        this help, and back",
)
_LIVE: Final = layout.constant("HAK_THREAD_LIVE")
_RATES: Final = ("refill_count", "overflow_count", "remote_block_count", "span_alloc_count")


class Heading(NamedTuple):
    """A column: the field it shows, its heading, and what kind of number it is."""

    field: str
    text: str
    kind: str = "count"


CLASS_COLUMNS: Final = (
    Heading("class_index", "class"),
    Heading("stride_bytes", "stride"),
    Heading("application_bytes", "in use", "bytes"),
    Heading("grown", "grows/s", "signed"),
    Heading("application_count", "blocks"),
    Heading("slab_count", "slabs"),
    Heading("size_bytes", "slab bytes", "bytes"),
    Heading("fill", "fill", "share"),
    Heading("cached_count", "cached"),
    Heading("free_count", "free"),
    Heading("remote_count", "remote"),
    Heading("purged_count", "purged"),
)
THREAD_COLUMNS: Final = (
    Heading("index", "thread"),
    Heading("os_id", "OS id", "plain"),
    Heading("name", "name", "text"),
    Heading("cached_bytes", "cached", "bytes"),
    Heading("grown", "grows/s", "signed"),
    Heading("cap_bytes", "caps", "bytes"),
    Heading("refill_count", "refills/s", "rate"),
    Heading("overflow_count", "overflows/s", "rate"),
    Heading("remote_block_count", "remote frees/s", "rate"),
    Heading("fault_count", "faults"),
)
SITE_COLUMNS: Final = (
    Heading("where", "call site", "text"),
    Heading("live_bytes", "live", "bytes"),
    Heading("grown", "grows/s", "signed"),
    Heading("pinned_bytes", "pinned", "bytes"),
    Heading("live_blocks", "blocks"),
    Heading("total_bytes", "allocates/s", "flow"),
    Heading("oldest_ns", "oldest", "age"),
    Heading("live_samples", "samples"),
)
TABLES: Final = (CLASS_COLUMNS, THREAD_COLUMNS, SITE_COLUMNS)
SITES: Final = 2
"""The table of call sites: read only while it is shown, since it costs most."""
SHOWS: Final = ((0, 1), (0,), (1,), (SITES,))


@dataclass(frozen=True, slots=True)
class Sample:
    """A heap at one moment."""

    taken: float
    """Seconds of a clock that only goes forward."""
    clock: str
    title: str
    rss_bytes: int
    in_use_bytes: int
    mapped_bytes: int
    kept_bytes: int
    committed_bytes: int
    purged_bytes: int
    os_calls: int
    classes: Records
    threads: Records
    unclean: tuple[str, ...] = ()
    sites: Records | None = None
    """By name; None: not looked at."""
    no_sites: str = ""
    """Why there are none."""


def take(glance: Glance, sites: Records | None = None, no_sites: str = "") -> Sample:
    """A look's figures; ``sites`` where they were looked at."""
    heap, facts, outline = glance.outline.heap, glance.process, glance.outline
    calls = sum(
        getattr(heap.os, name)
        for name in (
            "reserve_count",
            "commit_count",
            "purge_count",
            "advise_count",
            "remap_count",
            "release_count",
        )
    )
    return Sample(
        taken=time.monotonic(),
        clock=time.strftime("%H:%M:%S"),
        title=glance.name if facts is None else facts.title(),
        rss_bytes=0 if facts is None else facts.rss_bytes,
        in_use_bytes=heap.in_use_units << layout.UNIT_SHIFT,
        mapped_bytes=int(outline.mapped["bytes"].sum()),
        kept_bytes=heap.dirty_units << layout.UNIT_SHIFT,
        committed_bytes=outline.committed_units << layout.UNIT_SHIFT,
        purged_bytes=int(heap.os.purged_bytes),
        os_calls=int(calls),
        classes=glance.classes,
        threads=glance.threads,
        unclean=glance.unclean(),
        sites=sites,
        no_sites=no_sites,
    )


@dataclass(slots=True)
class Choice:
    """What the person at the keys has chosen."""

    interval: float = 1.0
    chosen: bool = False
    """Whether somebody chose the interval."""
    paused: bool = False
    show: int = 0
    focus: int = 0
    sort: list[int] = field(default_factory=lambda: [2, 3, 1])
    descending: list[bool] = field(default_factory=lambda: [True, True, True])
    help: bool = False
    plain: bool = False
    """Only ASCII, no codes of a terminal."""

    @property
    def with_sites(self) -> bool:
        """Whether the call sites are shown."""
        return SITES in SHOWS[self.show]

    def press(self, key: str) -> bool:
        """Obey a key; whether it means anything but the end."""
        shown = SHOWS[self.show]
        if key in ("p", " "):
            self.paused = not self.paused
        elif key in ("s", ">", "S", "<"):
            step, count = (1 if key in "s>" else -1), len(TABLES[self.focus])
            self.sort[self.focus] = (self.sort[self.focus] + step) % count
        elif key == "r":
            self.descending[self.focus] = not self.descending[self.focus]
        elif key == "\t" and len(shown) > 1:
            self.focus = 1 - self.focus
        elif key == "t":
            self.show = (self.show + 1) % len(SHOWS)
            if self.focus not in SHOWS[self.show]:
                self.focus = SHOWS[self.show][0]
        elif key == "+":
            self.interval, self.chosen = max(self.interval / 2, 0.125), True
        elif key == "-":
            self.interval, self.chosen = min(self.interval * 2, 64.0), True
        elif key in ("?", "h"):
            self.help = not self.help
        else:
            return False
        return True


def sparkline(values: Iterable[int], blocks: str = BLOCKS, least_range: int = 0) -> str:
    """Values as a row of bars, from their least up; the highest bar is ``least_range`` above that,
    or the most where that is higher, so that what hardly moves looks flat.

    >>> sparkline([1, 2, 3]), sparkline([1, 2, 3], least_range=14)
    ('▁▄█', '▁▁▂')
    """
    found = list(values)
    least = min(found, default=0)
    span = max(max(found, default=0) - least, least_range)
    return "".join(
        blocks[(value - least) * (len(blocks) - 1) // span if span else 0] for value in found
    )


def _rates(
    now: Records, before: Records | None, seconds: float, key: str, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """What each row counted a second since ``before``, matched by ``key``; all 0 without one."""
    made = {name: np.zeros(len(now), dtype=np.float64) for name in names}
    if before is None or seconds <= 0:
        return made
    place = {value: at for at, value in enumerate(before[key].tolist())}
    at = np.array([place.get(value, -1) for value in now[key].tolist()], dtype=np.int64)
    for name in names:
        old = np.where(at >= 0, before[name].astype(np.float64)[at] if len(before) else 0.0, 0.0)
        made[name] = (now[name].astype(np.float64) - old) / seconds
    return made


def _text(value: Any, kind: str) -> str:
    if kind == "text":
        return str(value)
    if kind == "plain":
        return str(int(value))
    if kind == "bytes":
        return format_bytes(int(value))
    if kind == "flow":
        return format_bytes(int(value)) if value >= 0.5 else ""
    if kind == "age":
        return format_age(int(value)) if value >= 0 else ""
    if kind == "signed":
        return ("+" if value > 0 else "") + format_bytes(int(value)) if int(value) else ""
    if kind == "rate":
        return f"{value:,.0f}" if value >= 0.5 else ""
    if kind == "share":
        return "" if value != value else f"{value:.0%}"
    return f"{int(value):,}"


def table_rows(now: Sample, before: Sample | None, which: int) -> list[dict[str, Any]]:
    """The rows of a table with plain values by field: of classes those with slabs, of threads those
    that live."""
    seconds = now.taken - before.taken if before is not None else 0.0
    names: tuple[str, ...]
    if which == 0:
        array, key, names = now.classes, "class_index", ("application_bytes",)
        old, mask = (None if before is None else before.classes), array["slab_count"] > 0
    elif which == SITES:
        if now.sites is None:
            return []
        array, key, names = now.sites, "where", ("live_bytes", "total_bytes")
        old, mask = (None if before is None else before.sites), array["total_bytes"] > 0
    else:
        array, key, names = now.threads, "index", ("cached_bytes", *_RATES)
        old, mask = (None if before is None else before.threads), array["state"] == _LIVE
    rates = _rates(array, old, seconds, key, names) if which != SITES or old is not None else {}
    columns = {
        heading.field: array[heading.field].tolist()
        for heading in TABLES[which]
        if heading.field != "grown"
    }
    nothing = np.zeros(len(array))
    columns["grown"] = rates.get(names[0], nothing).tolist()
    for name in names[1:]:
        columns[name] = rates.get(name, nothing).tolist()
    return [
        {name: values[place] for name, values in columns.items()}
        for place in np.flatnonzero(mask).tolist()
    ]


def _table(
    now: Sample, before: Sample | None, which: int, choice: Choice, width: int, height: int
) -> list[str]:
    """A heading and at most ``height - 1`` rows, the last of which says how many more there are."""
    headings, rows = TABLES[which], table_rows(now, before, which)
    chosen = headings[choice.sort[which]]
    rows.sort(
        key=lambda row: row[chosen.field] if row[chosen.field] == row[chosen.field] else -1,
        reverse=choice.descending[which],
    )
    room = max(height - 1, 1)
    shown = rows if len(rows) <= room else rows[: room - 1]
    mark = (
        ("v" if choice.descending[which] else "^")
        if choice.plain
        else ("▼" if choice.descending[which] else "▲")
    )
    made = [[] for _ in range(len(shown) + 1)]  # type: list[list[str]]
    used = 0
    for heading in headings:
        title = heading.text + (mark if heading is chosen else "")
        cells = [title, *(_text(row[heading.field], heading.kind) for row in shown)]
        if which == SITES and heading.kind == "text":  # its names are long, the figures tell more
            cells = [_clip(cell, max(width - 76, 20)) for cell in cells]
        wide = max(map(len, cells))
        if used + wide > width:
            break
        used += wide + 2
        for line, cell in zip(made, cells, strict=True):
            line.append(cell.ljust(wide) if heading.kind == "text" else cell.rjust(wide))
    lines = ["  ".join(line).rstrip() for line in made]
    if which == SITES and not rows:
        lines.append(now.no_sites or "...")
    if len(shown) < len(rows):
        lines.append(f"... {len(rows) - len(shown)} more")
    return lines


def _clip(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def frame(
    now: Sample, before: Sample | None, history: deque[int], choice: Choice, width: int, height: int
) -> list[str]:
    """The lines of a screen of ``width`` by ``height``; a heading that stands out begins with
    ``\\x01``."""
    seconds = now.taken - before.taken if before is not None else 0.0
    state = "paused" if choice.paused else f"every {choice.interval:g} s"
    clock = f"{now.clock}  {state}"
    title = _clip(f"hakmem top  {now.title}", max(width - len(clock) - 2, 10))
    blocks = ASCII_BLOCKS if choice.plain else BLOCKS
    recent = list(history)[-max(width - 50, 8) :]
    spark = sparkline(recent, blocks, max(max(recent, default=0) // SPARK_SHARE, SPARK_BYTES))
    between = f"  {format_bytes(min(recent))} to {format_bytes(max(recent))}" if recent else ""
    cached = int(now.threads["cached_bytes"].sum())
    mapped = f"mapped blocks {format_bytes(now.mapped_bytes)}   " if now.mapped_bytes else ""
    lines = [
        f"{title}{clock:>{max(width - len(title), 0)}}",
        f"resident {format_bytes(now.rss_bytes)}  {spark}{between}",
        f"slabs and spans {format_bytes(now.in_use_bytes)}   {mapped}free and kept "
        f"{format_bytes(now.kept_bytes)}   in caches {format_bytes(cached)}   "
        f"committed {format_bytes(now.committed_bytes)}",
    ]
    if before is not None and seconds > 0:
        refills, overflows, remote, spans = (
            float(sum(_rates(now.threads, before.threads, seconds, "index", (name,))[name]))
            for name in _RATES
        )
        lines.append(
            f"a second: {refills:,.0f} refills   {overflows:,.0f} overflows   {remote:,.0f} "
            f"remote frees   {spans:,.0f} spans   "
            f"{(now.os_calls - before.os_calls) / seconds:,.0f} OS calls   "
            f"{format_bytes(int((now.purged_bytes - before.purged_bytes) / seconds))} given back"
        )
    else:
        lines.append("a second: ...")
    if now.unclean:
        lines.append(f"not read cleanly: {'; '.join(now.unclean)}")
    lines.append("")
    room = height - len(lines) - 1
    if choice.help:
        lines += list(HELP)[:room]
    else:
        lines += _tables(now, before, choice, width, room)
    lines = [_clip(line, width) for line in lines[: height - 1]]
    return [*lines, *[""] * (height - 1 - len(lines)), _clip(KEYS, width)]


def _tables(now: Sample, before: Sample | None, choice: Choice, width: int, room: int) -> list[str]:
    shown = SHOWS[choice.show]
    threads = int((now.threads["state"] == _LIVE).sum())
    shares = (
        [room]
        if len(shown) == 1
        else [room - min(threads + 2, max(room // 3, 4)), min(threads + 2, max(room // 3, 4)) - 1]
    )
    lines: list[str] = []
    for which, share in zip(shown, shares, strict=True):
        if share < 2:
            continue
        if lines:
            lines.append("")
        made = _table(now, before, which, choice, width, share)
        made[0] = ("\x01" if which == choice.focus else "\x02") + made[0]
        lines += made
        if which == shown[0] and len(shown) > 1:
            lines += [""] * max(share - len(made), 0) if threads > room // 3 else []
    return lines


def as_json(now: Sample, before: Sample | None) -> dict[str, Any]:
    """A frame for programs; rates are a second, 0 in the first frame."""
    made: dict[str, Any] = {
        name: getattr(now, name)
        for name in (
            "clock",
            "title",
            "rss_bytes",
            "in_use_bytes",
            "mapped_bytes",
            "kept_bytes",
            "committed_bytes",
            "purged_bytes",
            "os_calls",
        )
    }
    tables = ("classes", "threads", "sites") if now.sites is not None else ("classes", "threads")
    for which, name in enumerate(tables):
        listed = table_rows(now, before, which)
        made[name] = [
            {key: (None if value != value else value) for key, value in row.items()}
            for row in listed
        ]
    return made
