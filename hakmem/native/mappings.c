/* mappings.c: mapped blocks, blocks that are mappings of their own outside the region: allocated,
 * freed, resized.
 *
 * The OS does all of it: fresh ones read as zero, freed ones go back at once, resized ones move
 * without a copy. So limits count them exactly, and their sum is bounded by the OS alone. The
 * policy says from which size on a block is one.
 *
 * No lock is held over a call of the OS. A block is in the table while it is mapped; a moment
 * before and behind it is not, since the address may be somebody else's then. A fork's child leaves
 * alone what another thread was mapping or freeing at that moment.
 */
#include "events.h"
#include "hooks.h"
#include "locks.h"
#include "mapped.h"
#include "region.h"

static uint64_t page_up(uint64_t bytes) {
    return (bytes + HAK_OS_PAGE_BYTES - 1) & ~(uint64_t)(HAK_OS_PAGE_BYTES - 1);
}

#define pages(bytes) ((bytes) / HAK_OS_PAGE_BYTES) /* only debug builds note events */

static bool reserve(hak_heap *h) {
    hak_run_lock(h);
    bool done = h->mapped_count + h->mapped_pending < h->mapped_rows || hak_region_map_rows(h);
    done = done && hak_mapped_reserve(h);
    hak_run_unlock(h);
    return done;
}
static void cancel(hak_heap *h) {
    hak_run_lock(h);
    hak_mapped_cancel(h);
    hak_run_unlock(h);
}
static void insert(hak_heap *h, void *block, uint64_t bytes) {
    hak_run_lock(h);
    hak_mapped_insert(h, (uintptr_t)block, bytes);
    hak_run_unlock(h);
}

/* A fresh mapping. Where the OS refuses, free runs are unmapped and it is asked again, since limits
 * count mappings rather than resident pages. */
static void *map(hak_heap *h, uint64_t bytes, uint64_t align) {
    void *block = hak_os_map_block(&h->os, bytes, align);
    if (block) return block;
    hak_run_lock(h);
    uint64_t units = hak_region_shrink(h, bytes >> HAK_UNIT_SHIFT, 1);
    hak_run_unlock(h);
    return units ? hak_os_map_block(&h->os, bytes, align) : NULL;
}

static void after(hak_thread *t) {
    hak_tick(hak_heap_of(t), 0);
    hak_request_look(t);
}

/* A block that is a mapping of its own, zeroed; NULL where the size asks for none, the table is
 * full, or the OS refuses. */
void *hak_mapping_alloc(hak_thread *t, uint64_t size, uint64_t align) {
    hak_heap *h = hak_heap_of(t);
    uint64_t least = hak_number(hak_policy_of(h)->retain.map_min_bytes), bytes = page_up(size);
    if (!least || size < least || bytes < size) return NULL;
    hak_fork_look();
    if (!reserve(h)) return NULL;
    void *block = map(h, bytes, align);
    if (!block) {
        cancel(h);
        return NULL;
    }
    if (hak_number(hak_policy_of(h)->arenas.huge_pages))
        hak_os_advise_huge(&h->os, block, bytes, true);
    insert(h, block, bytes);
    hak_count(t, mapped_alloc_count, 1);
    hak_event(t, HAK_EVENT_MAPPED_ALLOC, 0, 0, pages(bytes));
    after(t);
    return block;
}

/* False: another thread has freed the block meanwhile. */
bool hak_mapping_free(hak_thread *t, uint64_t address, uint64_t bytes) {
    hak_heap *h = hak_heap_of(t);
    hak_fork_look();
    hak_run_lock(h);
    bool found = hak_mapped_take(h, address, bytes, false);
    if (found) hak_mapped_note_freed(h, address, bytes);
    hak_run_unlock(h);
    if (!found) return false;
    (void)hak_os_unmap_range(&h->os, (void *)(uintptr_t)address, bytes, false);
    hak_count(t, mapped_free_count, 1);
    hak_event(t, HAK_EVENT_MAPPED_FREE, 0, 0, pages(bytes));
    after(t);
    return true;
}

static bool set_bytes(hak_heap *h, uint64_t address, uint64_t bytes) {
    hak_run_lock(h);
    bool found = hak_mapped_set(h, address, bytes);
    hak_run_unlock(h);
    return found;
}

/* Cuts the end of a block off. The row comes first: what is unmapped may be mapped by somebody
 * else at once. */
static bool shorten(hak_heap *h, uint64_t address, uint64_t have, uint64_t want) {
    if (!set_bytes(h, address, want)) return false;
    if (hak_os_unmap_range(&h->os, (void *)(uintptr_t)(address + want), have - want, false))
        return true;
    set_bytes(h, address, have);
    return false;
}

/* The block at its new size, at its place or at another. Its row is out meanwhile: the place it
 * leaves may be another block's at once. */
static void *lengthen(hak_heap *h, uint64_t address, uint64_t have, uint64_t want) {
    void *block = (void *)(uintptr_t)address;
    hak_run_lock(h);
    bool found = hak_mapped_take(h, address, have, true);
    hak_run_unlock(h);
    if (!found) return NULL;
    void *moved = hak_os_resize_block(&h->os, block, have, want);
    hak_run_lock(h);
    if (moved && moved != block) hak_mapped_note_freed(h, address, have);
    hak_mapped_insert(h, moved ? (uintptr_t)moved : address, moved ? want : have);
    hak_run_unlock(h);
    return moved;
}

/* Resizes a mapped block. Returns NULL where the OS refuses to make it longer: the caller copies.
 */
void *hak_mapping_resize(hak_thread *t, uint64_t address, uint64_t have, uint64_t size) {
    hak_heap *h = hak_heap_of(t);
    uint64_t want = page_up(size);
    void *block = (void *)(uintptr_t)address;
    hak_fork_look();
    if (want < size) return NULL;
    if (want < have && !shorten(h, address, have, want)) want = have;
    if (want > have && !(block = lengthen(h, address, have, want))) return NULL;
    hak_count(t, mapped_resize_count, 1);
    hak_event(t, HAK_EVENT_MAPPED_RESIZE, 0, 0, pages(want));
    after(t);
    return block;
}

/* Makes a span a mapped block: its OS pages move out of the region. NULL: the caller copies. */
void *hak_mapping_from_span(hak_thread *t, uint32_t unit, uint64_t size) {
    hak_heap *h = hak_heap_of(t);
    uint64_t least = hak_number(hak_policy_of(h)->retain.map_min_bytes), want = page_up(size);
    uint32_t units = hak_slab_at(h, unit)->unit_count;
    uint64_t have = (uint64_t)units << HAK_UNIT_SHIFT;
    if (!least || size < least || want <= have || h->flags & HAK_HEAP_RESERVED) return NULL;
    if (!reserve(h)) return NULL;
    char *from = hak_unit_address(h, unit);
    char *block = hak_os_resize_block(&h->os, from, have, want);
    if (block == from) { /* it was the last of its mapping, and was only lengthened */
        (void)hak_os_unmap_range(&h->os, from + have, want - have, false);
        block = NULL;
    }
    if (!block) {
        cancel(h);
        return NULL;
    }
    insert(h, block, want);
    hak_span_free_hole(h, unit, units);
    hak_count(t, span_free_count, 1);
    hak_count(t, mapped_alloc_count, 1);
    hak_event(t, HAK_EVENT_MAPPED_ALLOC, 0, 0, pages(want));
    after(t);
    return block;
}

/* Gives all mapped blocks of a heap back. No other thread may be inside. */
void hak_mapping_release(hak_heap *h) {
    const hak_mapped *row = hak_at(h, h->mapped_offset);
    for (uint32_t i = 0; i < h->mapped_count; i++, row++)
        (void)hak_os_unmap_range(&h->os, (void *)(uintptr_t)row->address, row->bytes, false);
}
