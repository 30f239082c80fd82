/* locks.h: every lock there is, and the order in which a thread takes them.
 *
 * The ranks stand outer first: a thread that holds a lock takes only locks of later ranks, one of
 * each rank. A claim is the lock of a slab: it is tried and never waited for; a thread may try for
 * a second one, as stage adopt of acquire.c does. Debug builds assert the order in each thread.
 * Other locks that are tried and never waited for (sweep_busy, trim_busy) need no rank, nor does
 * purge_lock: a thread that waits for it holds no other lock.
 */
#ifndef HAK_LOCKS_H
#define HAK_LOCKS_H
#include "hak_internal.h"

typedef enum hak_rank {
    HAK_RANK_ONCE,    /* hak_once_lock: what happens once in a process */
    HAK_RANK_RECORD,  /* a heap's record_lock: record 0, which threads without a record share */
    HAK_RANK_FORK,    /* a fork's child is repaired: behind the fork word */
    HAK_RANK_ROOT,    /* hak_root.lock: the list of heaps */
    HAK_RANK_POLICY,  /* a heap's policy_lock: who changes its policy */
    HAK_RANK_GATE,    /* a record's gate: its thread is reaped; reapers only try for it */
    HAK_RANK_CLAIM,   /* slabs: claim_seq */
    HAK_RANK_RUN,     /* a heap's run_lock: the run heap */
    HAK_RANK_PROFILE, /* a profile's lock: its samples and sites */
} hak_rank;
#define HAK_CLAIMS_MOST 2 /* of one thread: the slab it keeps, and the one it looks at */

/* locks.c */
HAK_HIDDEN uint32_t hak_lock_id(void);
HAK_HIDDEN bool hak_lock_id_renew(void);
HAK_HIDDEN void hak_once_lock(uint64_t *once);
HAK_HIDDEN void hak_once_unlock(uint64_t *once);
HAK_HIDDEN void hak_record_lock(hak_heap *h);
HAK_HIDDEN void hak_record_unlock(hak_heap *h);
HAK_HIDDEN void hak_fork_lock(uint32_t *lock);
HAK_HIDDEN void hak_fork_unlock(uint32_t *lock);
HAK_HIDDEN void hak_root_lock(void);
HAK_HIDDEN void hak_root_lock_only(void);
HAK_HIDDEN void hak_root_unlock(void);
HAK_HIDDEN void hak_policy_lock(hak_heap *h);
HAK_HIDDEN bool hak_policy_try(hak_heap *h);
HAK_HIDDEN void hak_policy_unlock(hak_heap *h);
HAK_HIDDEN bool hak_gate_take(hak_thread *t);
HAK_HIDDEN void hak_gate_give(hak_thread *t);
HAK_HIDDEN void hak_gate_wait(hak_thread *t);
HAK_HIDDEN bool hak_purge_mark(hak_heap *h);
HAK_HIDDEN void hak_purge_unmark(hak_heap *h);
HAK_HIDDEN void hak_purge_wait(hak_heap *h);
HAK_HIDDEN void hak_run_lock(hak_heap *h);
HAK_HIDDEN void hak_run_unlock(hak_heap *h);
HAK_HIDDEN void hak_profile_lock(hak_profile *p);
HAK_HIDDEN void hak_profile_unlock(hak_profile *p);

#endif
