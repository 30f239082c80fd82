/* runs.c: the run heap: every run of free units, the arena's growth, and what goes back to the OS.
 *
 * Free runs are binned by length (exact to 32 units, then 8 bins a doubling), apart for runs with dirty units and runs
 * without; a dirty mark per unit lets both coalesce. Best fit, dirty first: a dirty page costs no fault. All of it
 * under run_lock, which is never held over a purge. Invariant: two free runs never touch; registry entries at both ends
 * of a run name its head; live + free + (units of runs being purged) = committed units.
 *
 * live_units, dirty_units and the high waters are written under the lock by relaxed stores, because hak_tick reads them
 * without it: a stale figure makes it look at the lists, under the lock, once more or once less.
 */
#include "hak_internal.h"
#include "runs.h"

static uint64_t *dirty_word(hak_heap *h, uint32_t unit) { return (uint64_t *)hak_at(h, h->dirty_offset) + (unit >> 6); }

/* Readable without the lock by who holds the unit: others change other bits of the word only, by atomics. */
bool hak_unit_is_dirty(hak_heap *h, uint32_t unit) { return hak_load_relaxed(dirty_word(h, unit)) >> (unit & 63) & 1; }

static void dirty_set(hak_heap *h, uint32_t unit, uint32_t units, bool dirty) {
    for (uint32_t u = unit, end = unit + units; u < end;) {
        uint32_t bit = u & 63, n = 64 - bit < end - u ? 64 - bit : end - u;
        uint64_t mask = (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << bit, *word = dirty_word(h, u);
        uint64_t now = hak_load_relaxed(word);
        hak_store_relaxed(word, dirty ? now | mask : now & ~mask);
        u += n;
    }
}

void hak_unit_mark_dirty(hak_heap *h, uint32_t unit) { dirty_set(h, unit, 1, true); }

static uint32_t dirty_count(hak_heap *h, uint32_t unit, uint32_t units) {
    uint32_t count = 0;
    for (uint32_t u = unit, end = unit + units; u < end;) {
        uint32_t bit = u & 63, n = 64 - bit < end - u ? 64 - bit : end - u;
        uint64_t mask = (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << bit;
        count += (uint32_t)__builtin_popcountll(hak_load_relaxed(dirty_word(h, u)) & mask);
        u += n;
    }
    return count;
}

/* CAS: acquires what the last hak_run_unlock released. Waits are rare and short; no OS call but growth is made inside. */
void hak_run_lock(hak_heap *h) {
    uint32_t expected = 0;
    bool waited = false;
    for (uint32_t n = 0; !hak_cas_acquire(&h->run_lock, &expected, 1); n++, expected = 0) {
        waited = true;
        if (n < HAK_LOCK_SPIN_TRIES) hak_backoff(n, hak_policy_of(h)->acquire.backoff_spins);
        else hak_os_yield();
    }
    h->lock_count++;
    h->lock_wait_count += waited;
}

void hak_run_unlock(hak_heap *h) { hak_store_release(&h->run_lock, 0); }

uint32_t hak_run_bin(uint32_t units) {
    if (units <= HAK_RUN_EXACT_BINS) return units - 1;
    uint32_t log2 = 31 - (uint32_t)__builtin_clz(units);
    return HAK_RUN_EXACT_BINS + (log2 - 5) * 8 + ((units >> (log2 - 3)) & 7);
}

static void run_link(hak_heap *h, uint32_t unit) {
    hak_slab *run = hak_slab_at(h, unit);
    uint32_t bin = hak_run_bin(run->unit_count);
    bool dirty = run->detail_count != 0;
    uint32_t *heads = dirty ? h->run_dirty : h->run_clean;
    run->prev = 0;
    hak_store_relaxed(&run->next, heads[bin]);
    if (heads[bin]) hak_slab_at(h, heads[bin])->prev = unit;
    heads[bin] = unit;
    (dirty ? h->run_dirty_bits : h->run_clean_bits)[bin >> 6] |= UINT64_C(1) << (bin & 63);
    run->older = run->newer = 0;
    if (!dirty) return;
    run->older = h->newest_dirty;
    if (h->newest_dirty) hak_slab_at(h, h->newest_dirty)->newer = unit;
    else h->oldest_dirty = unit;
    h->newest_dirty = unit;
}

static void run_unlink(hak_heap *h, uint32_t unit) {
    hak_slab *run = hak_slab_at(h, unit);
    uint32_t bin = hak_run_bin(run->unit_count), next = hak_load_relaxed(&run->next);
    bool dirty = run->detail_count != 0;
    uint32_t *heads = dirty ? h->run_dirty : h->run_clean;
    if (next) hak_slab_at(h, next)->prev = run->prev;
    if (run->prev) hak_store_relaxed(&hak_slab_at(h, run->prev)->next, next);
    else heads[bin] = next;
    if (!heads[bin]) (dirty ? h->run_dirty_bits : h->run_clean_bits)[bin >> 6] &= ~(UINT64_C(1) << (bin & 63));
    if (!dirty) return;
    if (run->older) hak_slab_at(h, run->older)->newer = run->newer;
    else h->oldest_dirty = run->newer;
    if (run->newer) hak_slab_at(h, run->newer)->older = run->older;
    else h->newest_dirty = run->older;
}

/* Puts a run into its bin without looking at its neighbours; marks its ends. */
static void run_place(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty) {
    hak_slab *run = hak_slab_at(h, unit);
    hak_store_relaxed(&run->kind, HAK_KIND_RUN);
    hak_store_relaxed(&run->unit_count, units);
    hak_store_relaxed(&run->detail_count, dirty);
    hak_entry_fill(h, unit, 1, hak_entry(HAK_TAG_FREE, unit));
    hak_entry_fill(h, unit + units - 1, 1, hak_entry(HAK_TAG_FREE, unit));
    run_link(h, unit);
}

/* Adds free units; coalesces with the free runs on both sides. `dirty` counts the dirty ones among them. */
static void run_insert(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty) {
    uint32_t left = hak_entry_get(h, unit - 1);
    uint32_t right = unit + units < h->unit_top ? hak_entry_get(h, unit + units) : 0;
    if ((left & 0xff) == HAK_TAG_FREE) {
        hak_slab *run = hak_slab_at(h, left >> 8);
        run_unlink(h, left >> 8);
        hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
        unit = left >> 8, units += run->unit_count, dirty += run->detail_count;
    }
    if ((right & 0xff) == HAK_TAG_FREE) {
        hak_slab *run = hak_slab_at(h, right >> 8);
        run_unlink(h, right >> 8);
        hak_store_relaxed(&run->kind, HAK_KIND_NONE);
        units += run->unit_count, dirty += run->detail_count;
    }
    run_place(h, unit, units, dirty);
}

/* The next non-empty bin from `bin` on, or HAK_RUN_BIN_COUNT. */
static uint32_t next_bin(const uint64_t *bits, uint32_t bin) {
    for (uint32_t word = bin >> 6; word < HAK_RUN_BIN_WORDS; word++) {
        uint64_t left = bits[word] & (word == bin >> 6 ? ~UINT64_C(0) << (bin & 63) : ~UINT64_C(0));
        if (left) return word * 64 + (uint32_t)__builtin_ctzll(left);
    }
    return HAK_RUN_BIN_COUNT;
}

/* Best fit for `units` among the dirty or the clean runs: smallest of the first runs of its own bin, else the first
 * of the next bin. */
static uint32_t run_find_among(hak_heap *h, uint32_t units, bool dirty) {
    const uint64_t *bits = dirty ? h->run_dirty_bits : h->run_clean_bits;
    const uint32_t *heads = dirty ? h->run_dirty : h->run_clean;
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
    uint32_t unit = run_find_among(h, units, true);
    return unit ? unit : run_find_among(h, units, false);
}

static void note_live(hak_heap *h, uint64_t units) {
    uint64_t live = h->live_units + units;
    hak_store_relaxed(&h->live_units, live);
    if (live > h->high_water_now) hak_store_relaxed(&h->high_water_now, live);
    if (live > h->high_water_ever) h->high_water_ever = live;
}

/* Cuts [at, at + units) out of the free run at `run`; the rest goes back. Returns the dirty units of the cut. */
static uint32_t run_cut(hak_heap *h, uint32_t run, uint32_t at, uint32_t units) {
    uint32_t end = run + hak_slab_at(h, run)->unit_count, dirty_all = hak_slab_at(h, run)->detail_count;
    bool all = dirty_all == end - run;
    run_unlink(h, run);
    hak_store_relaxed(&hak_slab_at(h, run)->kind, HAK_KIND_NONE);
    hak_entry_fill(h, at, units, HAK_TAG_NONE);
    uint32_t before = !dirty_all ? 0 : all ? at - run : dirty_count(h, run, at - run);
    uint32_t cut = !dirty_all ? 0 : all ? units : dirty_count(h, at, units);
    if (at > run) run_place(h, run, at - run, before);
    if (at + units < end) run_place(h, at + units, end - at - units, dirty_all - before - cut);
    hak_store_relaxed(&h->dirty_units, h->dirty_units - cut);
    note_live(h, units);
    return cut;
}

/* Commits the next arena chunk, at least so much that `units` fit behind what is free at the top. */
static bool arena_grow(hak_heap *h, uint32_t units) {
    const hak_arena_growth *growth = &hak_policy_of(h)->arenas;
    uint32_t top = h->unit_top, level = h->arena_count < growth->levels ? h->arena_count : growth->levels;
    uint64_t chunk = growth->init_bytes << level;
    uint32_t want = (uint32_t)((chunk < growth->max_bytes ? chunk : growth->max_bytes) >> HAK_UNIT_SHIFT);
    uint32_t last = hak_entry_get(h, top - 1);
    uint32_t have = (last & 0xff) == HAK_TAG_FREE ? hak_slab_at(h, last >> 8)->unit_count : 0;
    uint32_t need = units - have; /* have < units, or the run would have been found; aligned callers ask for more */
    if (have >= units) need = 1;
    if (want < need) want = need;
    if (want > h->unit_limit - top) want = h->unit_limit - top;
    if (want < need) return false;
    void *address = hak_unit_address(h, top);
    if (!hak_os_commit_range(&h->os, address, (uint64_t)want << HAK_UNIT_SHIFT)) return false;
    if (growth->huge_pages) hak_os_advise_huge(&h->os, address, (uint64_t)want << HAK_UNIT_SHIFT);
    h->arena_units[h->arena_count < 63 ? h->arena_count : 63] += want;
    h->arena_count++;
    hak_store_release(&h->unit_top, top + want); /* partner: who reads it without the lock, before he reads records below it */
    hak_entry_fill(h, top, want, hak_entry(HAK_TAG_FREE, top)); /* every unit of a free run says so: hak_runs_rebuild */
    run_insert(h, top, want, 0);
    return true;
}

/* Takes the run lock and finds a run of at least `units`, growing the arena if need be; 0 when the region is full. While
 * another purges, part of what is free is in no bin: waits for that rather than fail. */
static uint32_t lock_and_find(hak_heap *h, uint32_t units) {
    for (;;) {
        hak_run_lock(h);
        uint32_t run = run_find(h, units);
        if (!run && arena_grow(h, units)) run = run_find(h, units);
        if (run || !h->purging_units) return run;
        hak_run_unlock(h);
        hak_os_yield();
    }
}

/* Aligned by address: the region itself stands on a superslab's boundary only. */
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

/* One unit for a slab; from a clean run also the rest of its superslab, which the caller opens to all. */
hak_run hak_run_alloc_open(hak_heap *h) {
    hak_run made = {0, 0, 0};
    uint32_t run = lock_and_find(h, 1);
    if (run) {
        uint32_t units = 1;
        if (!hak_slab_at(h, run)->detail_count) {
            uint32_t left = HAK_SUPERSLAB_UNITS - (run & (HAK_SUPERSLAB_UNITS - 1)), have = hak_slab_at(h, run)->unit_count;
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
    hak_entry_fill(h, unit, units, hak_entry(HAK_TAG_FREE, unit));
    dirty_set(h, unit, units, dirty);
    hak_store_relaxed(&h->live_units, h->live_units - units);
    if (dirty) hak_store_relaxed(&h->dirty_units, h->dirty_units + units);
    run_insert(h, unit, units, dirty ? units : 0);
    hak_run_unlock(h);
}

/* Grows a span of `have` units to `want` into the free run behind it. False when that is taken or too short. */
bool hak_run_extend(hak_heap *h, uint32_t unit, uint32_t have, uint32_t want) {
    bool done = false;
    hak_run_lock(h);
    uint32_t behind = unit + have;
    uint32_t entry = behind < h->unit_top ? hak_entry_get(h, behind) : 0;
    if ((entry & 0xff) == HAK_TAG_FREE && hak_slab_at(h, behind)->unit_count >= want - have) {
        run_cut(h, behind, behind, want - have);
        done = true;
    }
    hak_run_unlock(h);
    return done;
}

static uint64_t dirty_limit(hak_heap *h) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    uint64_t now = hak_load_relaxed(&h->high_water_now), before = hak_load_relaxed(&h->high_water_before);
    uint64_t high = now > before ? now : before, live = hak_load_relaxed(&h->live_units);
    uint64_t share = high * retain->high_water_per_256 >> 8, floor = retain->floor_bytes >> HAK_UNIT_SHIFT;
    return (high > live ? high - live : 0) + (share > floor ? share : floor);
}

/* Purges up to `excess` dirty units of a run that is out of its bin; returns how many. Not under the lock. */
static uint32_t purge_run(hak_heap *h, uint32_t unit, uint32_t units, uint64_t excess) {
    uint32_t purged = 0, end = unit + units;
    bool lazy = hak_policy_of(h)->retain.lazy_free != 0;
    for (uint32_t u = unit; u < end && purged < excess;) {
        if (!hak_unit_is_dirty(h, u)) {
            u++;
            continue;
        }
        uint32_t from = u;
        while (u < end && purged + (u - from) < excess && hak_unit_is_dirty(h, u)) u++;
        if (!hak_os_purge_range(&h->os, hak_unit_address(h, from), (uint64_t)(u - from) << HAK_UNIT_SHIFT, lazy)) break;
        purged += u - from;
    }
    return purged;
}

/* Gives back oldest runs first until at most `limit` dirty units are left or `runs` were purged; returns units. */
static uint64_t purge_to(hak_heap *h, uint64_t limit, uint32_t runs) {
    uint64_t done = 0;
    bool lazy = hak_policy_of(h)->retain.lazy_free != 0;
    for (uint32_t i = 0; i < runs; i++) {
        hak_run_lock(h);
        uint32_t unit = h->oldest_dirty;
        if (!unit || h->dirty_units <= limit) {
            hak_run_unlock(h);
            break;
        }
        uint32_t units = hak_slab_at(h, unit)->unit_count, dirty = hak_slab_at(h, unit)->detail_count;
        uint64_t excess = h->dirty_units - limit;
        run_unlink(h, unit);
        hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
        hak_entry_fill(h, unit, 1, HAK_TAG_NONE);
        hak_entry_fill(h, unit + units - 1, 1, HAK_TAG_NONE);
        h->purging_units += units;
        hak_run_unlock(h);
        uint32_t purged = purge_run(h, unit, units, excess);
        hak_run_lock(h);
        h->purging_units -= units;
        if (purged) {
            uint32_t left = purged, end = unit + units;
            for (uint32_t u = unit; u < end && left; u++) {
                if (!hak_unit_is_dirty(h, u)) continue;
                if (!lazy) dirty_set(h, u, 1, false); /* a lazily freed page may keep its contents: dirty still */
                left--;
            }
        }
        h->purge_count++;
        h->purge_units += purged;
        hak_store_relaxed(&h->dirty_units, h->dirty_units - (lazy ? 0 : purged));
        run_insert(h, unit, units, lazy ? dirty : dirty - purged);
        hak_run_unlock(h);
        done += purged;
        if (!purged || lazy) break;
    }
    return done;
}

/* The clock's turn at a slow-path event: closes an epoch when it is over, and purges what is above the limit. */
void hak_tick(hak_heap *h) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    uint64_t now = hak_load_relaxed(&h->clock_held) ? hak_load_relaxed(&h->clock_ns) : hak_os_clock_ns();
    uint64_t start = hak_load_relaxed(&h->epoch_start_ns);
    if (now - start >= retain->epoch_ns && now > start) {
        hak_run_lock(h);
        start = h->epoch_start_ns;
        if (now > start && now - start >= retain->epoch_ns) {
            bool both = now - start >= 2 * retain->epoch_ns;
            hak_store_relaxed(&h->high_water_before, both ? h->live_units : h->high_water_now);
            hak_store_relaxed(&h->high_water_now, h->live_units);
            hak_store_relaxed(&h->epoch_start_ns, now);
        }
        hak_run_unlock(h);
    }
    if (hak_load_relaxed(&h->dirty_units) > dirty_limit(h)) purge_to(h, dirty_limit(h), retain->purge_run_count);
}

uint64_t hak_purge_all(hak_heap *h) { return purge_to(h, 0, UINT32_MAX) << HAK_UNIT_SHIFT; }

/* In a fork's child, when a thread that is gone held the lock or was purging: everything but the registry's tags is made again. */
void hak_runs_rebuild(hak_heap *h) {
    for (uint32_t i = 0; i < HAK_RUN_BIN_COUNT; i++) h->run_clean[i] = h->run_dirty[i] = 0;
    for (uint32_t i = 0; i < HAK_RUN_BIN_WORDS; i++) h->run_clean_bits[i] = h->run_dirty_bits[i] = 0;
    h->oldest_dirty = h->newest_dirty = 0;
    h->dirty_units = h->purging_units = 0;
    uint64_t free_units = 0;
    for (uint32_t u = h->meta_units; u < h->unit_top;) {
        uint32_t end = u;
        for (; end < h->unit_top && (hak_entry_get(h, end) & 0xff) == HAK_TAG_FREE; end++)
            if (hak_slab_at(h, end)->kind == HAK_KIND_RUN) hak_store_relaxed(&hak_slab_at(h, end)->kind, HAK_KIND_NONE);
        if (end > u) {
            uint32_t dirty = dirty_count(h, u, end - u);
            run_place(h, u, end - u, dirty);
            h->dirty_units += dirty;
            free_units += end - u;
        }
        u = end + 1;
    }
    h->live_units = h->unit_top - h->meta_units - free_units;
}
