/* file.h: the file of this process: a head, then segments (hakmem/traces/format.py). */
#ifndef HAK_RECORD_FILE_H
#define HAK_RECORD_FILE_H
#include "record.h"

extern hak_trace_head *record_head; /* NULL until there is a file */

/* Takes the name that is wanted, or the next that is free, and makes the head; false where there
 * can be none. */
bool record_file_begin(const char *wanted, uint32_t parent, uint32_t first_thread);

/* A new segment of zeros, mapped, its head written; 0, or why there is none. */
uint32_t record_file_segment(uint32_t holds, size_t bytes, char **place);

uint64_t record_clock_ns(void);
#endif
