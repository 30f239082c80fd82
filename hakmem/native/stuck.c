/* stuck.c: purges that the OS refuses: of memory that the program locked, by a filter of its calls.
 *
 * One locked page makes the call for a whole range fail. So what is refused is tried in halves,
 * down to units and their OS pages: what can go, goes. Units that cannot are *stuck*: they stay
 * dirty, are marked in their records (HAK_SLAB_STUCK) and left alone until the epoch ends, until a
 * trim asks for all there is, or until they leave the run heap. How many of its OS pages went
 * stands beside the mark, so that no trim answers for the same page twice. Marks and stuck_units
 * are written under run_lock; a fork's child forgets them with the rest of the run heap.
 */
#include "stuck.h"

#include "locks.h"

#define PARTED (0xffffu << HAK_SLAB_PARTED_SHIFT & 0xffff)

/* Changes the flags of a free unit, and the counts of units that have them. Needs the lock. */
static void flags_set(hak_heap *h, uint32_t unit, uint32_t clear, uint16_t set) {
    uint16_t *flags = &hak_slab_at(h, unit)->flags, was = hak_load_relaxed(flags),
             now = (uint16_t)((was & ~clear) | set);
    hak_store_relaxed(flags, now);
    hak_store_relaxed(&h->stuck_units,
                      h->stuck_units + !!(now & HAK_SLAB_STUCK) - !!(was & HAK_SLAB_STUCK));
    h->parted_units += (uint64_t)!!(now >> HAK_SLAB_PARTED_SHIFT) -
                       !!(was >> HAK_SLAB_PARTED_SHIFT);
}

/* Dirty ones among these units are stuck from now on. Needs the lock. */
void hak_stuck_mark(hak_heap *h, uint32_t unit, uint32_t units) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    for (uint32_t u = unit; u < unit + units; u++)
        if (hak_mark_get(hak_dirty_map(h), u)) flags_set(h, u, 0, HAK_SLAB_STUCK);
}

/* Units leave the run heap, or went after all. Needs the lock. */
void hak_stuck_take(hak_heap *h, uint32_t unit, uint32_t units) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    if (hak_likely(!(h->stuck_units | h->parted_units))) return;
    for (uint32_t u = unit; u < unit + units; u++) flags_set(h, u, HAK_SLAB_STUCK | PARTED, 0);
}

/* All may be tried again: the epoch is over, or somebody asks for all there is. Needs the lock. */
void hak_stuck_forget(hak_heap *h) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    for (uint32_t u = h->meta_units; u < h->unit_top && h->stuck_units; u++)
        if (hak_unit_is_stuck(h, u)) flags_set(h, u, HAK_SLAB_STUCK, 0);
}

/* In a fork's child, where marks and counts may be of two moments: nothing was tried. */
void hak_stuck_reset(hak_heap *h) {
    for (uint32_t u = h->meta_units; u < h->unit_top; u++)
        if (hak_slab_at(h, u)->flags & (HAK_SLAB_STUCK | PARTED))
            hak_slab_at(h, u)->flags &= (uint16_t)~(HAK_SLAB_STUCK | PARTED);
    h->stuck_units = h->parted_units = 0;
}

/* Purges what can go of a unit that cannot go whole; returns how many OS pages went. */
static uint32_t purge_pages(hak_heap *h, uint32_t unit, bool lazy) {
    uint32_t pages = 0;
    for (uint32_t page = 0; page < HAK_UNIT_PAGES; page++)
        pages += hak_os_purge_range(&h->os,
                                    hak_unit_address(h, unit) + (uint64_t)page * HAK_OS_PAGE_BYTES,
                                    HAK_OS_PAGE_BYTES, lazy);
    return pages;
}

/* A unit is stuck, of which so many OS pages went; returns how many went for the first time. */
static uint32_t unit_sticks(hak_heap *h, uint32_t unit, uint32_t pages) {
    hak_run_lock(h);
    uint32_t before = hak_slab_at(h, unit)->flags >> HAK_SLAB_PARTED_SHIFT;
    if (pages > before) flags_set(h, unit, PARTED, (uint16_t)(pages << HAK_SLAB_PARTED_SHIFT));
    hak_stuck_mark(h, unit, 1);
    hak_run_unlock(h);
    return pages > before ? pages - before : 0;
}

/* Purges units that are in no bin, of which purging as a whole was refused; marks those that cannot
 * go, returns how many went. *pages grows by what went of the others. Not under the lock. */
uint32_t hak_stuck_purge(hak_heap *h, uint32_t unit, uint32_t units, bool lazy, uint32_t *pages) {
    uint32_t done = 0, step = (units + 1) / 2;
    bool some = true; /* of the stuck unit before: a page of it went */
    for (uint32_t end = unit + units; unit < end;) {
        if (step > end - unit) step = end - unit;
        if (hak_os_purge_range(&h->os, hak_unit_address(h, unit), (uint64_t)step << HAK_UNIT_SHIFT,
                               lazy)) {
            unit += step, done += step;
            step *= 2;
            some = true;
        } else if (step > 1) {
            step /= 2;
        } else {
            uint32_t went = some ? purge_pages(h, unit, lazy) : 0;
            some = went != 0;
            *pages += unit_sticks(h, unit++, went);
        }
    }
    return done;
}
