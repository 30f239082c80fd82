"""Samples of who allocates, from their draw until the block is freed.

Each operation of this plane is what the native plane calls a slow path, so every block is counted
here; the two size maps of a record are kept as that plane has them. Buckets, masks of the slabs and
tags of their registry entries change under the profile's lock, the innermost of all.
"""

from __future__ import annotations

import ctypes
from threading import get_native_id
from typing import Final

from .. import layout
from ..generate import mirror
from . import draw, gate, sites
from .caller import Caller
from .memory import HEAD_SHIFT, KIND_SPAN, TAG_SAMPLED, UNIT_SHIFT, Memory, pause
from .resolve import DOUBLE, Block, check_live, resolve

_LEAST_BYTES: Final = layout.PROFILE_LEAST_BYTES
_SAMPLE_BYTES: Final = ctypes.sizeof(mirror.HakSample)
_HEADER_BYTES: Final = ctypes.sizeof(mirror.HakProfile)
_LOCK: Final = mirror.HakProfile.lock.offset
_OK: Final = layout.constant("HAK_OK")
_NOMEM: Final = layout.constant("HAK_FAULT_NOMEM")
_SIZE: Final = layout.constant("HAK_FAULT_SIZE")

Profile = ctypes.Structure
Sample = ctypes.Structure


def _of(m: Memory) -> Profile | None:
    address = m.heap.profile
    return mirror.HakProfile.from_address(address) if address else None


def _sample_at(profile: Profile, index: int) -> Sample:
    base = ctypes.addressof(profile) + profile.samples_offset
    return mirror.HakSample.from_address(base + index * _SAMPLE_BYTES)


def _bucket_of(profile: Profile, unit: int, address: int) -> ctypes.c_uint32:
    key = unit or address >> UNIT_SHIFT
    base = ctypes.addressof(profile) + profile.buckets_offset
    return ctypes.c_uint32.from_address(base + 4 * (key & profile.bucket_mask))


def _lock(m: Memory, profile: Profile) -> None:
    while not m.cas32(ctypes.addressof(profile) + _LOCK, 0, get_native_id()):
        pause()


def _unlock(m: Memory, profile: Profile) -> None:
    m.store_release32(ctypes.addressof(profile) + _LOCK, 0)


# --- the mapping


def _power_below(n: int) -> int:
    return 1 << n.bit_length() - 1


def _lay_out(m: Memory, profile: Profile, size: int) -> None:
    places = size // 2 // _SAMPLE_BYTES
    profile.map_bytes, profile.sample_limit = size, places
    profile.bucket_mask = _power_below(places // 8) - 1
    profile.site_bucket_mask = _power_below(places // 16) - 1
    profile.frame_limit = m.tables.policy.profile.frame_count
    profile.frames_offset = _HEADER_BYTES
    profile.samples_offset = _HEADER_BYTES + layout.PROFILE_ROOMS * layout.PROFILE_FRAMES_BYTES
    profile.buckets_offset = profile.samples_offset + places * _SAMPLE_BYTES
    profile.site_buckets_offset = profile.buckets_offset + 4 * (profile.bucket_mask + 1)
    after = profile.site_buckets_offset + (4 * (profile.site_bucket_mask + 1) + 7 & ~7)
    profile.sites_offset, profile.sites_limit = after, (size - after) // 8
    profile.sites_used = 1
    profile.started_ns = m.clock_ns()
    profile.magic = layout.PROFILE_MAGIC


def _make(m: Memory) -> Profile | None:
    """The heap's profile, made if there is none; None: the OS refuses even the least."""
    if found := _of(m):
        return found
    size = m.tables.policy.profile.table_bytes & ~(layout.OS_PAGE_BYTES - 1)
    if m.heap.locked:
        size = _LEAST_BYTES
    address = 0
    while not address and size >= _LEAST_BYTES:
        if not (address := m.map_block(size, 1)):
            size //= 2
    if not address:
        return None
    profile = mirror.HakProfile.from_address(address)
    _lay_out(m, profile, size)
    if not m.cas64(m.place("profile"), 0, address):
        m.unmap_block(address, size)
    return _of(m)


def release(m: Memory) -> None:
    """Give the mapping back, with the heap."""
    if profile := _of(m):
        m.unmap_block(m.heap.profile, profile.map_bytes)


# --- the rate


def set_rate(m: Memory, rate: int, records: list[Caller]) -> int:
    """Set the rate, and have each thread look at it in its next malloc; HAK_OK, or the fault."""
    if rate > layout.PROFILE_RATE_MAX:
        return _SIZE
    if rate and _make(m) is None:
        return _NOMEM
    m.exchange64(m.place("profile_rate"), rate)
    for t in records:
        t.record.fast_map = t.record.counted_map = 0
    return _OK


def adopt(t: Caller) -> None:
    """Obey the rate in force."""
    m, record = t.m, t.record
    rate = m.heap.profile_rate
    if rate != record.sample_rate:
        if not record.sample_seed:
            record.sample_seed = draw.mix(m.tables.policy.profile.seed << 32 | t.index)
        record.sample_rate = rate
        ctypes.memset(record.sample_lefts, 0xFF, ctypes.sizeof(record.sample_lefts))
    gate.set_maps(t)


def _draw(t: Caller, class_index: int, stride: int) -> None:
    """Draw how many blocks of a class, or bytes of class 0, come before the next sample."""
    record = t.record
    record.sample_seed, far = draw.distance(record.sample_seed, record.sample_rate)
    record.sample_lefts[class_index] = far // stride if class_index else far


def _is_due(t: Caller, class_index: int, stride: int) -> bool:
    """Count a block, or bytes of class 0: whether it is a sample. The next is drawn then."""
    lefts = t.record.sample_lefts
    if lefts[class_index] < 0:
        _draw(t, class_index, stride)
    lefts[class_index] -= 1 if class_index else stride
    if lefts[class_index] >= 0:
        return False
    _draw(t, class_index, stride)
    return True


def count(t: Caller, class_index: int, address: int, size: int, stride: int) -> None:
    """Count a block that is about to be handed out; take a sample of it if it is due."""
    if t.record.sample_rate and _is_due(t, class_index, stride):
        _take(t, address, size, stride)


# --- tags


def _set_mask(m: Memory, unit: int, mask: int) -> None:
    """Make the registry entries of a slab say whether it holds samples, and its record which blocks
    may be. Of a span the record alone tells."""
    slab = m.slabs[unit]
    before = slab.sampled_mask
    slab.sampled_mask = mask
    if slab.kind == KIND_SPAN or bool(before) == bool(mask):
        return
    tag = TAG_SAMPLED if mask else slab.class_index
    m.fill(unit, slab.unit_count, tag | unit << HEAD_SHIFT)


def _bit_of(m: Memory, sample: Sample) -> int:
    if not sample.class_index:
        return 1
    row = m.tables.classes[sample.class_index]
    start = m.unit_address(sample.unit) + row.start_bytes
    return int(1 << (sample.address - start) // row.stride_bytes % layout.SAMPLED_BITS)


# --- samples come and go


def _link_in(m: Memory, profile: Profile, index: int) -> None:
    sample = _sample_at(profile, index)
    bucket = _bucket_of(profile, sample.unit, sample.address)
    sample.next = bucket.value
    bucket.value = index + 1
    if sample.unit:
        mask = m.slabs[sample.unit].sampled_mask | _bit_of(m, sample)
        _set_mask(m, sample.unit, mask)


def _unlink(m: Memory, profile: Profile, unit: int, address: int) -> int:
    """Take the sample of a block out of its bucket: its index + 1, 0 if the block is none."""
    link = _bucket_of(profile, unit, address)
    mask = found = 0
    while at := link.value:
        sample = _sample_at(profile, at - 1)
        if sample.address == address:
            found = at
            link.value = sample.next
            continue
        if unit and sample.unit == unit:
            mask |= _bit_of(m, sample)
        link = ctypes.c_uint32.from_address(ctypes.addressof(sample) + mirror.HakSample.next.offset)
    if found and unit:
        _set_mask(m, unit, mask)
    return found


def _take_place(profile: Profile) -> int:
    if index := profile.unused:
        profile.unused = _sample_at(profile, index - 1).next
        return int(index)
    if profile.sample_top == profile.sample_limit:
        return 0
    profile.sample_top += 1
    return int(profile.sample_top)


def _take(t: Caller, address: int, size: int, stride: int) -> None:
    m = t.m
    profile, block = _make(m), resolve(m, address)
    unit, class_index = (block.unit, block.class_index) if isinstance(block, Block) else (0, 0)
    if profile is None or (not isinstance(block, Block) and block.code == DOUBLE):
        return
    _lock(m, profile)
    profile.taken_count += 1
    if index := _take_place(profile):
        sample = _sample_at(profile, index - 1)
        sample.size_bytes, sample.stride_bytes = size, stride
        sample.rate_bytes, sample.time_ns = t.record.sample_rate, m.clock_ns()
        sample.unit, sample.class_index = unit, class_index
        sample.thread, sample.os_id = t.index, t.record.os_id
        sample.site = sites.find(profile, sample, ())
        if sample.site:
            sites.count(profile, sample)
        else:
            profile.stackless_count += 1
        sample.address = address
        profile.live_count += 1
        _link_in(m, profile, index - 1)
    else:
        profile.lost_count += 1
    _unlock(m, profile)


def may_be(m: Memory, unit: int, address: int) -> bool:
    """Whether a block may be a sample: known of slabs and spans by their record."""
    if not unit:
        return bool(m.heap.profile)
    slab = m.slabs[unit]
    if not slab.sampled_mask or slab.kind == KIND_SPAN:
        return bool(slab.sampled_mask)
    row = m.tables.classes[slab.class_index]
    index = (address - m.unit_address(unit) - row.start_bytes) // row.stride_bytes
    return bool(slab.sampled_mask >> index % layout.SAMPLED_BITS & 1)


def free(t: Caller, unit: int, address: int) -> None:
    """Forget the sample of a block that is being freed, if it is one."""
    m, profile = t.m, _of(t.m)
    if profile is None:
        return
    _lock(m, profile)
    if index := _unlink(m, profile, unit, address):
        sample = _sample_at(profile, index - 1)
        sites.uncount(profile, sample, m.clock_ns())
        sample.address = 0
        sample.next = profile.unused
        profile.unused = index
        profile.freed_count += 1
        profile.live_count -= 1
    _unlock(m, profile)


def moved(t: Caller, before: Block, old: int, new: int, size: int) -> None:
    """A span or mapped block was resized, at its place or at another: its sample goes with it. What
    it grew by counts as allocated; if a sample falls into that, it is the whole block's."""
    m, profile, index = t.m, _of(t.m), 0
    now = check_live(m, new)
    if not isinstance(now, Block):
        return
    if profile is not None:
        _lock(m, profile)
        if index := _unlink(m, profile, before.unit, old):
            sample = _sample_at(profile, index - 1)
            sites.resize(profile, sample, now.size_bytes)
            sample.size_bytes, sample.stride_bytes = size, now.size_bytes
            sample.unit, sample.address = now.unit, new
            _link_in(m, profile, index - 1)
        _unlock(m, profile)
    if not t.record.sample_rate or now.size_bytes <= before.size_bytes:
        return
    if _is_due(t, 0, now.size_bytes - before.size_bytes) and not index:
        _take(t, new, size, now.size_bytes)
