/* acquire.c: where a refill finds a slab, stage by stage in the policy's order.
 *
 * Each stage returns the unit of a slab of the class, or 0. The slab is claimed, in no partial set,
 * and has blocks to take or to carve. Only stage grow takes run_lock. Hints and set bits may be
 * stale: a stage claims, then checks again.
 */
#include "events.h"
#include "lists.h"

static bool has_blocks(hak_heap *h, const hak_slab *slab, uint32_t class_index) {
    return hak_free_is_nonempty(slab) || slab->flags & HAK_SLAB_HOLES ||
           slab->carved_count < hak_policy_of(h)->sizes.classes[class_index].block_count;
}

static bool is_slab_of(const hak_slab *slab, uint32_t class_index) {
    return hak_load_relaxed(&slab->kind) == HAK_KIND_SLAB &&
           hak_load_relaxed(&slab->class_index) == class_index;
}

/* What every stage promises about the slab that it returns. */
HAK_PREDICATE bool is_acquired(hak_heap *h, uint32_t unit, uint32_t class_index) {
    const hak_slab *slab = hak_slab_at(h, unit);
    return hak_claim_is_mine(slab) && is_slab_of(slab, class_index) &&
           !(slab->flags & HAK_SLAB_LISTED) && has_blocks(h, slab, class_index) &&
           hak_units_are_slab(h, unit, slab->unit_count, class_index);
}

/* After a claim: true, and the slab stays claimed, if it serves the class; else it is let go. */
static bool keep_if_useful(hak_thread *t, uint32_t class_index, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    hak_assert(hak_claim_is_mine(slab));
    if (!is_slab_of(slab, class_index)) {
        hak_claim_release(slab);
        return false;
    }
    bool was_empty = hak_free_is_empty(slab);
    hak_slab_drain(t, unit);
    hak_count(t, early_return_count, was_empty && hak_free_is_nonempty(slab));
    hak_partial_remove(h, unit);
    if (has_blocks(h, slab, class_index)) return true;
    hak_claim_release(slab);
    return false;
}

static uint32_t stage_hot(hak_thread *t, uint32_t class_index) {
    hak_bin *bin = &t->bins[class_index];
    uint32_t unit = bin->hot;
    if (!unit) return 0;
    hak_slab *slab = hak_slab_at(hak_heap_of(t), unit);
    bin->hot = 0;
    if (!is_slab_of(slab, class_index)) return 0;
    if (!hak_slab_claim(t, slab)) {
        hak_mail(t, unit); /* the hint is gone, so the mailbox must lead to the slab */
        return 0;
    }
    return keep_if_useful(t, class_index, unit) ? unit : 0;
}

uint32_t hak_acquire_partial(hak_thread *t, uint32_t class_index) {
    hak_heap *h = hak_heap_of(t);
    uint32_t tries = hak_number(hak_policy_of(h)->acquire.retry_count), unit = 0;
    while ((unit = hak_partial_find(h, class_index, unit + 1))) {
        hak_slab *slab = hak_slab_at(h, unit);
        hak_count(t, cas_try_count, 1);
        if (hak_claim_try(slab)) {
            if (keep_if_useful(t, class_index, unit)) return unit;
            continue;
        }
        hak_count(t, cas_retry_count, 1);
        hak_count(t, claim_fail_count, 1);
        if (--tries == 0) {
            hak_count(t, locked_fallback_count, 1);
            return 0;
        }
    }
    return 0;
}

/* Empties the class's mailbox and drains every slab in it. Keeps the first one that serves, and
 * lets go of the others. */
static uint32_t stage_adopt(hak_thread *t, uint32_t class_index) {
    hak_heap *h = hak_heap_of(t);
    if (!hak_number(hak_policy_of(h)->acquire.adoption)) return 0;
    uint32_t kept = 0, next;
    for (uint32_t unit = hak_mail_take_all(t, class_index); unit; unit = next) {
        hak_slab *slab = hak_slab_at(h, unit);
        next = hak_load_relaxed(&slab->mail_next);
        hak_exchange_acq_rel(&slab->mailed, 0); /* before the drain; partner: hak_mail */
        if (!hak_slab_claim(t, slab)) {
            hak_mail(t, unit);
            continue;
        }
        if (hak_load_relaxed(&slab->kind) != HAK_KIND_SLAB) {
            hak_claim_release(slab);
            continue;
        }
        hak_slab_drain(t, unit);
        hak_count(t, adopt_count, 1);
        if (!kept && slab->class_index == class_index && hak_used_load(slab) &&
            has_blocks(h, slab, class_index)) {
            hak_partial_remove(h, unit);
            kept = unit;
        } else {
            hak_slab_let_go(t, unit);
        }
    }
    return kept;
}

static uint32_t stage_empty(hak_thread *t, uint32_t class_index) {
    hak_heap *h = hak_heap_of(t);
    uint32_t units = hak_policy_of(h)->sizes.classes[class_index].unit_count;
    uint32_t unit = hak_empty_pop(t, units);
    if (!unit || hak_slab_make(t, class_index, unit, false)) return unit;
    hak_run_free(h, unit, units, true);
    return 0;
}

/* Populates a group of fresh units before the first of them is carved. A heap that has grown, by a
 * class of which this thread took several slabs, will go on growing; and if the rest of the group
 * is unused, those units come next. */
static void populate_ahead(hak_thread *t, uint32_t class_index, uint32_t unit, uint64_t open_word) {
    hak_heap *h = hak_heap_of(t);
    const hak_arena_growth *growth = &hak_policy_of(h)->arenas;
    if (t->bins[class_index].fresh_count++ < hak_number(growth->populate_slab_count)) return;
    uint32_t units = hak_number(growth->populate_units), bit = unit - (uint32_t)open_word;
    if (hak_number(growth->os_calls) != HAK_OS_CALLS_WIDE || units < 2 || unit % units ||
        hak_load_relaxed(&h->in_use_units) < hak_number(growth->populate_live_units))
        return;
    uint32_t group = (units == 32 ? ~0u : (1u << units) - 1);
    if (bit + units > 32 || ((uint32_t)(open_word >> 32) >> bit & group) != group) return;
    hak_os_populate_range(&h->os, hak_unit_address(h, unit), (uint64_t)units << HAK_UNIT_SHIFT);
}

/* Takes a unit of the open superslab. open_word is its first unit | mask of unused units << 32. A
 * CAS that succeeds on a word that went and came back still takes a unit that is unused now: no
 * link is read, so ABA does no harm. Acquire pairs with the release by the thread that opened the
 * superslab. */
static uint32_t stage_unit(hak_thread *t, uint32_t class_index) {
    hak_heap *h = hak_heap_of(t);
    if (hak_policy_of(h)->sizes.classes[class_index].unit_count != 1) return 0;
    uint64_t word = hak_load_relaxed(&h->open_word);
    while (word >> 32) {
        uint32_t bit = (uint32_t)__builtin_ctzll(word >> 32);
        hak_count(t, cas_try_count, 1);
        if (hak_cas_acq_rel(&h->open_word, &word, word & ~(UINT64_C(1) << (32 + bit)))) {
            uint32_t unit = (uint32_t)word + bit;
            populate_ahead(t, class_index, unit, word);
            if (hak_slab_make(t, class_index, unit, true)) return unit;
            hak_run_free(h, unit, 1, true);
            return 0;
        }
        hak_count(t, cas_retry_count, 1);
    }
    return 0;
}

static uint32_t stage_last(hak_thread *t, uint32_t class_index) {
    uint32_t unit = hak_acquire_partial(t, class_index);
    return unit ? unit : stage_adopt(t, class_index);
}

/* Opens the units behind a new slab to all threads, or gives them back if a superslab is already
 * open. */
static void open_units(hak_thread *t, uint32_t unit, uint32_t mask) {
    hak_heap *h = hak_heap_of(t);
    hak_assert(mask && !(mask & (mask + 2))); /* ones from bit 1 on: the units behind this one */
    uint64_t word = hak_load_relaxed(&h->open_word);
    while (!(word >> 32)) {
        hak_count(t, cas_try_count, 1);
        /* partner: stage_unit */
        if (hak_cas_acq_rel(&h->open_word, &word, unit | (uint64_t)mask << 32)) return;
        hak_count(t, cas_retry_count, 1);
    }
    hak_run_free(h, unit + 1, (uint32_t)__builtin_popcount(mask), false);
}

/* A unit of which another thread still holds a stale claim is put aside meanwhile: each such unit
 * means one thread that was interrupted at the wrong moment. */
static uint32_t grow_once(hak_thread *t, uint32_t class_index) {
    hak_heap *h = hak_heap_of(t);
    uint32_t units = hak_policy_of(h)->sizes.classes[class_index].unit_count, made = 0, count = 0,
             aside[HAK_STALE_CLAIMS];
    while (!made && count < HAK_STALE_CLAIMS) {
        hak_run run = units == 1 ? hak_run_alloc_open(h) : hak_run_alloc(h, units, 1);
        if (!run.unit) break;
        if (run.open) open_units(t, run.unit, run.open);
        if (hak_slab_make(t, class_index, run.unit, run.dirty == 0)) made = run.unit;
        else aside[count++] = run.unit;
    }
    while (count) hak_run_free(h, aside[--count], units, true);
    return made;
}

/* The last resort, when the region is full: any slab of the class that has one block to give. */
static uint32_t scavenge(hak_thread *t, uint32_t class_index) {
    hak_heap *h = hak_heap_of(t);
    uint32_t top = hak_load_acquire(&h->unit_top);
    for (uint32_t unit = h->meta_units; unit < top; unit++) {
        hak_slab *slab = hak_slab_at(h, unit);
        if (!is_slab_of(slab, class_index)) continue;
        if (!hak_slab_claim(t, slab)) continue;
        if (keep_if_useful(t, class_index, unit)) return unit;
    }
    return 0;
}

static uint32_t stage_grow(hak_thread *t, uint32_t class_index) {
    uint32_t unit = grow_once(t, class_index);
    if (unit) return unit;
    hak_count(t, locked_fallback_count, 1);
    hak_waiting_flush(t);
    hak_acquire_collect(t);
    hak_acquire_flush_ready(t);
    unit = grow_once(t, class_index);
    return unit ? unit : scavenge(t, class_index);
}

uint32_t hak_acquire(hak_thread *t, uint32_t class_index) {
    union { /* one word, and so one policy's */
        uint64_t word;
        uint8_t stages[HAK_ACQUIRE_STAGES];
    } order = {hak_load_relaxed((uint64_t *)hak_policy_of(hak_heap_of(t))->acquire.order)};
    for (uint32_t i = 0; i < HAK_ACQUIRE_STAGES; i++) {
        uint32_t unit = 0;
        switch (order.stages[i]) {
        case HAK_STAGE_END: return 0;
        case HAK_STAGE_HOT:
            unit = stage_hot(t, class_index);
            hak_count(t, stage_hot_count, unit != 0);
            break;
        case HAK_STAGE_EMPTY:
            unit = stage_empty(t, class_index);
            hak_count(t, stage_empty_count, unit != 0);
            break;
        case HAK_STAGE_PARTIAL:
            unit = hak_acquire_partial(t, class_index);
            hak_count(t, stage_partial_count, unit != 0);
            break;
        case HAK_STAGE_ADOPT:
            unit = stage_adopt(t, class_index);
            hak_count(t, stage_adopt_count, unit != 0);
            break;
        case HAK_STAGE_UNIT:
            unit = stage_unit(t, class_index);
            hak_count(t, stage_unit_count, unit != 0);
            break;
        case HAK_STAGE_LAST:
            unit = stage_last(t, class_index);
            hak_count(t, stage_last_count, unit != 0);
            break;
        case HAK_STAGE_GROW:
            unit = stage_grow(t, class_index);
            hak_count(t, stage_grow_count, unit != 0);
            break;
        }
        if (!unit) continue;
        hak_assert(is_acquired(hak_heap_of(t), unit, class_index));
        hak_event(t, HAK_EVENT_ACQUIRE, class_index, unit, order.stages[i]);
        return unit;
    }
    return 0;
}

/* Empties every mailbox: each slab found is drained, then listed or retired; one that another
 * thread has claimed is mailed again. */
void hak_acquire_collect(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint32_t next;
    for (uint32_t class_index = 1; class_index <= hak_policy_of(h)->sizes.class_count;
         class_index++) {
        for (uint32_t unit = hak_mail_take_all(t, class_index); unit; unit = next) {
            hak_slab *slab = hak_slab_at(h, unit);
            next = hak_load_relaxed(&slab->mail_next);
            hak_exchange_acq_rel(&slab->mailed, 0); /* as in stage_adopt */
            if (!hak_slab_claim(t, slab)) {
                hak_mail(t, unit);
                continue;
            }
            if (hak_load_relaxed(&slab->kind) != HAK_KIND_SLAB) {
                hak_claim_release(slab);
                continue;
            }
            hak_slab_drain(t, unit);
            hak_count(t, adopt_count, 1);
            hak_slab_let_go(t, unit);
        }
    }
}

/* Gives the empty slabs that are kept ready back to the run heap. */
void hak_acquire_flush_empty(hak_thread *t) {
    for (uint32_t units = 1; units <= HAK_SLAB_UNITS_MAX; units++)
        for (uint32_t unit; (unit = hak_empty_pop(t, units));)
            hak_run_free(hak_heap_of(t), unit, units, true);
}

/* Gives all units that are kept ready, empty slabs and the open superslab, back to the run
 * heap. */
void hak_acquire_flush_ready(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    hak_acquire_flush_empty(t);
    uint64_t word = hak_load_relaxed(&h->open_word);
    while (word >> 32) {
        /* partner: open_units; as in stage_unit, ABA does no harm */
        if (!hak_cas_acq_rel(&h->open_word, &word, 0)) continue;
        for (uint32_t bit = 0; bit < 32; bit++)
            if (word >> (32 + bit) & 1) hak_run_free(h, (uint32_t)word + bit, 1, false);
        break;
    }
}
