/* moved.h: ranges of a region that OS pages were moved to. Every function but the first needs
 * run_lock. */
#ifndef HAK_MOVED_H
#define HAK_MOVED_H
#include "hak_internal.h"
HAK_HIDDEN bool hak_moved_has_room(hak_heap *h);
HAK_HIDDEN bool hak_moved_add(hak_heap *h, uint32_t unit, uint32_t units);
HAK_HIDDEN void hak_moved_forget(hak_heap *h, uint32_t unit, uint32_t units);
HAK_HIDDEN void hak_moved_mend(hak_heap *h);
HAK_HIDDEN uint32_t hak_moved_find_spare(hak_heap *h, uint32_t *units, uint32_t *run);
#endif
