/* requests.c: what another process asks of a heap: to trim it, to drain the thread caches.
 *
 * The other process writes a number into drain_request or trim_request that stood there at no time
 * before (64 random bits), with process_vm_writev; nothing else is ever written from outside, and
 * no CAS is needed. Slow paths compare: an unknown number in trim_request is obeyed by whoever
 * comes first and gets trim_busy, which then answers with trim_bytes and, released, trim_served; an
 * unknown one in drain_request by every thread for itself, answered in its own record. A number
 * that is read half written is unknown as well: it is obeyed, and the whole one after it once more.
 * Of two writers the last one's number is answered; the other sees it standing there and waits for
 * that: it came later than his.
 *
 * Called where the thread holds nothing: no claim, no lock but, for the shared record, that
 * record's.
 */
#include "locks.h"

/* Caches that no live thread owns; the shared record's only if it is not the caller's. */
static void flush_ownerless(hak_thread *t) {
    if (t->index) hak_threads_flush_idle(hak_heap_of(t));
    else hak_threads_flush_parked(hak_heap_of(t));
}

uint64_t hak_trim(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    hak_assert(hak_rank_is_free(HAK_RANK_FORK)); /* it claims, and takes the run lock */
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
    /* partner: the outside reader; the caches are empty when it sees this */
    hak_store_release(&t->drain_served, ticket);
}

static void serve_trim(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint32_t none = 0;
    /* partner: the release below; who holds it answers */
    if (!hak_cas_acquire(&h->trim_busy, &none, 1)) return;
    uint64_t ticket = hak_load_relaxed(&h->trim_request);
    if (ticket != hak_load_relaxed(&h->trim_served)) {
        hak_store_relaxed(&h->trim_bytes, hak_trim(t));
        /* partner: the outside reader, who reads trim_bytes after it */
        hak_store_release(&h->trim_served, ticket);
    }
    hak_store_release(&h->trim_busy, 0);
}

void hak_request_serve(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint64_t drain = hak_load_relaxed(&h->drain_request);
    if (drain != t->drain_served) serve_drain(t, drain);
    if (hak_load_relaxed(&h->trim_request) != hak_load_relaxed(&h->trim_served)) serve_trim(t);
}
