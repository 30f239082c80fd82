/* spare.c: a range that OS pages were moved to lies in a free run that another thread purges. Its
 * units say that they are free and clean, but no run has them, and none may be cut for them. Built
 * of the library's own objects. Exit 0; else a line on stderr. */
#include <stdio.h>

#include "hakmem.h"
#include "locks.h"
#include "moved.h"
#include "policy.h"
#include "run_bins.h"

static int wrong(const char *what, uint32_t found) {
    fprintf(stderr, "spare: %s, found unit %u\n", what, found);
    return 1;
}

int main(void) {
    hak_fault fault;
    hak_heap *h = hak_heap_create(hak_policy_of_process(), 1 << 26, 0, &fault);
    if (!h) return wrong("expected a heap", 0);
    uint32_t below = hak_run_alloc(h, 4, 1).unit, between = hak_run_alloc(h, 2, 1).unit,
             around = hak_run_alloc(h, 8, 1).unit, above = hak_run_alloc(h, 2, 1).unit, units = 0;
    if (!below || !between || !around || !above) return wrong("expected four runs", 0);
    hak_run_free(h, below, 4, false);
    hak_run_free(h, around, 8, false);
    hak_run_lock(h);
    if (!hak_moved_add(h, around + 2, 3)) return wrong("expected room for a moved range", 0);
    /* as take_out (purging.c) leaves it */
    hak_run_unlink(h, around);
    hak_slab_at(h, around)->kind = HAK_KIND_NONE;
    hak_entry_fill(h, around, 1, HAK_TAG_NONE);
    hak_entry_fill(h, around + 7, 1, HAK_TAG_NONE);
    h->purging_units += 8;
    hak_run_unlock(h);
    uint32_t found = hak_run_take_moved(h, &units).unit;
    if (found || units) return wrong("expected no range while it is purged", found);
    hak_run_lock(h);
    h->purging_units -= 8;
    hak_run_insert(h, around, 8, 0);
    hak_run_unlock(h);
    found = hak_run_take_moved(h, &units).unit;
    if (found != around + 2 || units != 3) return wrong("expected the range afterwards", found);
    return 0;
}
