/* profile.h: samples of who allocates: counted on the way, kept until the block is freed.
 *
 * While a heap is profiled, the size map of its fast path is the empty one, so that each malloc of
 * a thread comes to where misses lead. There hak_counted_alloc is the same fast path over another
 * map, which counts as well. Who does not profile pays nothing for it on the fast path.
 *
 * Each class is counted for itself, by the block. Points are drawn by the byte, each byte alike;
 * so a block of s bytes is a sample with a chance of 1 - exp(-s / rate), whatever came before it,
 * and how many blocks of a class come before the next can be drawn at once.
 *
 * The two maps of a record, fast_map and counted_map: one is the heap's, the other the empty one;
 * or both are the empty one, where a reaper has closed the gate, or where the rate has changed and
 * the thread has not seen that yet. Whoever changes the rate empties both in every record; the
 * owner sees it in its next slow path, draws anew and sets them (hak_gate_maps).
 *
 * A sampled block is found at its free by its slab: the registry entries of the slab carry
 * HAK_TAG_SAMPLED, for which every fast path has reciprocal 0. The record says the class, and by
 * sampled_mask which blocks may be samples: the others go back by hak_tagged_free, a fast path of
 * their own. What the entries and the mask say is changed under the profile's lock, by the thread
 * that has just sampled a block or is freeing one: so the slab cannot go meanwhile. A thread that
 * frees the block got it from the sampler, and with it what that wrote.
 */
#ifndef HAK_PROFILE_H
#define HAK_PROFILE_H
#include "fast.h"

HAK_HIDDEN HAK_COLD void hak_profile_sample(hak_thread *t, uint64_t address, uint64_t size,
                                            uint64_t stride);
HAK_HIDDEN HAK_COLD void hak_profile_draw(hak_thread *t, uint32_t class_index, uint64_t stride);
HAK_HIDDEN HAK_COLD void hak_profile_adopt(hak_thread *t);
HAK_HIDDEN HAK_COLD void hak_profile_free(hak_thread *t, uint64_t address, const hak_block *block);
HAK_HIDDEN HAK_COLD void hak_profile_moved(hak_thread *t, uint64_t from, const hak_block *block,
                                           uint64_t to, uint64_t size);
HAK_HIDDEN HAK_COLD uint32_t hak_profile_set(hak_heap *h, uint64_t rate);
HAK_HIDDEN void hak_profile_release(hak_heap *h);
HAK_HIDDEN void hak_profile_mend(hak_heap *h);

static inline hak_profile *hak_profile_of(hak_heap *h) {
    return (hak_profile *)(uintptr_t)hak_load_acquire(&h->profile);
}

/* Counts a block, or bytes of class 0: whether it is a sample. The next is drawn then. */
static inline bool hak_profile_is_due(hak_thread *t, uint32_t class_index, uint64_t stride) {
    int64_t *left = &t->sample_lefts[class_index];
    if (*left < 0) hak_profile_draw(t, class_index, stride);
    if ((*left -= class_index ? 1 : (int64_t)stride) >= 0) return false;
    hak_profile_draw(t, class_index, stride);
    return true;
}

/* Counts a block that a slow path serves; takes a sample of it if it is due. */
static inline void hak_profile_count(hak_thread *t, uint32_t class_index, uint64_t address,
                                     uint64_t size, uint64_t stride) {
    if (hak_likely(!t->sample_rate)) return;
    if (hak_profile_is_due(t, class_index, stride)) hak_profile_sample(t, address, size, stride);
}

/* hak_fast_alloc by the counted map. NULL: nothing was changed, the slow path must do it; so it
 * must where a sample is due. */
static inline void *hak_counted_alloc(hak_thread *t, uint64_t size) {
    if (hak_unlikely(size > HAK_SIZE_MAP_LIMIT_BYTES)) return NULL;
    uint64_t class_index = ((const uint8_t *)(uintptr_t)hak_load_fast(
        &t->counted_map))[(size + 7) >> HAK_SIZE_GRANULE_SHIFT];
#ifdef HAK_BUG_SAMPLED_BY_REFILL
    const int64_t counted = 0;
#else
    const int64_t counted = 1;
#endif
    int64_t *left = &t->sample_lefts[class_index];
    if (hak_unlikely((*left -= counted) < 0)) goto missed;
    uint64_t block = hak_load_fast(&t->heads[class_index]);
    if (hak_likely(block)) {
        hak_store_fast(&t->heads[class_index], hak_next(block));
        t->room_counts[class_index]++;
        return (void *)(uintptr_t)block;
    }
    hak_bin *bin = &t->bins[class_index];
    block = hak_load_fast(&bin->bump);
    if (hak_likely(block != hak_load_fast(&bin->bump_end))) {
        hak_store_fast(&bin->bump, block + bin->stride_bytes);
        return (void *)(uintptr_t)block;
    }
missed:
    /* makes the compiler count in memory: one subtract, and a branch on its sign */
    __asm__ volatile("" ::: "memory");
    *left += counted;
    return NULL;
}

/* hak_fast_free of a block in a slab that holds a sample, but is none itself. */
static inline bool hak_tagged_free(hak_thread *t, uint64_t address) {
    uint64_t offset = address - t->base, unit = offset >> HAK_UNIT_SHIFT;
    if (hak_unlikely(unit >= hak_load_fast(&t->unit_limit))) return false;
    hak_heap *h = (hak_heap *)(uintptr_t)t->base;
    uint64_t entry = hak_entry_get(h, (uint32_t)unit);
    if (hak_entry_tag(entry) != HAK_TAG_SAMPLED) return false;
    hak_slab *slab = hak_slab_at(h, hak_entry_head(entry));
    uint64_t class_index = hak_load_relaxed(&slab->class_index),
             from_head = offset - entry + HAK_TAG_SAMPLED, r = t->reciprocals[class_index];
    if (hak_unlikely(from_head * r >= r)) return false;
    uint32_t index = (uint32_t)(((unsigned __int128)from_head * r) >> 64);
    if (hak_load_relaxed(&slab->sampled_mask) >> index % HAK_SAMPLED_BITS & 1) return false;
    uint64_t head = hak_load_fast(&t->heads[class_index]);
    if (hak_unlikely(head == address) || t->room_counts[class_index] <= 0) return false;
    t->room_counts[class_index]--;
    hak_set_next(address, head);
    hak_keep_order(); /* as in hak_fast_free */
    hak_store_fast(&t->heads[class_index], address);
    return true;
}

#endif
