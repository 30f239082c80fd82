/* mapped.h: the table of a heap's mapped blocks. Every function needs run_lock, but
 * the glances. */
#ifndef HAK_MAPPED_H
#define HAK_MAPPED_H
#include "hak_internal.h"
HAK_HIDDEN bool hak_mapped_glance(const hak_heap *h, uint64_t address, hak_mapped *found);
HAK_HIDDEN bool hak_mapped_glance_freed(const hak_heap *h, uint64_t address, hak_mapped *found);
HAK_HIDDEN void hak_mapped_note_freed(hak_heap *h, uint64_t address, uint64_t bytes);
HAK_HIDDEN bool hak_mapped_find(const hak_heap *h, uint64_t address, hak_mapped *found);
HAK_HIDDEN bool hak_mapped_reserve(hak_heap *h);
HAK_HIDDEN void hak_mapped_cancel(hak_heap *h);
HAK_HIDDEN void hak_mapped_insert(hak_heap *h, uint64_t address, uint64_t bytes);
HAK_HIDDEN bool hak_mapped_take(hak_heap *h, uint64_t address, uint64_t bytes, bool comes_back);
HAK_HIDDEN bool hak_mapped_set(hak_heap *h, uint64_t address, uint64_t bytes);
HAK_HIDDEN void hak_mapped_mend(hak_heap *h);
#endif
