/* locks.h: every lock there is, and the order in which a thread takes them.
 *
 * Ranks, outer first: who holds a lock takes locks of later ranks only, one of each. A claim is the
 * lock of a slab: a thread may try for a second claim, as stage adopt does, but waits for a claim
 * only while it holds none. Debug builds assert the order, by thread. Locks that are tried and
 * never waited for (sweep_busy, trim_busy) need no rank.
 */
#ifndef HAK_LOCKS_H
#define HAK_LOCKS_H
#include "hak_internal.h"

typedef enum hak_rank {
    HAK_RANK_ONCE,   /* what happens once in a process: hak_once_lock */
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

/* Each publishes what was written under the lock; partner: the CAS that takes it, in locks.c. */
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
