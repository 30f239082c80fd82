/* marks.h: bitmaps over units: dirty marks, units purged lately, holes. Each has one bit for a
 * unit; holes have one for an OS page. Marks of units change under run_lock. The holder of a unit
 * may read its bit without the lock: others change other bits of the word, and words are stored
 * whole. */
#ifndef HAK_MARKS_H
#define HAK_MARKS_H
#include "hak_internal.h"

static inline uint64_t *hak_dirty_map(hak_heap *h) { return hak_at(h, h->dirty_offset); }
static inline uint64_t *hak_recent_map(hak_heap *h, uint32_t which) {
    return hak_at(h, h->recent_offset + which * hak_recent_bytes(h->unit_limit));
}

static inline bool hak_mark_get(const uint64_t *map, uint32_t unit) {
    return hak_load_relaxed(&map[unit >> 6]) >> (unit & 63) & 1;
}

/* The mask of those units of [unit, end) that are in the first unit's word; *count is how many. */
static inline uint64_t hak_mark_mask(uint32_t unit, uint32_t end, uint32_t *count) {
    uint32_t bit = unit & 63, n = 64 - bit < end - unit ? 64 - bit : end - unit;
    *count = n;
    return (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << bit;
}

static inline void hak_marks_set(uint64_t *map, uint32_t unit, uint32_t units, bool on) {
    for (uint32_t u = unit, end = unit + units, n; u < end; u += n) {
        uint64_t mask = hak_mark_mask(u, end, &n), *word = &map[u >> 6],
                 now = hak_load_relaxed(word);
        hak_store_relaxed(word, on ? now | mask : now & ~mask);
    }
}

static inline uint32_t hak_marks_count(const uint64_t *map, uint32_t unit, uint32_t units) {
    uint32_t count = 0;
    for (uint32_t u = unit, end = unit + units, n; u < end; u += n) {
        uint64_t mask = hak_mark_mask(u, end, &n);
        count += (uint32_t)__builtin_popcountll(hak_load_relaxed(&map[u >> 6]) & mask);
    }
    return count;
}

/* Holes are purged OS pages of slabs in use: a mask of 16 bits for each unit, changed under the
 * slab's claim. `holes` points at the mask of the slab's first unit; `page` counts from the slab's
 * start. */
static inline uint16_t *hak_holes_of(hak_heap *h, uint32_t unit) {
    return (uint16_t *)hak_at(h, h->holes_offset) + unit;
}
static inline bool hak_hole_get(const uint16_t *holes, uint32_t page) {
    return hak_load_relaxed(&holes[page / HAK_UNIT_PAGES]) >> (page % HAK_UNIT_PAGES) & 1;
}
static inline void hak_hole_set(uint16_t *holes, uint32_t page, bool on) {
    uint16_t *mask = &holes[page / HAK_UNIT_PAGES], bit = (uint16_t)(1u << (page % HAK_UNIT_PAGES)),
             now = hak_load_relaxed(mask);
    hak_store_relaxed(mask, (uint16_t)(on ? now | bit : now & ~bit));
}

#endif
