/* bins.h: a bin: one class of a thread's cache. It has a list of free blocks, a carved range [bump,
 * bump_end), a cap for the list, and a hint, the slab it last took from. Only its own thread uses
 * it. Its blocks count as used in their slabs. Invariant: room_counts[c] = cap_count - blocks in
 * the list.
 */
#ifndef HAK_BINS_H
#define HAK_BINS_H
#include "hak_internal.h"

static inline const hak_class *hak_class_of(hak_thread *t, uint32_t class_index) {
    return &hak_policy_of(hak_heap_of(t))->sizes.classes[class_index];
}

/* Whether blocks of the class are so large that a thread keeps none before it needs one again. */
static inline bool hak_class_is_big(hak_thread *t, uint32_t class_index) {
    return hak_class_of(t, class_index)->band == HAK_BAND_BIG;
}

static inline const hak_cache_class *hak_cache_of(hak_thread *t, uint32_t class_index) {
    return &hak_policy_of(hak_heap_of(t))->caches.classes[class_index];
}

/* Whether blocks of the class need nothing checked or written when they come and go: the fast paths
 * may serve it, and it may lend. */
static inline bool hak_class_is_plain(hak_thread *t, uint32_t class_index) {
    return !(hak_heap_of(t)->flags & HAK_HEAP_CHECKED) && !hak_class_of(t, class_index)->header;
}

/* How many blocks are in the list, and in the carved range. */
static inline uint32_t hak_bin_length(const hak_thread *t, uint32_t class_index) {
    return (uint32_t)(t->bins[class_index].cap_count - t->room_counts[class_index]);
}
static inline uint32_t hak_bin_range_length(const hak_bin *bin) {
    return (uint32_t)((bin->bump_end - bin->bump) / bin->stride_bytes);
}

/* Whether the list has as many blocks as its count says, all of this class. Only asserts ask,
 * since it walks the list. */
HAK_PREDICATE bool hak_bin_is_whole(hak_thread *t, uint32_t class_index) {
    hak_heap *h = hak_heap_of(t);
    uint32_t left = hak_bin_length(t, class_index);
    uint64_t block = t->heads[class_index];
    for (; block && left; block = hak_next(block), left--) {
        uint64_t unit = (block - t->base) >> HAK_UNIT_SHIFT;
        if (!hak_units_are_arena(h, unit, 1) || hak_tag_get(h, (uint32_t)unit) != class_index)
            return false;
    }
    return !block && !left && t->room_counts[class_index] <= t->bins[class_index].cap_count;
}

static inline void hak_bin_push(hak_thread *t, uint32_t class_index, uint64_t block) {
    hak_set_next(block, t->heads[class_index]);
    t->heads[class_index] = block;
    t->room_counts[class_index]--;
}

/* The block that the bin would give next, without the carved range; 0: none. */
static inline uint64_t hak_bin_first(const hak_thread *t, uint32_t class_index) {
    return t->heads[class_index];
}

/* Takes that block; 0: there is none. */
static inline uint64_t hak_bin_pop(hak_thread *t, uint32_t class_index) {
    uint64_t block = hak_bin_first(t, class_index);
    if (!block) return 0;
    hak_assert(hak_bin_length(t, class_index));
    t->heads[class_index] = hak_next(block);
    t->room_counts[class_index]++;
    return block;
}

/* Puts a block where the bin has room; false: it is full. */
static inline bool hak_bin_put(hak_thread *t, uint32_t class_index, uint64_t block) {
    if (t->room_counts[class_index] <= 0) return false;
    hak_bin_push(t, class_index, block);
    return true;
}

/* bins.c */
HAK_HIDDEN void hak_bin_flush(hak_thread *t, uint32_t class_index, uint32_t n);
HAK_HIDDEN void hak_bin_return_range(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_bin_list_range(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_bin_forget_hot(hak_thread *t, uint32_t class_index);

#endif
