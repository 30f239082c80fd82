/* budget.c: how much time eager purges and sweeps may cost, and what they cost in vain.
 *
 * A heap earns a share of the time that passes, and spends it on eager purges, on sweeps and on
 * refaults: a unit or OS page that is needed again within two epochs of its purge is charged to the
 * budget, so that a program which reuses what it frees soon stops purging eagerly. Two maps say
 * which units were purged in this epoch and in the one before. A refault is charged when it comes,
 * into debt if need be: most of what is purged after a deep drop is needed by nobody, and to put
 * its price aside beforehand kept a young program from giving back what it had freed for good.
 * Everything is written under run_lock, and may be read without it.
 */
#include "locks.h"
#include "marks.h"

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* How much eager work may cost now. Earns at most once per tick of the clock. */
uint64_t hak_work_credit(hak_heap *h, uint64_t now) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    if (now > hak_load_relaxed(&h->earned_at_ns)) {
        hak_run_lock(h);
        if (now > h->earned_at_ns) {
            uint64_t passed = smaller(now - h->earned_at_ns, (uint64_t)UINT32_MAX << 8);
            uint64_t earned = h->earned_ns + (passed * hak_number(retain->work_per_256) >> 8);
            hak_store_relaxed(
                &h->earned_ns,
                larger(smaller(earned, h->spent_ns + hak_number(retain->work_burst_ns)),
                       h->earned_ns));
            hak_store_relaxed(&h->earned_at_ns, now);
        }
        hak_run_unlock(h);
    }
    uint64_t earned = hak_load_relaxed(&h->earned_ns), spent = hak_load_relaxed(&h->spent_ns);
    return earned > spent ? earned - spent : 0;
}

/* How many units may be purged early now. A young heap of one thread must be able to pay, from what
 * its age earned, for all it purged being needed again: its program most likely goes on, and one
 * wrong guess would cost a good part of the little time it has run. With more threads the last that
 * frees may be the last that runs at all. */
uint64_t hak_work_units(hak_heap *h, uint64_t now) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    uint64_t credit = hak_work_credit(h, now), unit_ns = hak_number(retain->purge_unit_ns);
    bool young = !hak_load_relaxed(&h->epoch_count) && hak_load_relaxed(&h->thread_live) <= 1 &&
                 now < hak_load_relaxed(&h->epoch_start_ns) + hak_number(retain->young_ns);
    if (young) {
        uint64_t at_stake = (uint64_t)hak_load_relaxed(&h->recent_units[0]) +
                            hak_load_relaxed(&h->recent_units[1]);
        at_stake += hak_load_relaxed(&h->hole_now_pages) / HAK_UNIT_PAGES;
        at_stake *= hak_number(retain->refault_unit_ns);
        at_stake += (uint64_t)(hak_load_relaxed(&h->unit_top) - h->meta_units) * unit_ns;
        credit = credit > at_stake ? credit - at_stake : 0;
        unit_ns += hak_number(retain->refault_unit_ns);
    }
    return credit / unit_ns;
}

/* What the heap grows by brings the price of its own purge along, once: a program that is young
 * when it frees a large phase has earned little by its age. Needs run_lock. */
void hak_work_grow_locked(hak_heap *h, uint64_t units) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    hak_store_relaxed(&h->earned_ns,
                      h->earned_ns + units * hak_number(hak_policy_of(h)->retain.purge_unit_ns));
}

/* Pays for work, into debt as far as the policy allows. Needs run_lock. */
void hak_work_spend_locked(hak_heap *h, uint64_t ns) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    uint64_t most =
        larger(h->spent_ns, h->earned_ns + hak_number(hak_policy_of(h)->retain.work_debt_ns));
    hak_store_relaxed(&h->spent_ns, smaller(h->spent_ns + ns, most));
}

void hak_work_spend(hak_heap *h, uint64_t ns) {
    hak_run_lock(h);
    hak_work_spend_locked(h, ns);
    hak_run_unlock(h);
}

/* Called for units that are taken out of a free run: those that were purged lately are refaults.
 * Needs run_lock. */
void hak_recent_take(hak_heap *h, uint32_t unit, uint32_t units) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    for (uint32_t which = 0; which < 2; which++) {
        uint64_t *map = hak_recent_map(h, which);
        uint32_t n = h->recent_units[which] ? hak_marks_count(map, unit, units) : 0;
        if (!n) continue;
        hak_assert(n <= h->recent_units[which]);
        hak_marks_set(map, unit, units, false);
        hak_store_relaxed(&h->recent_units[which], h->recent_units[which] - n);
        if (hak_number(hak_policy_of(h)->retain.lazy_free))
            continue; /* a page that is there yet costs none */
        h->refault_units += n;
        hak_work_spend_locked(h,
                              (uint64_t)n * hak_number(hak_policy_of(h)->retain.refault_unit_ns));
    }
}

/* Begins a new epoch: the map of the epoch before last is emptied and becomes the new one's. Needs
 * run_lock. */
void hak_recent_turn(hak_heap *h, uint32_t epochs) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    for (uint32_t i = 0; i < epochs; i++) {
        hak_store_relaxed(&h->epoch_count, h->epoch_count + 1);
        h->recent_now ^= 1;
        if (h->recent_units[h->recent_now])
            hak_marks_set(hak_recent_map(h, h->recent_now), 0, h->unit_top, false);
        hak_store_relaxed(&h->recent_units[h->recent_now], 0);
    }
}
