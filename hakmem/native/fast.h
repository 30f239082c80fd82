/* fast.h: the fast paths: a pop from the thread's list and a push on it, and the next block of its
 * carved range.
 *
 * Cases that miss need no test of their own: class 0 is always empty, the early record has no
 * units, and a class whose frees must be checked has reciprocal 0 (d * 0 < 0 is false). A free
 * checks that the address is a multiple of the stride from its slab's start, which turns away
 * interior addresses, spans and free units, and that the block is not the one freed last. For the
 * multiple (Lemire, Kaser, Kurz): d is one iff d * ceil(2^64 / stride) mod 2^64 is less than the
 * reciprocal.
 */
#ifndef HAK_FAST_H
#define HAK_FAST_H
#include "hak_internal.h"

static inline void *hak_fast_alloc(hak_thread *t, uint64_t size) {
    if (hak_unlikely(size > HAK_SIZE_MAP_LIMIT_BYTES)) return NULL;
    uint64_t class_index = ((const uint8_t *)(uintptr_t)hak_load_fast(
        &t->fast_map))[(size + 7) >> HAK_SIZE_GRANULE_SHIFT];
    uint64_t block = hak_load_fast(&t->heads[class_index]);
    if (hak_likely(block)) {
        hak_store_fast(&t->heads[class_index], hak_next(block));
        t->room_counts[class_index]++;
        return (void *)(uintptr_t)block;
    }
    hak_bin *bin = &t->bins[class_index];
    block = hak_load_fast(&bin->bump); /* 0 in class 0, and so is its end */
    if (hak_unlikely(block == hak_load_fast(&bin->bump_end))) return NULL;
    hak_store_fast(&bin->bump, block + bin->stride_bytes);
    return (void *)(uintptr_t)block;
}

/* The same for sizes above the map's fine part, which are not worth an instruction of the others:
 * from the list only. */
static inline void *hak_big_alloc(hak_thread *t, uint64_t size) {
    if (size <= HAK_SIZE_MAP_LIMIT_BYTES || size > HAK_STRIDE_LIMIT_BYTES) return NULL;
    const uint8_t *map = (const uint8_t *)(uintptr_t)t->fast_map + HAK_BIG_MAP_OFFSET;
    uint64_t class_index = map[hak_big_entry(size)], block = hak_load_fast(&t->heads[class_index]);
    if (hak_unlikely(!block)) return NULL;
    hak_store_fast(&t->heads[class_index], hak_next(block));
    t->room_counts[class_index]++;
    return (void *)(uintptr_t)block;
}

/* False: nothing was changed, the slow path must do it. `batch` is for callers that keep no errno:
 * a full cache overflows from here, and the slab's record is asked whether the block was ever
 * carved. That question costs 9 % of a malloc and free, so malloc's own free leaves it until the
 * block leaves the cache (slabs.c). */
static inline bool hak_fast_free(hak_thread *t, uint64_t address, bool batch) {
    uint64_t base = t->base, offset = address - base, unit = offset >> HAK_UNIT_SHIFT;
    if (hak_unlikely(unit >= hak_load_fast(&t->unit_limit))) return false;
    uint64_t entry = hak_load_relaxed((uint64_t *)(uintptr_t)(base + HAK_REGISTRY_OFFSET) + unit),
             class_index = hak_entry_tag(entry),
             from_head = offset - entry + class_index, /* the head's offset is the rest of it */
        turned = from_head * t->reciprocals[class_index];
    /* makes the compiler multiply and compare straight from memory, without a load of its own */
    __asm__ volatile("" ::: "memory");
    if (hak_unlikely(turned >= t->reciprocals[class_index])) return false;
    uint64_t head = hak_load_fast(&t->heads[class_index]);
    if (hak_unlikely(head == address)) return false;
    if (batch) {
        hak_slab *slab = hak_slab_at((hak_heap *)(uintptr_t)base, hak_entry_head(entry));
        const hak_bin *bin = &t->bins[class_index];
        if (hak_unlikely(from_head >= hak_load_relaxed(&slab->carved_count) * bin->stride_bytes))
            return false;
        if (hak_unlikely(address - bin->bump < bin->bump_end - bin->bump)) return false;
    }
    if (hak_unlikely(--t->room_counts[class_index] < 0)) {
        /* makes the compiler count in memory: one subtract, and a branch on its sign */
        __asm__ volatile("" ::: "memory");
        t->room_counts[class_index]++;
        if (batch) hak_overflow(t, (uint32_t)class_index, address);
        return batch;
    }
    hak_set_next(address, head);
    /* a fork may cut here: the link stands before the head names the block, so the child finds a
     * whole list */
    hak_keep_order();
    hak_store_fast(&t->heads[class_index], address);
    return true;
}

#endif
