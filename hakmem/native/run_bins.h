/* run_bins.h: how runs come out of the run heap's bins, and back into them. Every function needs
 * run_lock. */
#ifndef HAK_RUN_BINS_H
#define HAK_RUN_BINS_H
#include "hak_internal.h"
HAK_HIDDEN uint32_t hak_run_bin(uint32_t units);
HAK_HIDDEN void hak_run_unlink(hak_heap *h, uint32_t unit);
HAK_HIDDEN void hak_run_insert(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty);
HAK_HIDDEN void hak_run_place(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty,
                              uint32_t tag);
HAK_HIDDEN uint32_t hak_run_find(hak_heap *h, uint32_t units);
HAK_HIDDEN uint32_t hak_run_longest(hak_heap *h);
HAK_HIDDEN uint32_t hak_run_find_unmapped(hak_heap *h, uint32_t units);
HAK_HIDDEN void hak_run_place_unmapped(hak_heap *h, uint32_t unit, uint32_t units);
HAK_HIDDEN void hak_run_insert_unmapped(hak_heap *h, uint32_t unit, uint32_t units);

/* Whether no run of the same kind touches this one. The entries beside a run tell, since the ends
 * of a run name its head. */
HAK_PREDICATE bool hak_run_is_apart(hak_heap *h, uint32_t unit) {
    uint32_t end = unit + hak_slab_at(h, unit)->unit_count, tag = hak_tag_get(h, unit);
    uint64_t before = hak_entry_get(h, unit - 1),
             behind = end < h->unit_top ? hak_entry_get(h, end) : 0;
    return (hak_entry_tag(before) != tag ||
            hak_slab_at(h, hak_entry_head(before))->kind == HAK_KIND_FOREIGN) &&
           (hak_entry_tag(behind) != tag ||
            hak_slab_at(h, hak_entry_head(behind))->kind == HAK_KIND_FOREIGN);
}
#endif
