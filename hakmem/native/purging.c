/* purging.c: dirty runs, purged one after another.
 *
 * A run is taken out of its bin under run_lock, purged without it, and put back under it; meanwhile
 * purging_units says that part of what is free is in no bin. A purge that is refused is tried in
 * parts (stuck.c). Where all that is mapped is locked, and locked memory does not go (before 5.18),
 * the run is unmapped.
 */
#include "events.h"
#include "locks.h"
#include "marks.h"
#include "region.h"
#include "run_bins.h"
#include "stuck.h"

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* A run that is out of its bin to be purged. */
typedef struct out_run {
    uint32_t unit, units, dirty;
    uint32_t purged; /* units of it that are clean now, or lazily purged */
    uint32_t pages;  /* OS pages that went of other units */
    uint64_t excess; /* units to purge at most */
    bool split;      /* what is refused is tried in parts */
} out_run;

/* Purges up to `excess` units of a run. Not under the lock. */
static void purge_run(hak_heap *h, out_run *run, bool lazy) {
    uint32_t end = run->unit + run->units, went;
    hak_assert(!hak_rank_is_held(HAK_RANK_RUN)); /* a purge may take long */
    hak_assert(hak_slab_at(h, run->unit)->kind == HAK_KIND_NONE);
    for (uint32_t u = run->unit; u < end && run->purged < run->excess;) {
        if (!hak_unit_is_purgeable(h, u, lazy)) {
            u++;
            continue;
        }
        uint32_t from = u;
        while (u < end && run->purged + (u - from) < run->excess &&
               hak_unit_is_purgeable(h, u, lazy))
            u++;
        if (hak_os_purge_range(&h->os, hak_unit_address(h, from),
                               (uint64_t)(u - from) << HAK_UNIT_SHIFT, lazy))
            went = u - from;
        else if (run->split) went = hak_stuck_purge(h, from, u - from, lazy, &run->pages);
        else return;
        run->purged += went;
    }
}

/* Marks units of one word as purged lately, and as clean, unless lazily. Returns how many of them
 * were not purged lately before. */
static uint32_t mark_word(hak_heap *h, uint32_t word, uint64_t mask, bool lazy) {
    uint64_t *recent = &hak_recent_map(h, h->recent_now)[word], *dirty = &hak_dirty_map(h)[word];
    uint64_t fresh = mask & ~(hak_load_relaxed(recent) |
                              hak_load_relaxed(&hak_recent_map(h, !h->recent_now)[word]));
    if (!lazy) hak_store_relaxed(dirty, hak_load_relaxed(dirty) & ~mask);
    hak_store_relaxed(recent, hak_load_relaxed(recent) | fresh);
    return (uint32_t)__builtin_popcountll(fresh);
}

/* The mask without all but its lowest `count` bits. */
static uint64_t lowest(uint64_t mask, uint32_t count) {
    uint64_t rest = mask;
    while (rest && count--) rest &= rest - 1;
    return mask & ~rest;
}

/* The first `purged` units of a run that could be purged are marked as purged lately, and as clean,
 * unless lazily: then a page may keep its contents. A word at a time, since others wait for the
 * lock. Needs the lock. */
static void mark_purged(hak_heap *h, const out_run *run, bool lazy) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    uint32_t left = run->purged, fresh = 0, n;
    for (uint32_t u = run->unit, end = u + run->units; u < end && left; u += n) {
        uint64_t mask = hak_mark_mask(u, end, &n) & hak_load_relaxed(&hak_dirty_map(h)[u >> 6]);
        if (h->stuck_units | h->parted_units | lazy)
            for (uint64_t bits = mask; bits; bits &= bits - 1) {
                uint32_t unit = (u & ~63u) + (uint32_t)__builtin_ctzll(bits);
                if (!hak_unit_is_purgeable(h, unit, lazy)) mask &= ~(bits & -bits);
            }
        mask = lowest(mask, left);
        left -= (uint32_t)__builtin_popcountll(mask);
        fresh += mark_word(h, u >> 6, mask, lazy);
        for (uint64_t bits = mask; bits && !lazy && (h->stuck_units | h->parted_units);
             bits &= bits - 1)
            hak_stuck_take(h, (u & ~63u) + (uint32_t)__builtin_ctzll(bits), 1);
    }
    hak_store_relaxed(&h->recent_units[h->recent_now], h->recent_units[h->recent_now] + fresh);
}

/* The oldest dirty run of which anything may be purged, or 0; those before it become the newest.
 * Needs the lock. */
static uint32_t oldest_purgeable(hak_heap *h, bool lazy) {
    for (uint32_t unit = h->oldest_dirty, last = h->newest_dirty; unit; unit = h->oldest_dirty) {
        uint32_t units = hak_slab_at(h, unit)->unit_count,
                 dirty = hak_slab_at(h, unit)->run_dirty_count;
        for (uint32_t u = unit; u < unit + units; u++)
            if (hak_unit_is_purgeable(h, u, lazy)) return unit;
        hak_run_unlink(h, unit);
        hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
        hak_run_insert(h, unit, units, dirty);
        if (unit == last) break;
    }
    return 0;
}

/* Takes a run out of its bin that has more to purge than `limit` allows; false: there is none. */
static bool take_out(hak_heap *h, out_run *run, uint64_t limit, bool lazy) {
    hak_run_lock(h);
    uint64_t most = hak_purgeable_units(h, lazy);
    uint32_t unit = most > limit ? oldest_purgeable(h, lazy) : 0;
    if (unit) {
        hak_slab *record = hak_slab_at(h, unit);
        *run = (out_run){.unit = unit,
                         .units = record->unit_count,
                         .dirty = record->run_dirty_count,
                         .excess = most - limit,
                         .split = !h->locked};
        hak_run_unlink(h, unit);
        hak_store_relaxed(&record->kind, HAK_KIND_NONE);
        hak_entry_fill(h, unit, 1, HAK_TAG_NONE);
        hak_entry_fill(h, unit + run->units - 1, 1, HAK_TAG_NONE);
        h->purging_units += run->units;
    }
    hak_run_unlock(h);
    return unit != 0;
}

static void put_back(hak_heap *h, const out_run *run, bool lazy) {
    uint32_t cleaned = lazy ? 0 : run->purged;
    mark_purged(h, run, lazy);
    if (run->purged) {
        hak_event_of(h, 0, HAK_EVENT_PURGE, 0, run->unit, run->purged);
        HAK_PROBE("purge", 0, 0, run->unit, run->purged);
        h->purge_count++;
        h->purge_units += run->purged;
    }
    hak_store_relaxed(&h->dirty_units, h->dirty_units - cleaned);
    hak_store_relaxed(&h->low_water_now, h->low_water_now - smaller(h->low_water_now, cleaned));
    hak_store_relaxed(&h->low_water_before,
                      h->low_water_before - smaller(h->low_water_before, cleaned));
    hak_run_insert(h, run->unit, run->units, run->dirty - cleaned);
}

/* Unmaps a run that would not go while all that is mapped is locked: mapped again, it is locked as
 * it was. False: it is not so any more, and nothing was done. Needs the lock. */
HAK_COLD static bool unmap_locked(hak_heap *h, out_run *run) {
    if (!hak_os_is_locked(&h->os, NULL)) {
        h->locked = 0;
        return false;
    }
    if (hak_region_unmap_units(h, run->unit, run->units, run->dirty)) {
        run->purged = run->dirty;
        h->purge_count++;
        h->purge_units += run->dirty;
    } else hak_stuck_mark(h, run->unit, run->units);
    return true;
}

/* Gives back oldest runs first until at most `limit` units that may be purged are left or `runs`
 * were purged; returns units, and adds OS pages of units that went in part only to *pages. */
uint64_t hak_purge_runs(hak_heap *h, uint64_t limit, uint32_t runs, bool lazy, uint64_t *pages) {
    uint64_t done = 0;
    out_run run;
    bool marked = hak_purge_mark(h);
    for (uint32_t i = 0; i < runs && take_out(h, &run, limit, lazy); i++) {
        purge_run(h, &run, lazy);
        hak_run_lock(h);
        hak_assert(h->purging_units >= run.units && run.purged <= run.dirty);
        h->purging_units -= run.units;
        if (run.purged || run.split || !unmap_locked(h, &run)) put_back(h, &run, lazy);
        hak_run_unlock(h);
        done += run.purged;
        *pages += run.pages;
    }
    if (marked) hak_purge_unmark(h);
    return done;
}
