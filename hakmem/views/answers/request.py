"""`Answer`, `RateAnswer`: what came of asking the heap of a running process to trim, its threads to
drain, or for another rate of samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...policy import Policy
from ...policy.differences import Differences
from ...text import html_paragraph
from ..showing.notebook import Shown
from ..showing.tables import format_bytes, format_count

NOT_ASKED: Final = "no thread was to be stopped"
NAMED: Final = 8
"""Threads that are named where not all are asked for."""


@dataclass(frozen=True, slots=True)
class PendingThread:
    """A thread that has not obeyed yet."""

    os_id: int
    name: str
    state: str
    """What it does, in a word; empty where that is not known."""
    cached_bytes: int
    """What its caches hold."""
    reason: str = ""
    """Why it could not be stopped to obey; empty where nobody tried."""

    def title(self) -> str:
        """The thread in a few words."""
        parts = [self.name or "?", str(self.os_id), *([self.state] if self.state else [])]
        return " ".join(parts) + (f", {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Shown):
    """What came of asking a heap, whatever for."""

    served: bool
    pending: tuple[PendingThread, ...]
    """Threads that have come to no slow path since the request. For a trim, and for a rate of
    samples, any one of them would do."""
    seconds: float
    """How long it took, or how long was waited in vain."""
    sent_count: int = 0
    """Threads that were stopped to serve it."""
    refusal: str = ""
    """Why no thread was stopped, if that is so; empty also where none had to be."""

    def told(self) -> str:
        """What was done; empty where nothing was."""
        raise NotImplementedError

    def undone(self, within_seconds: float | None = None, *, verbose: bool = False) -> str:
        """What was not done within the time, and what helps; empty where all was.

        ``within_seconds``: what a command was given; its options are named then, and arguments
        otherwise.
        """
        if self.served:
            return ""
        typed = within_seconds is not None
        return (
            f"not done within {self._limit(within_seconds)}: no thread came to a slow "
            f"path{self.unstopped()}; the request stands; {self.remedy(typed)}; its threads: "
            f"{self._named(verbose, typed) or 'none'}"
        )

    def _limit(self, within_seconds: float | None) -> str:
        return f"{self.seconds if within_seconds is None else within_seconds:.3g} s"

    def unstopped(self) -> str:
        """Why no thread was stopped for it, if that is so."""
        if self.refusal:
            return f", and none was stopped: {self.refusal}"
        return ", and none could be stopped at a good place" if not self.sent_count else ""

    def remedy(self, typed: bool = True) -> str:
        """What the user can do where a request was not served in time; ``typed`` as a command."""
        if self.refusal == NOT_ASKED:
            word = "--no-stop" if typed else "stop=False"
            return f"leave out {word}, or wait until a thread allocates or frees more"
        if self.refusal:
            return (
                "wait until a thread allocates or frees more, or start the program with "
                "HAKMEM_BACKGROUND_MB=16, for a thread that obeys"
            )
        return f"try again, or give it more time ({'--timeout' if typed else 'timeout='})"

    def _named(self, verbose: bool, typed: bool) -> str:
        """The threads, those with most in their caches first."""
        listed = sorted(self.pending, key=lambda thread: -thread.cached_bytes)
        shown = listed if verbose else listed[:NAMED]
        parts = [
            f"{thread.title()} ({format_bytes(thread.cached_bytes)} cached)" for thread in shown
        ]
        left = len(listed) - len(shown)
        how = "-v names all" if typed else "pending has all"
        return ", ".join(parts) + (f", and {left} more ({how})" if left else "")

    def __repr__(self) -> str:
        return "; ".join(part for part in (self.told(), self.undone()) if part)

    def _html(self) -> str:
        return html_paragraph(repr(self))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Answer(Asked):
    """What came of a trim or a drain; prints as a sentence or two."""

    given_bytes: int
    """By how much a trim shrank what is resident of the heap, by the page tables; 0 for a drain."""
    purged_bytes: int
    """What the heap purged for that, by its own count of free units, which may have been resident
    in part only; 0 for a drain."""
    drained_bytes: int
    """By how much a drain shrank what the caches hold; 0 for a trim."""
    rss_before: int
    rss_after: int
    is_drain: bool = False
    """Whether caches were to be drained, rather than the heap to be trimmed."""

    def done(self) -> str:
        """What it gave."""
        if not self.is_drain:
            return f"{format_bytes(self.given_bytes)} given back"
        stopped = f" ({format_count(self.sent_count, 'thread')} stopped for it)"
        shown = stopped if self.sent_count else ""
        return f"{format_bytes(self.drained_bytes)} drained from caches{shown}"

    def residence(self) -> str:
        """What became of the resident memory."""
        before, after = format_bytes(self.rss_before), format_bytes(self.rss_after)
        return f"{before} resident before, {after} now"

    def undone(self, within_seconds: float | None = None, *, verbose: bool = False) -> str:
        """As `Asked.undone`; of a drain each thread that has not obeyed counts."""
        if self.served or not self.is_drain:
            return Asked.undone(self, within_seconds, verbose=verbose)
        typed = within_seconds is not None
        have = "has" if len(self.pending) == 1 else "have"
        none = self.unstopped() if self.refusal else ""
        return (
            f"{format_count(len(self.pending), 'thread')} {have} not obeyed within "
            f"{self._limit(within_seconds)}{none}, and will at the next slow path; "
            f"{self.remedy(typed)}: {self._named(verbose, typed)}"
        )

    def told(self) -> str:
        """What it gave, and what became of the resident memory."""
        return f"{self.done()}: {self.residence()}" if self.served or self.is_drain else ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RateAnswer(Asked):
    """What came of asking for another rate of samples; prints as a sentence."""

    rate_bytes: int
    """The rate that was asked for; 0: no samples."""
    rate_before: int
    """The rate that was in force."""

    def told(self) -> str:
        """The rate in force now."""
        if not self.served:
            return ""
        before = f", before {rate_text(self.rate_before)}"
        return rate_text(self.rate_bytes) + (
            before if self.rate_before != self.rate_bytes else ", as before"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PolicyAnswer(Asked):
    """What came of asking for another policy; prints as a sentence."""

    policy: Policy
    """The policy that was asked for."""
    before: Policy
    """The one that was in force."""
    overtaken: bool
    """Whether another writer came later: that one's policy is in force."""

    @property
    def changes(self) -> Differences:
        """What it changed, number by number."""
        return self.before.diff(self.policy, names=("before", "now"))

    def told(self) -> str:
        """How much has changed."""
        if not self.served:
            return ""
        if self.overtaken:
            return "another writer came later: that policy is in force"
        count = len(self.changes)
        return f"{format_count(count, 'number')} of the policy changed" if count else "as before"


def rate_text(rate_bytes: int) -> str:
    """A rate of samples in words.

    >>> rate_text(512 << 10), rate_text(0)
    ('a sample each 512 KiB', 'no samples')
    """
    return f"a sample each {format_bytes(rate_bytes)}" if rate_bytes else "no samples"
