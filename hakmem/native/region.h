/* region.h: which parts of a heap's region are mapped. All functions need run_lock, but those that
 * make, release or count, and hak_region_map_record. */
#ifndef HAK_REGION_H
#define HAK_REGION_H
#include "hak_internal.h"

/* tables.c; a part is a range from one offset of the region to another */
HAK_HIDDEN uint32_t hak_part_map(hak_heap *h, uint64_t from, uint64_t to);
HAK_HIDDEN bool hak_part_unmap(hak_heap *h, uint64_t from, uint64_t to);
HAK_HIDDEN uint32_t hak_tables_reach(hak_heap *h, uint64_t top);
HAK_HIDDEN void hak_tables_mend(hak_heap *h);
HAK_HIDDEN hak_heap *hak_region_make(uint64_t user_bytes, bool checked, bool magazines,
                                     bool reserved);
HAK_HIDDEN void hak_region_release(hak_heap *h);
HAK_HIDDEN bool hak_region_map_rows(hak_heap *h);
HAK_HIDDEN bool hak_region_map_record(hak_heap *h, uint32_t index);
HAK_HIDDEN uint64_t hak_region_metadata_bytes(hak_heap *h);

/* region.c */
HAK_HIDDEN uint32_t hak_region_grow(hak_heap *h, uint32_t units);
HAK_HIDDEN uint64_t hak_region_shrink(hak_heap *h, uint64_t units, uint32_t least);
HAK_HIDDEN bool hak_region_unmap_units(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty);
HAK_HIDDEN void hak_region_mend(hak_heap *h);
HAK_HIDDEN void hak_region_unmap_again(hak_heap *h, uint32_t unit, uint32_t units);
#endif
