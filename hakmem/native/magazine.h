/* magazine.h: the fast paths of a heap with magazines, the second front of the thread cache
 * (T-HEAP v2). malloc and free come here where the fast paths over lists miss, which in such a heap
 * they always do for a class with a magazine (hak_class_is_fast): whoever has no magazines never
 * pays for them, and who has pays for the miss.
 *
 * A block in a magazine is not touched: its address waits in the thread's row of magazines. Behind
 * an empty magazine stand the list and the carved range, behind a full one the list.
 */
#ifndef HAK_MAGAZINE_H
#define HAK_MAGAZINE_H
#include "bins.h"

static inline void *hak_magazine_alloc(hak_thread *t, uint64_t size) {
    if (size >= t->magazine_limit) return NULL; /* it is 0 where there are none */
    /* the gate is closed, or the owner has to look at the rate of samples */
    if (hak_unlikely(hak_load_relaxed(&t->fast_map) == (uintptr_t)hak_no_classes)) return NULL;
    const hak_policy *policy = (const hak_policy *)(uintptr_t)(t->base + HAK_POLICY_OFFSET);
    uint32_t class_index = policy->sizes.size_map[(size + 7) >> HAK_SIZE_GRANULE_SHIFT];
    uint64_t block = hak_magazine_pop(hak_magazines_of(t), class_index);
    if (!block) block = hak_bin_list_pop(t, class_index);
    if (block) return (void *)(uintptr_t)block;
    hak_bin *bin = &t->bins[class_index];
    block = bin->bump; /* 0 in class 0, and so is its end */
    if (block == bin->bump_end) return NULL;
    bin->bump = block + bin->stride_bytes;
    return (void *)(uintptr_t)block;
}

/* False: nothing was changed, the slow path must do it. The checks are those of hak_fast_free. */
static inline bool hak_magazine_free(hak_thread *t, uint64_t address) {
    const hak_policy *policy = (const hak_policy *)(uintptr_t)(t->base + HAK_POLICY_OFFSET);
    uint64_t offset = address - t->base, unit = offset >> HAK_UNIT_SHIFT;
    hak_magazines *row = hak_magazines_of(t);
    if (!row || unit >= t->unit_limit) return false;
    uint64_t entry = hak_entry_get((hak_heap *)(uintptr_t)t->base, (uint32_t)unit);
    uint32_t class_index = hak_entry_tag(entry);
    if (class_index >= HAK_CLASS_LIMIT) return false; /* HAK_TAG_SAMPLED */
    uint64_t from_head = offset - entry + class_index,
             reciprocal = policy->sizes.classes[class_index].reciprocal;
    if (from_head * reciprocal >= reciprocal) return false;
    uint64_t first = hak_magazine_first(row, class_index);
    if ((first ? first : t->heads[class_index]) == address) return false;
    return hak_magazine_push(row, class_index, address) ||
           hak_bin_list_put(t, class_index, address);
}

#endif
