/* caps.h: caps: how many blocks a bin's list may hold. Invariant: a record's cap_bytes is the sum
 * of its caps in bytes, and at most the policy's thread_bytes. Only the bin's own thread changes
 * them. */
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
}

/* How high the cap of a class may be raised now, in blocks. */
static inline uint32_t hak_cap_limit(hak_thread *t, uint32_t class_index) {
    uint64_t bound = hak_policy_of(hak_heap_of(t))->caches.thread_bytes,
             cap = t->bins[class_index].cap_count;
    uint64_t spare = bound > t->cap_bytes
                         ? (bound - t->cap_bytes) / hak_class_of(t, class_index)->stride_bytes
                         : 0;
    uint64_t most = cap + spare;
    return (uint32_t)(most < hak_cache_of(t, class_index)->cap_max_count
                          ? most
                          : hak_cache_of(t, class_index)->cap_max_count);
}

/* Gives a class whose cap fell to nothing the first cap again. */
static inline void hak_cap_restore(hak_thread *t, uint32_t class_index) {
    uint32_t init = hak_cache_of(t, class_index)->cap_init_count,
             most = hak_cap_limit(t, class_index);
    hak_cap_resize(t, class_index, init < most ? init : most);
}

/* caps.c */
HAK_HIDDEN void hak_caps_init(hak_thread *t);
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
    if (++t->event_count >= hak_policy_of(hak_heap_of(t))->caches.idle_events)
        hak_caps_shrink_idle(t);
}

#endif
