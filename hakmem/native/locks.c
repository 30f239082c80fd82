/* locks.c: how each lock is taken and given back, and how a thread waits for one.
 *
 * A lock's word is 0, or the OS's number of the thread that holds it, with FUTEX_WAITERS once
 * others sleep for it: what the kernel wants of a lock with priority inheritance. Taken and given
 * back by one CAS each, and by plain stores while the process has one thread. Who does not get it
 * spins for some microseconds, since most holders are done by then; sleeps for HAK_LOCK_NAP_NS, so
 * that a thread of whatever priority leaves its CPU to the holder and the lock to who runs; then
 * lends the holder its priority (FUTEX_LOCK_PI). That last way hands the lock over in the order of
 * priorities, and is slow: the nap before it keeps it rare. No wait is ever longer than the
 * holder's own work, whatever runs at priorities in between. A kernel or a filter that refuses the
 * call leaves the naps.
 *
 * A vfork's child runs with its parent's memory and its parent's number, under which the kernel
 * does not know it: it cannot hand over, so it frees the word, and a waiter that it leaves behind
 * finds that out HAK_LOCK_LOOK_NS later. A fork's child has a number of its own, asked for before
 * its first lock (fork.c), and finds no lock of its parent's: the repair frees them.
 *
 * Orders: each taking CAS acquires what the release of the CAS in `give` published; handed over by
 * the kernel, the load acquires what the fetch in give_waited released.
 */
#include "hooks.h"
#include "locks.h"

/* The calling thread's number; 0: not asked yet. */
static __thread uint32_t own_id __attribute__((tls_model("initial-exec")));

/* Returns whether the thread had another number: it forked, and this is the child. */
bool hak_lock_id_renew(void) {
    uint32_t id = hak_os_thread_id(), before = own_id;
    own_id = id && id < HAK_LOCK_NOBODY ? id : HAK_LOCK_NOBODY; /* refused: an errno's pattern */
    return before && before != own_id && own_id != HAK_LOCK_NOBODY;
}
uint32_t hak_lock_id(void) {
    if (hak_unlikely(!own_id)) (void)hak_lock_id_renew();
    return own_id;
}

static inline bool take(uint32_t *lock, uint32_t id) {
    uint32_t none = 0;
    if (!hak_single_threaded()) return hak_cas_acquire(lock, &none, id);
    if (hak_load_relaxed(lock)) return false;
    hak_store_relaxed(lock, id); /* the only thread: nobody can come between */
    return true;
}

HAK_COLD static void wait_and_take(uint32_t *lock, uint32_t id, uint32_t backoff_spins) {
    for (uint32_t n = 0; n < HAK_LOCK_SPIN_TRIES; n++) {
        hak_backoff(n, backoff_spins);
        if (take(lock, id)) return;
    }
    for (;;) {
        hak_os_nap(HAK_LOCK_NAP_NS);
        if (take(lock, id)) return;
        if (hak_os_lock_inherit(lock, HAK_LOCK_LOOK_NS)) break;
    }
    (void)hak_load_acquire(lock); /* partner: the fetch in give_waited */
}

/* Others sleep for it, or did. Refused to who is not the holder for the kernel: a vfork's child, a
 * thread whose number the OS does not tell. */
HAK_COLD static void give_waited(uint32_t *lock) {
    (void)hak_or_release(lock, 0);
    if (!hak_os_unlock_inherit(lock)) hak_store_release(lock, 0);
}

/* Returns whether it waited. */
static inline bool lock_take(uint32_t *lock, uint32_t backoff_spins) {
    uint32_t id = hak_lock_id();
    if (hak_likely(take(lock, id))) return false;
    wait_and_take(lock, id, backoff_spins);
    return true;
}
static inline void lock_give(uint32_t *lock) {
    uint32_t mine = own_id;
    if (hak_single_threaded() && hak_load_relaxed(lock) == mine) hak_store_release(lock, 0);
    else if (hak_unlikely(!hak_cas_release(lock, &mine, 0))) give_waited(lock);
}

/* The lock is the low half of the word, the high half the process that it belongs to: a child takes
 * it from a thread of its parent's, before there is a heap to repair. */
void hak_once_lock(uint64_t *once) {
    hak_rank_take(HAK_RANK_ONCE);
    (void)hak_lock_id_renew(); /* a fork's child may come here before anywhere else */
    uint64_t mine = (uint64_t)hak_os_process_id() << 32, word = hak_load_relaxed(once);
    while (word >> 32 != mine >> 32)
        if (hak_cas_acquire(once, &word, mine | hak_lock_id())) return;
    (void)lock_take((uint32_t *)once, HAK_LOCK_BACKOFF_SPINS); /* machines are little-endian */
}
void hak_once_unlock(uint64_t *once) {
    hak_rank_drop(HAK_RANK_ONCE);
    lock_give((uint32_t *)once);
}

/* The lock of record 0. */
void hak_record_lock(hak_heap *h) {
    hak_rank_take(HAK_RANK_RECORD);
    (void)lock_take(&h->record_lock, HAK_LOCK_BACKOFF_SPINS);
}
void hak_record_unlock(hak_heap *h) {
    hak_rank_drop(HAK_RANK_RECORD);
    lock_give(&h->record_lock);
}

/* Of a fork's child: stands behind the word that says what is left to repair. */
void hak_fork_lock(uint32_t *lock) {
    hak_rank_take(HAK_RANK_FORK);
    (void)lock_take(lock, HAK_LOCK_BACKOFF_SPINS);
}
void hak_fork_unlock(uint32_t *lock) {
    hak_rank_drop(HAK_RANK_FORK);
    lock_give(lock);
}

void hak_root_lock_only(void) {
    hak_rank_take(HAK_RANK_ROOT);
    (void)lock_take(&hak_root_.lock, HAK_LOCK_BACKOFF_SPINS);
}
void hak_root_lock(void) {
    hak_fork_look();
    hak_root_lock_only();
}
void hak_root_unlock(void) {
    hak_rank_drop(HAK_RANK_ROOT);
    lock_give(&hak_root_.lock);
}

/* The gate of a record: a reaper tries for it, the owner waits until it is free. */
bool hak_gate_take(hak_thread *t) {
    if (!take(&t->gate, hak_lock_id())) return false;
    hak_rank_take(HAK_RANK_GATE);
    return true;
}
void hak_gate_give(hak_thread *t) {
    hak_rank_drop(HAK_RANK_GATE);
    lock_give(&t->gate);
}
void hak_gate_wait(hak_thread *t) {
    hak_assert(hak_rank_is_free(HAK_RANK_GATE));
    (void)lock_take(&t->gate, HAK_LOCK_BACKOFF_SPINS);
    lock_give(&t->gate);
}

/* Who purges says so, if nobody has yet; returns whether the word is his. */
bool hak_purge_mark(hak_heap *h) { return take(&h->purge_lock, hak_lock_id()); }
void hak_purge_unmark(hak_heap *h) { lock_give(&h->purge_lock); }
/* Waits until that one is done, or, where others purge, for a moment. */
void hak_purge_wait(hak_heap *h) {
    hak_assert(!hak_rank_is_held(HAK_RANK_RUN));
    (void)lock_take(&h->purge_lock, HAK_LOCK_BACKOFF_SPINS);
    lock_give(&h->purge_lock);
}

/* Who changes the policy. Threads that bring one from the inbox only try for it. */
void hak_policy_lock(hak_heap *h) {
    hak_rank_take(HAK_RANK_POLICY);
    (void)lock_take(&h->policy_lock, HAK_LOCK_BACKOFF_SPINS);
}
bool hak_policy_try(hak_heap *h) {
    if (!take(&h->policy_lock, hak_lock_id())) return false;
    hak_rank_take(HAK_RANK_POLICY);
    return true;
}
void hak_policy_unlock(hak_heap *h) {
    hak_rank_drop(HAK_RANK_POLICY);
    lock_give(&h->policy_lock);
}

/* Under it no call goes to the OS but those that map and unmap units. */
void hak_run_lock(hak_heap *h) {
    hak_rank_take(HAK_RANK_RUN);
    bool waited = lock_take(&h->run_lock, hak_number(hak_policy_of(h)->acquire.backoff_spins));
    h->lock_count++;
    h->lock_wait_count += waited;
}
void hak_run_unlock(hak_heap *h) {
    hak_rank_drop(HAK_RANK_RUN);
    lock_give(&h->run_lock);
}

/* The innermost: samples and sites, and which slabs are tagged for them. */
void hak_profile_lock(hak_profile *p) {
    hak_rank_take(HAK_RANK_PROFILE);
    (void)lock_take(&p->lock, HAK_LOCK_BACKOFF_SPINS);
}
void hak_profile_unlock(hak_profile *p) {
    hak_rank_drop(HAK_RANK_PROFILE);
    lock_give(&p->lock);
}
