/* record.h: the recorder, libhakmem-record.so, preloaded before any malloc.
 *
 *   record.c     malloc and its family: the call goes on to the next malloc and is noted
 *   operators.c  C++'s operators, all by way of malloc and free
 *   events.h     one call as a word in its thread's journal
 *   chunks.[hc]  a full journal becomes a chunk
 *   threads.c    journals of threads, their ends, a fork's child, the process
 *   file.[hc]    the file: segments, a full disk, what may become of the descriptor
 *   objects.[hc] which object lies at an address
 *
 * Nothing here allocates: the file is mapped and written through the mapping, so that what a
 * program had done stands in it however the program ends. No call of the program fails for the
 * recorder's sake; what it cannot note it counts. The format is hakmem/traces/format.py's.
 */
#ifndef HAK_RECORD_H
#define HAK_RECORD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hak_trace.h"

#define RECORD_COLD __attribute__((noinline, cold))
#define record_unlikely(x) __builtin_expect(!!(x), 0)

/* One thread, in memory that the OS wipes for a fork's child: then the journal seems to be full, as
 * it does to a thread that has none yet, and the next event asks for room. */
typedef struct record_thread {
    uint64_t *at, *end;
    uint64_t next_object; /* the word of the next object that it makes */
    uint64_t first_make;  /* objects that it had made when the journal was empty */
    uint64_t sequence;    /* chunks that it made */
    hak_trace_journal *journal;
    uint32_t number;
    uint32_t ending; /* how often its destructor has run */
    uint8_t scratch[];
} record_thread;

extern __thread record_thread *record_me;
extern __thread bool record_busy; /* amid an event: a signal handler's are not recorded */
extern bool
    record_is_off; /* nothing is recorded; set once. Who reads it late notes one more event */

/* threads.c */
bool record_room_make(void); /* false: this event is not recorded */
void record_stop(uint32_t reason);
void record_count_failed(void);
void record_count_missed(void);
void record_lock_take(void);
void record_lock_give(void);
#endif
