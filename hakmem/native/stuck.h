/* stuck.h: dirty units that the OS would not purge, and what is left to purge without them. */
#ifndef HAK_STUCK_H
#define HAK_STUCK_H
#include "hak_internal.h"
#include "marks.h"

/* Readable without the lock by who holds the unit, as its dirty mark is. */
static inline bool hak_unit_is_stuck(hak_heap *h, uint32_t unit) {
    return hak_load_relaxed(&hak_slab_at(h, unit)->flags) & HAK_SLAB_STUCK;
}
/* Whether a free unit is worth a purge: it is dirty, was not tried in vain, and, where a purge is
 * lazy, which leaves it dirty, was not purged so already. */
static inline bool hak_unit_is_purgeable(hak_heap *h, uint32_t unit, bool lazy) {
    return hak_mark_get(hak_dirty_map(h), unit) && !hak_unit_is_stuck(h, unit) &&
           !(lazy && (hak_mark_get(hak_recent_map(h, 0), unit) ||
                      hak_mark_get(hak_recent_map(h, 1), unit)));
}

/* Dirty units that a purge may make clean. Without the lock a moment's figure. */
static inline uint64_t hak_purgeable_units(hak_heap *h, bool lazy) {
    uint64_t dirty = hak_load_relaxed(&h->dirty_units), out = hak_load_relaxed(&h->stuck_units);
    if (lazy)
        out += (uint64_t)hak_load_relaxed(&h->recent_units[0]) +
               hak_load_relaxed(&h->recent_units[1]);
    return dirty > out ? dirty - out : 0;
}

HAK_HIDDEN void hak_stuck_take(hak_heap *h, uint32_t unit, uint32_t units);
HAK_HIDDEN void hak_stuck_forget(hak_heap *h);
HAK_HIDDEN void hak_stuck_reset(hak_heap *h);
HAK_HIDDEN void hak_stuck_mark(hak_heap *h, uint32_t unit, uint32_t units);
HAK_HIDDEN uint32_t hak_stuck_purge(hak_heap *h, uint32_t unit, uint32_t units, bool lazy,
                                    uint32_t *pages);
#endif
