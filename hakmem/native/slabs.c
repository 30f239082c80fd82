/* slabs.c: a slab's life: made from units, given blocks back, drained, settled, retired; and the
 * list of empty slabs that are kept ready.
 *
 * Everything here but the remote push runs under the slab's claim. A slab with blocks to give must
 * be reachable, or it is lost: in its class's partial set, by some thread's `hot` hint, or in a
 * mailbox. Whoever lets go of a slab (hak_slab_settle) sees to that. Claim first, then drain:
 * nobody but the claimer moves a remote list.
 */
#include "events.h"
#include "lists.h"
#include "marks.h"

/* a mistake on purpose, in no shipped build: the stress driver must find it */
#ifdef HAK_BUG_DRAIN_BEFORE_CLAIM
#define drain_before_claim(t, slab) \
    hak_slab_drain((t), (uint32_t)((slab) - hak_slab_at(hak_heap_of(t), 0)))
#else
#define drain_before_claim(t, slab) ((void)0)
#endif

/* Tries for the claim, as often as the policy says. */
bool hak_slab_claim(hak_thread *t, hak_slab *slab) {
    const hak_acquire_policy *policy = &hak_policy_of(hak_heap_of(t))->acquire;
    drain_before_claim(t, slab);
    for (uint32_t n = 0; n < hak_number(policy->retry_count); n++) {
        hak_count(t, cas_try_count, 1);
        if (hak_claim_try(slab)) return true;
        hak_count(t, cas_retry_count, 1);
        hak_backoff(n, hak_number(policy->backoff_spins));
    }
    hak_event(t, HAK_EVENT_CLAIM_FAILED, slab->class_index,
              (uint32_t)(slab - hak_slab_at(hak_heap_of(t), 0)), hak_number(policy->retry_count));
    hak_count(t, claim_fail_count, 1);
    return false;
}

/* Makes a slab of the units from `unit` on, which nobody but the caller holds, and claims it.
 * False: a thread with a stale hint has claimed it, for a moment, or for as long as it is kept from
 * running; nobody waits for that. */
bool hak_slab_make(hak_thread *t, uint32_t class_index, uint32_t unit, bool fresh) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    uint32_t units = hak_policy_of(h)->sizes.classes[class_index].unit_count;
    if (!hak_slab_claim(t, slab)) return false;
    hak_assert(class_index && class_index <= hak_policy_of(h)->sizes.class_count);
    hak_assert(hak_units_are_arena(h, unit, units) && slab->kind == HAK_KIND_NONE);
    hak_assert(hak_entries_are(h, unit, units, HAK_TAG_NONE));
    hak_lists_reset(slab);
    if (hak_unlikely(hak_load_relaxed(&slab->mailed))) hak_mail_leave(t, unit);
    hak_store_relaxed(&slab->class_index, (uint8_t)class_index);
    hak_store_relaxed(&slab->unit_count, units);
    slab->flags = fresh ? HAK_SLAB_FRESH : 0;
    hak_store_relaxed(&slab->last_sweep, 0);
    hak_store_relaxed(&slab->sampled_mask, 0);
    hak_entry_fill(h, unit, units, hak_entry(class_index, unit));
    hak_store_relaxed(&slab->kind, HAK_KIND_SLAB);
    hak_event(t, HAK_EVENT_SLAB_MADE, class_index, unit, units);
    HAK_PROBE("slab_made", t->index, class_index, unit, units);
    hak_count(t, slab_new_count, 1);
    return true;
}

/* Moves the remote list into the free list. Needs the claim. */
HAK_COLD void hak_slab_drain(hak_thread *t, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    uint64_t base = (uintptr_t)hak_unit_address(h, unit), word;
    hak_assert(hak_claim_is_mine(slab));
    if (!hak_remote_is_nonempty(slab)) return;
    hak_count(t, cas_try_count, 1);
    while (!hak_remote_take_all(slab, &word)) {
        hak_count(t, cas_try_count, 1);
        hak_count(t, cas_retry_count, 1);
    }
    uint32_t count = hak_word_count(word);
    uint64_t first = hak_word_first(base, word), last = first;
    for (uint32_t i = 1; i < count; i++) last = hak_next(last);
    hak_free_push_chain(slab, base, first, last, count);
    hak_used_sub(slab, count);
    hak_event(t, HAK_EVENT_DRAIN, slab->class_index, unit, count);
    hak_count(t, drain_count, 1);
    hak_count(t, drain_block_count, count);
}

/* Empty slabs are kept ready for any class whose slabs are as long, outside the run heap: a list
 * for each length, whose word is unit | count << 32 | tag << 40. A pop reads the link of a slab
 * that another thread may pop meanwhile; then its CAS fails, because the tag (24 bits) moves at
 * each change. */
static uint64_t *empty_list(hak_heap *h, uint32_t units) {
    return units == 1 ? &h->empty_word : &h->longer_word[units - 2];
}

static uint32_t empty_count(uint64_t word) { return (word >> 32) & 0xff; }

/* Whether one more may be kept. Others may push at the same time: the bound on units of longer
 * slabs is off by as many slabs as threads at most. */
static bool may_keep(hak_heap *h, uint32_t units, uint64_t word) {
    const hak_acquire_policy *policy = &hak_policy_of(h)->acquire;
    if (units == 1) return empty_count(word) < hak_number(policy->empty_keep_count);
    uint32_t sum = units;
    for (uint32_t n = 2; n <= HAK_SLAB_UNITS_MAX; n++)
        sum += n * empty_count(hak_load_relaxed(empty_list(h, n)));
    return sum <= hak_number(policy->empty_keep_units) && hak_purge_spares(h, sum);
}

static bool empty_push(hak_thread *t, uint32_t unit, uint32_t units) {
    hak_heap *h = hak_heap_of(t);
    uint64_t *list = empty_list(h, units), word = hak_load_relaxed(list);
    do {
        if (!may_keep(h, units, word)) return false;
        hak_store_relaxed(&hak_slab_at(h, unit)->next, (uint32_t)word);
        hak_count(t, cas_try_count, 1);
        /* partner: hak_empty_pop, which reads the link */
    } while (!hak_cas_acq_rel(
        list, &word, unit | (uint64_t)(empty_count(word) + 1) << 32 | ((word >> 40) + 1) << 40));
    return true;
}

uint32_t hak_empty_pop(hak_thread *t, uint32_t units) {
    hak_heap *h = hak_heap_of(t);
    uint64_t *list = empty_list(h, units), word = hak_load_acquire(list);
    while ((uint32_t)word) {
        uint64_t next = hak_load_relaxed(&hak_slab_at(h, (uint32_t)word)->next);
        hak_count(t, cas_try_count, 1);
        if (hak_cas_acq_rel(list, &word,
                            next | (uint64_t)(empty_count(word) - 1) << 32 |
                                ((word >> 40) + 1) << 40))
            break;
        hak_count(t, cas_retry_count, 1);
    }
    return (uint32_t)word;
}

/* Forgets the holes of a slab that retires: they are OS pages of free units now. Needs the
 * claim. */
static void forget_holes(hak_heap *h, uint32_t unit, uint32_t units) {
    hak_assert(hak_claim_is_mine(hak_slab_at(h, unit)));
    uint64_t pages = 0;
    for (uint32_t i = 0; i < units; i++) {
        uint16_t *holes = hak_holes_of(h, unit + i);
        pages += (uint64_t)__builtin_popcount(hak_load_relaxed(holes));
        hak_store_relaxed(holes, 0);
    }
    hak_add_relaxed(&h->hole_now_pages, -pages);
}

/* Gives the units of an empty slab back. Releases the claim before it takes run_lock. */
void hak_slab_retire(hak_thread *t, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    uint32_t units = slab->unit_count;
    hak_assert(hak_claim_is_mine(slab) && slab->kind == HAK_KIND_SLAB);
    hak_assert(hak_used_load(slab) == 0 && !hak_remote_is_nonempty(slab));
    hak_assert(hak_units_are_slab(h, unit, units, slab->class_index));
    hak_partial_remove(h, unit);
    if (slab->flags & HAK_SLAB_HOLES) forget_holes(h, unit, units);
    hak_lists_reset(slab);
    hak_entry_fill(h, unit, units, HAK_TAG_NONE);
    hak_store_relaxed(&slab->kind, HAK_KIND_NONE);
    hak_claim_release(slab);
    hak_event(t, HAK_EVENT_SLAB_RETIRED, slab->class_index, unit, units);
    HAK_PROBE("slab_retired", t->index, slab->class_index, unit, units);
    hak_count(t, slab_retire_count, 1);
    if (empty_push(t, unit, units)) return;
    hak_run_free(h, unit, units, true);
    /* where memory is to go back to the OS, what waited before goes too */
    if (units > 1 && !hak_purge_spares(h, units) && (unit = hak_empty_pop(t, units)) != 0)
        hak_run_free(h, unit, units, true);
}

/* Lets go of a claimed slab: retires it if it is empty; else lists it if at least `list_count`
 * blocks are free. */
HAK_COLD void hak_slab_settle(hak_thread *t, uint32_t unit, uint32_t list_count) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    hak_assert(hak_claim_is_mine(slab));
    hak_assert(slab->kind == HAK_KIND_SLAB || slab->kind == HAK_KIND_LOST);
    /* a slab that was lost in a fork takes blocks back and gives none */
    if (hak_unlikely(slab->kind != HAK_KIND_SLAB)) {
        hak_claim_release(slab);
        return;
    }
    if (hak_used_load(slab) == 0) {
        hak_slab_retire(t, unit);
        return;
    }
    if (hak_free_count(slab) >= list_count) hak_partial_insert(h, unit);
    hak_claim_release(slab);
}

/* Lets go of a claimed slab that no hint will lead to: it is listed if it has anything to give. */
void hak_slab_let_go(hak_thread *t, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    bool room = slab->flags & HAK_SLAB_HOLES ||
                slab->carved_count < hak_policy_of(h)->sizes.classes[slab->class_index].block_count;
    hak_slab_settle(t, unit, room ? 0 : 1);
}

/* Returns a chain while another thread holds the claim: the chain goes on the remote list, the
 * slab into its class's mailbox. */
HAK_COLD static void return_remote(hak_thread *t, uint32_t unit, uint64_t first, uint64_t last,
                                   uint32_t count) {
    hak_heap *h = hak_heap_of(t);
    const hak_acquire_policy *policy = &hak_policy_of(h)->acquire;
    hak_slab *slab = hak_slab_at(h, unit);
    uint64_t base = (uintptr_t)hak_unit_address(h, unit);
    hak_count(t, cas_try_count, 2);
    hak_count(t, cas_retry_count, 1);
    hak_count(t, claim_fail_count, 1);
    hak_event(t, HAK_EVENT_REMOTE, slab->class_index, unit, count);
    hak_count(t, remote_chain_count, 1);
    hak_count(t, remote_block_count, count);
    for (uint32_t n = 0; !hak_remote_push_chain(slab, base, first, last, count); n++) {
        hak_count(t, cas_try_count, 1);
        hak_count(t, cas_retry_count, 1);
        hak_backoff(n, hak_number(policy->backoff_spins)); /* each loss is another's success */
    }
    hak_mail(t, unit);
}

/* Reports the free of a block that was never carved. malloc's free does not ask; the chain's
 * return does, where the record is at hand. A block that is out always lies below the carved
 * count, since the count falls only over blocks of a carved range. */
HAK_COLD __attribute__((noreturn)) static void uncarved(hak_thread *t, const hak_chain *chain) {
    hak_heap *h = hak_heap_of(t);
    uint32_t class_index = hak_slab_at(h, chain->unit)->class_index,
             carved = hak_load_relaxed(&hak_slab_at(h, chain->unit)->carved_count);
    uint64_t inside = chain->highest - (uintptr_t)hak_unit_address(h, chain->unit);
    hak_fault fault = {
        .code = HAK_FAULT_UNCARVED,
        .unit = chain->unit,
        .address = chain->highest,
        .block = chain->highest,
        .class_index = class_index,
        .expected = carved,
        .found = (uint32_t)(inside / hak_policy_of(h)->sizes.classes[class_index].stride_bytes),
        .heap = (uintptr_t)h};
    hak_fault_fatal(h, &fault, "an earlier free");
}

/* Gives a chain of blocks of one slab back to it; any thread may. `list_count` is the class's;
 * `stride` is the class's or HAK_CHECKED_AT_FREE. */
void hak_slab_return(hak_thread *t, const hak_chain *chain, uint64_t stride, uint32_t list_count) {
    hak_heap *h = hak_heap_of(t);
    uint32_t unit = chain->unit, count = chain->count;
    hak_slab *slab = hak_slab_at(h, unit);
    uint64_t base = (uintptr_t)hak_unit_address(h, unit);
    /* blocks that are out keep their slab: the record cannot become another slab's */
    hak_assert(count && (slab->kind == HAK_KIND_SLAB || slab->kind == HAK_KIND_LOST));
    hak_assert(hak_units_are_slab(h, unit, slab->unit_count, slab->class_index));
    if (hak_unlikely(chain->highest - base >= hak_load_relaxed(&slab->carved_count) * stride))
        uncarved(t, chain);
    if (hak_unlikely(!hak_claim_try(slab))) {
        return_remote(t, unit, chain->first, chain->last, count);
        return;
    }
    hak_free_push_chain(slab, base, chain->first, chain->last, count);
    hak_used_sub(slab, count);
    hak_count(t, return_chain_count, 1);
    hak_count(t, return_block_count, count);
    if (hak_unlikely(hak_remote_is_nonempty(slab))) hak_slab_drain(t, unit);
    bool stays = hak_free_count(slab) < list_count || slab->flags & HAK_SLAB_LISTED;
    if (hak_likely(stays && hak_used_load(slab) != 0)) hak_claim_release(slab);
    else hak_slab_settle(t, unit, list_count);
}
