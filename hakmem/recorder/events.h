/* events.h: one call as a word in its thread's journal. No step depends on which object is freed:
 * its word is often in no cache, and the program need not wait for it. */
#ifndef HAK_RECORD_EVENTS_H
#define HAK_RECORD_EVENTS_H
#include "objects.h"
#include "record.h"

#define record_order() __asm__ volatile("" : : : "memory")

/* Where the thread writes its next event, which event_end ends; NULL: nowhere. A signal handler
 * that comes before record_busy is set has done all of its events when the journal is looked at. */
static inline uint64_t *event_begin(void) {
    if (record_unlikely(record_busy)) {
        record_count_missed();
        return NULL;
    }
    record_busy = true;
    record_order();
    record_thread *me = record_me;
    uint64_t *at = me->at;
    if (record_unlikely(at >= me->end)) {
        if (!record_room_make()) {
            record_busy = false;
            return NULL;
        }
        at = record_me->at;
    }
    return at;
}
static inline void event_end(uint64_t *at) {
    record_order();
    record_me->at = at;
    record_order();
    record_busy = false;
}

static inline uint64_t made_word(uint64_t kind, size_t size, uint64_t align_log2) {
    return size | align_log2 << HAK_TRACE_SIZE_BITS | kind << HAK_TRACE_KIND_SHIFT;
}

static inline void note_make(void *block, uint64_t word) {
    uint64_t *at = event_begin();
    if (record_unlikely(!at)) {
        object_put(block, 0);
        return;
    }
    object_put(block, record_me->next_object++);
    *at = word;
    event_end(at + 1);
}

static inline void note_free(uint64_t object) {
    uint64_t *at = event_begin();
    if (record_unlikely(!at)) return;
    *at = object | (uint64_t)HAK_TRACE_FREE << HAK_TRACE_KIND_SHIFT;
    event_end(at + 1);
}

/* The object's word first: behind the other one, which ends the journal until it is there. */
static inline void note_realloc(void *block, size_t size, uint64_t object) {
    uint64_t *at = event_begin();
    if (record_unlikely(!at)) {
        object_put(block, 0);
        return;
    }
    object_put(block, record_me->next_object++);
    at[1] = object | (uint64_t)HAK_TRACE_OBJECT << HAK_TRACE_KIND_SHIFT;
    record_order();
    *at = made_word(HAK_TRACE_REALLOC, size, 0);
    event_end(at + 2);
}
#endif
