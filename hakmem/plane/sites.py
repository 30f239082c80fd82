"""Call stacks that allocated samples, each kept once, in a table that only grows. All is done under
the profile's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Final

from .. import layout
from ..generate import mirror
from .memory import MASK64

_STACK: Final = layout.constant("HAK_SITE_STACK")
_FIRST_NS: Final = layout.constant("HAK_LIFETIME_FIRST_NS")
_SITE_BYTES: Final = ctypes.sizeof(mirror.HakSite)


def _more(hash_: int, word: int) -> int:
    hash_ = ((hash_ ^ word) * 0x9E37_79B9_7F4A_7C15) & MASK64
    return hash_ ^ hash_ >> 32


def _at(profile: ctypes.Structure, place: int) -> ctypes.Structure:
    base = ctypes.addressof(profile) + profile.sites_offset
    return mirror.HakSite.from_address(base + 8 * place)


def find(profile: ctypes.Structure, sample: ctypes.Structure, frames: Sequence[int]) -> int:
    """The place of the site of a sample with these frames; 0: there is no room for it."""
    length = 0 if sample.class_index else sample.stride_bytes.bit_length() - 1
    hash_ = _more(sample.class_index | length << 32, sample.rate_bytes)
    for frame in frames:
        hash_ = _more(hash_, frame)
    buckets = ctypes.addressof(profile) + profile.site_buckets_offset
    bucket = ctypes.c_uint32.from_address(buckets + 4 * (hash_ & profile.site_bucket_mask))
    words = ctypes.c_uint64 * len(frames)
    place = bucket.value
    while place:
        site = _at(profile, place)
        kept = words.from_address(ctypes.addressof(site) + _SITE_BYTES)
        if (
            (site.hash, site.kind, site.class_index, site.stride_log2, site.rate_bytes)
            == (hash_, _STACK, sample.class_index, length, sample.rate_bytes)
            and site.frame_count == len(frames)
            and list(kept) == list(frames)
        ):
            return place
        place = site.next
    size, place = _SITE_BYTES // 8 + len(frames), profile.sites_used
    if size > profile.sites_limit - place:
        return 0
    site = _at(profile, place)
    site.kind, site.frame_count = _STACK, len(frames)
    site.class_index, site.stride_log2 = sample.class_index, length
    site.rate_bytes, site.first_ns = sample.rate_bytes, sample.time_ns
    words.from_address(ctypes.addressof(site) + _SITE_BYTES)[:] = [*frames]
    site.hash, site.next = hash_, bucket.value
    profile.sites_used = place + size
    bucket.value = place
    profile.site_count += 1
    return int(place)


def count(profile: ctypes.Structure, sample: ctypes.Structure) -> None:
    """Count a sample as taken."""
    if not sample.site:
        return
    site = _at(profile, sample.site)
    site.sample_count += 1
    site.stride_bytes += sample.stride_bytes
    site.size_bytes += sample.size_bytes
    site.last_ns = sample.time_ns


def resize(profile: ctypes.Structure, sample: ctypes.Structure, stride: int) -> None:
    """The block of a sample has another length now: it stands for as many blocks as that says."""
    if sample.site:
        site = _at(profile, sample.site)
        site.stride_bytes = (site.stride_bytes + stride - sample.stride_bytes) & MASK64


def uncount(profile: ctypes.Structure, sample: ctypes.Structure, now_ns: int) -> None:
    """Count a sample as freed, by its age."""
    if not sample.site:
        return
    site, age, place = _at(profile, sample.site), max(0, now_ns - sample.time_ns), 0
    while place < layout.LIFETIME_COUNT - 1 and age >= _FIRST_NS * layout.LIFETIME_STEP**place:
        place += 1
    site.freed_count += 1
    site.freed_bytes += sample.stride_bytes
    site.lifetimes[place] += 1
