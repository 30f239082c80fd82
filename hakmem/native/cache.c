/* cache.c: a thread's caches: refilled from slabs, overflowing to slabs, bounded by the policy.
 *
 * Only the owner thread comes here with `t`. Blocks in a bin's list and in its carved range [bump,
 * bump_end) count as used in their slab. Invariant: room_counts[c] = cap_count - blocks of the
 * list; cap_bytes = sum of the caps in bytes.
 */
#include "hak_internal.h"
#include "lists.h"

static const hak_class *class_of(hak_thread *t, uint32_t c) {
    return &hak_policy_of(hak_heap_of(t))->sizes.classes[c];
}
static const hak_cache_class *cache_of(hak_thread *t, uint32_t c) {
    return &hak_policy_of(hak_heap_of(t))->caches.classes[c];
}

static void set_cap(hak_thread *t, uint32_t c, uint32_t cap) {
    hak_bin *bin = &t->bins[c];
    int64_t more = (int64_t)cap - bin->cap_count;
    t->cap_bytes += (uint64_t)(more * class_of(t, c)->stride_bytes);
    t->room_counts[c] += more;
    hak_store_relaxed(&bin->cap_count, cap);
}

/* How far the cap of class c may rise now. */
static uint32_t cap_limit(hak_thread *t, uint32_t c) {
    uint64_t bound = hak_policy_of(hak_heap_of(t))->caches.thread_bytes, cap = t->bins[c].cap_count;
    uint64_t spare = bound > t->cap_bytes ? (bound - t->cap_bytes) / class_of(t, c)->stride_bytes
                                          : 0;
    uint64_t most = cap + spare;
    return (uint32_t)(most < cache_of(t, c)->cap_max_count ? most : cache_of(t, c)->cap_max_count);
}

void hak_cache_init(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    const hak_policy *policy = hak_policy_of(h);
    bool guarded = h->flags & HAK_HEAP_CHECKED;
    for (uint32_t c = 1; c <= policy->sizes.class_count; c++) {
        bool plain = !guarded && !policy->sizes.classes[c].header;
        uint32_t most = cap_limit(t, c), init = policy->caches.classes[c].cap_init_count;
        t->reciprocals[c] = plain ? policy->sizes.classes[c].reciprocal : 0;
        t->bins[c].stride_bytes = policy->sizes.classes[c].stride_bytes;
        set_cap(t, c, init < most ? init : most);
    }
    t->first_cap_bytes = t->cap_bytes;
}

/* Takes the first `n` blocks off the list of class c and gives them to their slabs, blocks of one
 * slab together. The head is past a block before its link changes: who is cut off by a fork leaves
 * the rest of his list whole. */
static void flush_list(hak_thread *t, uint32_t c, uint32_t n) {
    hak_heap *h = hak_heap_of(t);
    hak_bin *bin = &t->bins[c];
    hak_chain group[HAK_RETURN_GROUPS];
    for (uint32_t g = 0; g < HAK_RETURN_GROUPS; g++) group[g].count = 0;
    uint32_t list_count = cache_of(t, c)->list_count;
    uint64_t block = t->heads[c],
             stride = t->reciprocals[c] ? bin->stride_bytes : HAK_CHECKED_AT_FREE;
    uint32_t was_busy = hak_load_relaxed(&t->busy); /* others try for record 0's */
    /* for a fork's child: what the count has more than the list is on its way */
    hak_store_relaxed(&t->busy, c + 1);
    hak_keep_order();
    /* the chain of the block before, whose last is that block: linked to this one already */
    hak_chain *g = NULL;
    for (uint32_t left = n; left; left--) {
        uint64_t next = hak_next(block);
        if (!g || (block ^ g->last) >> HAK_UNIT_SHIFT) {
            uint32_t unit =
                hak_entry_get(h, (uint32_t)((block - (uintptr_t)h) >> HAK_UNIT_SHIFT)) >> 8;
            t->heads[c] = block;
            hak_keep_order();
            g = &group[unit % HAK_RETURN_GROUPS];
            if (!g->count || g->unit != unit) {
                if (g->count) hak_slab_return(t, g, stride, list_count);
                /* half of a scattered return's time was this miss */
                __builtin_prefetch(hak_slab_at(h, unit), 1);
                *g = (hak_chain){block, block, block, unit, 1};
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
    t->heads[c] = block;
    hak_keep_order();
    for (uint32_t g = 0; g < HAK_RETURN_GROUPS; g++)
        if (group[g].count) hak_slab_return(t, &group[g], stride, list_count);
    t->room_counts[c] += n;
    hak_keep_order();
    hak_store_relaxed(&t->busy, was_busy);
}

static uint32_t list_length(const hak_thread *t, uint32_t c) {
    return (uint32_t)(t->bins[c].cap_count - t->room_counts[c]);
}

/* Halves a cap, not below `floor`, and lets go of what is above it. */
static void shrink(hak_thread *t, uint32_t c, uint32_t floor) {
    hak_bin *bin = &t->bins[c];
    uint32_t half = bin->cap_count / 2, cap = half > floor             ? half
                                              : floor < bin->cap_count ? floor
                                                                       : bin->cap_count;
    set_cap(t, c, cap);
    if (t->room_counts[c] < 0) flush_list(t, c, (uint32_t)-t->room_counts[c]);
    hak_count(t, cache_shrink_count, 1);
}

/* After an overflow of n blocks: a thread that only frees shrinks its caches. */
static void free_only(hak_thread *t, uint32_t c, uint32_t n) {
    const hak_cache_policy *caches = &hak_policy_of(hak_heap_of(t))->caches;
    hak_bin *bin = &t->bins[c];
    uint64_t floor = (uint64_t)cache_of(t, c)->batch_count * caches->free_only_per_256 >> 8;
    t->free_only_bytes += n * bin->stride_bytes;
    if (++bin->free_only_count < caches->free_only_count &&
        t->free_only_bytes < caches->free_only_bytes)
        return;
    bin->free_only_count = 0;
    if (!floor) floor = 1;
    if (bin->cap_count > floor) shrink(t, c, (uint32_t)floor);
}

/* Every idle_events slow-path events: a class that had none of them gives half its blocks back and
 * shrinks. */
static void idle_look(hak_thread *t) {
    const hak_policy *policy = hak_policy_of(hak_heap_of(t));
    if (++t->event_count < policy->caches.idle_events) return;
    t->event_count = 0;
    for (uint32_t c = 1; c <= policy->sizes.class_count; c++) {
        hak_bin *bin = &t->bins[c];
        uint32_t have = list_length(t, c);
        if (bin->event_count == 0 && have) {
            flush_list(t, c, have - have / 2);
            shrink(t, c, cache_of(t, c)->cap_init_count);
        }
        bin->event_count = 0;
        bin->lend_carve_count -= bin->lend_carve_count != 0;
    }
}

/* Under the claim: carves a range of `least` blocks or the class's number into the bin. */
static uint32_t carve(hak_thread *t, uint32_t c, uint32_t unit, uint32_t least) {
    hak_heap *h = hak_heap_of(t);
    const hak_class *class = class_of(t, c);
    const hak_cache_class *cache = cache_of(t, c);
    hak_slab *slab = hak_slab_at(h, unit);
    hak_bin *bin = &t->bins[c];
    uint32_t most = cache->cap_max_count ? cache->cap_max_count : 1,
             n = class->block_count - slab->carved_count;
    uint32_t wish = least > cache->carve_count ? least : cache->carve_count;
    if (n > wish) n = wish;
    if (n > most) n = most;
    uint64_t base = (uintptr_t)hak_unit_address(h, unit) + class->start_bytes;
    bin->bump = base + (uint64_t)slab->carved_count * class->stride_bytes;
    bin->bump_end = bin->bump + (uint64_t)n * class->stride_bytes;
    bin->fresh = slab->flags & HAK_SLAB_FRESH;
    if (class->header) {
        uint8_t freed = hak_policy_of(h)->headers.freed[c];
        for (uint64_t user = bin->bump; user < bin->bump_end; user += class->stride_bytes)
            hak_store_relaxed((uint8_t *)(uintptr_t)(user - 1), freed);
    }
    hak_store_relaxed(&slab->carved_count, slab->carved_count + n);
    hak_used_add(slab, n);
    hak_count(t, refill_carve_count, 1);
    if (bin->lent && ++bin->lend_carve_count >= hak_policy_of(h)->caches.lend_carve_count)
        bin->lend_carve_count = UINT8_MAX;
    bin->lent = 0;
    return n;
}

/* Under the claim: takes the slab's free list, whole if the cap can be raised to it, else as many
 * as fit. The cap gains `raise` at least. */
static uint32_t take(hak_thread *t, uint32_t c, uint32_t unit, uint32_t raise) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    hak_bin *bin = &t->bins[c];
    uint64_t base = (uintptr_t)hak_unit_address(h, unit), first, last;
    uint32_t have = list_length(t, c), limit = cap_limit(t, c), n = hak_free_count(slab);
    uint32_t most = limit > have ? limit - have : 1;
    if (n <= most) {
        first = hak_word_first(base, hak_free_take_all(slab));
        if (t->heads[c]) {
            for (last = first; hak_next(last);) last = hak_next(last);
            hak_set_next(last, t->heads[c]);
        }
    } else {
        n = most < cache_of(t, c)->batch_count ? most : cache_of(t, c)->batch_count;
        first = hak_free_pop_chain(slab, base, n, &last);
        hak_set_next(last, t->heads[c]);
    }
    hak_keep_order(); /* as in hak_fast_free */
    t->heads[c] = first;
    t->room_counts[c] -= n;
    hak_used_add(slab, n);
    uint32_t wish = bin->cap_count + raise > have + n ? bin->cap_count + raise : have + n,
             cap = wish < limit ? wish : limit;
    if (cap > bin->cap_count) {
        set_cap(t, c, cap);
        hak_count(t, cap_raise_count, 1);
    }
    hak_count(t, refill_list_count, 1);
    return n;
}

/* Drops the hint of class c; the slab behind it stays reachable. No claim may be held. */
static void forget_hot(hak_thread *t, uint32_t c) {
    uint32_t unit = t->bins[c].hot;
    if (!unit) return;
    hak_slab *slab = hak_slab_at(hak_heap_of(t), unit);
    t->bins[c].hot = 0;
    if (hak_load_relaxed(&slab->kind) != HAK_KIND_SLAB) return;
    if (!hak_slab_claim(t, slab)) hak_mail(t, unit);
    else if (hak_load_relaxed(&slab->kind) == HAK_KIND_SLAB) hak_slab_let_go(t, unit);
    else hak_claim_release(slab);
}

/* What the clock brings at a slow-path event, when the thread holds nothing. */
static void turn(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    hak_tick(h, 0);
    if (hak_load_relaxed(&h->sweep_unit) && !hak_background_serves(h)) {
        const hak_retain_policy *retain = &hak_policy_of(h)->retain;
        hak_sweep(t, retain->sweep_unit_count, retain->sweep_event_ns, true);
    }
    idle_look(t);
    hak_request_look(t);
}

/* What the cap of a list that swings between both its ends gains: a part of itself, so that it is
 * wide enough after a few swings, not after hundreds, as far as this thread's share of what all
 * caps may gain reaches. */
static uint32_t swing_raise(hak_thread *t, uint32_t c) {
    hak_heap *h = hak_heap_of(t);
    const hak_cache_class *cache = cache_of(t, c);
    uint32_t part = (uint32_t)((uint64_t)t->bins[c].cap_count * cache->raise_per_256 >> 8),
             threads = hak_load_relaxed(&h->thread_live);
    uint64_t all =
        (hak_live_units(h) << HAK_UNIT_SHIFT) * hak_policy_of(h)->caches.raise_live_per_256 >> 8;
    uint64_t bound = t->first_cap_bytes + all / (threads ? threads : 1);
    uint64_t spare = bound > t->cap_bytes ? (bound - t->cap_bytes) / t->bins[c].stride_bytes : 0;
    if (!cache->raise_per_256) return 0;
    if (part < cache->batch_count) part = cache->batch_count;
    return part < spare ? part : (uint32_t)spare;
}

/* What a refill adds to the cap. */
static uint32_t refill_raise(hak_thread *t, uint32_t c) {
    uint32_t raise = t->bins[c].free_only_count ? swing_raise(t, c) : 0;
    return raise ? raise : 1;
}

/* An overflow after a refill: the list gets the room it lacks. False: it has had what it may
 * have. */
static bool overflow_raises(hak_thread *t, uint32_t c) {
    hak_bin *bin = &t->bins[c];
    if (!bin->refilled) return false;
    bin->refilled = 0;
    uint64_t cap = (uint64_t)bin->cap_count + swing_raise(t, c), limit = cap_limit(t, c);
    if (cap > limit) cap = limit;
    if (cap <= bin->cap_count) return false;
    set_cap(t, c, (uint32_t)cap);
    bin->free_only_count++;
    hak_count(t, cap_raise_count, 1);
    return true;
}

/* Brings blocks of class c into the thread's cache: lists of up to refill_slabs slabs, or a carved
 * range, of `least` blocks if the slab has them. False: out of memory. One claim at a time: a
 * thread that waits for a claim holds none. */
bool hak_refill(hak_thread *t, uint32_t c, uint32_t least) {
    hak_heap *h = hak_heap_of(t);
    hak_bin *bin = &t->bins[c];
    const hak_cache_class *cache = cache_of(t, c);
    hak_fork_look();
    hak_count(t, refill_count, 1);
    bin->event_count++;
    uint32_t raise = refill_raise(t, c);
    bin->free_only_count = 0;
    bin->refilled = 1;
    t->free_only_bytes = 0;
    turn(t);
    /* not inside the shared record: pthread_create allocates */
    if (t->index) hak_background_look(h);
    uint32_t got = 0, unit = hak_acquire(t, c);
    for (uint32_t slabs = 1; unit; slabs++) {
        hak_slab *slab = hak_slab_at(h, unit);
        if (hak_free_is_empty(slab) && slab->flags & HAK_SLAB_HOLES) hak_holes_restore(t, unit);
        bool listed = hak_free_is_nonempty(slab);
        got += listed ? take(t, c, unit, raise) : carve(t, c, unit, least);
        if (!listed || got >= cache->batch_count || slabs >= cache->refill_slabs ||
            list_length(t, c) >= cap_limit(t, c)) {
            hak_claim_release(slab);
            if (bin->hot != unit) forget_hot(t, c);
            bin->hot = unit;
            break;
        }
        hak_slab_let_go(t, unit);
        unit = hak_acquire_partial(t, c);
    }
    hak_event(t, HAK_EVENT_REFILL, c, bin->hot, got);
    hak_count(t, refill_block_count, got);
    return got != 0;
}

static bool may_lend(hak_thread *t, uint32_t k) {
    const hak_cache_policy *caches = &hak_policy_of(hak_heap_of(t))->caches;
    return list_length(t, k) > caches->classes[k].lend_keep_count &&
           t->bins[k].lend_carve_count < caches->lend_carve_count && t->reciprocals[k];
}

/* The class that lends a block to class c, which has nothing cached: the next whose list can spare
 * one; 0: none, or free blocks of class c wait where a refill finds them. The look takes no claim:
 * what it misses costs a loan. */
uint32_t hak_lend(hak_thread *t, uint32_t c) {
    hak_heap *h = hak_heap_of(t);
    uint32_t k = c + 1, end = k + cache_of(t, c)->lend_count;
    while (k < end && !may_lend(t, k)) k++;
    if (k == end || (uint32_t)hak_load_relaxed(&h->mailbox[c]) || hak_partial_find(h, c, 1))
        return 0;
    hak_count(t, lend_count, 1);
    t->bins[c].event_count++;
    t->bins[k].lent = 1;
    return k;
}

/* Whether a thread that asked for nothing yet frees a block that shares its cache line: the block
 * is another's, and its neighbours may be. Kept, malloc would give it to this thread again and
 * again (Berger et al., Hoard, 2000: passive false sharing). */
bool hak_is_line_of_others(const hak_thread *t, uint32_t c) {
    return !(t->refill_count | t->overflow_count) && t->bins[c].stride_bytes < HAK_CACHE_LINE_BYTES;
}

static void push(hak_thread *t, uint32_t c, uint64_t block) {
    hak_set_next(block, t->heads[c]);
    t->heads[c] = block;
    t->room_counts[c]--;
}

/* A free that found the list full: the cap is raised, or a batch goes back to the slabs; then the
 * block comes in. */
void hak_overflow(hak_thread *t, uint32_t c, uint64_t block) {
    hak_fork_look();
    hak_bin *bin = &t->bins[c];
    const hak_cache_class *cache = cache_of(t, c);
    uint32_t have = list_length(t, c), n = cache->batch_count < have ? cache->batch_count : have;
    bool raised = have && overflow_raises(t, c);
    if (raised) n = 0;
    hak_count(t, overflow_count, 1);
    hak_event(t, HAK_EVENT_OVERFLOW, c, (uint32_t)((block - t->base) >> HAK_UNIT_SHIFT), n);
    bin->event_count++;
    if (raised) {
        push(t, c, block);
        return; /* the refill before it had its turn */
    }
    if (!have) { /* no cache, or past it */
        uint32_t unit = (uint32_t)((block - t->base) >> HAK_UNIT_SHIFT);
        hak_chain one = {block, block, block, hak_entry_get(hak_heap_of(t), unit) >> 8, 1};
        hak_slab_return(t, &one, HAK_CHECKED_AT_FREE, cache->list_count);
    } else {
        flush_list(t, c, n);
        push(t, c, block);
        free_only(t, c, n);
    }
    turn(t);
}

/* Gives the carved range back: uncarved again if nothing was carved behind it, else block by
 * block. */
static void return_range(hak_thread *t, uint32_t c) {
    hak_heap *h = hak_heap_of(t);
    hak_bin *bin = &t->bins[c];
    const hak_class *class = class_of(t, c);
    uint32_t unit = hak_entry_get(h, (uint32_t)((bin->bump - (uintptr_t)h) >> HAK_UNIT_SHIFT)) >> 8;
    uint32_t n = (uint32_t)((bin->bump_end - bin->bump) / class->stride_bytes);
    hak_slab *slab = hak_slab_at(h, unit);
    uint64_t base = (uintptr_t)hak_unit_address(h, unit);
    hak_slab_claim_wait(t, slab);
    if (bin->bump_end ==
        base + class->start_bytes + (uint64_t)slab->carved_count * class->stride_bytes) {
        hak_store_relaxed(&slab->carved_count, slab->carved_count - n);
    } else {
        for (uint64_t at = bin->bump; at < bin->bump_end; at += class->stride_bytes)
            hak_free_push_chain(slab, base, at, at, 1);
    }
    hak_used_sub(slab, n);
    bin->bump = bin->bump_end = 0;
    hak_slab_let_go(t, unit);
}

/* Gives back all the thread holds of blocks larger than `above` bytes: lists, carved ranges, hints.
 * Caps stay. */
void hak_cache_flush(hak_thread *t, uint64_t above) {
    hak_heap *h = hak_heap_of(t);
    for (uint32_t c = 1; c <= hak_policy_of(h)->sizes.class_count; c++) {
        hak_bin *bin = &t->bins[c];
        if (bin->stride_bytes <= above) continue;
        /* first, so that a listed block of the range is above what is carved */
        if (bin->bump != bin->bump_end) return_range(t, c);
        if (list_length(t, c)) flush_list(t, c, list_length(t, c));
        forget_hot(t, c);
    }
}

static uint32_t range_length(const hak_bin *bin) {
    return (uint32_t)((bin->bump_end - bin->bump) / bin->stride_bytes);
}

/* Puts the carved range into the list. */
static void list_range(hak_thread *t, uint32_t c) {
    hak_bin *bin = &t->bins[c];
    while (bin->bump != bin->bump_end) {
        uint64_t block = bin->bump;
        bin->bump += bin->stride_bytes;
        push(t, c, block);
    }
}

/* Fills each class up to its prewarm count, whatever is in it already. A carved range counts: a
 * malloc takes from it as fast as from the list, and its pages stay untouched. */
void hak_cache_prewarm(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    for (uint32_t c = 1; c <= hak_policy_of(h)->sizes.class_count; c++) {
        uint32_t want = cache_of(t, c)->prewarm_count, limit = cap_limit(t, c), have;
        hak_bin *bin = &t->bins[c];
        if (want > limit) want = limit;
        if (want > bin->cap_count) set_cap(t, c, want);
        while ((have = list_length(t, c) + range_length(bin)) < want) {
            list_range(t, c);
            if (!hak_refill(t, c, want - have)) return;
        }
    }
}
