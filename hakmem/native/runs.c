/* runs.c: the run heap: every run of free units, and every run of units that are not mapped.
 *
 * Free runs are binned by length (one bin a length up to 32 units, then 8 bins for each doubling).
 * Runs with dirty units and runs without have bins of their own; a dirty mark for each unit lets
 * both kinds coalesce. A request takes the best fit, dirty runs first, since a dirty page costs no
 * fault. Unmapped runs have bins of their own too, and coalesce only with each other; region.c maps
 * them again. All of it is done under run_lock.
 *
 * Invariants: two free runs never touch. The registry entries at both ends of a run name its head.
 * Units in use + free + of runs being purged + unmapped = units below unit_top.
 *
 * in_use_units, dirty_units and the high waters are written under the lock, by relaxed stores,
 * because hak_tick reads them without the lock. A stale figure makes hak_tick look at the lists,
 * under the lock, once more or once less than it need.
 */
#include "locks.h"
#include "marks.h"
#include "moved.h"
#include "region.h"
#include "runs.h"
#include "stuck.h"

/* The holder of a unit may ask without the lock. */
bool hak_unit_is_dirty(hak_heap *h, uint32_t unit) { return hak_mark_get(hak_dirty_map(h), unit); }

void hak_unit_mark_dirty(hak_heap *h, uint32_t unit) {
    hak_marks_set(hak_dirty_map(h), unit, 1, true);
}

static uint32_t dirty_count(hak_heap *h, uint32_t unit, uint32_t units) {
    return hak_marks_count(hak_dirty_map(h), unit, units);
}

uint32_t hak_run_bin(uint32_t units) {
    if (units <= HAK_RUN_EXACT_BINS) return units - 1;
    uint32_t log2 = 31 - (uint32_t)__builtin_clz(units);
    return HAK_RUN_EXACT_BINS + (log2 - 5) * 8 + ((units >> (log2 - 3)) & 7);
}

/* The bins for runs of this one's kind, and the bitmap of the bins that are not empty. */
static uint32_t *bins_of(hak_heap *h, const hak_slab *run, uint64_t **bits) {
    bool unmapped = run->kind == HAK_KIND_UNMAPPED, dirty = run->run_dirty_count != 0;
    *bits = unmapped ? h->run_unmapped_bits : dirty ? h->run_dirty_bits : h->run_clean_bits;
    return unmapped ? h->run_unmapped : dirty ? h->run_dirty : h->run_clean;
}

/* Whether this thread may change the run heap: it holds the lock, or repairs a fork's child. */
HAK_PREDICATE bool is_mine(void) {
    return hak_rank_is_held(HAK_RANK_RUN) || hak_rank_is_held(HAK_RANK_FORK);
}

/* Whether a run's record and the entries of its two ends agree. */
HAK_PREDICATE bool is_run(hak_heap *h, uint32_t unit) {
    const hak_slab *run = hak_slab_at(h, unit);
    uint32_t tag = run->kind == HAK_KIND_RUN ? HAK_TAG_FREE : HAK_TAG_UNMAPPED;
    return (run->kind == HAK_KIND_RUN || run->kind == HAK_KIND_UNMAPPED) &&
           hak_units_are_arena(h, unit, run->unit_count) &&
           hak_entry_get(h, unit) == hak_entry(tag, unit) &&
           hak_entry_get(h, unit + run->unit_count - 1) == hak_entry(tag, unit) &&
           run->run_dirty_count <= (tag == HAK_TAG_FREE ? run->unit_count : 0);
}

/* Whether no run of the same kind touches this one. The entries beside a run tell, since the ends
 * of a run name its head. */
HAK_PREDICATE bool is_apart(hak_heap *h, uint32_t unit) {
    uint32_t end = unit + hak_slab_at(h, unit)->unit_count, tag = hak_tag_get(h, unit);
    uint64_t before = hak_entry_get(h, unit - 1),
             behind = end < h->unit_top ? hak_entry_get(h, end) : 0;
    return (hak_entry_tag(before) != tag ||
            hak_slab_at(h, hak_entry_head(before))->kind == HAK_KIND_FOREIGN) &&
           (hak_entry_tag(behind) != tag ||
            hak_slab_at(h, hak_entry_head(behind))->kind == HAK_KIND_FOREIGN);
}

static void run_link(hak_heap *h, uint32_t unit) {
    hak_slab *run = hak_slab_at(h, unit);
    hak_assert(is_mine() && is_run(h, unit));
    uint32_t bin = hak_run_bin(run->unit_count);
    uint64_t *bits;
    uint32_t *heads = bins_of(h, run, &bits);
    run->prev = 0;
    hak_store_relaxed(&run->next, heads[bin]);
    if (heads[bin]) hak_slab_at(h, heads[bin])->prev = unit;
    heads[bin] = unit;
    bits[bin >> 6] |= UINT64_C(1) << (bin & 63);
    run->older = run->newer = 0;
    if (!run->run_dirty_count) return;
    run->older = h->newest_dirty;
    if (h->newest_dirty) hak_slab_at(h, h->newest_dirty)->newer = unit;
    else h->oldest_dirty = unit;
    h->newest_dirty = unit;
}

void hak_run_unlink(hak_heap *h, uint32_t unit) {
    hak_slab *run = hak_slab_at(h, unit);
    uint32_t bin = hak_run_bin(run->unit_count), next = hak_load_relaxed(&run->next);
    uint64_t *bits;
    uint32_t *heads = bins_of(h, run, &bits);
    hak_assert(is_mine() && is_run(h, unit));
    hak_assert(run->prev ? hak_slab_at(h, run->prev)->next == unit : heads[bin] == unit);
    hak_assert(!next || hak_slab_at(h, next)->prev == unit);
    hak_assert(bits[bin >> 6] >> (bin & 63) & 1);
    if (next) hak_slab_at(h, next)->prev = run->prev;
    if (run->prev) hak_store_relaxed(&hak_slab_at(h, run->prev)->next, next);
    else heads[bin] = next;
    if (!heads[bin]) bits[bin >> 6] &= ~(UINT64_C(1) << (bin & 63));
    if (!run->run_dirty_count) return;
    if (run->older) hak_slab_at(h, run->older)->newer = run->newer;
    else h->oldest_dirty = run->newer;
    if (run->newer) hak_slab_at(h, run->newer)->older = run->older;
    else h->newest_dirty = run->older;
}

/* Puts a run, free or unmapped, into its bin and marks both its ends. The neighbours are not looked
 * at. */
static void run_place(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty, uint32_t tag) {
    hak_slab *run = hak_slab_at(h, unit);
    hak_store_relaxed(&run->kind, tag == HAK_TAG_FREE ? HAK_KIND_RUN : HAK_KIND_UNMAPPED);
    hak_store_relaxed(&run->unit_count, units);
    hak_store_relaxed(&run->run_dirty_count, dirty);
    hak_entry_fill(h, unit, 1, hak_entry(tag, unit));
    hak_entry_fill(h, unit + units - 1, 1, hak_entry(tag, unit));
    run_link(h, unit);
}

/* Takes the run that a neighbouring registry entry names out of its bin, to coalesce with it, if
 * its kind is that of `tag`. Returns its record, or NULL. */
static hak_slab *run_take(hak_heap *h, uint64_t entry, uint32_t tag) {
    hak_slab *run = hak_slab_at(h, hak_entry_head(entry));
    if (hak_entry_tag(entry) != tag || run->kind == HAK_KIND_FOREIGN) return NULL;
    hak_run_unlink(h, hak_entry_head(entry));
    hak_store_relaxed(&run->kind, HAK_KIND_NONE);
    return run;
}

static void run_insert(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty, uint32_t tag) {
    uint64_t before = hak_entry_get(h, unit - 1);
    uint64_t behind = unit + units < h->unit_top ? hak_entry_get(h, unit + units) : 0;
    hak_slab *left = run_take(h, before, tag), *right = run_take(h, behind, tag);
    if (left) {
        hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
        unit = hak_entry_head(before), units += left->unit_count, dirty += left->run_dirty_count;
    }
    if (right) units += right->unit_count, dirty += right->run_dirty_count;
    run_place(h, unit, units, dirty, tag);
    hak_assert(is_apart(h, unit));
}

/* Adds free units, of which `dirty` are dirty, and coalesces them with the free runs on both
 * sides. */
void hak_run_insert(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty) {
    run_insert(h, unit, units, dirty, HAK_TAG_FREE);
}

/* The same for units that are not mapped. Their registry entries say so already. */
void hak_run_insert_unmapped(hak_heap *h, uint32_t unit, uint32_t units) {
    run_insert(h, unit, units, 0, HAK_TAG_UNMAPPED);
}
void hak_run_place_unmapped(hak_heap *h, uint32_t unit, uint32_t units) {
    run_place(h, unit, units, 0, HAK_TAG_UNMAPPED);
}

/* The next non-empty bin from `bin` on, or HAK_RUN_BIN_COUNT. */
static uint32_t next_bin(const uint64_t *bits, uint32_t bin) {
    for (uint32_t word = bin >> 6; word < HAK_RUN_BIN_WORDS; word++) {
        uint64_t left = bits[word] & (word == bin >> 6 ? ~UINT64_C(0) << (bin & 63) : ~UINT64_C(0));
        if (left) return word * 64 + (uint32_t)__builtin_ctzll(left);
    }
    return HAK_RUN_BIN_COUNT;
}

/* The best fit for `units` among the runs of these bins: the shortest that is long enough among the
 * first runs of the request's own bin, else the first run of the next bin that is not empty. */
static uint32_t find_among(hak_heap *h, uint32_t units, const uint32_t *heads,
                           const uint64_t *bits) {
    uint32_t bin = hak_run_bin(units), best = 0, looked = 0;
    uint32_t most = hak_policy_of(h)->retain.run_scan_count;
    for (uint32_t u = heads[bin]; u && looked < most; u = hak_slab_at(h, u)->next, looked++) {
        uint32_t have = hak_slab_at(h, u)->unit_count;
        if (have >= units && (!best || have < hak_slab_at(h, best)->unit_count)) best = u;
        if (have == units) break;
    }
    if (best) return best;
    bin = next_bin(bits, bin + 1);
    return bin < HAK_RUN_BIN_COUNT ? heads[bin] : 0;
}

static uint32_t run_find(hak_heap *h, uint32_t units) {
    uint32_t unit = find_among(h, units, h->run_dirty, h->run_dirty_bits);
    return unit ? unit : find_among(h, units, h->run_clean, h->run_clean_bits);
}

uint32_t hak_run_find_unmapped(hak_heap *h, uint32_t units) {
    return find_among(h, units, h->run_unmapped, h->run_unmapped_bits);
}

/* A run from the last bin that is not empty, a clean one if that bin has both; 0: nothing is
 * free. */
uint32_t hak_run_longest(hak_heap *h) {
    for (uint32_t word = HAK_RUN_BIN_WORDS; word--;) {
        uint64_t bits = h->run_clean_bits[word] | h->run_dirty_bits[word];
        if (!bits) continue;
        uint32_t bin = word * 64 + 63 - (uint32_t)__builtin_clzll(bits);
        return h->run_clean[bin] ? h->run_clean[bin] : h->run_dirty[bin];
    }
    return 0;
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
    if (at > run) run_place(h, run, at - run, before, HAK_TAG_FREE);
    if (at + units < end)
        run_place(h, at + units, end - at - units, dirty_all - before - cut, HAK_TAG_FREE);
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
        uint32_t run = run_find(h, units);
        if (!run && grow(h, units)) run = run_find(h, units);
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
    made.unit = hak_moved_find_spare(h, units);
    if (made.unit) {
        uint32_t run = made.unit; /* entries inside a run may name a head that was */
        while (hak_slab_at(h, run)->kind != HAK_KIND_RUN) run--;
        run_cut(h, run, made.unit, *units);
    }
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
        run_place(h, u, end - u, dirty, tag);
        hak_assert(is_apart(h, u));
        h->dirty_units += dirty;
    }
    h->in_use_units = h->unit_top - h->meta_units - free_units - h->unmapped_units;
}
