/* describe.c: what the library knows about an address, in words, for the fatal report and the crash
 * report.
 *
 * It only reads, takes no lock and allocates nothing: it may run in a signal handler, while other
 * threads go on, in a heap that is damaged. Every link is checked before it is followed and every
 * walk is bounded, so a figure may be wrong, but an answer always comes.
 */
#include "describe.h"

#include "hak_internal.h"
#include "lists.h"
#include "mapped.h"

hak_heap *hak_heap_at(uint64_t address) {
    hak_heap *h = (hak_heap *)(uintptr_t)hak_root_.first_heap;
    hak_mapped found;
    while (h && address - (uintptr_t)h >= h->reserved_bytes &&
           !hak_mapped_glance(h, address, &found))
        h = (hak_heap *)(uintptr_t)h->next_heap;
    return h;
}

void hak_describe_heap(hak_line *line, const hak_heap *h) {
    if (h->flags & HAK_HEAP_PROCESS) {
        hak_line_text(line, "process heap");
        return;
    }
    hak_line_text(line, "heap ");
    hak_line_number(line, h->generation);
}

static bool starts_block(hak_heap *h, uint32_t class_index, uint64_t address) {
    hak_block block;
    hak_fault fault;
    return hak_resolve(h, address, &block, &fault) == HAK_OK && block.class_index == class_index;
}

/* Ends at a link that cannot be read: the program may have unmapped or protected its OS page. */
static bool is_in_list(hak_heap *h, uint32_t class_index, uint64_t first, uint64_t count,
                       uint64_t wanted) {
    for (uint64_t at = first; count && at && starts_block(h, class_index, at);
         count--, at = hak_next(at)) {
        if (at == wanted) return true;
        if (!hak_os_is_readable(at)) break;
    }
    return false;
}

static bool is_in_magazine(hak_heap *h, uint32_t record, uint32_t class_index, uint64_t wanted) {
    if (!h->magazines_offset) return false;
    const hak_magazines *row = hak_magazines_at(h, record);
    const hak_magazine *m = &row->classes[class_index];
    for (uint32_t slot = m->first + 1u; slot <= m->top && slot < HAK_MAGAZINE_SLOTS; slot++)
        if (row->slots[slot] == wanted) return true;
    return false;
}

/* Says where a carved block of a slab is. */
static void describe_state(hak_line *line, hak_heap *h, uint32_t unit, uint32_t class_index,
                           uint64_t block) {
    const hak_slab *slab = hak_slab_at(h, unit);
    uint64_t base = (uintptr_t)hak_unit_address(h, unit);
    uint64_t word = hak_free_debug_pointer(slab, base);
    if (is_in_list(h, class_index, word, hak_free_count(slab), block)) {
        hak_line_text(line, "free");
        return;
    }
    for (uint32_t i = 0; i < h->thread_top && i < h->thread_limit; i++) {
        const hak_thread *t = hak_thread_at(h, i);
        const hak_bin *bin = &t->bins[class_index];
        bool range = block >= bin->bump && block < bin->bump_end;
        if (!t->base ||
            (!range && !is_in_magazine(h, i, class_index, block) &&
             !is_in_list(h, class_index, t->heads[class_index], HAK_CAP_LIMIT_COUNT, block)))
            continue;
        hak_line_text(line, range ? "not handed out yet, in the range of thread record "
                                  : "free, in the cache of thread record ");
        hak_line_number(line, i);
        return;
    }
    hak_line_text(line, "out, or on its way back");
}

/* What the records cannot know: whether the OS page is there. */
static void describe_page(hak_line *line, uint64_t address) {
    if (!hak_os_is_readable(address)) hak_line_text(line, ", on a page that cannot be read");
}

static void describe_block(hak_line *line, hak_heap *h, uint32_t unit, uint32_t class_index,
                           uint32_t index) {
    const hak_class *class = &hak_policy_of(h)->sizes.classes[class_index];
    uint64_t block = (uintptr_t)hak_unit_address(h, unit) + class->start_bytes +
                     (uint64_t)index * class->stride_bytes;
    hak_line_text(line, "block ");
    hak_line_number(line, index);
    hak_line_text(line, " at ");
    hak_line_address(line, block);
    hak_line_text(line, ": ");
    if (index >= hak_load_relaxed(&hak_slab_at(h, unit)->carved_count))
        hak_line_text(line, "never handed out");
    else describe_state(line, h, unit, class_index, block);
    describe_page(line, block);
}

static void describe_slab(hak_line *line, hak_heap *h, uint32_t unit, uint32_t class_index,
                          uint64_t address) {
    const hak_class *class = &hak_policy_of(h)->sizes.classes[class_index];
    uint64_t base = (uintptr_t)hak_unit_address(h, unit) + class->start_bytes,
             index = (address - base) / class->stride_bytes;
    hak_line_text(line, hak_slab_at(h, unit)->kind == HAK_KIND_LOST
                            ? "in a slab lost to a fork, unit "
                            : "in the slab at unit ");
    hak_line_number(line, unit);
    hak_line_text(line, ", class ");
    hak_line_number(line, class_index);
    hak_line_text(line, " of ");
    hak_line_number(line, class->stride_bytes);
    hak_line_text(line, " bytes, ");
    if (address < base || index >= class->block_count) {
        hak_line_text(line, "at its edge, in no block");
        return;
    }
    hak_line_number(line, (address - base) % class->stride_bytes);
    hak_line_text(line, " bytes into ");
    describe_block(line, h, unit, class_index, (uint32_t)index);
    if (index)
        hak_line_text(line, "; before it "),
            describe_block(line, h, unit, class_index, (uint32_t)index - 1);
    if (index + 1 < class->block_count)
        hak_line_text(line, "; behind it "),
            describe_block(line, h, unit, class_index, (uint32_t)index + 1);
}

static void describe_mapped(hak_line *line, const hak_heap *h, uint64_t address, hak_mapped found,
                            const char *what, const char *tail) {
    hak_line_number(line, address - found.address);
    hak_line_text(line, what);
    hak_line_address(line, found.address);
    hak_line_text(line, " of ");
    hak_line_number(line, found.bytes);
    hak_line_text(line, tail);
    hak_describe_heap(line, h);
}

/* Says of an address in no heap that a heap had a mapped block there lately, or else where it is
 * from the thread's stack. */
static void describe_outside(hak_line *line, uint64_t address, uint64_t stack) {
    uint64_t far = address > stack ? address - stack : stack - address;
    hak_mapped found;
    for (uint64_t at = hak_root_.first_heap; at; at = ((hak_heap *)(uintptr_t)at)->next_heap) {
        const hak_heap *h = (const hak_heap *)(uintptr_t)at;
        if (!hak_mapped_glance_freed(h, address, &found)) continue;
        describe_mapped(line, h, address, found, " bytes into where the mapped block at ",
                        " bytes was, freed or moved since; in no heap; ");
        return;
    }
    hak_line_text(line, far < HAK_STACK_NEAR_BYTES
                            ? "on this thread's stack, or near it; in no heap"
                            : "in no heap");
}

/* Writes "0x... is in ...". `stack` is a stack pointer of the thread that the address concerns. */
void hak_describe(hak_line *line, uint64_t address, uint64_t stack) {
    hak_heap *h = hak_heap_at(address);
    hak_line_address(line, address);
    hak_line_text(line, " is ");
    if (!h) {
        describe_outside(line, address, stack);
        return;
    }
    hak_mapped found;
    if (hak_mapped_glance(h, address, &found)) {
        describe_mapped(line, h, address, found, " bytes into the mapped block at ", " bytes; ");
        return;
    }
    uint32_t unit = (uint32_t)((address - (uintptr_t)h) >> HAK_UNIT_SHIFT);
    uint64_t entry = unit < h->table_units ? hak_entry_get(h, unit) : 0;
    uint32_t tag = hak_entry_class(h, entry), head = hak_entry_head(entry);
    if (unit < h->meta_units || unit >= h->unit_limit) hak_line_text(line, "in the metadata");
    else if (unit >= h->unit_top) hak_line_text(line, "in memory not committed yet");
    else if (tag == HAK_TAG_UNMAPPED) hak_line_text(line, "in units that are not mapped");
    else if (tag == HAK_TAG_FREE) hak_line_text(line, "in a free run");
    else if (tag == HAK_TAG_NONE || !head || head > unit)
        hak_line_text(line, "in a unit that is in no slab and no span");
    else if (tag == HAK_TAG_SPAN) {
        hak_line_number(line, address - (uintptr_t)hak_unit_address(h, head));
        bool waits = hak_load_relaxed(&hak_slab_at(h, head)->kind) == HAK_KIND_WAITING;
        hak_line_text(line, waits ? " bytes into the freed span at " : " bytes into the span at ");
        hak_line_address(line, (uintptr_t)hak_unit_address(h, head));
        hak_line_text(line, " of ");
        hak_line_number(line, (uint64_t)hak_slab_at(h, head)->unit_count << HAK_UNIT_SHIFT);
        hak_line_text(line, " bytes");
        describe_page(line, address);
    } else if (tag <= hak_policy_of(h)->sizes.class_count)
        describe_slab(line, h, head, tag, address);
    hak_line_text(line, "; ");
    hak_describe_heap(line, h);
}
