/* tables.c: where the parts of a region lie; its metadata, mapped as the arena and the threads
 * grow; regions made and released.
 *
 * A region is a window of addresses that nobody reserved. In front are its heap, policy and
 * registry, then the units (region.c). Behind the units, each other table and the thread records
 * have a place of their own, with room for as many entries as there can ever be. table_units and
 * thread_mapped say how far they are mapped: stored by release after the mapping, loaded by acquire
 * by threads without the lock. Where no window can be had (valgrind, ThreadSanitizer) the region is
 * reserved as a whole, and "mapped" means made accessible.
 *
 * Changes need run_lock. A fork may come in between: what is about to be mapped is written down
 * first (intent_*), and the child, in which the mapping may or may not be there, unmaps it
 * (hak_tables_mend).
 */
#include "region.h"

#include "locks.h"

enum { REGISTRY, SLABS, PARTIAL, SUMMARY, DIRTY, RECENT, RECENT_BEFORE, HOLES, SEEN, LIVE, TABLES };

static uint64_t page_up(uint64_t bytes) {
    return (bytes + HAK_OS_PAGE_BYTES - 1) & ~(uint64_t)(HAK_OS_PAGE_BYTES - 1);
}

/* Bytes of a table of `units` units, in whole OS pages. */
static uint64_t table_bytes(uint32_t table, uint64_t units) {
    switch (table) {
    case REGISTRY: return page_up(units * sizeof(uint64_t));
    case SLABS: return page_up(units * sizeof(hak_slab));
    case PARTIAL: return page_up((units + 63) / 64 * 8 * HAK_CLASS_LIMIT);
    case SUMMARY: return page_up((units + 4095) / 4096 * 8 * HAK_CLASS_LIMIT);
    case HOLES: return page_up(units * sizeof(uint16_t));
    case SEEN: return page_up(units * sizeof(uint32_t));
    case LIVE: return page_up(units * HAK_LIVE_BYTES_PER_UNIT);
    default: return page_up((units + 63) / 64 * 8); /* one bit for each unit */
    }
}

uint64_t hak_recent_bytes(uint64_t units) { return table_bytes(RECENT, units); }

static uint64_t table_offset(const hak_heap *h, uint32_t table) {
    switch (table) {
    case REGISTRY: return h->registry_offset;
    case SLABS: return h->slabs_offset;
    case PARTIAL: return h->partial_offset;
    case SUMMARY: return h->summary_offset;
    case DIRTY: return h->dirty_offset;
    case RECENT: return h->recent_offset;
    case RECENT_BEFORE: return h->recent_offset + hak_recent_bytes(h->unit_limit);
    case HOLES: return h->holes_offset;
    case SEEN: return h->swept_offset;
    default: return h->live_offset;
    }
}

static uint32_t table_count(const hak_heap *h) { return h->live_offset ? TABLES : LIVE; }

static uint64_t rows_bytes(uint64_t rows) { return page_up(rows * sizeof(hak_mapped)); }
static uint64_t records_bytes(uint64_t records) { return page_up(records * sizeof(hak_thread)); }
static uint64_t magazines_bytes(uint64_t records) {
    return page_up(records * sizeof(hak_magazines));
}

/* Lays out the metadata of a region with `user` units of user memory in *h; false if that is too
 * large. hakmem/registry.py has the same geometry. */
static bool lay_out(hak_heap *h, uint64_t user, bool checked, bool magazines) {
    uint64_t units = user;
    h->policy_offset = HAK_POLICY_OFFSET;
    h->fast_map_offset = h->policy_offset + page_up(sizeof(hak_policy));
    h->registry_offset = HAK_REGISTRY_OFFSET; /* behind inbox, draft and first policy */
    hak_assert(h->fast_map_offset + page_up(HAK_FAST_MAP_BYTES) == HAK_INBOX_OFFSET);
    for (;;) { /* the registry has entries for its own units too; this settles in a few rounds */
        if (units > HAK_REGION_UNITS_MAX) return false;
        uint64_t front = h->registry_offset + table_bytes(REGISTRY, units);
        h->meta_units = (uint32_t)((front + HAK_UNIT_BYTES - 1) >> HAK_UNIT_SHIFT);
        if (units == user + h->meta_units) break;
        units = user + h->meta_units;
    }
    h->unit_limit = (uint32_t)units;
    h->thread_limit = (uint32_t)(units < HAK_THREADS_MIN   ? HAK_THREADS_MIN
                                 : units > HAK_THREADS_MAX ? HAK_THREADS_MAX
                                                           : units);
    uint64_t at = units << HAK_UNIT_SHIFT;
    h->slabs_offset = at, at += table_bytes(SLABS, units);
    h->partial_offset = at, at += table_bytes(PARTIAL, units);
    h->summary_offset = at, at += table_bytes(SUMMARY, units);
    h->dirty_offset = at, at += table_bytes(DIRTY, units);
    h->recent_offset = at, at += 2 * hak_recent_bytes(units);
    h->holes_offset = at, at += table_bytes(HOLES, units);
    h->swept_offset = at, at += table_bytes(SEEN, units);
    h->threads_offset = at, at += records_bytes(h->thread_limit);
    h->magazines_offset = magazines ? at : 0,
    at += magazines ? magazines_bytes(h->thread_limit) : 0;
    h->mapped_offset = at, at += rows_bytes(HAK_MAPPED_LIMIT);
    h->live_offset = checked ? at : 0, at += checked ? table_bytes(LIVE, units) : 0;
    h->reserved_bytes = (at + HAK_UNIT_BYTES - 1) & ~(uint64_t)(HAK_UNIT_BYTES - 1);
    return true;
}

/* ---- parts mapped and unmapped ---- */

uint32_t hak_part_map(hak_heap *h, uint64_t from, uint64_t to) {
    hak_assert(to <= h->reserved_bytes && from % HAK_OS_PAGE_BYTES == 0);
    if (from >= to) return HAK_MAP_DONE;
    return hak_os_map_range(&h->os, hak_at(h, from), to - from, h->flags & HAK_HEAP_RESERVED);
}

bool hak_part_unmap(hak_heap *h, uint64_t from, uint64_t to) {
    return from >= to ||
           hak_os_unmap_range(&h->os, hak_at(h, from), to - from, h->flags & HAK_HEAP_RESERVED);
}

static void unmap_tables(hak_heap *h, uint32_t tables, uint64_t have, uint64_t units) {
    for (uint32_t i = 0; i < tables; i++)
        (void)hak_part_unmap(h, table_offset(h, i) + table_bytes(i, have),
                             table_offset(h, i) + table_bytes(i, units));
}

/* Maps the tables for `units` units; they are mapped for `have` already. All or nothing. */
static uint32_t map_tables(hak_heap *h, uint64_t have, uint64_t units) {
    for (uint32_t i = 0; i < table_count(h); i++) {
        uint32_t code = hak_part_map(h, table_offset(h, i) + table_bytes(i, have),
                                     table_offset(h, i) + table_bytes(i, units));
        if (code == HAK_MAP_DONE) continue;
        unmap_tables(h, i, have, units);
        return code;
    }
    return HAK_MAP_DONE;
}

/* Makes sure that the tables of all units below `top` are mapped. Needs run_lock. */
uint32_t hak_tables_reach(hak_heap *h, uint64_t top) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN) && top <= h->unit_limit);
    if (top <= h->table_units) return HAK_MAP_DONE;
    uint64_t units = (top + HAK_TABLE_STEP_UNITS - 1) / HAK_TABLE_STEP_UNITS * HAK_TABLE_STEP_UNITS;
    if (units > h->unit_limit) units = h->unit_limit;
    hak_store_relaxed(&h->intent_table_units, (uint32_t)units);
    hak_keep_order(); /* a fork's child sees the intent where the mapping may be */
    uint32_t code = map_tables(h, h->table_units, units);
    /* partner: frees of blocks beyond their thread's limit (hak_free_slow) */
    if (code == HAK_MAP_DONE) hak_store_release(&h->table_units, (uint32_t)units);
    hak_keep_order();
    hak_store_relaxed(&h->intent_table_units, 0);
    return code;
}

static void unmap_records(hak_heap *h, uint64_t have, uint64_t want) {
    (void)hak_part_unmap(h, h->threads_offset + records_bytes(have),
                         h->threads_offset + records_bytes(want));
    if (h->magazines_offset)
        (void)hak_part_unmap(h, h->magazines_offset + magazines_bytes(have),
                             h->magazines_offset + magazines_bytes(want));
}

/* Maps thread records, and their magazines if the heap has any. All or nothing. */
static bool map_records(hak_heap *h, uint64_t have, uint64_t want) {
    if (hak_part_map(h, h->threads_offset + records_bytes(have),
                     h->threads_offset + records_bytes(want)) != HAK_MAP_DONE)
        return false;
    if (!h->magazines_offset ||
        hak_part_map(h, h->magazines_offset + magazines_bytes(have),
                     h->magazines_offset + magazines_bytes(want)) == HAK_MAP_DONE)
        return true;
    (void)hak_part_unmap(h, h->threads_offset + records_bytes(have),
                         h->threads_offset + records_bytes(want));
    return false;
}

/* Makes sure that the thread record `index` is mapped; false if the OS refuses. */
bool hak_region_map_record(hak_heap *h, uint32_t index) {
    /* partner: the release below; a thread that sees */
    if (hak_likely(index < hak_load_acquire(&h->thread_mapped))) return true;
    hak_run_lock(h);
    uint32_t have = h->thread_mapped, want = have + HAK_THREAD_STEP_RECORDS;
    bool done = index < have;
    if (!done) {
        if (want > h->thread_limit) want = h->thread_limit;
        hak_store_relaxed(&h->intent_records, want);
        hak_keep_order();
        done = map_records(h, have, want);
        if (done) hak_store_release(&h->thread_mapped, want);
        hak_keep_order();
        hak_store_relaxed(&h->intent_records, 0);
    }
    hak_run_unlock(h);
    return done && index < want;
}

/* Maps more rows of the table of mapped blocks. False: it is full, or the OS refuses. Needs
 * run_lock. */
bool hak_region_map_rows(hak_heap *h) {
    uint32_t have = h->mapped_rows, want = have + HAK_MAPPED_STEP_ROWS;
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    if (want > HAK_MAPPED_LIMIT) return false;
    hak_store_relaxed(&h->intent_rows, want);
    hak_keep_order();
    bool done = hak_part_map(h, h->mapped_offset + rows_bytes(have),
                             h->mapped_offset + rows_bytes(want)) == HAK_MAP_DONE;
    if (done) hak_store_relaxed(&h->mapped_rows, want);
    hak_keep_order();
    hak_store_relaxed(&h->intent_rows, 0);
    return done;
}

/* ---- a region made and given back ---- */

/* Finishes the heap at `base`, of which [base, base + first) is mapped. NULL: the OS refused, and
 * what was mapped here is unmapped. */
static hak_heap *map_rest(const hak_heap *plan, char *base, uint32_t table_units) {
    hak_heap *h = (hak_heap *)base;
    *h = *plan;
    h->base = (uintptr_t)h;
    h->os.reserve_count = h->os.commit_count = 1;
    h->table_units = table_units;
    h->thread_mapped = HAK_THREAD_STEP_RECORDS;
    uint32_t i = SLABS;
    for (; i < table_count(h); i++)
        if (hak_part_map(h, table_offset(h, i), table_offset(h, i) + table_bytes(i, table_units)))
            break;
    if (i == table_count(h) && map_records(h, 0, h->thread_mapped)) return h;
    for (uint32_t k = SLABS; k < i; k++)
        (void)hak_part_unmap(h, table_offset(h, k),
                             table_offset(h, k) + table_bytes(k, table_units));
    return NULL;
}

/* Makes the region of a heap with `user_bytes` of user memory, in a window or reserved as a whole.
 * NULL: not to be had. */
hak_heap *hak_region_make(uint64_t user_bytes, bool checked, bool magazines, bool reserved) {
    hak_heap plan = {0};
    uint64_t user = (user_bytes + HAK_UNIT_BYTES - 1) >> HAK_UNIT_SHIFT;
    if (user_bytes > (uint64_t)HAK_REGION_UNITS_MAX << HAK_UNIT_SHIFT ||
        !lay_out(&plan, user, checked, magazines))
        return NULL;
    uint64_t units = plan.meta_units + 1;
    units = (units + HAK_TABLE_STEP_UNITS - 1) / HAK_TABLE_STEP_UNITS * HAK_TABLE_STEP_UNITS;
    if (units > plan.unit_limit) units = plan.unit_limit;
    uint64_t first = plan.registry_offset + table_bytes(REGISTRY, units);
    plan.flags = reserved ? HAK_HEAP_RESERVED : 0;
    char *base;
    if (reserved) {
        base = hak_os_reserve_aligned(plan.reserved_bytes,
                                      (uint64_t)HAK_SUPERSLAB_UNITS << HAK_UNIT_SHIFT,
                                      &plan.map_base, &plan.map_bytes);
        if (base && hak_os_map_range(NULL, base, first, true) != HAK_MAP_DONE) {
            hak_os_release_range((void *)(uintptr_t)plan.map_base, plan.map_bytes);
            return NULL;
        }
    } else {
        base = hak_window_take(plan.reserved_bytes, first);
        plan.map_base = (uintptr_t)base, plan.map_bytes = plan.reserved_bytes;
    }
    if (!base) return NULL;
    hak_heap *h = map_rest(&plan, base, (uint32_t)units);
    if (h) return h;
    if (reserved) hak_os_release_range((void *)(uintptr_t)plan.map_base, plan.map_bytes);
    else {
        hak_os_release_range(base, first);
        hak_window_give(base, plan.reserved_bytes);
    }
    return NULL;
}

/* Unmaps the units that are mapped, in the stretches between unmapped ones. */
static void release_units(hak_heap *h) {
    for (uint32_t u = h->meta_units, from = u; u <= h->unit_top; u++) {
        if (u < h->unit_top && hak_tag_get(h, u) != HAK_TAG_UNMAPPED) continue;
        (void)hak_part_unmap(h, (uint64_t)from << HAK_UNIT_SHIFT, (uint64_t)u << HAK_UNIT_SHIFT);
        from = u + 1;
    }
}

void hak_region_release(hak_heap *h) {
    void *base = (void *)(uintptr_t)h->map_base;
    uint64_t bytes = h->map_bytes,
             first = h->registry_offset + table_bytes(REGISTRY, h->table_units);
    if (h->flags & HAK_HEAP_RESERVED) {
        hak_os_release_range(base, bytes);
        return;
    }
    release_units(h);
    for (uint32_t i = SLABS; i < table_count(h); i++)
        (void)hak_part_unmap(h, table_offset(h, i),
                             table_offset(h, i) + table_bytes(i, h->table_units));
    unmap_records(h, 0, h->thread_mapped);
    (void)hak_part_unmap(h, h->mapped_offset, h->mapped_offset + rows_bytes(h->mapped_rows));
    hak_os_release_range(base, first);
    hak_window_give(base, bytes);
}

/* In a fork's child whose run_lock was held: unmaps what was being mapped. */
void hak_tables_mend(hak_heap *h) {
    if (h->intent_table_units > h->table_units)
        unmap_tables(h, table_count(h), h->table_units, h->intent_table_units);
    if (h->intent_records > h->thread_mapped) unmap_records(h, h->thread_mapped, h->intent_records);
    if (h->intent_rows > h->mapped_rows)
        (void)hak_part_unmap(h, h->mapped_offset + rows_bytes(h->mapped_rows),
                             h->mapped_offset + rows_bytes(h->intent_rows));
    h->intent_table_units = h->intent_records = h->intent_rows = 0;
}

/* The same without asking the OS: what units and threads so far have of each table. */
static uint64_t metadata_used(const hak_heap *h) {
    uint64_t sum = h->registry_offset;
    uint32_t units = hak_load_acquire(&h->unit_top);
    for (uint32_t i = 0; i < table_count(h); i++)
        if (i != RECENT && i != RECENT_BEFORE && i != HOLES && i != SEEN) /* hardly written */
            sum += table_bytes(i, units);
    uint32_t records = hak_load_acquire(&h->thread_top);
    return sum + records_bytes(records) + (h->magazines_offset ? magazines_bytes(records) : 0);
}

/* How many bytes of metadata are on resident OS pages. */
uint64_t hak_region_metadata_bytes(hak_heap *h) {
    if (hak_number(hak_policy_of(h)->arenas.os_calls) != HAK_OS_CALLS_WIDE) return metadata_used(h);
    uint64_t sum = hak_os_resident_bytes(&h->os, h, h->registry_offset);
    uint32_t units = hak_load_acquire(&h->table_units);
    for (uint32_t i = 0; i < table_count(h); i++)
        sum += hak_os_resident_bytes(&h->os, hak_at(h, table_offset(h, i)), table_bytes(i, units));
    sum += hak_os_resident_bytes(&h->os, hak_at(h, h->mapped_offset), rows_bytes(h->mapped_rows));
    uint32_t records = hak_load_acquire(&h->thread_mapped);
    if (h->magazines_offset)
        sum +=
            hak_os_resident_bytes(&h->os, hak_at(h, h->magazines_offset), magazines_bytes(records));
    return sum +
           hak_os_resident_bytes(&h->os, hak_at(h, h->threads_offset), records_bytes(records));
}
