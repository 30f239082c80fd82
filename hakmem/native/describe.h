/* describe.h: an address in words; see describe.c. */
#ifndef HAK_DESCRIBE_H
#define HAK_DESCRIBE_H
#include "hak_internal.h"
#include "line.h"

HAK_HIDDEN hak_heap *hak_heap_at(uint64_t address);
HAK_HIDDEN void hak_describe_heap(hak_line *line, const hak_heap *h);
HAK_HIDDEN void hak_describe(hak_line *line, uint64_t address, uint64_t stack);

#endif
