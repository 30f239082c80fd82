/* gate.c: the gate of a thread's record: closed and opened by a reaper, passed by the owner's slow
 * paths, mended in a fork's child. gate.h says what holds.
 */
#include "gate.h"

#include "caps.h"
#include "hooks.h"
#include "locks.h"

/* not const, so that it stands in .bss, where memory that is never written takes none */
uint8_t hak_no_classes[HAK_FAST_MAP_BYTES];

/* Lets the owner into a slow path once nobody reaps it, and gives classes whose caps fell with what
 * was taken their first ones. A fork's child has no reaper: the look mends the gate. */
void hak_gate_pass(hak_thread *t, bool looks) {
    /* acquire, as in slow_enter: the reaper may have opened it since that looked */
    if (hak_load_acquire(&t->gate)) {
        if (looks) hak_fork_look();
        hak_gate_wait(t);
    }
    if (!hak_load_relaxed(&t->reaped)) return;
    hak_store_relaxed(&t->reaped, 0);
    hak_caps_regain(t);
}

/* Closes the gate of a record that may be any thread's but the caller's. Returns HAK_REAP_DONE, or
 * why it is open. */
uint32_t hak_gate_close(hak_thread *t) {
    if (hak_load_acquire(&t->state) != HAK_THREAD_LIVE) return HAK_REAP_ENDED;
    if (!hak_gate_take(t)) return HAK_REAP_BUSY;
    hak_store_relaxed(&t->fast_map, (uintptr_t)hak_no_classes);
    hak_store_relaxed(&t->counted_map, (uintptr_t)hak_no_classes);
    hak_store_relaxed(&t->unit_limit, 0);
    uint32_t code = HAK_REAP_DONE;
    if (!hak_os_barrier()) code = HAK_REAP_REFUSED;
    else if (hak_load_acquire(&t->in_slow)) code = HAK_REAP_BUSY;
    /* a slow path that is over by now let frees in again (blocks.c), or mallocs (profile.c) */
    else if (hak_load_relaxed(&t->unit_limit) || !hak_maps_are_empty(t)) code = HAK_REAP_BUSY;
    else if (hak_load_acquire(&t->state) != HAK_THREAD_LIVE) code = HAK_REAP_ENDED;
    if (code) hak_gate_open(t);
    return code;
}

/* Sets the size maps that malloc reads: the fast path's, or that of the one that counts for the
 * profiler, is the heap's; neither is if the owner has to look at the rate first. */
void hak_maps_set(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint64_t none = (uintptr_t)hak_no_classes, rate = hak_load_relaxed(&h->profile_rate), seen;
    for (;; rate = seen) {
        uint64_t map = rate == hak_load_relaxed(&t->sample_rate) ? (uintptr_t)hak_fast_map(h)
                                                                 : none;
        /* partner: the fast paths, which find blocks by it alone: what a reaper did comes before */
        hak_store_release(&t->counted_map, rate ? map : none);
        hak_store_release(&t->fast_map, rate ? none : map);
        /* partner: the exchange in hak_profile_set, behind which the maps are emptied */
        if ((seen = hak_or_seq(&h->profile_rate, 0)) == rate) return;
    }
}

/* What the fast paths read becomes what it was, or what an owner who looked would find. */
static void reopen(hak_thread *t) {
    hak_store_relaxed(&t->unit_limit, hak_load_acquire(&hak_heap_of(t)->table_units));
    hak_maps_set(t);
}

void hak_gate_open(hak_thread *t) {
    reopen(t);
    hak_gate_give(t);
}

/* Opens the gate of a record in a fork's child, where nobody reaps and the record's thread, if
 * there is one, is the caller. Its lists have been counted. */
void hak_gate_mend(hak_thread *t) {
    if (!hak_load_relaxed(&t->gate)) return;
    uint64_t sum = 0; /* the reaper may have been between the two */
    for (uint32_t class_index = 1; class_index <= hak_policy_of(hak_heap_of(t))->sizes.class_count;
         class_index++)
        sum += (uint64_t)t->bins[class_index].cap_count *
               hak_class_of(t, class_index)->stride_bytes;
    t->cap_bytes = sum;
    reopen(t);
    hak_store_relaxed(&t->gate, 0);
}
