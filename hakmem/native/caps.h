/* caps.h: caps: how many blocks a bin's list may hold. Invariant: a record's cap_bytes is the sum
 * of its caps in bytes, and at most the policy's thread_bytes. Only the bin's own thread changes
 * them.
 *
 * Many threads may each have done one job and sleep, and nobody can reach what their caches hold.
 * So the policy bounds the first caps of all threads together: where that is less than all would
 * have, each thread has its share, spends it on the classes that it uses, and overflows early
 * enough to learn that it has freed its own. A share shrinks as threads come: who has more gives it
 * up at its next events. */
#ifndef HAK_CAPS_H
#define HAK_CAPS_H
#include "bins.h"

static inline void hak_cap_resize(hak_thread *t, uint32_t class_index, uint32_t cap) {
    hak_bin *bin = &t->bins[class_index];
    hak_assert(cap <= bin->cap_count || cap <= hak_cache_of(t, class_index)->cap_max_count);
    int64_t more = (int64_t)cap - bin->cap_count;
    t->cap_bytes += (uint64_t)(more * hak_class_of(t, class_index)->stride_bytes);
    t->room_counts[class_index] += more;
    hak_store_relaxed(&bin->cap_count, cap);
    if (hak_unlikely(t->magazine_row)) hak_magazine_fit(t, class_index);
}

/* What the first caps of a thread may be together: those of the policy's classes, or where there
 * are so many threads that all would have more than the policy allows, this thread's share. */
static inline uint64_t hak_cap_first_bytes(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    const hak_cache_policy *caches = &hak_policy_of(h)->caches;
    /* a count that a moment more or less makes no worse */
    uint64_t threads = hak_load_relaxed(&h->thread_live), first = t->first_cap_bytes;
    if (hak_likely(first * threads <= hak_number(caches->first_caps_bytes))) return first;
    uint64_t share = hak_number(caches->first_caps_bytes) / threads;
    if (share < hak_number(caches->first_caps_least_bytes))
        share = hak_number(caches->first_caps_least_bytes);
    return share < first ? share : first;
}

/* Whether there are so many threads that each has only a share. */
static inline bool hak_caps_are_shared(hak_thread *t) {
    return hak_cap_first_bytes(t) < t->first_cap_bytes;
}

/* What the caps of a thread may grow to together where lists swing: its first caps, and its share
 * of what the policy allows all. */
static inline uint64_t hak_cap_bound(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint64_t threads = hak_load_relaxed(&h->thread_live),
             all = (hak_in_use_units(h) << HAK_UNIT_SHIFT) *
                       hak_number(hak_policy_of(h)->caches.raise_live_per_256) >>
                   8;
    return hak_cap_first_bytes(t) + all / (threads ? threads : 1);
}

/* How high the cap of a class may be raised now, in blocks. */
static inline uint32_t hak_cap_limit(hak_thread *t, uint32_t class_index) {
    uint64_t bound = hak_number(hak_policy_of(hak_heap_of(t))->caches.thread_bytes),
             cap = t->bins[class_index].cap_count;
    if (hak_unlikely(hak_caps_are_shared(t))) {
        uint64_t share = hak_cap_bound(t);
        if (share < bound) bound = share;
    }
    uint64_t spare = bound > t->cap_bytes
                         ? (bound - t->cap_bytes) / hak_class_of(t, class_index)->stride_bytes
                         : 0;
    uint64_t most = cap + spare;
    return (uint32_t)(most < hak_cache_of(t, class_index)->cap_max_count
                          ? most
                          : hak_cache_of(t, class_index)->cap_max_count);
}

/* caps.c */
HAK_HIDDEN void hak_caps_init(hak_thread *t);
HAK_HIDDEN void hak_caps_fit(hak_thread *t);
HAK_HIDDEN void hak_cap_restore(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_caps_regain(hak_thread *t);
HAK_HIDDEN void hak_cap_give_way(hak_thread *t, uint32_t class_index, uint32_t n);
HAK_HIDDEN void hak_caps_look_around(hak_thread *t);
HAK_HIDDEN void hak_caps_drop(hak_thread *t);
HAK_HIDDEN bool hak_cap_free_only(hak_thread *t, uint32_t class_index, uint32_t n);
HAK_HIDDEN void hak_caps_shrink_idle(hak_thread *t);
HAK_HIDDEN uint32_t hak_cap_swing_raise(hak_thread *t, uint32_t class_index);
HAK_HIDDEN bool hak_cap_overflow_raises(hak_thread *t, uint32_t class_index);

/* By how much a refill raises the cap, in blocks. */
static inline uint32_t hak_cap_refill_raise(hak_thread *t, uint32_t class_index) {
    uint32_t raise = t->bins[class_index].free_only_count ? hak_cap_swing_raise(t, class_index) : 0;
    return raise ? raise : 1;
}

/* Called at each slow-path event: every idle_events of them, idle classes are shrunk. */
static inline void hak_caps_idle_look(hak_thread *t) {
    if (hak_unlikely(hak_caps_are_shared(t))) hak_caps_look_around(t);
    if (++t->event_count >= hak_number(hak_policy_of(hak_heap_of(t))->caches.idle_events))
        hak_caps_shrink_idle(t);
}

#endif
