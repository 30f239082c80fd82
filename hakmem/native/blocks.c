/* blocks.c: one block: checked, allocated, freed, resized. The slow path of every call.
 *
 * Headers and live marks are checked in addition to what the page registry says about an address
 * (hak_resolve), never instead of it. A call that ends in a fault has changed nothing.
 */
#include <string.h>

#include "bins.h"
#include "profile.h"

static void mark_out(hak_heap *h, uint32_t class_index, uint64_t address) {
    const hak_policy *policy = hak_policy_of(h);
    if (policy->sizes.classes[class_index].header)
        hak_store_relaxed((uint8_t *)(uintptr_t)(address - 1), policy->headers.live[class_index]);
    if (!(h->flags & HAK_HEAP_CHECKED)) return;
    uint64_t bit, *word = hak_live_word(h, address, &bit);
    /* the word's other bits belong to other blocks; the program's own hand-over of the block
     * orders this before its free */
    hak_or_seq(word, bit);
}

/* False when another thread's free of the same block was faster. */
static bool mark_in(hak_heap *h, uint32_t class_index, uint64_t address) {
    const hak_policy *policy = hak_policy_of(h);
    if (h->flags & HAK_HEAP_CHECKED) {
        uint64_t bit, *word = hak_live_word(h, address, &bit);
        /* of two frees at once, one clears the bit and the other finds it cleared */
        if (!(hak_and_seq(word, ~bit) & bit)) return false;
    }
    if (policy->sizes.classes[class_index].header)
        hak_store_relaxed((uint8_t *)(uintptr_t)(address - 1), policy->headers.freed[class_index]);
    return true;
}

/* Takes a block of class *of_class: from its list, its carved range, a larger class that lends,
 * or a refill; where that finds no memory, any larger class. A loan sets *of_class to that block's.
 * *zeroed: all bytes are known to be 0. */
static uint64_t take_block(hak_thread *t, uint32_t *of_class, uint64_t align, bool *zeroed) {
    uint32_t class_index = *of_class;
    hak_bin *bin = &t->bins[class_index];
    uint64_t block = hak_bin_pop(t, class_index);
    *zeroed = false;
    if (block) return block;
    if (bin->bump == bin->bump_end) {
        uint32_t lender = align == 1 ? hak_lend(t, class_index) : 0;
        if (!lender && !hak_refill(t, class_index, 0) &&
            !(lender = hak_lend_last(t, class_index, align)))
            return 0;
        if (lender) *of_class = class_index = lender;
        if ((block = hak_bin_pop(t, class_index))) return block;
        bin = &t->bins[class_index];
    }
    block = bin->bump;
    bin->bump += bin->stride_bytes;
    *zeroed = bin->fresh != 0;
    return block;
}

/* The class of a size up to the size limit, by the fine or the coarse part of the size map. */
static uint32_t class_of(const hak_policy *policy, uint64_t size) {
    if (size <= HAK_SIZE_MAP_LIMIT_BYTES)
        return policy->sizes.size_map[((size ? size : 1) + 7) >> HAK_SIZE_GRANULE_SHIFT];
    return policy->sizes.big_map[hak_big_entry(size)];
}

/* The class for a size and an alignment: the first whose blocks are large enough and all aligned
 * so; 0: a span serves. */
static uint32_t class_for(const hak_policy *policy, uint64_t size, uint64_t align) {
    if (size > policy->sizes.size_limit_bytes) return 0;
    /* a slab starts at a unit's boundary, no more */
    if (align > HAK_UNIT_BYTES) return 0;
    uint32_t class_index = class_of(policy, size);
    if (align == 1) return class_index;
    for (; class_index && class_index <= policy->sizes.class_count; class_index++) {
        const hak_class *class = &policy->sizes.classes[class_index];
        if ((class->stride_bytes | class->start_bytes) % align == 0) return class_index;
    }
    return 0;
}

/* Whether blocks of a size are large enough that one that grows is likely to grow on: as a span it
 * does so where it is, as a block of a slab it would be copied at each class. */
static bool grows_as_span(const hak_policy *policy, uint64_t size) {
    uint32_t class_index = class_for(policy, size, 1);
    return !class_index || policy->sizes.classes[class_index].band == HAK_BAND_BIG;
}

static void *alloc_span(hak_thread *t, uint64_t size, uint64_t align, bool zero) {
    uint64_t grain = HAK_OS_PAGE_BYTES;
    void *span = hak_mapping_alloc(t, size, align);
    if (!span && (span = hak_span_alloc(t, size, align, zero))) {
        grain = HAK_UNIT_BYTES;
        mark_out(hak_heap_of(t), 0, (uintptr_t)span);
    }
    if (span) hak_profile_count(t, 0, (uintptr_t)span, size, (size + grain - 1) & ~(grain - 1));
    return span;
}

/* Returns NULL when out of memory, or when the size is out of range. `align` is a power of two, 1
 * if it does not matter. */
void *hak_alloc_slow(hak_thread *t, uint64_t size, uint64_t align, bool zero) {
    hak_heap *h = hak_heap_of(t);
    const hak_policy *policy = hak_policy_of(h);
    uint32_t class_index = class_for(policy, size, align);
    if (hak_unlikely(hak_maps_are_empty(t))) hak_profile_adopt(t);
    if (!class_index) return alloc_span(t, size, align, zero);
    bool zeroed;
    uint64_t block = take_block(t, &class_index, align, &zeroed);
    if (!block) return NULL;
    if (zero && !zeroed)
        memset((void *)(uintptr_t)block, 0, policy->sizes.classes[class_index].capacity_bytes);
    mark_out(h, class_index, block);
    hak_profile_count(t, class_index, block, size, policy->sizes.classes[class_index].stride_bytes);
    return (void *)(uintptr_t)block;
}

/* Raises the thread's unit limit after the tables have grown, so that its next frees in those
 * units take the fast path. A reaper may be closing the gate meanwhile, and looks again (gate.c).
 */
static void reach(hak_thread *t, uint64_t address) {
    if ((address - t->base) >> HAK_UNIT_SHIFT >= hak_load_relaxed(&t->unit_limit))
        hak_store_relaxed(&t->unit_limit,
                          hak_load_acquire(&hak_heap_of(t)->table_units)); /* hak_tables_reach */
}

/* Whether the registry entry's tag and the record agree. Asked for a block that the program holds,
 * so that its slab or span cannot go meanwhile.
 */
HAK_PREDICATE bool is_as_recorded(hak_heap *h, const hak_block *block) {
    const hak_slab *slab = hak_slab_at(h, block->unit);
    if (!block->class_index) return slab->kind == HAK_KIND_SPAN;
    return (slab->kind == HAK_KIND_SLAB || slab->kind == HAK_KIND_LOST) &&
           slab->class_index == block->class_index;
}

/* Whether the block may be a sample: known of slabs and spans by their record. */
static bool may_be_sampled(hak_heap *h, const hak_block *block) {
    if (!block->unit) return hak_load_relaxed(&h->profile) != 0;
    return hak_load_relaxed(&hak_slab_at(h, block->unit)->sampled_mask) >>
               block->index % HAK_SAMPLED_BITS &
           1;
}

uint32_t hak_free_slow(hak_thread *t, uint64_t address, hak_fault *fault) {
    hak_heap *h = hak_heap_of(t);
    hak_block block;
    uint32_t code = hak_check_live(h, address, &block, fault);
    if (!code && !block.unit && may_be_sampled(h, &block)) hak_profile_free(t, address, &block);
    if (!code && !block.unit && !hak_mapping_free(t, address, block.bytes))
        code = hak_fault_set(fault, h, HAK_FAULT_DOUBLE, address, address, 0, 0, 1, 0);
    if (!code && !block.unit) return HAK_OK;
    if (!code) reach(t, address);
    if (!code) code = hak_check_own(t, h, address, &block, fault);
    if (!code && !mark_in(h, block.class_index, address))
        code = hak_fault_set(fault, h, HAK_FAULT_DOUBLE, address, address, block.unit,
                             block.class_index, 1, 0);
    if (code) {
        hak_count(t, fault_count, 1);
        return code;
    }
    hak_assert(is_as_recorded(h, &block));
    if (hak_unlikely(may_be_sampled(h, &block))) hak_profile_free(t, address, &block);
    if (!block.class_index) {
        hak_span_free(t, block.unit);
        return HAK_OK;
    }
    if (hak_frees_home(t)) hak_free_home(t, block.class_index, address);
    else if (hak_is_line_of_others(t, block.class_index) ||
             !hak_bin_put(t, block.class_index, address))
        hak_overflow(t, block.class_index, address);
    return HAK_OK;
}

/* Gives the end of a block back without a byte of other memory, as far as its kind can: programs do
 * not expect that a block cannot be made smaller. */
static void shrink(hak_thread *t, uint64_t address, const hak_block *block, uint64_t size) {
    if (!block->unit) (void)hak_mapping_resize(t, address, block->bytes, size ? size : 1);
    else if (!block->class_index) (void)hak_span_resize(t, block->unit, size ? size : 1);
}

/* Resizes a mapped block, or a span that stays one. False: it must be copied. */
static bool resize_large(hak_thread *t, uint64_t address, const hak_block *block, uint64_t size,
                         bool large, void **out) {
    hak_heap *h = hak_heap_of(t);
    bool sampled = may_be_sampled(h, block);
    if (!block->unit) {
        if (size < hak_number(hak_policy_of(h)->retain.remap_min_bytes)) return false;
        *out = hak_mapping_resize(t, address, block->bytes, size);
    } else if (large) {
        /* before the resize, because a span that moves gives its units back */
        (void)mark_in(h, 0, address);
        if (!(*out = hak_mapping_from_span(t, block->unit, size))) {
            *out = hak_span_resize(t, block->unit, size);
            mark_out(h, 0, *out ? (uintptr_t)*out : address);
        }
    }
    if (*out && hak_unlikely(sampled || t->sample_rate))
        hak_profile_moved(t, address, block, (uintptr_t)*out, size);
    return *out != NULL;
}

/* Resizes a block: in place while it still fits its class well (a shrink to half or more), a span
 * by units, else by moving. *out is the resized block; on HAK_FAULT_NOMEM, which no shrink ends
 * with, *out is NULL and the old block untouched. */
uint32_t hak_realloc_block(hak_thread *t, uint64_t address, uint64_t size, void **out,
                           hak_fault *fault) {
    hak_heap *h = hak_heap_of(t);
    const hak_policy *policy = hak_policy_of(h);
    hak_block block;
    uint32_t code = hak_check_live(h, address, &block, fault);
    *out = NULL;
    if (!code) code = hak_check_own(t, h, address, &block, fault);
    if (code) {
        hak_count(t, fault_count, 1);
        return code;
    }
    bool fits = size <= block.bytes && size >= block.bytes / 2, large = grows_as_span(policy, size);
    if (block.class_index ? fits : resize_large(t, address, &block, size, large, out)) {
        if (block.class_index) *out = (void *)(uintptr_t)address;
        return HAK_OK;
    }
    void *moved = size > block.bytes && large ? alloc_span(t, size, 1, false)
                                              : hak_alloc_slow(t, size, 1, false);
    if (!moved && size <= block.bytes) {
        shrink(t, address, &block, size);
        *out = (void *)(uintptr_t)address;
        return HAK_OK;
    }
    if (!moved)
        return hak_fault_set(fault, h, HAK_FAULT_NOMEM, size, address, block.unit,
                             block.class_index, 0, 0);
    memcpy(moved, (void *)(uintptr_t)address, size < block.bytes ? size : block.bytes);
    code = hak_free_slow(t, address, fault);
    *out = moved;
    return code;
}
