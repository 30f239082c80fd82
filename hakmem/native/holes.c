/* holes.c: holes: OS pages of nothing but free blocks, given back although their slab is in use.
 * One live block in a slab then costs an OS page, not 64 KiB. Caches of sleeping threads and
 * fragmentation both leave such slabs.
 *
 * A hole is a purged OS page of a slab all of whose blocks are free, those that reach over its
 * edges too. The blocks' links are gone with the page, so they are in no list: used + free list +
 * on holes = carved. The claimer alone writes the masks that mark holes. A thread that takes the
 * slab when its free list is empty gets the blocks of one hole back first. An OS page is purged
 * only if all its blocks are carved, so carving never meets a hole. Classes with headers have no
 * holes, since a header lies outside its block.
 *
 * A sweep visits every slab once an epoch, and searches those that were not claimed since its last
 * visit, once. Sweeps are paid from the budget for eager work (budget.c), and so are blocks that
 * come back from a hole. A slab whose OS pages are needed again within two epochs is paused, that
 * slab alone: with one pause for the whole heap, slabs in steady use would hide those that nobody
 * needs for days. One thread sweeps at a time (sweep_busy).
 */
#include "lists.h"
#include "marks.h"

#define PAGES_MAX (HAK_SLAB_UNITS_MAX * HAK_UNIT_PAGES)

typedef struct page_set {
    uint64_t word[PAGES_MAX / 64];
} page_set;

/* A slab's last_sweep, written under the claim: the epoch of its last purge | log2 of its pause <<
 * 24 | HAK_SWEEP_REFAULT once a page of that purge was needed within two epochs. A refault doubles
 * the pause; a purge without one halves it. */
static uint32_t sweep_age(hak_heap *h, uint32_t last) {
    return (hak_load_relaxed(&h->epoch_count) - last) & HAK_SWEEP_EPOCH_MASK;
}
static uint32_t sweep_pause(uint32_t last) {
    return (UINT32_C(1) << ((last & ~HAK_SWEEP_REFAULT) >> HAK_SWEEP_PAUSE_SHIFT)) - 1;
}

static void sweep_purged(hak_heap *h, hak_slab *slab) {
    uint32_t last = slab->last_sweep,
             pauses = last & ~(uint32_t)(HAK_SWEEP_REFAULT | HAK_SWEEP_EPOCH_MASK);
    if (pauses && !(last & HAK_SWEEP_REFAULT)) pauses -= 1u << HAK_SWEEP_PAUSE_SHIFT;
    hak_store_relaxed(&slab->last_sweep,
                      (hak_load_relaxed(&h->epoch_count) & HAK_SWEEP_EPOCH_MASK) | pauses);
}

/* Notes that OS pages of the slab are needed again; returns whether that is soon after their
 * purge. */
static bool sweep_refault(hak_heap *h, hak_slab *slab) {
    uint32_t last = slab->last_sweep;
    if (sweep_age(h, last) >= 2) return false;
    if (last & HAK_SWEEP_REFAULT) return true;
    bool longer = sweep_pause(last) < hak_number(hak_policy_of(h)->retain.sweep_wait_count);
    hak_store_relaxed(&slab->last_sweep,
                      (last | HAK_SWEEP_REFAULT) + (longer ? 1u << HAK_SWEEP_PAUSE_SHIFT : 0));
    return true;
}

/* Finds the first and the last block that reach onto an OS page of a slab. False if not all of
 * them are carved, or no block is there. */
static bool blocks_on(const hak_class *class, uint32_t carved, uint32_t page, uint32_t *first,
                      uint32_t *last) {
    uint64_t at = (uint64_t)page * HAK_OS_PAGE_BYTES;
    *first = (uint32_t)(at / class->stride_bytes);
    *last = (uint32_t)((at + HAK_OS_PAGE_BYTES - 1) / class->stride_bytes);
    if (*last >= class->block_count) *last = class->block_count - 1;
    return *first < carved && *last < carved;
}

/* Whether a block lies on a hole, even in part. */
static bool is_on_hole(const hak_class *class, const uint16_t *holes, uint32_t block) {
    uint64_t at = (uint64_t)block * class->stride_bytes;
    for (uint64_t page = at / HAK_OS_PAGE_BYTES;
         page <= (at + class->stride_bytes - 1) / HAK_OS_PAGE_BYTES; page++)
        if (hak_hole_get(holes, (uint32_t)page)) return true;
    return false;
}

/* Marks the blocks in the free list and those on holes; returns the length of the list. */
static uint32_t mark_free(hak_heap *h, uint32_t unit, const hak_class *class, uint64_t *free_bits) {
    const hak_slab *slab = hak_slab_at(h, unit);
    const uint16_t *holes = hak_holes_of(h, unit);
    uint64_t base = (uintptr_t)hak_unit_address(h, unit),
             block = hak_free_debug_pointer(slab, base);
    uint32_t count = hak_free_count(slab), first, last;
    for (uint32_t i = 0; i < count; i++, block = hak_next(block)) {
        uint64_t index = (block - base) / class->stride_bytes;
        free_bits[index >> 6] |= UINT64_C(1) << (index & 63);
    }
    if (!(slab->flags & HAK_SLAB_HOLES)) return count;
    for (uint32_t page = 0; page < class->unit_count * HAK_UNIT_PAGES; page++)
        if (hak_hole_get(holes, page) && blocks_on(class, slab->carved_count, page, &first, &last))
            for (uint32_t b = first; b <= last; b++) free_bits[b >> 6] |= UINT64_C(1) << (b & 63);
    return count;
}

static bool all_free(const uint64_t *free_bits, uint32_t first, uint32_t last) {
    for (uint32_t b = first; b <= last; b++)
        if (!(free_bits[b >> 6] >> (b & 63) & 1)) return false;
    return true;
}

/* Takes the blocks on holes out of the free list, and keeps the order of the rest. */
static void drop_holed(hak_heap *h, uint32_t unit, const hak_class *class) {
    hak_slab *slab = hak_slab_at(h, unit);
    uint64_t base = (uintptr_t)hak_unit_address(h, unit), first = 0, last = 0,
             word = hak_free_take_all(slab), block = hak_word_first(base, word);
    uint32_t kept = 0;
    for (uint32_t i = 0, count = hak_word_count(word); i < count; i++) {
        uint64_t next = hak_next(block);
        if (!is_on_hole(class, hak_holes_of(h, unit),
                        (uint32_t)((block - base) / class->stride_bytes))) {
            if (last) hak_set_next(last, block);
            else first = block;
            last = block;
            kept++;
        }
        block = next;
    }
    if (kept) hak_free_push_chain(slab, base, first, last, kept);
}

/* Blocks that come back to a free list, linked in their order. */
typedef struct blocks_back {
    uint64_t head, tail;
    uint32_t count;
} blocks_back;

/* A page is a hole no more: adds its blocks that reach onto no other hole. */
static void unhole(hak_heap *h, uint32_t unit, const hak_class *class, uint32_t page,
                   blocks_back *back) {
    uint16_t *holes = hak_holes_of(h, unit);
    uint64_t base = (uintptr_t)hak_unit_address(h, unit);
    uint32_t first, last;
    hak_hole_set(holes, page, false);
    if (!blocks_on(class, hak_slab_at(h, unit)->carved_count, page, &first, &last)) return;
    for (uint32_t b = first; b <= last; b++) {
        if (is_on_hole(class, holes, b)) continue;
        uint64_t block = base + (uint64_t)b * class->stride_bytes;
        if (back->tail) hak_set_next(back->tail, block);
        else back->head = block;
        back->tail = block;
        back->count++;
    }
}

/* What `unhole` gathered goes on the free list; the slab's flag says whether a hole is left. */
static void give_back(hak_heap *h, uint32_t unit, const hak_class *class, blocks_back *back) {
    hak_slab *slab = hak_slab_at(h, unit);
    uint32_t pages = class->unit_count * HAK_UNIT_PAGES, page = 0;
    if (back->count)
        hak_free_push_chain(slab, (uintptr_t)hak_unit_address(h, unit), back->head, back->tail,
                            back->count);
    while (page < pages && !hak_hole_get(hak_holes_of(h, unit), page)) page++;
    if (page == pages) slab->flags &= (uint16_t)~HAK_SLAB_HOLES;
}

static bool purge_pages(hak_heap *h, uint32_t unit, uint32_t page, uint32_t count) {
    return hak_os_purge_range(&h->os,
                              hak_unit_address(h, unit) + (uint64_t)page * HAK_OS_PAGE_BYTES,
                              (uint64_t)count * HAK_OS_PAGE_BYTES, false);
}

/* Purges holes that were just marked. A page that cannot go, because the program locked it, gets
 * its blocks back; returns how many went. */
static uint32_t purge_holes(hak_heap *h, uint32_t unit, const hak_class *class,
                            const page_set *fresh) {
    uint32_t pages = class->unit_count * HAK_UNIT_PAGES, went = 0;
    blocks_back back = {0, 0, 0};
    for (uint32_t page = 0, end; page < pages; page = end + 1) {
        for (end = page; end < pages && fresh->word[end >> 6] >> (end & 63) & 1;) end++;
        if (end == page) continue;
        if (purge_pages(h, unit, page, end - page)) {
            went += end - page;
            continue;
        }
        for (uint32_t one = page; one < end; one++) {
            if (end - page > 1 && purge_pages(h, unit, one, 1)) went++;
            else unhole(h, unit, class, one, &back);
        }
    }
    if (back.count) give_back(h, unit, class, &back);
    return went;
}

/* Brings a slab into the cache in the order of its addresses. The free list visits its lines at
 * random, and would wait for each: that was three quarters of a trim. */
static void warm(hak_heap *h, uint32_t unit, const hak_class *class) {
    const uint16_t *holes = hak_holes_of(h, unit);
    const char *base = hak_unit_address(h, unit);
    uint64_t end = hak_slab_at(h, unit)->carved_count * class->stride_bytes;
    for (uint64_t at = 0; at < end; at += HAK_CACHE_LINE_BYTES)
        if (!hak_hole_get(holes, (uint32_t)(at / HAK_OS_PAGE_BYTES))) __builtin_prefetch(base + at);
}

/* Makes holes of a claimed slab's OS pages of free blocks; returns how many. *looked is the length
 * of its free list. */
static uint32_t punch(hak_heap *h, uint32_t unit, uint32_t *looked) {
    hak_slab *slab = hak_slab_at(h, unit);
    const hak_class *class = &hak_policy_of(h)->sizes.classes[slab->class_index];
    uint64_t free_bits[HAK_SLAB_BLOCKS_MAX / 64] = {0};
    page_set fresh = {{0}};
    uint16_t *holes = hak_holes_of(h, unit);
    uint32_t pages = class->unit_count * HAK_UNIT_PAGES, found = 0, first, last;
    hak_assert(hak_claim_is_mine(slab) && slab->kind == HAK_KIND_SLAB && !class->header);
    warm(h, unit, class);
    *looked = mark_free(h, unit, class, free_bits);
    for (uint32_t page = 0; page < pages; page++) {
        if (hak_hole_get(holes, page) ||
            !blocks_on(class, slab->carved_count, page, &first, &last) ||
            !all_free(free_bits, first, last))
            continue;
        fresh.word[page >> 6] |= UINT64_C(1) << (page & 63);
        found++;
    }
    if (!found) return 0;
    for (uint32_t page = 0; page < pages; page++)
        if (fresh.word[page >> 6] >> (page & 63) & 1) hak_hole_set(holes, page, true);
    drop_holed(h, unit, class);
    slab->flags |= HAK_SLAB_HOLES;
    found = purge_holes(h, unit, class, &fresh);
    if (!found) return 0;
    sweep_purged(h, slab);
    hak_add_relaxed(&h->hole_pages, found);
    hak_add_relaxed(&h->hole_now_pages, found);
    return found;
}

/* Gives the blocks of the first hole back to the free list; of the first few holes, until there is
 * a block that lies on no other. Needs the claim. */
void hak_holes_restore(hak_thread *t, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    const hak_class *class = &hak_policy_of(h)->sizes.classes[slab->class_index];
    uint32_t pages = class->unit_count * HAK_UNIT_PAGES, restored = 0;
    blocks_back back = {0, 0, 0};
    hak_assert(hak_claim_is_mine(slab) && slab->kind == HAK_KIND_SLAB);
    hak_assert(slab->flags & HAK_SLAB_HOLES && hak_free_is_empty(slab));
    for (uint32_t page = 0; page < pages && !back.count; page++) {
        if (!hak_hole_get(hak_holes_of(h, unit), page)) continue;
        unhole(h, unit, class, page, &back);
        restored++;
    }
    hak_assert(back.count); /* a hole has blocks, and the last one on it brings them back */
    give_back(h, unit, class, &back);
    if (sweep_refault(h, slab)) hak_add_relaxed(&h->hole_refault_pages, restored);
    hak_add_relaxed(&h->hole_now_pages, -(uint64_t)restored);
    hak_work_spend(h, (uint64_t)restored * hak_number(hak_policy_of(h)->retain.refault_unit_ns) /
                          HAK_UNIT_PAGES);
}

/* Visits one slab record; returns the cost of what was done. `all`: also if the slab was claimed
 * lately. `pauses`: paused slabs are left alone. */
static uint64_t visit(hak_thread *t, uint32_t unit, bool all, bool pauses) {
    hak_heap *h = hak_heap_of(t);
    const hak_policy *policy = hak_policy_of(h);
    hak_slab *slab = hak_slab_at(h, unit);
    if (hak_load_relaxed(&slab->kind) != HAK_KIND_SLAB) return 0;
    uint32_t *seen = (uint32_t *)hak_at(h, h->swept_offset) + unit, seq = hak_claim_seq_load(slab),
             before = hak_load_relaxed(seen), looked = 0, pages = 0;
    if (!all && before != seq) {
        /* a claimed slab is in use: ask again next time */
        if (before != (seq | 1)) hak_store_relaxed(seen, seq & ~1u);
        return 0;
    }
    uint32_t last = hak_load_relaxed(&slab->last_sweep);
    if (pauses && sweep_age(h, last) < sweep_pause(last)) return 0;
    const hak_class *class = &policy->sizes.classes[hak_load_relaxed(&slab->class_index)];
    uint64_t out = (uint64_t)hak_free_count(slab) + hak_remote_count(slab);
    /* too little is free for a hole: leave the slab alone */
    if (out * class->stride_bytes < HAK_OS_PAGE_BYTES) {
        hak_store_relaxed(seen, seq | 1);
        return 0;
    }
    if (!hak_claim_try(slab)) return 0;
    class = &policy->sizes.classes[slab->class_index];
    if (hak_load_relaxed(&slab->kind) == HAK_KIND_SLAB && !class->header &&
        class->block_count <= HAK_SLAB_BLOCKS_MAX) {
        hak_slab_drain(t, unit);
        if (hak_used_load(slab) == 0) {
            hak_slab_retire(t, unit);
            return hak_number(policy->retain.hole_block_ns);
        }
        if ((uint64_t)hak_free_count(slab) * class->stride_bytes >= HAK_OS_PAGE_BYTES)
            pages = punch(h, unit, &looked);
        /* its free list may be short now, but it has blocks to give */
        if (pages) hak_partial_insert(h, unit);
    }
    /* the sequence it will have once released, marked as searched */
    hak_store_relaxed(seen, (hak_claim_seq_load(slab) + 1) | 1);
    hak_claim_release(slab);
    return (uint64_t)looked * hak_number(policy->retain.hole_block_ns) +
           (uint64_t)pages * hak_number(policy->retain.purge_unit_ns) / HAK_UNIT_PAGES;
}

/* Goes on with the sweep that is due: at most `units` records and `most_ns` of work. Without
 * `pauses`, paused slabs are visited too. */
void hak_sweep(hak_thread *t, uint32_t units, uint64_t most_ns, bool pauses) {
    hak_heap *h = hak_heap_of(t);
    uint32_t unit = hak_load_relaxed(&h->sweep_unit), none = 0,
             top = hak_load_acquire(&h->unit_top);
    if (!unit || !hak_cas_acquire(&h->sweep_busy, &none, 1)) return;
    uint64_t spent = 0, credit = hak_work_credit(h, hak_clock_of(h));
    if (most_ns > credit) most_ns = credit;
    for (unit = hak_load_relaxed(&h->sweep_unit); unit < top && units && spent < most_ns;
         unit++, units--)
        spent += visit(t, unit, false, pauses);
    hak_store_relaxed(&h->sweep_unit, unit < top ? unit : 0);
    hak_store_release(&h->sweep_busy, 0);
    if (spent) hak_work_spend(h, spent);
}

/* Makes holes of the free blocks of one slab, if the work can be paid, in a young heap also its
 * being in vain: a thread that only frees large blocks may sleep afterwards, and leave them to
 * nobody. The slab may be gone meanwhile. */
void hak_sweep_one(hak_thread *t, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    /* free runs come first: the slab may soon be one */
    uint64_t most = hak_load_relaxed(&h->dirty_units) + HAK_SLAB_UNITS_MAX;
    if (hak_work_units(h, hak_clock_of(h)) < most) return;
    uint64_t spent = visit(t, unit, true, false);
    if (spent) hak_work_spend(h, spent);
}

/* Makes all the holes that can be made, for trim; returns their OS pages. */
uint64_t hak_sweep_all(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint64_t before = hak_load_relaxed(&h->hole_pages);
    uint32_t top = hak_load_acquire(&h->unit_top);
    for (uint32_t unit = h->meta_units; unit < top; unit++) visit(t, unit, true, false);
    return hak_load_relaxed(&h->hole_pages) - before;
}
