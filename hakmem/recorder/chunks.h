/* chunks.h: the journal of a thread becomes a chunk of the file. */
#ifndef HAK_RECORD_CHUNKS_H
#define HAK_RECORD_CHUNKS_H
#include "record.h"

enum {
    SIZES_AT = 1024, /* in a thread's scratch: the columns of a full journal at their longest */
    OBJECTS_AT = SIZES_AT + 8 * HAK_TRACE_JOURNAL_WORDS,
    SCRATCH_BYTES = OBJECTS_AT + 10 * HAK_TRACE_JOURNAL_WORDS,
};
_Static_assert(SIZES_AT >= HAK_TRACE_JOURNAL_WORDS, "room for the kinds");

static inline uint64_t *record_words(hak_trace_journal *journal) {
    return (uint64_t *)((char *)journal + HAK_TRACE_JOURNAL_HEAD_BYTES);
}

/* What stands in the journal up to `end` goes into the file, and the journal is empty then; false:
 * the recording has stopped, and the journal stays. */
bool record_chunk_make(record_thread *me, const uint64_t *end, uint32_t flags);

/* Forgets the segment: a child has its parent's. */
void record_chunks_forget(void);
#endif
