"""What work for the OS may cost before anybody needs it, and what it cost in vain.

A heap earns a share of the time that passes and spends it on eager purges, on sweeps, and on
refaults: a unit or page that is needed again within two epochs of its purge. Two maps say which
units were purged in this epoch and in the last. All of it under the run lock.
"""

from __future__ import annotations

from .. import layout
from .locks import run_lock, run_unlock
from .marks import marks_count, marks_set, recent_map
from .memory import MASK32, Memory


def work_credit(m: Memory, now: int) -> int:
    """What eager work may cost now, ns. Earns at most once a clock tick."""
    heap, retain = m.heap, m.tables.retain
    if now > heap.earned_at_ns:
        run_lock(m)
        if now > heap.earned_at_ns:
            passed = min(now - heap.earned_at_ns, MASK32 << 8)
            earned = heap.earned_ns + (passed * retain.work_per_256 >> 8)
            heap.earned_ns = max(min(earned, heap.spent_ns + retain.work_burst_ns), heap.earned_ns)
            heap.earned_at_ns = now
        run_unlock(m)
    return int(max(0, heap.earned_ns - heap.spent_ns))


def work_units(m: Memory, now: int) -> int:
    """How many units may be purged early now. A young heap of one thread must be able to pay, from
    what its age earned, for all it purged being needed again."""
    heap, retain = m.heap, m.tables.retain
    credit, unit_ns = work_credit(m, now), retain.purge_unit_ns
    young = now < heap.epoch_start_ns + retain.young_ns and heap.thread_live <= 1
    if not heap.epoch_count and young:
        holes = heap.hole_now_pages // layout.constant("HAK_UNIT_PAGES")
        at_stake = (sum(heap.recent_units) + holes) * retain.refault_unit_ns
        grown = (heap.unit_top - m.meta_units) * unit_ns
        credit = max(0, credit - at_stake - grown)
        unit_ns += retain.refault_unit_ns
    return int(credit // unit_ns)


def work_grow_locked(m: Memory, units: int) -> None:
    """Earn, for units that the heap grows by, the price of their purge. Needs the lock."""
    m.heap.earned_ns += units * m.tables.retain.purge_unit_ns


def work_spend_locked(m: Memory, ns: int) -> None:
    """Charge eager work, into debt as far as the policy allows. Needs the lock."""
    heap = m.heap
    most = max(heap.spent_ns, heap.earned_ns + m.tables.retain.work_debt_ns)
    heap.spent_ns = min(heap.spent_ns + ns, most)


def work_spend(m: Memory, ns: int) -> None:
    """Pay, into debt as far as the policy allows."""
    run_lock(m)
    work_spend_locked(m, ns)
    run_unlock(m)


def recent_take(m: Memory, unit: int, units: int) -> None:
    """Units that are cut out of a free run: those purged lately are refaults, counted and charged.
    Needs the lock."""
    heap = m.heap
    for which in range(2):
        start = recent_map(m, which)
        count = marks_count(m, start, unit, units) if heap.recent_units[which] else 0
        if not count:
            continue
        marks_set(m, start, unit, units, False)
        heap.recent_units[which] -= count
        if m.tables.retain.lazy_free:
            continue  # a page that is there yet costs no fault
        heap.refault_units += count
        work_spend_locked(m, count * m.tables.retain.refault_unit_ns)


def recent_turn(m: Memory, epochs: int) -> None:
    """New epochs: the map of the one before last is emptied and becomes this one's. Needs the
    lock."""
    heap = m.heap
    for _ in range(epochs):
        heap.epoch_count = heap.epoch_count + 1 & MASK32
        heap.recent_now ^= 1
        if heap.recent_units[heap.recent_now]:
            marks_set(m, recent_map(m, heap.recent_now), 0, heap.unit_top, False)
        heap.recent_units[heap.recent_now] = 0
