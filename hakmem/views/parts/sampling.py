"""`Sampling`: whether a heap samples who allocates, how densely, and what it has of that."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import HakmemError
from ...text import html_paragraph
from ..reading.look import Look
from ..reading.profile import ProfileTables
from ..showing.notebook import Shown
from ..showing.tables import format_bytes, format_count


@dataclass(frozen=True, slots=True, repr=False)
class Sampling(Shown):
    """The sampling of one heap; prints as a sentence."""

    rate_bytes: int
    """Bytes allocated for each sample, on average; 0: none are taken."""
    taken_count: int = 0
    """Samples ever taken, those that were lost among them."""
    live_count: int = 0
    """Samples whose blocks were not freed."""
    freed_count: int = 0
    lost_count: int = 0
    """Samples for which there was no place."""
    stackless_count: int = 0
    """Samples for whose call stack there was no place."""
    site_count: int = 0
    table_bytes: int = 0
    """The mapping that holds all this; resident as far as it is used."""
    age_ns: int = 0
    """How long ago the first sample was taken."""

    def __repr__(self) -> str:
        rate = "takes no samples"
        if self.rate_bytes:
            rate = f"takes a sample each {format_bytes(self.rate_bytes)}"
        if not self.table_bytes:
            return f"{rate}; none were taken"
        lost = f", {self.lost_count:,} lost" if self.lost_count else ""
        if self.stackless_count:
            lost += f", {self.stackless_count:,} without a call stack"
        return (
            f"{rate}; {format_count(self.taken_count, 'sample')} taken at "
            f"{format_count(self.site_count, 'site')} in {self.age_ns / 1e9:,.0f} s, "
            f"{self.live_count:,} live{lost}"
        )

    def _html(self) -> str:
        return html_paragraph(repr(self))


def tables_of(view: Look) -> ProfileTables | None:
    """The samples of a heap; None: none were ever taken. Raises FieldMissing for a heap of a layout
    that knows none, and what is wrong with them where they cannot be read."""
    capture = view.capture
    if capture.missing is not None:
        capture.missing.require_field("profile")
    if isinstance(capture.profile, HakmemError):
        raise capture.profile
    return capture.profile


def sampling_of(view: Look) -> Sampling:
    """The sampling of a heap. Raises as `tables_of`."""
    tables = tables_of(view)
    rate = int(view.capture.heap.profile_rate)
    if tables is None:
        return Sampling(rate)
    header = tables.header
    return Sampling(
        rate,
        header.taken_count,
        header.live_count,
        header.freed_count,
        header.lost_count,
        header.stackless_count,
        header.site_count,
        header.map_bytes,
        max(tables.clock_ns - header.started_ns, 0),
    )
