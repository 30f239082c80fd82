/* bins.h: a bin: one class of a thread's cache. It has a magazine, an array of the blocks freed
 * last, if the policy says so; a list of free blocks, a carved range [bump, bump_end), a cap for
 * the list, and a hint, the slab it last took from. Only its own thread uses it. Its blocks count
 * as used in their slabs. Invariant: room_counts[c] = cap_count - blocks in the list.
 *
 * A magazine needs no supply of its own. Frees fill it; what it has no room for goes to the list,
 * which a refill fills and an overflow empties, by the stages of acquire.c and slabs.c alike. Slow
 * paths that move many blocks put it into the list first. Class by class a record's slots are
 * given out once; a magazine holds no more blocks than its list may.
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

/* How many blocks are in the list, in the magazine, and in the carved range. */
static inline uint32_t hak_bin_length(const hak_thread *t, uint32_t class_index) {
    return (uint32_t)(t->bins[class_index].cap_count - t->room_counts[class_index]);
}
static inline uint32_t hak_magazine_length(const hak_thread *t, uint32_t class_index) {
    return (uint32_t)t->magazines[class_index].top - t->magazines[class_index].first;
}
/* In the list and in the magazine. */
static inline uint32_t hak_bin_cached_count(const hak_thread *t, uint32_t class_index) {
    return hak_bin_length(t, class_index) + hak_magazine_length(t, class_index);
}
static inline uint32_t hak_bin_range_length(const hak_bin *bin) {
    return (uint32_t)((bin->bump_end - bin->bump) / bin->stride_bytes);
}

/* Whether an address is in a slab of this class. */
HAK_PREDICATE bool hak_bin_may_hold(hak_thread *t, uint32_t class_index, uint64_t block) {
    hak_heap *h = hak_heap_of(t);
    uint64_t unit = (block - t->base) >> HAK_UNIT_SHIFT;
    return hak_units_are_arena(h, unit, 1) && hak_tag_get(h, (uint32_t)unit) == class_index;
}
/* Whether the list has as many blocks as its count says and the magazine's bounds hold, all blocks
 * of this class. Only asserts ask, since it walks both. */
HAK_PREDICATE bool hak_bin_is_whole(hak_thread *t, uint32_t class_index) {
    const hak_magazine *m = &t->magazines[class_index];
    uint32_t left = hak_bin_length(t, class_index);
    uint64_t block = t->heads[class_index];
    for (; block && left; block = hak_next(block), left--)
        if (!hak_bin_may_hold(t, class_index, block)) return false;
    if (m->first > m->top || m->top > m->last || m->last > m->end || t->slots[m->first])
        return false;
    for (uint32_t slot = m->first + 1u; slot <= m->top; slot++)
        if (!hak_bin_may_hold(t, class_index, t->slots[slot])) return false;
    return !block && !left && t->room_counts[class_index] <= t->bins[class_index].cap_count;
}

static inline void hak_bin_push(hak_thread *t, uint32_t class_index, uint64_t block) {
    hak_set_next(block, t->heads[class_index]);
    t->heads[class_index] = block;
    t->room_counts[class_index]--;
}

/* The block that the bin would give next, without the carved range; 0: none. */
static inline uint64_t hak_bin_first(const hak_thread *t, uint32_t class_index) {
    uint64_t block = t->slots[t->magazines[class_index].top];
    return block ? block : t->heads[class_index];
}

/* Takes that block; 0: there is none. */
static inline uint64_t hak_bin_pop(hak_thread *t, uint32_t class_index) {
    uint64_t block = t->slots[t->magazines[class_index].top];
    if (block) {
        t->magazines[class_index].top--;
        return block;
    }
    block = t->heads[class_index];
    if (!block) return 0;
    hak_assert(hak_bin_length(t, class_index));
    t->heads[class_index] = hak_next(block);
    t->room_counts[class_index]++;
    return block;
}

/* Puts a block where the bin has room; false: it is full. */
static inline bool hak_bin_put(hak_thread *t, uint32_t class_index, uint64_t block) {
    hak_magazine *m = &t->magazines[class_index];
    if (m->top != m->last) {
        t->slots[m->top + 1] = block;
        /* a fork may cut here: the slot is written before top reaches it */
        hak_keep_order();
        m->top++;
        return true;
    }
    if (t->room_counts[class_index] <= 0) return false;
    hak_bin_push(t, class_index, block);
    return true;
}

/* bins.c */
HAK_HIDDEN void hak_bin_flush(hak_thread *t, uint32_t class_index, uint32_t n);
HAK_HIDDEN void hak_bin_give(hak_thread *t, uint32_t class_index, uint64_t *head, uint32_t n);
HAK_HIDDEN uint32_t hak_bin_uncarve(hak_thread *t, uint32_t class_index, uint32_t unit,
                                    uint64_t start, uint64_t end);
HAK_HIDDEN void hak_bin_return_range(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_bin_list_range(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_bin_list_magazine(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_magazines_init(hak_thread *t);
HAK_HIDDEN void hak_bin_forget_hot(hak_thread *t, uint32_t class_index);

#endif
