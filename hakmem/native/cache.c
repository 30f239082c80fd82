/* cache.c: thread caches: refilled from slabs, overflowing to slabs, flushed, filled ahead of need,
 * and lending blocks from one class to another.
 *
 * `t` is the calling thread's own record, or that of an ended thread which the caller holds.
 */
#include "caps.h"
#include "events.h"
#include "hooks.h"
#include "lists.h"
#include "rows.h"

/* Whether the caller may use the record: it is a live thread's, or record 0 under its lock. */
HAK_PREDICATE bool is_inside(const hak_thread *t) {
    return t->index ? t->state == HAK_THREAD_LIVE : hak_rank_is_held(HAK_RANK_RECORD);
}

/* Carves a range of `least` blocks, or of the class's usual number, into the bin. Needs the
 * claim. */
static uint32_t carve(hak_thread *t, uint32_t class_index, uint32_t unit, uint32_t least) {
    hak_heap *h = hak_heap_of(t);
    const hak_class *class = hak_class_of(t, class_index);
    const hak_cache_class *cache = hak_cache_of(t, class_index);
    hak_slab *slab = hak_slab_at(h, unit);
    hak_bin *bin = &t->bins[class_index];
    uint32_t most = cache->cap_max_count ? cache->cap_max_count : 1,
             n = class->block_count - slab->carved_count;
    uint32_t wish = least > cache->carve_count ? least : cache->carve_count;
    hak_assert(hak_claim_is_mine(slab) && slab->class_index == class_index && n);
    hak_assert(bin->bump == bin->bump_end); /* a range that is still there would be lost */
    if (n > wish) n = wish;
    if (n > most) n = most;
    uint64_t base = (uintptr_t)hak_unit_address(h, unit) + class->start_bytes;
    bin->bump = base + (uint64_t)slab->carved_count * class->stride_bytes;
    bin->bump_end = bin->bump + (uint64_t)n * class->stride_bytes;
    bin->fresh = slab->flags & HAK_SLAB_FRESH;
    if (class->header) {
        uint8_t freed = hak_policy_of(h)->headers.freed[class_index];
        for (uint64_t user = bin->bump; user < bin->bump_end; user += class->stride_bytes)
            hak_store_relaxed((uint8_t *)(uintptr_t)(user - 1), freed);
    }
    hak_store_relaxed(&slab->carved_count, slab->carved_count + n);
    hak_used_add(slab, n);
    hak_count(t, refill_carve_count, 1);
    if (bin->lent &&
        ++bin->lend_carve_count >= hak_number(hak_policy_of(h)->caches.lend_carve_count))
        bin->lend_carve_count = UINT8_MAX;
    bin->lent = 0;
    return n;
}

/* Takes the slab's free list: all of it if the cap may rise that far, else as many blocks as fit.
 * The cap rises by `raise` blocks at least. Of a big class it takes one block, for the caller, and
 * the cap stays. Needs the claim. */
static uint32_t take(hak_thread *t, uint32_t class_index, uint32_t unit, uint32_t raise) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    hak_bin *bin = &t->bins[class_index];
    uint64_t base = (uintptr_t)hak_unit_address(h, unit), first, last;
    uint32_t have = hak_bin_length(t, class_index), limit = hak_cap_limit(t, class_index),
             n = hak_free_count(slab);
    bool big = hak_class_is_big(t, class_index);
    uint32_t most = !big && limit > have ? limit - have : 1;
    hak_assert(hak_claim_is_mine(slab) && slab->class_index == class_index && n);
    if (n <= most) {
        first = hak_word_first(base, hak_free_take_all(slab));
        if (t->heads[class_index]) {
            for (last = first; hak_next(last);) last = hak_next(last);
            hak_set_next(last, t->heads[class_index]);
        }
    } else {
        n = most < hak_cache_of(t, class_index)->batch_count
                ? most
                : hak_cache_of(t, class_index)->batch_count;
        first = hak_free_pop_chain(slab, base, n, &last);
        hak_set_next(last, t->heads[class_index]);
    }
    hak_keep_order(); /* as in hak_fast_free */
    t->heads[class_index] = first;
    t->room_counts[class_index] -= n;
    hak_used_add(slab, n);
    uint32_t wish = bin->cap_count + raise > have + n ? bin->cap_count + raise : have + n,
             cap = wish < limit ? wish : limit;
    if (!big && cap > bin->cap_count) {
        hak_cap_resize(t, class_index, cap);
        hak_count(t, cap_raise_count, 1);
    }
    hak_count(t, refill_list_count, 1);
    return n;
}

/* What time demands at a slow-path event: purges, sweeps, idle classes, requests. The thread holds
 * no lock and no claim. */
static void turn(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    hak_tick(h, 0);
    uint32_t epoch = hak_load_relaxed(&h->epoch_count),
             collected = hak_load_relaxed(&h->collected_epoch);
    /* who wins empties the mailboxes and gives back empty slabs, once an epoch; nothing is
     * published by it */
    if (hak_unlikely(epoch != collected) &&
        hak_cas_acq_rel(&h->collected_epoch, &collected, epoch)) {
        hak_acquire_collect(t);
        hak_acquire_flush_empty(t);
    }
    if (hak_load_relaxed(&h->sweep_unit) && !hak_background_serves(h)) {
        const hak_retain_policy *retain = &hak_policy_of(h)->retain;
        hak_sweep(t, hak_number(retain->sweep_unit_count), hak_number(retain->sweep_event_ns),
                  true);
    }
    hak_caps_idle_look(t);
    hak_waiting_look(t);
    hak_request_look(t);
}

/* Brings blocks of a class into the thread's cache: the free lists of up to refill_slabs slabs, or
 * a carved range, of `least` blocks if the slab has as many. False: out of memory. It holds one
 * claim at a time, because a thread that waits for a claim must hold none. */
bool hak_refill(hak_thread *t, uint32_t class_index, uint32_t least) {
    hak_heap *h = hak_heap_of(t);
    hak_bin *bin = &t->bins[class_index];
    const hak_cache_class *cache = hak_cache_of(t, class_index);
    hak_fork_look();
    hak_assert(is_inside(t) && bin->bump == bin->bump_end);
    hak_policy_look(h);
    hak_row_look(t, class_index);
    hak_count(t, refill_count, 1);
    bin->event_count++;
    uint32_t raise = hak_cap_refill_raise(t, class_index);
    bin->free_only_count = 0;
    bin->swing |= HAK_SWING_REFILLED;
    t->free_only_bytes = 0;
    if (hak_unlikely(!bin->cap_count)) hak_cap_restore(t, class_index);
    turn(t);
    uint32_t got = 0, unit = hak_acquire(t, class_index);
    for (uint32_t slabs = 1; unit; slabs++) {
        hak_slab *slab = hak_slab_at(h, unit);
        if (hak_free_is_empty(slab) && slab->flags & HAK_SLAB_HOLES) hak_holes_restore(t, unit);
        bool listed = hak_free_is_nonempty(slab);
        got += listed ? take(t, class_index, unit, raise) : carve(t, class_index, unit, least);
        if (!listed || got >= cache->batch_count || slabs >= cache->refill_slabs ||
            hak_bin_length(t, class_index) >= hak_cap_limit(t, class_index)) {
            hak_claim_release(slab);
            if (bin->hot != unit) hak_bin_forget_hot(t, class_index);
            bin->hot = unit;
            break;
        }
        hak_slab_let_go(t, unit);
        unit = hak_acquire_partial(t, class_index);
    }
    hak_assert(hak_bin_is_whole(t, class_index));
    hak_event(t, HAK_EVENT_REFILL, class_index, bin->hot, got);
    HAK_PROBE("refill", t->index, class_index, bin->hot, got);
    hak_count(t, refill_block_count, got);
    t->held_bytes += (int64_t)(got * bin->stride_bytes);
    return got != 0;
}

static bool may_lend(hak_thread *t, uint32_t k) {
    const hak_cache_policy *caches = &hak_policy_of(hak_heap_of(t))->caches;
    return hak_bin_cached_count(t, k) > hak_cache_of(t, k)->lend_keep_count &&
           t->bins[k].lend_carve_count < hak_number(caches->lend_carve_count) &&
           hak_class_is_plain(hak_heap_of(t), k);
}

/* Whether free blocks of the class wait where a refill will find them. */
static bool has_waiting(hak_heap *h, uint32_t class_index) {
    return (uint32_t)hak_load_relaxed(&h->mailbox[class_index]) ||
           hak_partial_find(h, class_index, 1);
}

/* The same as hak_lend for a big class: the next larger class that has a free block in a slab, from
 * where a refill brings it. What the cache has stays, or this class would never get a list. */
static uint32_t lend_big(hak_thread *t, uint32_t class_index) {
    hak_heap *h = hak_heap_of(t);
    uint32_t k = class_index + 1, end = k + hak_cache_of(t, class_index)->lend_count;
    if (!hak_class_is_plain(h, class_index) || has_waiting(h, class_index)) return 0;
    for (; k < end; k++) {
        if (t->bins[k].bump != t->bins[k].bump_end || !hak_partial_find(h, k, 1) ||
            !hak_refill(t, k, 0))
            continue;
        hak_count(t, lend_count, 1);
        t->bins[class_index].event_count++;
        return k;
    }
    return 0;
}

/* Finds the class that lends a block to a class, which has nothing cached: the next one whose list
 * can spare a block. 0: no class can, or free blocks of that class wait where a refill will find
 * them. The search takes no claim; what it overlooks costs a loan. */
uint32_t hak_lend(hak_thread *t, uint32_t class_index) {
    if (hak_class_is_big(t, class_index)) return lend_big(t, class_index);
    uint32_t k = class_index + 1, end = k + hak_cache_of(t, class_index)->lend_count;
    while (k < end && !may_lend(t, k)) k++;
    if (k == end || has_waiting(hak_heap_of(t), class_index)) return 0;
    hak_count(t, lend_count, 1);
    t->bins[class_index].event_count++;
    t->bins[k].lent = 1;
    return k;
}

/* Finds a class that lends a block where the OS refuses memory: the next larger one, aligned to
 * `align` bytes, that has a free block at all, in the thread's cache or in a slab. Else blocks
 * between live ones would serve no other class, and a program that gave back half of what it has
 * would get nothing. */
HAK_COLD uint32_t hak_lend_last(hak_thread *t, uint32_t class_index, uint64_t align) {
    hak_heap *h = hak_heap_of(t);
    for (uint32_t k = class_index + 1; k <= hak_policy_of(h)->sizes.class_count; k++) {
        const hak_class *class = hak_class_of(t, k);
        if ((class->stride_bytes | class->start_bytes) & (align - 1)) continue;
        bool cached = hak_bin_first(t, k) || t->bins[k].bump != t->bins[k].bump_end;
        if (!cached && (!has_waiting(h, k) || !hak_refill(t, k, 0))) continue;
        hak_count(t, lend_count, 1);
        return k;
    }
    return 0;
}

/* Whether a thread that never asked for a block frees one that shares its cache line. The block is
 * another thread's, and its neighbours may be too. If it were cached, malloc would give it to this
 * thread again and again (Berger et al., Hoard, 2000: passive false sharing). */
bool hak_is_line_of_others(const hak_thread *t, uint32_t class_index) {
    return !(t->refill_count | t->overflow_count) &&
           t->bins[class_index].stride_bytes < HAK_CACHE_LINE_BYTES;
}

/* A block of a big class went back to its slab, which is searched for holes at once if the thread
 * only frees. */
static void sweep_behind(hak_thread *t, uint64_t block) {
    hak_heap *h = hak_heap_of(t);
    uint32_t unit = hak_head_of(h, block);
    if (t->free_only_bytes >= hak_number(hak_policy_of(h)->caches.free_only_bytes))
        hak_sweep_one(t, unit);
}

/* A free that found the list full: the cap rises, or a batch goes back to its slabs; then the
 * block comes in. */
void hak_overflow(hak_thread *t, uint32_t class_index, uint64_t block) {
    hak_fork_look();
    hak_bin *bin = &t->bins[class_index];
    const hak_cache_class *cache = hak_cache_of(t, class_index);
    uint32_t have = hak_bin_length(t, class_index),
             n = cache->batch_count < have ? cache->batch_count : have;
    hak_assert(is_inside(t) && hak_bin_is_whole(t, class_index));
    bool big = hak_class_is_big(t, class_index), drop;
    bool raised = (have || big) && hak_cap_overflow_raises(t, class_index);
    uint64_t first = have ? t->heads[class_index] : block;
    if (raised) n = 0;
    hak_count(t, overflow_count, 1);
    hak_event(t, HAK_EVENT_OVERFLOW, class_index, (uint32_t)((block - t->base) >> HAK_UNIT_SHIFT),
              n);
    HAK_PROBE("overflow", t->index, class_index, block, n);
    bin->event_count++;
    if (raised) {
        hak_bin_push(t, class_index, block);
        return; /* the refill before this call did what time demands */
    }
    if (!have) { /* the policy caches nothing of this class, or the thread has freed its own */
        hak_chain one = {block, block, block, hak_head_of(hak_heap_of(t), block), 1};
        hak_slab_return(t, &one, HAK_CHECKED_AT_FREE, hak_list_count(t, class_index));
        t->held_bytes -= (int64_t)bin->stride_bytes;
        if (t->held_bytes < 0) hak_cap_restore(t, class_index);
        /* of a big class too, which has none yet */
        drop = (big || t->cap_bytes) && hak_cap_free_only(t, class_index, 1);
    } else {
        hak_bin_flush(t, class_index, n);
        hak_cap_give_way(t, class_index, n);
        hak_bin_push(t, class_index, block);
        drop = hak_cap_free_only(t, class_index, n);
    }
    if (drop) {
        hak_cache_flush(t, 0);
        hak_caps_drop(t);
    }
    if (big) sweep_behind(t, first);
    turn(t);
}

/* Whether a free by record 0 is one of the first of a thread that has no record yet, and not one of
 * a thread for which there is none left. What record 0 cached of such frees nobody would ask for.
 */
bool hak_frees_home(hak_thread *t) {
    const hak_heap *h = hak_heap_of(t);
    return !t->index && hak_load_relaxed(&h->thread_top) < h->thread_limit;
}

/* A free that goes to the block's slab, past the caches. */
void hak_free_home(hak_thread *t, uint32_t class_index, uint64_t block) {
    hak_chain one = {block, block, block, hak_head_of(hak_heap_of(t), block), 1};
    hak_slab_return(t, &one, HAK_CHECKED_AT_FREE, hak_list_count(t, class_index));
}

/* Gives back everything that the thread caches of blocks larger than `above` bytes: lists, carved
 * ranges, hints; and the spans that wait. Caps stay. */
void hak_cache_flush(hak_thread *t, uint64_t above) {
    hak_heap *h = hak_heap_of(t);
    hak_waiting_flush(t);
    for (uint32_t class_index = 1; class_index <= hak_policy_of(h)->sizes.class_count;
         class_index++) {
        hak_bin *bin = &t->bins[class_index];
        if (bin->stride_bytes <= above) continue;
        /* the range first: the list may hold blocks that were carved behind it */
        if (bin->bump != bin->bump_end) hak_bin_return_range(t, class_index);
        hak_bin_list_magazine(t, class_index);
        if (hak_bin_length(t, class_index))
            hak_bin_flush(t, class_index, hak_bin_length(t, class_index));
        hak_bin_forget_hot(t, class_index);
        hak_assert(!hak_bin_first(t, class_index) && !hak_bin_cached_count(t, class_index) &&
                   bin->bump == bin->bump_end);
    }
}

/* What the thread's lists and carved ranges hold. */
uint64_t hak_cache_bytes(hak_thread *t) {
    uint64_t sum = 0;
    for (uint32_t class_index = 1; class_index <= hak_policy_of(hak_heap_of(t))->sizes.class_count;
         class_index++)
        sum += (uint64_t)hak_bin_cached_count(t, class_index) * t->bins[class_index].stride_bytes +
               t->bins[class_index].bump_end - t->bins[class_index].bump;
    return sum;
}

/* Fills each class up to its prewarm count. A carved range counts as filled: malloc takes from it
 * as fast as from the list, and its OS pages stay untouched. */
void hak_cache_prewarm(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    for (uint32_t class_index = 1; class_index <= hak_policy_of(h)->sizes.class_count;
         class_index++) {
        uint32_t want = hak_cache_of(t, class_index)->prewarm_count,
                 limit = hak_cap_limit(t, class_index), have;
        hak_bin *bin = &t->bins[class_index];
        if (want > limit) want = limit;
        if (want > bin->cap_count) hak_cap_resize(t, class_index, want);
        while ((have = hak_bin_cached_count(t, class_index) + hak_bin_range_length(bin)) < want) {
            hak_bin_list_range(t, class_index);
            if (!hak_refill(t, class_index, want - have)) return;
        }
    }
}
