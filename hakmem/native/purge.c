/* purge.c: when free units go back to the OS, and how many.
 *
 * Two limits bound the dirty units. What is above the retain limit, which remembers the high water
 * of two epochs, is purged at the next slow-path event, oldest run first. What is above the eager
 * limit, which is lower, is purged too, as far as the work budget (budget.c) pays for it. After a
 * deep drop of the units in use that is all of it, because the program may sleep for ever after its
 * last free. Otherwise it is the low water: the least that was dirty at any moment of two epochs,
 * which nobody needed in that time. A large request for which no dirty run was long enough has
 * other units purged first, so that no more gets resident than the most of two epochs.
 *
 * A unit that is needed again within two epochs of its purge is a refault. It is counted and
 * charged to the budget, so that a program which reuses what it frees stops purging eagerly.
 */
#include "hooks.h"
#include "locks.h"
#include "region.h"
#include "stuck.h"

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

static uint64_t high_water(hak_heap *h) {
    return larger(hak_load_relaxed(&h->high_water_now), hak_load_relaxed(&h->high_water_before));
}

static uint64_t retain_limit(hak_heap *h) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    uint64_t high = high_water(h), live = hak_in_use_units(h);
    uint64_t share = high * hak_number(retain->high_water_per_256) >> 8,
             floor = hak_number(retain->floor_bytes) >> HAK_UNIT_SHIFT;
    return (high > live ? high - live : 0) + larger(share, floor);
}

static uint64_t eager_limit(hak_heap *h) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    uint64_t of_live = hak_in_use_units(h) * hak_number(retain->eager_live_per_256);
    return larger(smaller(of_live, high_water(h) * hak_number(retain->high_water_per_256)) >> 8,
                  hak_number(retain->floor_bytes) >> HAK_UNIT_SHIFT);
}

static uint64_t purge_to(hak_heap *h, uint64_t limit, uint32_t runs) {
    uint64_t pages = 0;
    return hak_purge_runs(h, limit, runs, hak_number(hak_policy_of(h)->retain.lazy_free) != 0,
                          &pages);
}

static uint64_t purgeable(hak_heap *h) {
    return hak_purgeable_units(h, hak_number(hak_policy_of(h)->retain.lazy_free) != 0);
}

/* Purges down to `limit` dirty units, at most `most` of them and no more than the work budget pays
 * for. A unit that is needed again soon is paid for then (budget.c). */
static void purge_paid(hak_heap *h, uint64_t now, uint64_t limit, uint64_t most) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    uint64_t dirty = purgeable(h), units = smaller(most, dirty > limit ? dirty - limit : 0);
    if (!units) return;
    units = smaller(units, hak_work_units(h, now));
    if (!units) return;
    uint64_t purged = purge_to(h, dirty - units, hak_number(retain->eager_unit_count));
    hak_run_lock(h);
    h->eager_units += purged;
    hak_work_spend_locked(h, purged * hak_number(retain->purge_unit_ns));
    hak_run_unlock(h);
}

/* How many units may be purged eagerly: after a deep drop of the units in use any number, else what
 * nobody needed for two epochs, a little at each event. */
static uint64_t eager_most(hak_heap *h) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    if (!hak_number(retain->work_per_256) || hak_number(retain->lazy_free)) return 0;
    if (hak_in_use_units(h) << 8 <= high_water(h) * hak_number(retain->eager_drop_per_256))
        return hak_number(retain->eager_unit_count);
    uint64_t unneeded =
        smaller(hak_load_relaxed(&h->low_water_now), hak_load_relaxed(&h->low_water_before));
    return smaller(
        unneeded,
        larger(hak_number(retain->sweep_event_ns) / hak_number(retain->purge_unit_ns), 1));
}

uint64_t hak_clock_of(hak_heap *h) {
    return hak_load_relaxed(&h->clock_held) ? hak_load_relaxed(&h->clock_ns) : hak_os_clock_ns();
}

static uint64_t idle_limit(hak_heap *h) {
    return hak_number(hak_policy_of(h)->retain.floor_bytes) >> HAK_UNIT_SHIFT;
}

/* Units that are free. The figure may be stale by a moment, since the counts are read without the
 * lock. */
static uint64_t free_units(hak_heap *h) {
    uint64_t used = hak_load_relaxed(&h->in_use_units) + hak_load_relaxed(&h->unmapped_units),
             all = hak_load_acquire(&h->unit_top) - h->meta_units;
    return all > used ? all - used : 0;
}

/* Unmaps free runs above the floor. Called at each event while addresses are short, because the OS
 * refused memory or a limit is near: the program's threads, files and other mappings need addresses
 * too.
 */
HAK_COLD static void unmap_spare(hak_heap *h) {
    uint64_t keep = idle_limit(h);
    if (free_units(h) > keep) {
        hak_run_lock(h);
        uint64_t spare = free_units(h);
        if (spare > keep + h->purging_units)
            hak_region_shrink(h, spare - keep - h->purging_units, HAK_UNMAP_LEAST_UNITS);
        hak_run_unlock(h);
    }
}

/* Whether this heap fills a good part of a limit on mappings. */
static bool limit_is_near(hak_heap *h) {
    bool asks = hak_number(hak_policy_of(h)->arenas.os_calls) == HAK_OS_CALLS_WIDE;
    uint64_t limit = asks ? hak_os_mapping_limit() : h->start_limit_bytes;
    return limit != UINT64_MAX && (hak_load_relaxed(&h->in_use_units) + free_units(h))
                                          << HAK_UNIT_SHIFT >=
                                      limit / 256 * HAK_LIMIT_NEAR_PER_256;
}

/* Notes, at the end of an epoch, whether addresses are short: while a limit is near, and for two
 * epochs after the OS refused memory. Needs run_lock. */
static void note_limit(hak_heap *h, bool near) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    bool over = (int32_t)(h->refused_epoch - h->epoch_count) <= 0;
    /* refused_epoch 0 says that nothing is short, so an odd number stands for the epoch, perhaps
     * one too late */
    if (near) hak_store_relaxed(&h->refused_epoch, (h->epoch_count + 2) | 1);
    else if (h->refused_epoch && over) hak_store_relaxed(&h->refused_epoch, 0);
}

static bool epoch_is_over(hak_heap *h, uint64_t now) {
    uint64_t start = hak_load_relaxed(&h->epoch_start_ns);
    return now > start && now - start >= hak_number(hak_policy_of(h)->retain.epoch_ns);
}

/* Ends an epoch whose time is over, unless another thread was faster. */
HAK_COLD static void turn_epoch(hak_heap *h, uint64_t now) {
    uint64_t length = hak_number(hak_policy_of(h)->retain.epoch_ns);
    bool near = limit_is_near(h);
    hak_run_lock(h);
    uint64_t start = h->epoch_start_ns;
    if (now > start && now - start >= length) {
        bool both = now - start >= 2 * length;
        hak_store_relaxed(&h->high_water_before, both ? hak_in_use_units(h) : h->high_water_now);
        hak_store_relaxed(&h->high_water_now, hak_in_use_units(h));
        hak_store_relaxed(&h->resident_before, both ? 0 : hak_load_relaxed(&h->resident_now));
        hak_store_relaxed(&h->resident_now, hak_in_use_units(h) + h->dirty_units);
        hak_store_relaxed(&h->low_water_before, h->low_water_now);
        hak_store_relaxed(&h->low_water_now, h->dirty_units);
        hak_store_relaxed(&h->epoch_start_ns, now);
        hak_recent_turn(h, both ? 2 : 1);
        hak_stuck_forget(h);
        note_limit(h, near);
        bool sweeps = hak_number(hak_policy_of(h)->retain.sweep_unit_count) &&
                      hak_in_use_units(h) > idle_limit(h);
        if (sweeps && !hak_load_relaxed(&h->sweep_unit))
            hak_store_relaxed(&h->sweep_unit, h->meta_units);
    }
    hak_run_unlock(h);
}

/* Called after a request took `asked` units, before the program touches them. If more units would
 * be resident than were lately, other units are purged instead. */
static void give_way(hak_heap *h, uint64_t now, uint64_t asked) {
    uint64_t resident = hak_in_use_units(h) + hak_load_relaxed(&h->dirty_units),
             most = hak_load_relaxed(&h->resident_now);
    if (hak_likely(resident <= most)) return;
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    uint64_t high = high_water(h);
    bool large = asked && hak_number(retain->growth_request_per_256) &&
                 asked << 8 >= high * hak_number(retain->growth_request_per_256);
    most = larger(most, hak_load_relaxed(&h->resident_before));
    if (large && resident > larger(most, idle_limit(h)) && hak_number(retain->work_per_256) &&
        !hak_number(retain->lazy_free)) {
        purge_paid(h, now, high * hak_number(retain->growth_keep_per_256) >> 8, resident - most);
        resident = hak_in_use_units(h) + hak_load_relaxed(&h->dirty_units);
    }
    if (resident > hak_load_relaxed(&h->resident_now))
        hak_store_relaxed(&h->resident_now, resident);
}

/* What each slow-path event does for the memory that is kept: ends the epoch if its time is over,
 * purges what is above the limits. `asked`: units that the event took from the run heap, 0 if
 * none. */
void hak_tick(hak_heap *h, uint64_t asked) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    uint64_t now = hak_clock_of(h);
    if (hak_unlikely(epoch_is_over(h, now))) turn_epoch(h, now);
    give_way(h, now, asked);
    if (hak_unlikely(hak_load_relaxed(&h->refused_epoch) != 0)) unmap_spare(h);
    uint64_t dirty = purgeable(h), limit = retain_limit(h);
    if (hak_unlikely(dirty > limit)) {
        purge_to(h, limit, hak_number(retain->purge_run_count));
        return;
    }
    if (dirty <= (limit = eager_limit(h)) || hak_background_serves(h)) return;
    uint64_t most = eager_most(h);
    if (most) purge_paid(h, now, limit, most);
}

/* The same at each tick of the background thread, which has all the time there is. `idle`: the
 * program needed nothing for long. */
void hak_tick_fully(hak_heap *h, bool idle) {
    if (epoch_is_over(h, hak_clock_of(h))) turn_epoch(h, hak_clock_of(h));
    uint64_t high = high_water(h), live = hak_in_use_units(h);
    /* lower than the retain limit, since this work delays nobody */
    uint64_t limit = idle ? idle_limit(h) : (high > live ? high - live : 0) + eager_limit(h);
    if (purgeable(h) > limit) purge_to(h, limit, UINT32_MAX);
}

/* Whether so many units may stay free outside the run heap, so that with the dirty ones they are no
 * more than is left when purges are paid for. */
bool hak_purge_spares(hak_heap *h, uint64_t units) {
    return purgeable(h) + units <= eager_limit(h);
}

/* Whether there will be anything to purge once the program is idle. */
bool hak_purge_is_due(hak_heap *h) { return purgeable(h) > idle_limit(h); }

/* Purges all that can go, also what was purged lazily or tried in vain before. Returns the bytes
 * that went. */
uint64_t hak_purge_all(hak_heap *h) {
    uint64_t pages = 0;
    hak_run_lock(h);
    hak_stuck_forget(h);
    hak_run_unlock(h);
    uint64_t units = hak_purge_runs(h, 0, UINT32_MAX, false, &pages);
    return (units << HAK_UNIT_SHIFT) + pages * HAK_OS_PAGE_BYTES;
}
