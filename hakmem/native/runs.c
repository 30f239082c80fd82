/* runs.c: the run heap: units taken out of the free runs (run_bins.c) and given back to them.
 *
 * A request takes the best fit, dirty runs first, since a dirty page costs no fault; where none
 * fits, region.c maps more units. All of it is done under run_lock.
 *
 * Invariant: units in use + free + of runs being purged + unmapped = units below unit_top.
 *
 * in_use_units, dirty_units and the high waters are written under the lock, by relaxed stores,
 * because hak_tick reads them without the lock. A stale figure makes hak_tick look at the lists,
 * under the lock, once more or once less than it need.
 */
#include "locks.h"
#include "marks.h"
#include "moved.h"
#include "region.h"
#include "run_bins.h"
#include "stuck.h"

/* The holder of a unit may ask without the lock. */
bool hak_unit_is_dirty(hak_heap *h, uint32_t unit) { return hak_mark_get(hak_dirty_map(h), unit); }

void hak_unit_mark_dirty(hak_heap *h, uint32_t unit) {
    hak_marks_set(hak_dirty_map(h), unit, 1, true);
}

static uint32_t dirty_count(hak_heap *h, uint32_t unit, uint32_t units) {
    return hak_marks_count(hak_dirty_map(h), unit, units);
}

static void note_live(hak_heap *h, uint64_t units) {
    hak_store_relaxed(&h->in_use_units, h->in_use_units + units);
    uint64_t live = hak_in_use_units(h);
    if (live > h->high_water_now) hak_store_relaxed(&h->high_water_now, live);
    if (live > h->high_water_ever) h->high_water_ever = live;
}

/* Cuts the units [at, at + units) out of the free run at `run`; what is before and behind them
 * stays free. Returns how many of the units are dirty. */
static uint32_t run_cut(hak_heap *h, uint32_t run, uint32_t at, uint32_t units) {
    uint32_t end = run + hak_slab_at(h, run)->unit_count,
             dirty_all = hak_slab_at(h, run)->run_dirty_count;
    bool all = dirty_all == end - run;
    hak_assert(hak_slab_at(h, run)->kind == HAK_KIND_RUN && at >= run && at + units <= end);
    hak_assert(dirty_all == dirty_count(h, run, end - run));
    hak_run_unlink(h, run);
    hak_store_relaxed(&hak_slab_at(h, run)->kind, HAK_KIND_NONE);
    hak_entry_fill(h, at, units, HAK_TAG_NONE);
    uint32_t before = !dirty_all ? 0 : all ? at - run : dirty_count(h, run, at - run);
    uint32_t cut = !dirty_all ? 0 : all ? units : dirty_count(h, at, units);
    if (at > run) hak_run_place(h, run, at - run, before, HAK_TAG_FREE);
    if (at + units < end)
        hak_run_place(h, at + units, end - at - units, dirty_all - before - cut, HAK_TAG_FREE);
    hak_assert(h->dirty_units >= cut);
    hak_store_relaxed(&h->dirty_units, h->dirty_units - cut);
    if (h->dirty_units < h->low_water_now) hak_store_relaxed(&h->low_water_now, h->dirty_units);
    if (h->recent_units[0] | h->recent_units[1]) hak_recent_take(h, at, units);
    hak_stuck_take(h, at, units);
    note_live(h, units);
    return cut;
}

/* Maps units, so that there is a run of at least `units`. Where the OS refuses, free runs are
 * unmapped and the OS is asked again, since limits count mappings rather than resident pages. For
 * two epochs after that purge.c goes on unmapping. Needs run_lock. */
static bool grow(hak_heap *h, uint32_t units) {
    uint32_t code = hak_region_grow(h, units);
    if (code == HAK_MAP_DONE) return true;
    if (code == HAK_MAP_REFUSED) hak_store_relaxed(&h->refused_epoch, (h->epoch_count + 2) | 1);
    /* the region is full: unmapped units may still join free ones */
    else if (!h->unmapped_units) return false;
    return hak_region_shrink(h, units, 1) && hak_region_grow(h, units) == HAK_MAP_DONE;
}

/* Takes run_lock and finds a run of at least `units`, growing the arena if need be. Returns 0 when
 * the region is full or the OS refuses. While another thread purges, some free units are in no bin:
 * this waits for them rather than fail. The lock is held on return. */
static uint32_t lock_and_find(hak_heap *h, uint32_t units) {
    for (;;) {
        hak_run_lock(h);
        uint32_t run = hak_run_find(h, units);
        if (!run && grow(h, units)) run = hak_run_find(h, units);
        if (run || !h->purging_units) return run;
        hak_run_unlock(h);
        hak_purge_wait(h);
    }
}

/* Takes a run of units whose address is a multiple of `align_units` units. Unit numbers alone do
 * not tell, because the region itself stands on a superslab's boundary only. */
hak_run hak_run_alloc(hak_heap *h, uint32_t units, uint32_t align_units) {
    hak_run made = {0, 0, 0};
    uint32_t skew = (uint32_t)((uintptr_t)h >> HAK_UNIT_SHIFT) & (align_units - 1);
    uint32_t room = units + align_units - 1;
    uint32_t run = lock_and_find(h, room);
    if (run) {
        uint32_t at = ((run + skew + align_units - 1) & ~(align_units - 1)) - skew;
        made.unit = at;
        made.dirty = run_cut(h, run, at, units);
    }
    hak_run_unlock(h);
    return made;
}

/* Takes one unit for a slab. From a clean run it takes the rest of the superslab as well; the
 * caller opens those units to all threads. */
hak_run hak_run_alloc_open(hak_heap *h) {
    hak_run made = {0, 0, 0};
    uint32_t run = lock_and_find(h, 1);
    if (run) {
        uint32_t units = 1;
        if (!hak_slab_at(h, run)->run_dirty_count) {
            uint32_t left = HAK_SUPERSLAB_UNITS - (run & (HAK_SUPERSLAB_UNITS - 1)),
                     have = hak_slab_at(h, run)->unit_count;
            units = have < left ? have : left;
        }
        made.unit = run;
        made.dirty = run_cut(h, run, run, units);
        made.open = (units == 32 ? ~0u : (1u << units) - 1) & ~1u;
    }
    hak_run_unlock(h);
    return made;
}

void hak_run_free(hak_heap *h, uint32_t unit, uint32_t units, bool dirty) {
    hak_run_lock(h);
    hak_assert(hak_units_are_arena(h, unit, units) && h->in_use_units >= units);
    hak_assert(hak_slab_at(h, unit)->kind != HAK_KIND_RUN);
    /* A fork may happen between any two stores, and its child believes the marks of free units. So
     * a unit is marked dirty before it becomes free, and clean only after. */
    if (dirty) hak_marks_set(hak_dirty_map(h), unit, units, true);
    hak_keep_order();
    hak_entry_fill(h, unit, units, hak_entry(HAK_TAG_FREE, unit));
    hak_keep_order();
    if (!dirty) hak_marks_set(hak_dirty_map(h), unit, units, false);
    hak_store_relaxed(&h->in_use_units, h->in_use_units - units);
    if (dirty) hak_store_relaxed(&h->dirty_units, h->dirty_units + units);
    hak_run_insert(h, unit, units, dirty ? units : 0);
    hak_run_unlock(h);
}

/* Grows a span of `have` units to `want` into the free run behind it. False when that is taken or
 * too short. */
bool hak_run_extend(hak_heap *h, uint32_t unit, uint32_t have, uint32_t want) {
    bool done = false;
    hak_run_lock(h);
    uint32_t behind = unit + have;
    hak_assert(want > have && hak_units_are_arena(h, unit, have));
    uint64_t entry = behind < h->unit_top ? hak_entry_get(h, behind) : 0;
    if (hak_entry_tag(entry) == HAK_TAG_FREE && hak_slab_at(h, behind)->unit_count >= want - have) {
        run_cut(h, behind, behind, want - have);
        done = true;
    }
    hak_run_unlock(h);
    return done;
}

/* Takes a range that pages were moved to out of the run that it is a part of, if it is free and
 * clean. Returns no unit where there is none. */
hak_run hak_run_take_moved(hak_heap *h, uint32_t *units) {
    hak_run made = {0, 0, 0};
    hak_run_lock(h);
    uint32_t run;
    made.unit = hak_moved_find_spare(h, units, &run);
    if (made.unit) run_cut(h, run, made.unit, *units);
    hak_run_unlock(h);
    return made;
}

static void forget_bins(hak_heap *h) {
    for (uint32_t i = 0; i < HAK_RUN_BIN_COUNT; i++)
        h->run_clean[i] = h->run_dirty[i] = h->run_unmapped[i] = 0;
    for (uint32_t i = 0; i < HAK_RUN_BIN_WORDS; i++)
        h->run_clean_bits[i] = h->run_dirty_bits[i] = h->run_unmapped_bits[i] = 0;
    h->oldest_dirty = h->newest_dirty = 0;
    h->dirty_units = h->purging_units = h->low_water_now = h->low_water_before = 0;
    h->unmapped_units = 0;
}

/* Finds the end of the free or unmapped units (by `tag`) that begin at `unit`, and forgets the
 * records of the runs among them. Units that somebody else mapped end it. Units whose entries say
 * unmapped, but which are in no record, are unmapped once more. */
static uint32_t forget_runs(hak_heap *h, uint32_t unit, uint32_t tag) {
    uint32_t end = unit, known = unit;
    for (; end < h->unit_top && hak_tag_get(h, end) == tag; end++) {
        hak_slab *slab = hak_slab_at(h, end);
        if (slab->kind == HAK_KIND_FOREIGN) break;
        if (slab->kind == HAK_KIND_UNMAPPED) known = end + slab->unit_count;
        if (slab->kind == HAK_KIND_UNMAPPED || slab->kind == HAK_KIND_RUN)
            hak_store_relaxed(&slab->kind, HAK_KIND_NONE);
        if (tag == HAK_TAG_UNMAPPED && end >= known) hak_region_unmap_again(h, end, 1);
    }
    return end;
}

/* Makes the run heap again from the registry's tags, in a fork's child whose parent had another
 * thread that held run_lock or was purging. */
void hak_runs_rebuild(hak_heap *h) {
    forget_bins(h);
    /* the marks and their counts may not agree, so nothing counts as purged lately */
    for (uint32_t which = 0; which < 2; which++) {
        if (h->recent_units[which]) hak_marks_set(hak_recent_map(h, which), 0, h->unit_top, false);
        h->recent_units[which] = 0;
    }
    hak_stuck_reset(h);
    uint64_t free_units = 0;
    for (uint32_t u = h->meta_units, end; u < h->unit_top; u = end) {
        uint32_t tag = hak_tag_get(h, u), dirty = 0;
        end = u + 1;
        if (tag != HAK_TAG_FREE && tag != HAK_TAG_UNMAPPED) continue;
        end = forget_runs(h, u, tag);
        if (end == u) { /* mapped by somebody else */
            end = u + hak_slab_at(h, u)->unit_count;
            h->unmapped_units += end - u;
            continue;
        }
        if (tag == HAK_TAG_FREE) dirty = dirty_count(h, u, end - u), free_units += end - u;
        else h->unmapped_units += end - u;
        hak_run_place(h, u, end - u, dirty, tag);
        hak_assert(hak_run_is_apart(h, u));
        h->dirty_units += dirty;
    }
    h->in_use_units = h->unit_top - h->meta_units - free_units - h->unmapped_units;
}
