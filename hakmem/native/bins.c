/* bins.c: what a bin gives away: the first blocks of its list to their slabs, its carved range to
 * its slab or to its own list, and its hint.
 *
 * Called by the bin's own thread, by a thread that holds the record of an ended one, or by a
 * reaper. The caller holds no claim.
 */
#include "bins.h"
#include "lists.h"

/* Gives the first `n` blocks of a list to their slabs, blocks of one slab together. *head is the
 * list's first block; it moves past a block before the block's link changes, so that a fork, which
 * may cut this thread off anywhere, leaves the rest of the list whole. */
void hak_bin_give(hak_thread *t, uint32_t class_index, uint64_t *head, uint32_t n) {
    hak_heap *h = hak_heap_of(t);
    hak_bin *bin = &t->bins[class_index];
    hak_chain group[HAK_RETURN_GROUPS];
    uint32_t filled = 0; /* a bit for each group that has blocks: most batches fill one or two */
    uint32_t list_count = hak_list_count(t, class_index);
    uint64_t block = *head,
             stride = hak_class_is_plain(h, class_index) ? bin->stride_bytes : HAK_CHECKED_AT_FREE;
    hak_assert(hak_load_relaxed(&t->busy) == class_index + 1);
    /* the chain that the block before this one joined; its last block is linked to this one
     * already */
    hak_chain *g = NULL;
    for (uint32_t left = n; left; left--) {
        uint64_t next = hak_next(block);
        if (!g || (block ^ g->last) >> HAK_UNIT_SHIFT) {
            uint32_t unit = hak_head_of(h, block);
            *head = block;
            hak_keep_order();
            uint32_t bit = 1u << unit % HAK_RETURN_GROUPS;
            g = &group[unit % HAK_RETURN_GROUPS];
            if (!(filled & bit) || g->unit != unit) {
                if (filled & bit) hak_slab_return(t, g, stride, list_count);
                /* when blocks are scattered over slabs, half the time went to this cache miss */
                __builtin_prefetch(hak_slab_at(h, unit), 1);
                *g = (hak_chain){block, block, block, unit, 1};
                filled |= bit;
                block = next;
                continue;
            }
            hak_set_next(g->last, block);
        }
        if (block > g->highest) g->highest = block;
        g->last = block;
        g->count++;
        block = next;
    }
    *head = block;
    hak_keep_order();
    for (; filled; filled &= filled - 1)
        hak_slab_return(t, &group[__builtin_ctz(filled)], stride, list_count);
    t->held_bytes -= (int64_t)(n * bin->stride_bytes);
}

/* Takes the first `n` blocks off the list of a class and gives them to their slabs. */
void hak_bin_flush(hak_thread *t, uint32_t class_index, uint32_t n) {
    hak_assert(n && n <= hak_bin_length(t, class_index) && hak_bin_is_whole(t, class_index));
    /* tells a fork's child which class was being flushed: blocks that the list's count has, but
     * the list no longer has, were on their way to slabs */
    hak_store_relaxed(&t->busy, class_index + 1);
    hak_keep_order();
    hak_bin_give(t, class_index, &t->heads[class_index], n);
    t->room_counts[class_index] += n;
    hak_keep_order();
    hak_store_relaxed(&t->busy, 0);
    hak_assert(!t->heads[class_index] == !hak_bin_length(t, class_index));
}

/* Gives blocks of a carved range, those from `start` to its end `end`, back to their slab: as
 * uncarved if nothing was carved behind them, else block by block. Needs the claim; returns how
 * many they were. */
uint32_t hak_bin_uncarve(hak_thread *t, uint32_t class_index, uint32_t unit, uint64_t start,
                         uint64_t end) {
    hak_heap *h = hak_heap_of(t);
    const hak_class *class = hak_class_of(t, class_index);
    uint32_t n = (uint32_t)((end - start) / class->stride_bytes);
    hak_slab *slab = hak_slab_at(h, unit);
    uint64_t base = (uintptr_t)hak_unit_address(h, unit);
    /* the slab may be one that a fork lost through another thread; it takes the blocks back all
     * the same */
    hak_assert((slab->kind == HAK_KIND_SLAB || slab->kind == HAK_KIND_LOST) &&
               slab->class_index == class_index);
    hak_assert(hak_is_in_slab(slab, base, start) && start < end);
    if (end == base + class->start_bytes + (uint64_t)slab->carved_count * class->stride_bytes) {
        hak_store_relaxed(&slab->carved_count, slab->carved_count - n);
    } else {
        for (uint64_t at = start; at < end; at += class->stride_bytes)
            hak_free_push_chain(slab, base, at, at, 1);
    }
    hak_used_sub(slab, n);
    t->held_bytes -= (int64_t)(end - start);
    return n;
}

/* Gives the carved range back to its slab. While another thread holds the claim, the range goes
 * into the list instead. */
void hak_bin_return_range(hak_thread *t, uint32_t class_index) {
    hak_heap *h = hak_heap_of(t);
    hak_bin *bin = &t->bins[class_index];
    uint32_t unit = hak_head_of(h, bin->bump);
    if (!hak_slab_claim(t, hak_slab_at(h, unit))) {
        hak_bin_list_range(t, class_index);
        return;
    }
    (void)hak_bin_uncarve(t, class_index, unit, bin->bump, bin->bump_end);
    bin->bump = bin->bump_end = 0;
    hak_slab_let_go(t, unit);
}

/* Puts the carved range into the list. */
void hak_bin_list_range(hak_thread *t, uint32_t class_index) {
    hak_bin *bin = &t->bins[class_index];
    while (bin->bump != bin->bump_end) {
        uint64_t block = bin->bump;
        bin->bump += bin->stride_bytes;
        hak_bin_push(t, class_index, block);
    }
}

/* Puts the magazine into the list, beyond its cap if need be: the block that came last is the
 * list's first. */
void hak_bin_list_magazine(hak_thread *t, uint32_t class_index) {
    hak_magazines *row = hak_magazines_of(t);
    if (!row) return;
    hak_magazine *m = &row->classes[class_index];
    uint32_t count = hak_magazine_length(t, class_index);
    for (uint32_t slot = m->first + 1u; slot <= m->first + count; slot++) {
        uint64_t block = row->slots[slot];
        /* a fork may cut here: the block is lost, and never in two places */
        row->slots[slot] = 0;
        hak_keep_order();
        hak_bin_push(t, class_index, block);
    }
    m->top = m->first;
}

/* Fits a magazine, which holds no more blocks than its list may, to the list's cap. */
void hak_magazine_fit(hak_thread *t, uint32_t class_index) {
    hak_magazine *m = &hak_magazines_of(t)->classes[class_index];
    uint32_t last = m->first + t->bins[class_index].cap_count;
    m->last = last < m->end ? (uint16_t)last : m->end;
    /* a fork may cut here, and in the middle of what follows: the child does it again */
    if (m->top > m->last) hak_bin_list_magazine(t, class_index);
}

/* Gives out the slots of a new record, where the heap has magazines. The record names them last: a
 * fork may cut anywhere before. */
void hak_magazines_init(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    if (!h->magazines_offset) return;
    hak_magazines *row = hak_magazines_at(h, t->index);
    uint32_t next = 1; /* slot 0 stays 0: it stands for the magazine of a class that has none */
    for (uint32_t class_index = 1; class_index <= hak_policy_of(h)->sizes.class_count;
         class_index++) {
        uint32_t count = hak_magazine_count(h, class_index);
        hak_magazine none = {0};
        row->classes[class_index] = none;
        if (!count || next + count >= HAK_MAGAZINE_SLOTS) continue;
        uint16_t first = (uint16_t)next;
        row->slots[first] = 0;
        row->classes[class_index] = (hak_magazine){first, first, first, (uint16_t)(next + count)};
        next += count + 1;
    }
    hak_keep_order();
    t->magazine_row = (uintptr_t)row;
    t->magazine_limit = HAK_SIZE_MAP_LIMIT_BYTES + 1;
}

/* Drops the hint of a class; the slab stays reachable. The caller holds no claim. */
void hak_bin_forget_hot(hak_thread *t, uint32_t class_index) {
    uint32_t unit = t->bins[class_index].hot;
    if (!unit) return;
    hak_slab *slab = hak_slab_at(hak_heap_of(t), unit);
    t->bins[class_index].hot = 0;
    if (hak_load_relaxed(&slab->kind) != HAK_KIND_SLAB) return;
    if (!hak_slab_claim(t, slab)) hak_mail(t, unit);
    else if (hak_load_relaxed(&slab->kind) == HAK_KIND_SLAB) hak_slab_let_go(t, unit);
    else hak_claim_release(slab);
}
