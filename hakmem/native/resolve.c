/* resolve.c: which block an address belongs to, by page registry, slab record and policy, and
 * whether the program holds that block. It only reads and takes no lock, so it may run in a signal
 * handler and in a heap that is damaged.
 */
#include "locks.h"
#include "mapped.h"

/* Finds the block that starts at `address`, or the fault when none does. For an address inside a
 * block, `block` is set as well. */
uint32_t hak_resolve(hak_heap *h, uint64_t address, hak_block *block, hak_fault *fault) {
    uint64_t offset = address - (uintptr_t)h, unit = offset >> HAK_UNIT_SHIFT;
    *block = (hak_block){0, 0, 0, 0};
    if (unit >= hak_load_acquire(&h->unit_top) || unit < h->meta_units)
        return hak_fault_set(fault, h, HAK_FAULT_FOREIGN, address, 0, 0, 0, 0, 0);
    uint64_t entry = hak_entry_get(h, (uint32_t)unit);
    uint32_t tag = hak_entry_class(h, entry), head = hak_entry_head(entry);
    uint64_t base = (uintptr_t)hak_unit_address(h, head);
    hak_slab *slab = hak_slab_at(h, head);
    if (tag == HAK_TAG_NONE || tag > HAK_TAG_SPAN)
        return hak_fault_set(fault, h, HAK_FAULT_DOUBLE, address, 0, (uint32_t)unit, 0,
                             HAK_TAG_SPAN, tag);
    block->unit = head;
    if (tag == HAK_TAG_SPAN) {
        block->bytes = (uint64_t)hak_load_relaxed(&slab->unit_count) << HAK_UNIT_SHIFT;
        if (hak_load_relaxed(&slab->kind) == HAK_KIND_WAITING)
            return hak_fault_set(fault, h, HAK_FAULT_DOUBLE, address, base, head, 0, HAK_KIND_SPAN,
                                 HAK_KIND_WAITING);
        return address == base
                   ? HAK_OK
                   : hak_fault_set(fault, h, HAK_FAULT_INTERIOR, address, base, head, 0, 0, 0);
    }
    const hak_class *class = &hak_policy_of(h)->sizes.classes[tag];
    block->class_index = tag;
    block->bytes = class->capacity_bytes;
    if (address < base + class->start_bytes)
        return hak_fault_set(fault, h, HAK_FAULT_INTERIOR, address, 0, head, tag, 0, 0);
    uint64_t inside = address - base - class->start_bytes, index = inside / class->stride_bytes;
    block->index = (uint32_t)index;
    if (index >= class->block_count)
        return hak_fault_set(fault, h, HAK_FAULT_INTERIOR, address, 0, head, tag, 0, 0);
    uint64_t start = base + class->start_bytes + index * class->stride_bytes;
    if (inside % class->stride_bytes)
        return hak_fault_set(fault, h, HAK_FAULT_INTERIOR, address, start, head, tag, 0, 0);
    uint32_t carved = hak_load_relaxed(&slab->carved_count);
    if (index >= carved)
        return hak_fault_set(fault, h, HAK_FAULT_UNCARVED, address, start, head, tag, carved,
                             (uint32_t)index);
    return HAK_OK;
}

/* Which mapped block starts at an address that is in no slab and no span; `code` says why not. One
 * that was freed lately is told as such, unless its address is another block's by now. */
static uint32_t resolve_mapped(hak_heap *h, uint64_t address, hak_block *block, uint32_t code,
                               hak_fault *fault) {
    hak_mapped found;
    hak_run_lock(h);
    bool mapped = h->mapped_count && hak_mapped_find(h, address, &found),
         freed = !mapped && hak_mapped_glance_freed(h, address, &found);
    hak_run_unlock(h);
    if (freed && address == found.address)
        return hak_fault_set(fault, h, HAK_FAULT_DOUBLE, address, address, 0, 0, 1, 0);
    if (!mapped) return code;
    *block = (hak_block){.bytes = found.bytes};
    if (address == found.address) return HAK_OK;
    return hak_fault_set(fault, h, HAK_FAULT_INTERIOR, address, found.address, 0, 0, 0, 0);
}

/* Resolves the address and checks that the block is out, as far as the heap can tell: by live
 * mark, header byte and the head of a list. */
uint32_t hak_check_live(hak_heap *h, uint64_t address, hak_block *block, hak_fault *fault) {
    uint32_t code = hak_resolve(h, address, block, fault);
    if (code == HAK_FAULT_FOREIGN || code == HAK_FAULT_DOUBLE)
        return resolve_mapped(h, address, block, code, fault);
    if (code) return code;
    if (h->flags & HAK_HEAP_CHECKED) {
        uint64_t bit, *word = hak_live_word(h, address, &bit);
        if (!(hak_load_relaxed(word) & bit))
            return hak_fault_set(fault, h, HAK_FAULT_DOUBLE, address, address, block->unit,
                                 block->class_index, 1, 0);
    }
    const hak_policy *policy = hak_policy_of(h);
    if (policy->sizes.classes[block->class_index].header) {
        uint8_t byte = hak_load_relaxed((uint8_t *)(uintptr_t)(address - 1)),
                want = policy->headers.live[block->class_index];
        if (byte != want) {
            bool freed = byte == policy->headers.freed[block->class_index];
            return hak_fault_set(fault, h, freed ? HAK_FAULT_DOUBLE : HAK_FAULT_HEADER, address,
                                 address, block->unit, block->class_index, want, byte);
        }
    }
    return HAK_OK;
}

/* Checks a carved block against the thread's own cache: at the head of the list or on top of the
 * magazine it was freed last, and in the carved range it was never handed out. Neither is out. */
uint32_t hak_check_own(const hak_thread *t, hak_heap *h, uint64_t address, const hak_block *block,
                       hak_fault *fault) {
    const hak_bin *bin = &t->bins[block->class_index];
    const hak_magazines *row = hak_magazines_of(t);
    if (!block->class_index) return HAK_OK;
    if (t->heads[block->class_index] == address ||
        (row && hak_magazine_first(row, block->class_index) == address))
        return hak_fault_set(fault, h, HAK_FAULT_DOUBLE, address, address, block->unit,
                             block->class_index, 1, 0);
    if (address - bin->bump >= bin->bump_end - bin->bump) return HAK_OK;
    uint32_t out = block->index - (uint32_t)((address - bin->bump) / bin->stride_bytes);
    return hak_fault_set(fault, h, HAK_FAULT_UNCARVED, address, address, block->unit,
                         block->class_index, out, block->index);
}
