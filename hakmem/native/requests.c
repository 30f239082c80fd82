/* requests.c: what another process asks of a heap: to trim, or to drain its thread caches.
 *
 * The other process writes a number into drain_request or trim_request by process_vm_writev: 64
 * random bits, so a number that never stood there before. Nothing else is ever written from
 * outside, and no CAS is needed. Slow paths compare. A new number in trim_request is obeyed by the
 * first thread that gets trim_busy; it answers with trim_bytes and then, by release, trim_served. A
 * new number in drain_request is obeyed by every thread for itself, and answered in its own record.
 * A number that is read half written is new as well: it is obeyed, and so is the whole number after
 * it. If two processes write, the last number is answered; the other process sees that number and
 * waits for its answer, since it came later than its own.
 *
 * Called where the thread holds no claim and no lock but record 0's.
 */
#include "locks.h"
#include "profile.h"

/* Flushes the caches that belong to no live thread; that of record 0 only if the caller does not
 * hold it. */
static void flush_ownerless(hak_thread *t) {
    if (t->index) hak_threads_flush_idle(hak_heap_of(t));
    else hak_threads_flush_parked(hak_heap_of(t));
}

uint64_t hak_trim(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    hak_assert(hak_rank_is_free(HAK_RANK_FORK)); /* trim claims slabs and takes run_lock */
    flush_ownerless(t);
    hak_cache_flush(t, 0);
    hak_acquire_collect(t);
    uint64_t pages = hak_sweep_all(t);
    hak_acquire_flush_ready(t);
    return hak_purge_all(h) + pages * HAK_OS_PAGE_BYTES;
}

static void serve_drain(hak_thread *t, uint64_t ticket) {
    hak_cache_flush(t, 0);
    flush_ownerless(t);
    /* partner: the reader in the other process; the */
    hak_store_release(&t->drain_served, ticket);
}

static void serve_trim(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint32_t none = 0;
    /* partner: the release below; the thread that */
    if (!hak_cas_acquire(&h->trim_busy, &none, 1)) return;
    uint64_t ticket = hak_load_relaxed(&h->trim_request);
    if (ticket != hak_load_relaxed(&h->trim_served)) {
        hak_store_relaxed(&h->trim_bytes, hak_trim(t));
        /* partner: the reader in the other process, who */
        hak_store_release(&h->trim_served, ticket);
    }
    hak_store_release(&h->trim_busy, 0);
}

/* Two threads may serve one request: both set the same rate. Whoever asked finds another rate in
 * force than the one wished for where it is out of range, or where there is no memory. */
static void serve_profile(hak_heap *h) {
    uint64_t ticket = hak_load_relaxed(&h->profile_request);
    (void)hak_profile_set(h, hak_load_relaxed(&h->profile_wish));
    /* partner: the reader in the other process */
    hak_store_release(&h->profile_served, ticket);
}

void hak_request_serve(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint64_t drain = hak_load_relaxed(&h->drain_request);
    if (drain != t->drain_served) serve_drain(t, drain);
    if (hak_load_relaxed(&h->trim_request) != hak_load_relaxed(&h->trim_served)) serve_trim(t);
    if (hak_load_relaxed(&h->profile_request) != hak_load_relaxed(&h->profile_served))
        serve_profile(h);
}
