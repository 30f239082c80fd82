/* threads.c: who records. A thread gets a number, a record and a journal at its first event, and
 * gives the latter two back when it ends. A fork's child finds its record wiped, takes a file of
 * its own and never touches its parent's again. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "chunks.h"
#include "file.h"

enum {
    OS_PAGE = 4096,
    JOURNALS_FIRST = 2,
    JOURNALS = 16,
    RECORD_BYTES = (sizeof(record_thread) + SCRATCH_BYTES + OS_PAGE - 1) & ~(OS_PAGE - 1),
};

static record_thread nobody; /* no room, for who has no record */
__thread record_thread *record_me __attribute__((tls_model("initial-exec"))) = &nobody;
__thread bool record_busy __attribute__((tls_model("initial-exec")));
bool record_is_off;

static char wanted_path[PATH_MAX]; /* what the variable named, also for children */
static char *journals;             /* never used ones; the lock's, as what follows */
static uint32_t journal_count;
static hak_trace_journal *left_journals; /* of ended threads, to be had again; a list by begin_ns */
static uint32_t *alive_word; /* in a page that the OS wipes for a child: 1 where it is none */
static uint32_t lock;
static bool is_begun; /* the first call has looked for a file */
static uint32_t thread_count;
static pthread_key_t end_key;
static bool has_end_key, has_wiping;

/* Acquire and release: who takes it sees what the last one did under it. */
void record_lock_take(void) {
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE)) sched_yield();
}
void record_lock_give(void) { __atomic_store_n(&lock, 0, __ATOMIC_RELEASE); }

RECORD_COLD void record_stop(uint32_t reason) {
    if (record_head && !record_head->stop_reason) record_head->stop_reason = reason;
    record_is_off = true;
}

/* Relaxed: counters that nothing hangs on. */
RECORD_COLD void record_count_failed(void) {
    if (record_head && *alive_word) __atomic_fetch_add(&record_head->failed, 1, __ATOMIC_RELAXED);
}
RECORD_COLD void record_count_missed(void) {
    if (record_head && *alive_word) __atomic_fetch_add(&record_head->missed, 1, __ATOMIC_RELAXED);
}

/* ---- threads ---- */

static uint32_t journal_take(hak_trace_journal **taken) {
    if (left_journals) {
        *taken = left_journals;
        left_journals = (hak_trace_journal *)(uintptr_t)left_journals->begin_ns;
        return 0;
    }
    if (!journal_count) {
        uint32_t count = journals ? JOURNALS : JOURNALS_FIRST;
        char *place;
        uint32_t reason = record_file_segment(
            HAK_TRACE_JOURNALS, OS_PAGE + (size_t)count * HAK_TRACE_JOURNAL_BYTES, &place);
        if (reason) return reason;
        journals = place + OS_PAGE;
        journal_count = count;
    }
    *taken = (hak_trace_journal *)journals;
    journals += HAK_TRACE_JOURNAL_BYTES;
    journal_count--;
    return 0;
}

static bool thread_begin(void) {
    hak_trace_journal *journal = NULL;
    record_thread *me =
        mmap(NULL, RECORD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    record_lock_take();
    uint32_t reason = me == MAP_FAILED || thread_count >> HAK_TRACE_THREAD_BITS
                          ? HAK_TRACE_NO_MEMORY
                          : journal_take(&journal);
    if (reason) record_stop(reason);
    else {
        me->number = thread_count++;
        record_head->thread_count++;
    }
    record_lock_give();
    if (reason) {
        if (me != MAP_FAILED) munmap(me, RECORD_BYTES);
        return false;
    }
    if (has_wiping) madvise(me, RECORD_BYTES, MADV_WIPEONFORK);
    me->journal = journal;
    me->next_object = (uint64_t)me->number << HAK_TRACE_NUMBER_BITS | 1;
    journal->thread = me->number;
    if (has_end_key) pthread_setspecific(end_key, me);
    record_me = me;
    return true;
}

/* What a thread does behind this, it does as another one with a number of its own. */
static void thread_leave(record_thread *me) {
    uint64_t *end = me->at;
    hak_trace_journal *journal = me->journal;
    if (!end) return; /* recording has stopped */
    if (end == record_words(journal) || record_chunk_make(me, end, HAK_TRACE_LAST)) {
        record_lock_take();
        journal->begin_ns = (uintptr_t)left_journals;
        left_journals = journal;
        record_lock_give();
    }
    record_me = &nobody;
    munmap(me, RECORD_BYTES);
}

/* A thread's destructors may free: the last round of them finds the recorder's once more. */
static void thread_end(void *at) {
    record_thread *me = at;
    if (!*alive_word || me != record_me || record_busy) return;
    if (++me->ending < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(end_key, me);
        return;
    }
    record_busy = true;
    thread_leave(me);
    record_busy = false;
}

/* ---- the process ---- */

/* In a child where the OS does not wipe: the record of the thread that forked alone is looked at.
 */
static void child_wipe(void) {
    *alive_word = 0;
    if (record_me != &nobody) record_me->at = record_me->end = NULL;
}

/* False where nothing is to be recorded. */
static bool process_begin(void) {
    const char *wanted = getenv(HAK_TRACE_FILE_VARIABLE), *only = getenv(HAK_TRACE_ONLY_VARIABLE);
    if (!wanted || *wanted != '/' || strlen(wanted) >= sizeof wanted_path) return false;
    if (only && *only && strcmp(only, program_invocation_short_name)) return false;
    strcpy(wanted_path, wanted);
    void *page = mmap(NULL, OS_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || !record_file_begin(wanted_path, 0, 0)) return false;
    alive_word = page;
    *alive_word = 1;
    has_wiping = !madvise(page, OS_PAGE, MADV_WIPEONFORK);
    if (!has_wiping) pthread_atfork(NULL, NULL, child_wipe);
    has_end_key = !pthread_key_create(&end_key, thread_end);
    return true;
}

/* A fork's child: of its parent's recorder it keeps what names the blocks that it inherited. */
static void child_begin(void) {
    uint32_t parent = record_head ? record_head->pid : 0;
    lock = 0;
    *alive_word = 1;
    record_me = &nobody;
    if (has_end_key) pthread_setspecific(end_key, NULL);
    record_chunks_forget();
    journals = NULL;
    journal_count = 0;
    left_journals = NULL;
    if (record_is_off || !record_file_begin(wanted_path, parent, thread_count)) record_stop(0);
}

/* Where a program's threads begin, there is one: nobody else looks at is_begun meanwhile. */
static bool room_make(void) {
    if (!is_begun) {
        if (!environ) return false; /* before there are variables nobody knows */
        is_begun = true;
        if (!process_begin()) record_stop(0);
    } else if (alive_word && !*alive_word) child_begin();
    if (record_is_off) return false;
    record_thread *me = record_me;
    if (me == &nobody) {
        if (!thread_begin()) return false;
        me = record_me;
    } else if (!me->at || !record_chunk_make(me, me->at, 0)) {
        me->at = me->end = NULL; /* the journal stays as it stands */
        return false;
    }
    hak_trace_journal *journal = me->journal;
    journal->sequence = me->sequence;
    journal->first_make = (me->next_object & (((uint64_t)1 << HAK_TRACE_NUMBER_BITS) - 1)) - 1;
    journal->begin_ns = record_clock_ns();
    me->at = record_words(journal);
    me->end = me->at + HAK_TRACE_JOURNAL_WORDS - 1; /* a realloc takes two */
    return true;
}

RECORD_COLD bool record_room_make(void) {
    if (record_is_off) return false;
    int before = errno;
    bool good = room_make();
    errno = before;
    return good;
}

/* exit: other threads' journals, and what comes later, are left as they stand. */
__attribute__((destructor)) static void process_end(void) {
    if (!record_head || !*alive_word) return;
    record_head->state = HAK_TRACE_EXITED;
    if (record_me == &nobody || record_busy) return;
    record_busy = true;
    thread_leave(record_me);
    record_busy = false;
}
