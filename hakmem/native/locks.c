/* locks.c: how each lock is taken: by CAS, between tries with pauses that grow, later with yields
 * to the OS. Waits are rare and short. Each CAS acquires what the last unlock in locks.h released.
 */
#include "hooks.h"
#include "locks.h"

/* Returns how many tries failed before the lock was taken. */
static uint32_t lock_wait(uint32_t *lock, uint32_t backoff_spins) {
    uint32_t expected = 0, n = 0;
    for (; !hak_cas_acquire(lock, &expected, 1); n++, expected = 0)
        if (n < HAK_LOCK_SPIN_TRIES) hak_backoff(n, backoff_spins);
        else hak_os_yield();
    return n;
}

/* For work that stands before any heap, so that fork.c cannot repair the lock. The lock word holds
 * the id of its process; a fork's child takes the lock away from a process that is not its own.
 * Partner of both CAS: hak_once_unlock. */
void hak_once_lock(uint32_t *lock) {
    uint32_t mine = hak_os_process_id(), found = 0;
    hak_rank_take(HAK_RANK_ONCE);
    while (!hak_cas_acq_rel(lock, &found, mine)) {
        if (found != mine && hak_cas_acq_rel(lock, &found, mine)) return;
        hak_os_yield();
        found = 0;
    }
}

/* The lock of record 0, which threads without a record share. */
void hak_record_lock(hak_thread *t) {
    hak_rank_take(HAK_RANK_RECORD);
    (void)lock_wait(&t->busy, HAK_LOCK_BACKOFF_SPINS);
}

void hak_root_lock_only(void) {
    hak_rank_take(HAK_RANK_ROOT);
    (void)lock_wait(&hak_root_.lock, HAK_LOCK_BACKOFF_SPINS);
}
void hak_root_lock(void) {
    hak_fork_look();
    hak_root_lock_only();
}

/* Under it no call goes to the OS but those that map and unmap units. */
void hak_run_lock(hak_heap *h) {
    hak_rank_take(HAK_RANK_RUN);
    bool waited = lock_wait(&h->run_lock, hak_policy_of(h)->acquire.backoff_spins) != 0;
    h->lock_count++;
    h->lock_wait_count += waited;
}
