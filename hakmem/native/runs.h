/* runs.h: how purging.c and region.c take runs out of the run heap's bins and put them back. Every
 * function needs run_lock. */
#ifndef HAK_RUNS_H
#define HAK_RUNS_H
#include "hak_internal.h"
HAK_HIDDEN uint32_t hak_run_bin(uint32_t units);
HAK_HIDDEN void hak_run_unlink(hak_heap *h, uint32_t unit);
HAK_HIDDEN void hak_run_insert(hak_heap *h, uint32_t unit, uint32_t units, uint32_t dirty);
HAK_HIDDEN uint32_t hak_run_longest(hak_heap *h);
HAK_HIDDEN uint32_t hak_run_find_unmapped(hak_heap *h, uint32_t units);
HAK_HIDDEN void hak_run_place_unmapped(hak_heap *h, uint32_t unit, uint32_t units);
HAK_HIDDEN void hak_run_insert_unmapped(hak_heap *h, uint32_t unit, uint32_t units);
#endif
