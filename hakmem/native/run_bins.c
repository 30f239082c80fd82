/* run_bins.c: the bins of the run heap: every run of free units, and every run of units that are
 * not mapped.
 *
 * Runs are binned by length (one bin a length up to 32 units, then 8 bins for each doubling). Runs
 * with dirty units and runs without have bins of their own; a dirty mark for each unit lets both
 * kinds coalesce. Unmapped runs have bins of their own too, and coalesce only with each other. All
 * of it is done under run_lock.
 *
 * Invariants: two free runs never touch. The registry entries at both ends of a run name its head.
 */
#include "run_bins.h"

#include "locks.h"

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
void hak_run_place(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty, uint32_t tag) {
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
    hak_run_place(h, unit, units, dirty, tag);
    hak_assert(hak_run_is_apart(h, unit));
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
    hak_run_place(h, unit, units, 0, HAK_TAG_UNMAPPED);
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
    uint32_t most = hak_number(hak_policy_of(h)->retain.run_scan_count);
    for (uint32_t u = heads[bin]; u && looked < most; u = hak_slab_at(h, u)->next, looked++) {
        uint32_t have = hak_slab_at(h, u)->unit_count;
        if (have >= units && (!best || have < hak_slab_at(h, best)->unit_count)) best = u;
        if (have == units) break;
    }
    if (best) return best;
    bin = next_bin(bits, bin + 1);
    return bin < HAK_RUN_BIN_COUNT ? heads[bin] : 0;
}

uint32_t hak_run_find(hak_heap *h, uint32_t units) {
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
