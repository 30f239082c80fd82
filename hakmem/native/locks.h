/* locks.h: every lock there is, and the order in which a thread takes them.
 *
 * The ranks stand outer first: a thread that holds a lock takes only locks of later ranks, one of
 * each rank. A claim is the lock of a slab. A thread waits for a claim only while it holds none; it
 * may try for a second one without waiting, as stage adopt of acquire.c does. Debug builds assert
 * the order in each thread. Locks that are tried and never waited for (sweep_busy, trim_busy) need
 * no rank.
 */
#ifndef HAK_LOCKS_H
#define HAK_LOCKS_H
#include "hak_internal.h"

typedef enum hak_rank {
    HAK_RANK_ONCE,   /* hak_once_lock: what happens once in a process */
    HAK_RANK_RECORD, /* `busy` of a heap's record 0, which threads without a record share */
    HAK_RANK_FORK,   /* a fork's child is repaired: HAK_FORK_BUSY in the fork word */
    HAK_RANK_ROOT,   /* hak_root.lock: the list of heaps */
    HAK_RANK_CLAIM,  /* slabs: claim_seq */
    HAK_RANK_RUN,    /* a heap's run_lock: the run heap */
} hak_rank;
#define HAK_CLAIMS_MOST 2 /* of one thread: the slab it keeps, and the one it looks at */

/* locks.c */
HAK_HIDDEN void hak_once_lock(uint32_t *lock);
HAK_HIDDEN void hak_record_lock(hak_thread *t);
HAK_HIDDEN void hak_root_lock(void);
HAK_HIDDEN void hak_root_lock_only(void);
HAK_HIDDEN void hak_run_lock(hak_heap *h);

/* Each unlock publishes what was written under the lock. Partner: the CAS in locks.c that takes
 * it. */
static inline void hak_once_unlock(uint32_t *lock) {
    hak_rank_drop(HAK_RANK_ONCE);
    hak_store_release(lock, 0);
}
static inline void hak_record_unlock(hak_thread *t) {
    hak_rank_drop(HAK_RANK_RECORD);
    hak_store_release(&t->busy, 0);
}
static inline void hak_root_unlock(void) {
    hak_rank_drop(HAK_RANK_ROOT);
    hak_store_release(&hak_root_.lock, 0);
}
static inline void hak_run_unlock(hak_heap *h) {
    hak_rank_drop(HAK_RANK_RUN);
    hak_store_release(&h->run_lock, 0);
}

#endif
