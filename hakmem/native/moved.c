/* moved.c: ranges of a region that OS pages were moved to. The OS keeps each as a mapping of its
 * own, apart from its neighbours, until the range is mapped anew; and a process has only so many
 * mappings. So a heap remembers its ranges, in a table of fixed size, and moves no more pages while
 * that is full.
 *
 * A range may have become free since, and other spans may lie in it now. It is mapped anew at a
 * moment when all of it is free and clean, so that nothing resident is lost (spans.c). A fork's
 * child keeps the ranges it inherited: there nothing joins an inherited mapping.
 *
 * Everything needs run_lock.
 */
#include "moved.h"

#include "locks.h"
#include "marks.h"

/* Whether there is room for one more range; a moment's answer without the lock. */
bool hak_moved_has_room(hak_heap *h) {
    return hak_load_relaxed(&h->moved_count) <
           hak_number(hak_policy_of(h)->retain.moved_range_count);
}

static void set_range(hak_heap *h, uint32_t i, uint32_t unit, uint32_t units) {
    uint32_t more = (units != 0) - (h->moved_units[i] != 0);
    h->moved_unit[i] = unit;
    h->moved_units[i] = units;
    hak_store_relaxed(&h->moved_count, h->moved_count + more);
}

/* Remembers a range; false: the table is full. */
bool hak_moved_add(hak_heap *h, uint32_t unit, uint32_t units) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    for (uint32_t i = 0; i < HAK_MOVED_LIMIT; i++) {
        if (h->moved_units[i]) continue;
        set_range(h, i, unit, units);
        return true;
    }
    return false;
}

/* Forgets what of the ranges has been mapped anew, or unmapped. Of a range of which only the middle
 * was, nothing is forgotten. */
void hak_moved_forget(hak_heap *h, uint32_t unit, uint32_t units) {
    uint32_t end = unit + units;
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    for (uint32_t i = 0; i < HAK_MOVED_LIMIT && h->moved_count; i++) {
        uint32_t from = h->moved_unit[i], to = from + h->moved_units[i];
        if (from == to || to <= unit || end <= from) continue;
        if (unit <= from && to <= end) set_range(h, i, 0, 0);
        else if (unit <= from) set_range(h, i, end, to - end);
        else if (to <= end) set_range(h, i, from, unit - from);
    }
}

static bool is_free_and_clean(hak_heap *h, uint32_t unit, uint32_t units) {
    for (uint32_t u = unit; u < unit + units; u++)
        if (hak_tag_get(h, u) != HAK_TAG_FREE) return false;
    return !hak_marks_count(hak_dirty_map(h), unit, units);
}

/* The free run that has some units; 0 if none has, as while they are purged: units inside a run
 * that is in no bin say that they are free all the same. */
static uint32_t run_around(hak_heap *h, uint32_t unit, uint32_t units) {
    uint32_t run = unit; /* not the entry's head: inside a run it may be one that was */
    while (run > h->meta_units && hak_slab_at(h, run)->kind != HAK_KIND_RUN) run--;
    const hak_slab *record = hak_slab_at(h, run);
    bool has = record->kind == HAK_KIND_RUN && unit + units <= run + record->unit_count;
    return has ? run : 0;
}

/* Finds a range that is free and clean, and part of the free run *run; *units is 0 if there is
 * none. */
uint32_t hak_moved_find_spare(hak_heap *h, uint32_t *units, uint32_t *run) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    for (uint32_t i = 0; i < HAK_MOVED_LIMIT && !h->inherited; i++) {
        *units = h->moved_units[i];
        if (*units && is_free_and_clean(h, h->moved_unit[i], *units)) {
            *run = run_around(h, h->moved_unit[i], *units);
            if (*run) return h->moved_unit[i];
        }
    }
    *units = 0;
    return 0;
}

/* In a fork's child whose run_lock was held: the count is made anew. Ranges are not: it maps none
 * of those anew. */
void hak_moved_mend(hak_heap *h) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < HAK_MOVED_LIMIT; i++) count += h->moved_units[i] != 0;
    h->moved_count = count;
}
