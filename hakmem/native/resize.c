/* resize.c: spans that grow, shrink or move, and what becomes of units whose OS pages moved away.
 *
 * A span moves by remapping its OS pages: nothing is copied. The units that it leaves are mapped
 * again, or they are unmapped units from then on. What is done to the run heap takes run_lock.
 */
#include "events.h"
#include "hooks.h"
#include "moved.h"
#include "region.h"
#include "run_bins.h"

/* Makes units in use that are not mapped any more an unmapped run. If not `is_ours`, leaves them
 * out for good: something else may be mapped there, now or later. Takes run_lock. */
static void lose(hak_heap *h, uint32_t unit, uint32_t units, bool is_ours) {
    hak_run_lock(h);
    hak_entry_fill(h, unit, units, hak_entry(HAK_TAG_UNMAPPED, unit));
    hak_store_relaxed(&h->in_use_units, h->in_use_units - units);
    hak_store_relaxed(&h->unmapped_units, h->unmapped_units + units);
    if (is_ours) hak_run_insert_unmapped(h, unit, units);
    else {
        hak_store_relaxed(&hak_slab_at(h, unit)->unit_count, units);
        hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_FOREIGN);
    }
    hak_run_unlock(h);
}

static void forget(hak_heap *h, uint32_t unit, uint32_t units) {
    hak_run_lock(h);
    hak_moved_forget(h, unit, units);
    hak_run_unlock(h);
}

/* Notes that pages were moved to some units. Takes run_lock. */
static void note_moved(hak_heap *h, uint32_t unit, uint32_t units) {
    hak_run_lock(h);
    hak_moved_forget(h, unit, units);
    (void)hak_moved_add(h, unit, units);
    hak_run_unlock(h);
}

/* Frees the units of a span whose pages were moved away, so that nothing is mapped there. Mapped
 * again, they are clean and join their neighbours' mapping. Where the process locks what it maps,
 * which would make them resident, they stay unmapped. Takes run_lock. */
void hak_span_free_hole(hak_heap *h, uint32_t unit, uint32_t units) {
    uint64_t bytes = (uint64_t)units << HAK_UNIT_SHIFT;
    uint32_t code = HAK_MAP_REFUSED;
    if (!h->locked) code = hak_os_map_range(&h->os, hak_unit_address(h, unit), bytes, false);
    hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
    forget(h, unit, units);
    if (code == HAK_MAP_DONE) hak_run_free(h, unit, units, false);
    else lose(h, unit, units, code == HAK_MAP_REFUSED);
}

/* Frees a range that pages were moved to, taken out of a free run. Mapped anew, it joins its
 * neighbours' mapping. Takes run_lock. */
static void free_renewed(hak_heap *h, uint32_t unit, uint32_t units) {
    uint64_t bytes = (uint64_t)units << HAK_UNIT_SHIFT;
    uint32_t code = hak_os_map_anew(&h->os, hak_unit_address(h, unit), bytes);
    hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
    if (code != HAK_MAP_TAKEN) forget(h, unit, units);
    if (code == HAK_MAP_REFUSED) lose(h, unit, units, true);
    else hak_run_free(h, unit, units, false);
}

/* Takes back the span at `unit`, to which pages were to move and did not. A move that failed late
 * has left its first `lost` units without a mapping. */
static void span_drop(hak_heap *h, uint32_t unit, uint32_t units, uint32_t lost, bool dirty) {
    hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
    if (lost) lose(h, unit, lost, true);
    hak_run_free(h, unit + lost, units - lost, dirty);
}

/* Whether one more span may move. Where the table of moved ranges is full, one of them that is free
 * and clean is mapped anew; a record of its own keeps it from a fork's child meanwhile. */
static bool may_move(hak_heap *h) {
    if (hak_moved_has_room(h)) return true;
    if (h->locked) return false; /* mapped anew, it would be resident */
    uint32_t units;
    hak_run run = hak_run_take_moved(h, &units);
    if (!run.unit) return false;
    hak_span_note(h, run.unit, units, 0);
    free_renewed(h, run.unit, units);
    return hak_moved_has_room(h);
}

/* Moves a large span by remapping its OS pages. */
static void *span_remap(hak_thread *t, uint32_t unit, uint32_t have, uint32_t want, uint64_t size) {
    hak_heap *h = hak_heap_of(t);
    if (!may_move(h)) return NULL;
    hak_run run = hak_run_alloc(h, want, 1);
    if (!run.unit) return NULL;
    char *from = hak_unit_address(h, unit), *to = hak_unit_address(h, run.unit);
    /* before the pages move: a fork's child then finds two spans, never a free run with a hole */
    hak_span_note(h, run.unit, want, size);
    uint32_t code = hak_os_remap_range(&h->os, from, to, (uint64_t)have << HAK_UNIT_SHIFT);
    if (code != HAK_MAP_DONE) {
        span_drop(h, run.unit, want, code == HAK_MAP_REFUSED ? have : 0, run.dirty != 0);
        return NULL;
    }
    note_moved(h, run.unit, have);
    hak_span_free_hole(h, unit, have);
    hak_count(t, span_remap_count, 1);
    hak_tick(h, want);
    hak_request_look(t);
    return to;
}

/* Resizes a span in place, or moves it by remapping. Returns NULL where neither can be done: the
 * caller copies. */
void *hak_span_resize(hak_thread *t, uint32_t unit, uint64_t size) {
    hak_fork_look();
    hak_heap *h = hak_heap_of(t);
    hak_slab *span = hak_slab_at(h, unit);
    uint32_t have = span->unit_count;
    uint64_t want = hak_units_for(size);
    hak_assert(hak_is_span(h, unit) && want);
    if (want >= h->unit_limit) return NULL;
    if (want < have) hak_run_free(h, unit + (uint32_t)want, have - (uint32_t)want, true);
    if (want <= have || hak_run_extend(h, unit, have, (uint32_t)want)) {
        hak_span_note(h, unit, (uint32_t)want, size);
        hak_count(t, span_resize_count, 1);
        if (want != have) hak_tick(h, want > have ? want : 0);
        return hak_unit_address(h, unit);
    }
    /* a move that failed would leave a hole in a reservation, whose end unmaps all that is in it */
    if (h->flags & HAK_HEAP_RESERVED ||
        (uint64_t)have << HAK_UNIT_SHIFT < hak_number(hak_policy_of(h)->retain.remap_min_bytes))
        return NULL;
    return span_remap(t, unit, have, (uint32_t)want, size);
}
