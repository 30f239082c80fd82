/* region.c: which units of a region are mapped, and how that changes.
 *
 * Units are mapped upward from the registry on, a chunk at a time, so that a limit on addresses, a
 * lock of all memory, or a core file counts only what the heap uses. Where something else is mapped
 * in the way, those units are left out for good (HAK_KIND_FOREIGN). When the OS refuses, fewer
 * units are tried, down to what is needed; then free runs are unmapped, the longest first, because
 * limits count mappings rather than resident pages; then it is ENOMEM (runs.c). The entries of
 * unmapped units say HAK_TAG_UNMAPPED, all of them, from before the munmap until after the mmap.
 *
 * Everything runs under run_lock. unit_top <= table_units always holds. A fork may come in between:
 * what is about to be mapped is written down first (intent_unit), and the child, in which the
 * mapping may or may not be there, unmaps it (hak_region_mend). Units that were being unmapped are
 * recognised because no record has them.
 */
#include "region.h"

#include "locks.h"
#include "mapped.h"
#include "marks.h"
#include "moved.h"
#include "run_bins.h"
#include "stuck.h"

/* How many of these units are among a heap's first, which are kept from huge pages: blocks of many
 * classes are spread over them, a few OS pages of each, and where every mapping may have huge pages
 * these few would be most of what a small program has. */
static uint64_t small_units(hak_heap *h, uint32_t unit, uint32_t units) {
    const hak_arena_growth *growth = &hak_policy_of(h)->arenas;
    uint64_t end = h->meta_units + (hak_number(growth->small_pages_bytes) >> HAK_UNIT_SHIFT);
    if (hak_number(growth->huge_pages) || unit >= end) return 0;
    return unit + units < end ? units : end - unit;
}

/* Whether units at the top are to be mapped by growing the mapping before them. Not where the
 * process locks what it maps: a mapping from before that would grow unlocked. */
static bool may_grow(hak_heap *h, uint32_t unit, uint32_t units) {
    return unit == h->unit_top && unit > h->meta_units && small_units(h, unit, units) == units &&
           !(h->flags & HAK_HEAP_RESERVED) && !h->locked && !hak_os_is_locked(&h->os, NULL);
}

/* Maps units, if the heap's own bound on mapped units allows it. The first chunk's mapping grows
 * over those that are to have no huge pages either: the OS is advised once, at the first malloc,
 * before a program shuts itself in. */
static uint32_t map_units(hak_heap *h, uint32_t unit, uint32_t units) {
    uint64_t mapped = h->unit_top - h->meta_units - h->unmapped_units,
             most = hak_load_relaxed(&h->map_limit_units);
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    hak_assert(unit + units <= h->table_units && h->intent_unit == unit);
    if (most && mapped + units > most) return HAK_MAP_REFUSED;
    uint64_t at = (uint64_t)unit << HAK_UNIT_SHIFT;
    if (may_grow(h, unit, units) &&
        hak_os_extend_range(&h->os, hak_unit_address(h, unit), (uint64_t)units << HAK_UNIT_SHIFT))
        return HAK_MAP_DONE;
    return hak_part_map(h, at, at + ((uint64_t)units << HAK_UNIT_SHIFT));
}

static void set_intent(hak_heap *h, uint32_t unit, uint32_t units) {
    hak_keep_order(); /* earlier stores are done */
    hak_store_relaxed(&h->intent_units, 0);
    hak_keep_order();
    hak_store_relaxed(&h->intent_unit, unit);
    hak_keep_order();
    hak_store_relaxed(&h->intent_units, units);
    hak_keep_order(); /* the intent stands before the mapping */
}

static uint32_t chunk_units(hak_heap *h) {
    const hak_arena_growth *growth = &hak_policy_of(h)->arenas;
    uint32_t level = h->arena_count < growth->levels ? h->arena_count : growth->levels;
    uint64_t chunk = growth->init_bytes << level;
    uint32_t units =
        (uint32_t)((chunk < growth->max_bytes ? chunk : growth->max_bytes) >> HAK_UNIT_SHIFT);
    return h->locked && units > HAK_LOCKED_STEP_UNITS ? HAK_LOCKED_STEP_UNITS : units;
}

/* Where the process locks what it maps, units that were mapped beyond `need` are resident already:
 * all but one step of them is unmapped again. Returns how many units stay. */
static uint32_t keep_locked(hak_heap *h, uint32_t unit, uint32_t units, uint32_t need) {
    uint32_t keep = need > HAK_LOCKED_STEP_UNITS ? need : HAK_LOCKED_STEP_UNITS;
    if (h->locked || units <= keep || !hak_os_is_locked(&h->os, hak_unit_address(h, unit)))
        return units;
    h->locked = 1;
    return hak_part_unmap(h, (uint64_t)(unit + keep) << HAK_UNIT_SHIFT,
                          (uint64_t)(unit + units) << HAK_UNIT_SHIFT)
               ? keep
               : units;
}

/* Maps as many of `want` units from `unit` on as the OS gives, `need` at least; *got is how many.
 * On success the intent is left standing. */
static uint32_t map_halving(hak_heap *h, uint32_t unit, uint32_t want, uint32_t need,
                            uint32_t *got) {
    for (;;) {
        set_intent(h, unit, want);
        uint32_t code = hak_tables_reach(h, (uint64_t)unit + want);
        if (code == HAK_MAP_DONE) code = map_units(h, unit, want);
        *got = want;
        if (code == HAK_MAP_DONE) {
            *got = keep_locked(h, unit, want, need);
            return code;
        }
        set_intent(h, 0, 0);
        if (want == need) return code;
        want = want / 2 > need ? want / 2 : need;
    }
}

#define ARENAS_LISTED (sizeof((hak_heap *)0)->arena_units / sizeof(uint32_t))

/* The place where chunk `chunk` is listed; the last place adds up all further chunks. */
static uint32_t chunk_place(uint32_t chunk) {
    return chunk < ARENAS_LISTED ? chunk : ARENAS_LISTED - 1;
}

/* Adds units at the top to the arena. */
static void raise_top(hak_heap *h, uint32_t units) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN) && h->unit_top + units <= h->table_units);
    h->arena_units[chunk_place(h->arena_count)] += units;
    h->arena_count++;
    /* partner: readers without the lock, before they read records below unit_top */
    hak_store_release(&h->unit_top, h->unit_top + units);
}

/* Asks for huge pages in units that were mapped at the top, if the policy does. Else the first
 * chunk is kept from them, and the next ones grow out of it (map_units). In a region that is
 * reserved as a whole nothing grows, so each chunk is. */
static void advise_chunk(hak_heap *h, uint32_t top, uint32_t units) {
    bool huge = hak_number(hak_policy_of(h)->arenas.huge_pages);
    bool alone = top == h->meta_units || h->flags & HAK_HEAP_RESERVED;
    uint64_t advised = huge ? units : alone ? small_units(h, top, units) : 0;
    if (advised)
        hak_os_advise_huge(&h->os, hak_unit_address(h, top), advised << HAK_UNIT_SHIFT, huge);
}

/* Makes units that were mapped at the top free. */
static void add_chunk(hak_heap *h, uint32_t units) {
    uint32_t top = h->unit_top;
    advise_chunk(h, top, units);
    raise_top(h, units);
    /* the entry of every unit says free, not of the ends alone: hak_runs_rebuild needs that */
    hak_entry_fill(h, top, units, hak_entry(HAK_TAG_FREE, top));
    hak_run_insert(h, top, units, 0);
    hak_work_grow_locked(h, units);
    set_intent(h, 0, 0);
}

/* Leaves out units at the top where something else is mapped. */
static bool skip_units(hak_heap *h, uint32_t units) {
    uint32_t top = h->unit_top;
    if (hak_tables_reach(h, (uint64_t)top + units) != HAK_MAP_DONE) return false;
    hak_entry_fill(h, top, units, hak_entry(HAK_TAG_UNMAPPED, top));
    hak_store_relaxed(&hak_slab_at(h, top)->unit_count, units);
    hak_store_relaxed(&hak_slab_at(h, top)->kind, HAK_KIND_FOREIGN);
    hak_store_relaxed(&h->unmapped_units, h->unmapped_units + units);
    raise_top(h, units);
    return true;
}

/* Maps the next arena chunk, at least so large that `units` fit, together with the free units that
 * are at the top already. */
static uint32_t grow_top(hak_heap *h, uint32_t units) {
    for (uint32_t skip = HAK_SKIP_UNITS;; skip *= 2) {
        uint32_t top = h->unit_top, left = h->unit_limit - top, got;
        uint64_t last = hak_entry_get(h, top - 1);
        uint32_t have = hak_entry_tag(last) == HAK_TAG_FREE
                            ? hak_slab_at(h, hak_entry_head(last))->unit_count
                            : 0;
        /* have < units, else the run would have been found; callers that need alignment ask for
         * more */
        uint32_t need = have < units ? units - have : 1, want = chunk_units(h);
        if (want < need) want = need;
        if (want > left) want = left;
        if (want < need) return HAK_MAP_TAKEN;
        uint32_t code = map_halving(h, top, want, need, &got);
        if (code == HAK_MAP_DONE) {
            add_chunk(h, got);
            return code;
        }
        if (code == HAK_MAP_REFUSED || skip >= left || !skip_units(h, skip)) return code;
    }
}

/* Maps the first units of an unmapped run. */
static bool grow_run(hak_heap *h, uint32_t unit, uint32_t units) {
    uint32_t have = hak_slab_at(h, unit)->unit_count, want = chunk_units(h), got;
    if (want < units) want = units;
    if (want > have) want = have;
    hak_run_unlink(h, unit);
    uint32_t code = map_halving(h, unit, want, units, &got);
    if (code == HAK_MAP_DONE) {
        hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
        hak_store_relaxed(&h->unmapped_units, h->unmapped_units - got);
        if (got < have) hak_run_place_unmapped(h, unit + got, have - got);
        hak_entry_fill(h, unit, got, hak_entry(HAK_TAG_FREE, unit));
        hak_marks_set(hak_dirty_map(h), unit, got, false);
        hak_run_insert(h, unit, got, 0);
        set_intent(h, 0, 0);
    } else if (code == HAK_MAP_TAKEN) { /* somebody else mapped there: never ours again */
        hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_FOREIGN);
    } else hak_run_place_unmapped(h, unit, have);
    return code == HAK_MAP_DONE;
}

/* Makes a free run of at least `units` units: from an unmapped run, else at the top.
 * HAK_MAP_TAKEN: the region is full. Needs run_lock. */
uint32_t hak_region_grow(hak_heap *h, uint32_t units) {
    uint32_t run = hak_run_find_unmapped(h, units);
    return run && grow_run(h, run, units) ? HAK_MAP_DONE : grow_top(h, units);
}

/* Unmaps free units that are in no bin; if the OS refuses, they go back into one. Needs
 * run_lock. */
bool hak_region_unmap_units(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty) {
    uint64_t at = (uint64_t)unit << HAK_UNIT_SHIFT;
    /* before the memory is gone, since a fork's child unmaps the units that no record has */
    hak_entry_fill(h, unit, units, hak_entry(HAK_TAG_UNMAPPED, unit));
    hak_keep_order();
    if (!hak_part_unmap(h, at, at + ((uint64_t)units << HAK_UNIT_SHIFT))) { /* too many mappings */
        hak_entry_fill(h, unit, units, hak_entry(HAK_TAG_FREE, unit));
        hak_run_insert(h, unit, units, dirty);
        return false;
    }
    if (hak_number(hak_policy_of(h)->retain.lazy_free)) hak_recent_take(h, unit, units);
    hak_stuck_take(h, unit, units);
    hak_store_relaxed(&h->dirty_units, h->dirty_units - dirty);
    if (h->dirty_units < h->low_water_now) hak_store_relaxed(&h->low_water_now, h->dirty_units);
    hak_store_relaxed(&h->unmapped_units, h->unmapped_units + units);
    hak_moved_forget(h, unit, units);
    hak_run_insert_unmapped(h, unit, units);
    return true;
}

static bool unmap_run(hak_heap *h, uint32_t unit) {
    uint32_t units = hak_slab_at(h, unit)->unit_count,
             dirty = hak_slab_at(h, unit)->run_dirty_count;
    hak_run_unlink(h, unit);
    hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
    return hak_region_unmap_units(h, unit, units, dirty);
}

/* Unmaps free runs of at least `least` units, the longest first, until `units` units are unmapped;
 * returns how many were. Needs run_lock. */
uint64_t hak_region_shrink(hak_heap *h, uint64_t units, uint32_t least) {
    uint64_t done = 0;
    for (uint32_t run; done < units && (run = hak_run_longest(h)) != 0;) {
        uint32_t have = hak_slab_at(h, run)->unit_count;
        if (have < least || !unmap_run(h, run)) break;
        done += have;
    }
    return done;
}

/* In a fork's child whose run_lock was held: unmaps what was being mapped. Units of it that are
 * below the top become an unmapped run. hak_runs_rebuild follows. */
void hak_region_mend(hak_heap *h) {
    uint32_t unit = h->intent_unit, units = h->intent_units;
    hak_tables_mend(h);
    hak_moved_mend(h);
    hak_mapped_mend(h);
    if (units) {
        uint64_t at = (uint64_t)unit << HAK_UNIT_SHIFT;
        (void)hak_part_unmap(h, at, at + ((uint64_t)units << HAK_UNIT_SHIFT));
        for (uint32_t u = unit; u < unit + units && u < h->unit_top; u++) {
            hak_store_relaxed(&hak_slab_at(h, u)->kind, HAK_KIND_NONE);
            hak_entry_fill(h, u, 1, hak_entry(HAK_TAG_UNMAPPED, u));
        }
    }
    h->intent_units = 0;
    uint64_t listed = 0;
    for (uint32_t i = 0; i < ARENAS_LISTED; i++) listed += h->arena_units[i];
    /* a chunk that was noted but is not there yet is the last one, or the one behind it */
    uint32_t place = chunk_place(h->arena_count);
    if (!h->arena_units[place] && place) place--;
    h->arena_units[place] -= (uint32_t)(listed - (h->unit_top - h->meta_units));
    if (!h->arena_units[place]) h->arena_count = place;
}

/* Unmaps, in a fork's child, units that are marked as unmapped but may still be mapped. */
void hak_region_unmap_again(hak_heap *h, uint32_t unit, uint32_t units) {
    uint64_t at = (uint64_t)unit << HAK_UNIT_SHIFT;
    (void)hak_part_unmap(h, at, at + ((uint64_t)units << HAK_UNIT_SHIFT));
}
