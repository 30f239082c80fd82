"""`Moments`: what a timeline keeps of saved looks, taken in one at a time.

Of a look stay its figures by cause, the paragraph of `why` and the amounts of its call sites; the
look itself may go before the next one is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..answers.why import why
from ..reading.look import Look
from ..reading.records import Records
from ..sites.sites import sampled, sites_of

AMOUNTS: Final = ("live_bytes", "pinned_bytes")
SITE_AMOUNTS: Final = np.dtype([("site", "u4"), *((name, "i8") for name in AMOUNTS)])
"""What a site has at a moment; ``site``: its place in `Moments.sites`."""


class Whose(NamedTuple):
    """The heap that looks are of, the same from look to look."""

    pid: int
    program: str
    address: int


@dataclass(frozen=True, slots=True)
class Moment:
    """What is kept of one look."""

    file: str
    whose: Whose
    title: str
    """The process in a few words."""
    taken: float
    """Seconds since 1970."""
    rss_bytes: int
    causes: NDArray[np.int64]
    """Resident bytes in the order of `hakmem.views.answers.causes.NAMES`."""
    paragraph: str
    """What `why` says."""
    sites: Records
    """`SITE_AMOUNTS`."""


class Moments:
    """Moments as they come, and the call sites of all of them."""

    def __init__(self) -> None:
        self.found: list[Moment] = []
        self.sites: dict[str, int] = {}
        """The place of each call site by its most telling function."""
        self.sampled = False
        """Whether any of the looks has samples."""

    def add(self, look: Look, file: str) -> None:
        """Take in a look. Raises HakmemError where it does not say what is resident."""
        facts, answer = look.process, why(look)
        address = look.capture.address
        whose = Whose(facts.pid, facts.program, address) if facts else Whose(0, "", address)
        self.found.append(
            Moment(
                file,
                whose,
                facts.title() if facts else look.name,
                facts.taken if facts and facts.taken else os.path.getmtime(file),
                answer.rss_bytes,
                answer.causes["size_bytes"].astype(np.int64),
                answer.paragraph(),
                self._sites(look),
            )
        )

    def _sites(self, look: Look) -> Records:
        """The amounts by call site; those of one most telling function are one."""
        if not sampled(look):
            return np.zeros(0, dtype=SITE_AMOUNTS)
        self.sampled = True
        rows = sites_of(look).array
        places = [self.sites.setdefault(name, len(self.sites)) for name in rows["where"].tolist()]
        numbers, at = np.unique(np.array(places, dtype=np.int64), return_inverse=True)
        made = np.zeros(len(numbers), dtype=SITE_AMOUNTS)
        made["site"] = numbers
        for name in AMOUNTS:
            np.add.at(made[name], at, np.maximum(rows[name].astype(np.int64), 0))
        return made[(made["live_bytes"] > 0) | (made["pinned_bytes"] > 0)]

    def of_one(self) -> tuple[list[Moment], list[Moment]]:
        """The moments of the heap that most looks are of, by time; and all others."""
        counts: dict[Whose, int] = {}
        for moment in self.found:
            counts[moment.whose] = counts.get(moment.whose, 0) + 1
        most = max(counts, key=lambda whose: counts[whose], default=None)
        mine = [moment for moment in self.found if moment.whose == most]
        others = [moment for moment in self.found if moment.whose != most]
        return sorted(mine, key=lambda moment: moment.taken), others
