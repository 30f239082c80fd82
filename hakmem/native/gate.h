/* gate.h: the gate of a thread's record: how another thread, its reaper (reap.c), keeps the owner
 * out of its caches, at no instruction of the fast paths.
 *
 * An owner that takes a fast path asks nobody. A reaper closes the gate: the size map that the fast
 * paths read becomes an empty one and the unit limit 0, so that each further call takes a slow path
 * and waits there. One barrier on all processors of the process later (hak_os_barrier) no fast path
 * begins any more, and at most one is in flight, for however long; reap.c says what it may touch.
 * A slow path counts itself in before it looks at the gate; a reaper closes the gate, has the
 * barrier, and goes away if it finds anybody counted in. So one of the two always sees the other
 * (Dekker), though the owner has no barrier of its own: the reaper's serves both.
 *
 * What each word is for, who writes it, and which two accesses meet (models/reaping.py tries all):
 *
 *   gate        0, or the number of the thread that reaps. The CAS that closes it acquires what the
 *               last opening released, so reapers follow one another. Its opening, a release, meets
 *               the acquire in hak_slow_enter: the owner finds all that the reaper did.
 *   in_slow     written by the owner only, plain but in one piece. Its store stands before the load
 *               of the gate, by hak_compiler_fence and the reaper's barrier. The release in
 *               hak_slow_leave meets the acquire in hak_gate_close: the reaper finds all that the
 *               slow path did.
 *   fast_map,   written by reapers, under the gate. The fast paths read them at any time: an old
 *   counted_map, value means a fast path that the barrier has seen begin. A slow path that had
 * begun unit_limit  before the gate was closed may raise the limit or set the maps again: the
 * reaper looks once it has found nobody counted in, and goes away. The maps are also emptied where
 * the rate of samples changes, and set by the owner then (profile.h). state       LIVE becomes
 * another, and another LIVE, only where the thread is counted in. So who has closed the gate and
 * finds LIVE keeps it, until he opens. reaped      written under the gate, by reapers; cleared by
 * the owner, counted in.
 *
 * A record's gate is a lock as those of locks.c: who waits for it lends the reaper its priority.
 */
#ifndef HAK_GATE_H
#define HAK_GATE_H
#include "hak_internal.h"

HAK_HIDDEN HAK_COLD void hak_gate_pass(hak_thread *t, bool looks);
HAK_HIDDEN uint32_t hak_gate_close(hak_thread *t);
HAK_HIDDEN void hak_gate_open(hak_thread *t);
HAK_HIDDEN void hak_gate_mend(hak_thread *t);
HAK_HIDDEN void hak_maps_set(hak_thread *t);

static inline void slow_enter(hak_thread *t, bool looks) {
    hak_store_relaxed(&t->in_slow, t->in_slow + 1);
    hak_compiler_fence();
    uint32_t gate = hak_load_acquire(&t->gate);
    if (hak_unlikely(gate | hak_load_relaxed(&t->reaped))) hak_gate_pass(t, looks);
}
/* Called at the start of each slow path, with the thread's own record; not with record 0, which its
 * lock protects. The caller holds no lock and no claim. */
static inline void hak_slow_enter(hak_thread *t) { slow_enter(t, true); }
/* The same under hak_root.lock, whose holder has looked whether this is a fork's child. */
static inline void hak_slow_enter_locked(hak_thread *t) { slow_enter(t, false); }
static inline void hak_slow_leave(hak_thread *t) {
    hak_assert(t->in_slow);
    hak_store_release(&t->in_slow, t->in_slow - 1);
}

#endif
