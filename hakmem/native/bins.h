/* bins.h: a bin: one class of a thread's cache. It has a magazine, an array of the blocks freed
 * last, if the policy says so; a list of free blocks, a carved range [bump, bump_end), a cap for
 * the list, and a hint, the slab it last took from. Only its own thread uses it. Its blocks count
 * as used in their slabs. Invariant: room_counts[c] = cap_count - blocks in the list.
 *
 * A magazine needs no supply of its own. Frees fill it; what it has no room for goes to the list,
 * which a refill fills and an overflow empties, by the stages of acquire.c and slabs.c alike. Slow
 * paths that move many blocks put it into the list first. Class by class a record's slots are
 * given out once; a magazine holds no more blocks than its list may. They stand in a table of their
 * own, one row a record, which only a heap with magazines has.
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

/* The class's row of the policy that the thread obeys (rows.h). */
static inline const hak_cache_class *hak_cache_of(hak_thread *t, uint32_t class_index) {
    return &t->rows[class_index];
}
/* From how many free blocks on a slab of the class stands in the partial set: for all threads
 * alike, since slabs are everybody's. */
static inline uint32_t hak_list_count(hak_thread *t, uint32_t class_index) {
    return hak_number(hak_policy_of(hak_heap_of(t))->caches.classes[class_index].list_count);
}

/* How many blocks are in the list, in the magazine, and in the carved range. */
static inline uint32_t hak_bin_length(const hak_thread *t, uint32_t class_index) {
    return (uint32_t)(t->bins[class_index].cap_count - t->room_counts[class_index]);
}
static inline uint32_t hak_magazine_length(const hak_thread *t, uint32_t class_index) {
    const hak_magazines *row = hak_magazines_of(t);
    return row ? (uint32_t)row->classes[class_index].top - row->classes[class_index].first : 0;
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
    return hak_units_are_arena(h, unit, 1) &&
           hak_entry_class(h, hak_entry_get(h, (uint32_t)unit)) == class_index;
}
/* Whether the magazine's bounds hold, all its blocks of this class. */
HAK_PREDICATE bool hak_magazine_is_whole(hak_thread *t, uint32_t class_index) {
    const hak_magazines *row = hak_magazines_of(t);
    if (!row) return true;
    const hak_magazine *m = &row->classes[class_index];
    if (m->first > m->top || m->top > m->last || m->last > m->end || row->slots[m->first])
        return false;
    for (uint32_t slot = m->first + 1u; slot <= m->top; slot++)
        if (!hak_bin_may_hold(t, class_index, row->slots[slot])) return false;
    return true;
}
/* Whether the list has as many blocks as its count says, all of this class, and the magazine is
 * whole. Only asserts ask, since it walks both. */
HAK_PREDICATE bool hak_bin_is_whole(hak_thread *t, uint32_t class_index) {
    uint32_t left = hak_bin_length(t, class_index);
    uint64_t block = t->heads[class_index];
    for (; block && left; block = hak_next(block), left--)
        if (!hak_bin_may_hold(t, class_index, block)) return false;
    if (!hak_magazine_is_whole(t, class_index)) return false;
    return !block && !left && t->room_counts[class_index] <= t->bins[class_index].cap_count;
}

/* Puts a block on the list. */
static inline void hak_bin_push(hak_thread *t, uint32_t class_index, uint64_t block) {
    hak_set_next(block, t->heads[class_index]);
    hak_keep_order(); /* a fork may cut here, as in hak_fast_free */
    t->heads[class_index] = block;
    t->room_counts[class_index]--;
}

/* Takes the block on top of the magazine; 0: there is none. */
static inline uint64_t hak_magazine_pop(hak_magazines *row, uint32_t class_index) {
    uint64_t block = hak_magazine_first(row, class_index);
    if (block) row->classes[class_index].top--;
    return block;
}
/* Puts a block on top; false: it is full. */
static inline bool hak_magazine_push(hak_magazines *row, uint32_t class_index, uint64_t block) {
    hak_magazine *m = &row->classes[class_index];
    if (m->top == m->last) return false;
    row->slots[m->top + 1] = block;
    /* a fork may cut here: the slot is written before top reaches it */
    hak_keep_order();
    m->top++;
    return true;
}

/* The block that the bin would give next, without the carved range; 0: none. */
static inline uint64_t hak_bin_first(const hak_thread *t, uint32_t class_index) {
    const hak_magazines *row = hak_magazines_of(t);
    uint64_t block = row ? hak_magazine_first(row, class_index) : 0;
    return block ? block : t->heads[class_index];
}

/* Takes the list's first block; 0: it is empty. */
static inline uint64_t hak_bin_list_pop(hak_thread *t, uint32_t class_index) {
    uint64_t block = t->heads[class_index];
    if (!block) return 0;
    hak_assert(hak_bin_length(t, class_index));
    t->heads[class_index] = hak_next(block);
    t->room_counts[class_index]++;
    return block;
}
/* Takes the block that hak_bin_first names; 0: there is none. */
static inline uint64_t hak_bin_pop(hak_thread *t, uint32_t class_index) {
    hak_magazines *row = hak_magazines_of(t);
    uint64_t block = row ? hak_magazine_pop(row, class_index) : 0;
    return block ? block : hak_bin_list_pop(t, class_index);
}

/* Puts a block on the list if that has room; false: it is full. */
static inline bool hak_bin_list_put(hak_thread *t, uint32_t class_index, uint64_t block) {
    if (t->room_counts[class_index] <= 0) return false;
    hak_bin_push(t, class_index, block);
    return true;
}

/* Puts a block where the bin has room; false: it is full. */
static inline bool hak_bin_put(hak_thread *t, uint32_t class_index, uint64_t block) {
    hak_magazines *row = hak_magazines_of(t);
    return (row && hak_magazine_push(row, class_index, block)) ||
           hak_bin_list_put(t, class_index, block);
}

/* bins.c */
HAK_HIDDEN void hak_bin_flush(hak_thread *t, uint32_t class_index, uint32_t n);
HAK_HIDDEN void hak_bin_give(hak_thread *t, uint32_t class_index, uint64_t *head, uint32_t n);
HAK_HIDDEN uint32_t hak_bin_uncarve(hak_thread *t, uint32_t class_index, uint32_t unit,
                                    uint64_t start, uint64_t end);
HAK_HIDDEN void hak_bin_return_range(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_bin_list_range(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_bin_list_magazine(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_magazine_fit(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_magazines_init(hak_thread *t);
HAK_HIDDEN void hak_bin_forget_hot(hak_thread *t, uint32_t class_index);

#endif
