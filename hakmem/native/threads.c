/* threads.c: thread records: attached at a thread's first call, parked or flushed when the thread
 * ends.
 *
 * One TLS pointer leads to a thread's record of the process heap. Its records of other heaps stand
 * in the thread's directory, an array by heap slot. An entry holds the heap's generation, so that a
 * later heap in the same slot is never mistaken for an earlier one. When a heap has no record left,
 * the callers share record 0 under record_lock: slower, but never a failure.
 */
#include <pthread.h>

#include "caps.h"
#include "gate.h"
#include "hooks.h"
#include "lists.h"
#include "locks.h"
#include "region.h"
#include "rows.h"

typedef struct hak_place {
    hak_heap *heap;
    hak_thread *thread;
    uint64_t generation;
} hak_place;

typedef struct hak_directory {
    uint64_t map_bytes;
    uint32_t count;
    hak_place place[];
} hak_directory;

/* The record of a thread that has none yet: every fast path misses. Nobody writes it. */
hak_thread hak_early_thread = {.fast_map = (uintptr_t)hak_no_classes,
                               .counted_map = (uintptr_t)hak_no_classes};
/* The same for a thread whose end has begun. */
static hak_thread late_thread = {.fast_map = (uintptr_t)hak_no_classes,
                                 .counted_map = (uintptr_t)hak_no_classes};
__thread hak_thread *hak_tls_thread __attribute__((tls_model("initial-exec"))) = &hak_early_thread;
static __thread hak_directory *directory __attribute__((tls_model("initial-exec")));
/* How libc tells us of a thread's end. HOOK_NONE: nobody has asked yet. HOOK_LIST: libc had no key
 * left, so its list of C++ destructors serves. Otherwise the key + HOOK_KEY. Set once, by CAS;
 * relaxed loads suffice, because the word alone says everything. */
enum { HOOK_NONE, HOOK_LIST, HOOK_KEY };
static uint64_t exit_hook;

/* A list of thread records is one word: index + 1 of the first record | count << 32 | tag << 40.
 * Records stay mapped, so a link may be read of a record that somebody took meanwhile; the CAS then
 * fails, because the tag moved. The CAS of a pop acquires what the push released: the whole
 * record. */
static bool list_push(uint64_t *list, hak_thread *t, uint32_t most) {
    uint64_t word = hak_load_relaxed(list);
    do {
        if (((word >> 32) & 0xff) >= most) return false;
        hak_store_relaxed(&t->next, (uint32_t)word);
    } while (!hak_cas_acq_rel(list, &word,
                              (t->index + 1) | (((word >> 32) + (most < 256)) & 0xff) << 32 |
                                  ((word >> 40) + 1) << 40));
    return true;
}
static hak_thread *list_pop(hak_heap *h, uint64_t *list, bool counted) {
    uint64_t word = hak_load_acquire(list);
    while ((uint32_t)word) {
        hak_thread *t = hak_thread_at(h, (uint32_t)word - 1);
        uint64_t next = hak_load_relaxed(&t->next);
        if (hak_cas_acq_rel(list, &word,
                            next | (((word >> 32) - counted) & 0xff) << 32 |
                                ((word >> 40) + 1) << 40))
            return t;
    }
    return NULL;
}

/* The same for the free lists of other files, which keep no count. */
void hak_thread_list_push(uint64_t *list, hak_thread *t) { (void)list_push(list, t, 256); }
hak_thread *hak_thread_list_pop(hak_heap *h, uint64_t *list) { return list_pop(h, list, false); }

void hak_thread_record_init(hak_heap *h, hak_thread *t, uint32_t index) {
    t->base = t->heap = (uintptr_t)h;
    t->unit_limit = hak_load_acquire(&h->table_units); /* partner: hak_tables_reach */
    t->index = index;
    hak_maps_set(t);
    hak_rows_init(t);
    hak_magazines_init(t);
    hak_caps_init(t);
}

static hak_thread *attach(hak_heap *h) {
    hak_thread *t = list_pop(h, &h->parked_word, true);
    bool parked = t;
    if (!t) t = list_pop(h, &h->unused_word, false);
    if (!t) {
        uint32_t index = hak_load_relaxed(&h->thread_top);
        do {
            if (index >= h->thread_limit || !hak_region_map_record(h, index)) return NULL;
            /* a count: the thread whose CAS takes an index owns that record */
        } while (!hak_cas_acq_rel(&h->thread_top, &index, index + 1));
        t = hak_thread_at(h, index);
        hak_thread_record_init(h, t, index);
    }
    hak_assert(t->index && t->state != HAK_THREAD_LIVE && hak_heap_of(t) == h);
    hak_slow_enter(t); /* one that was live when a reaper looked may be closed for a moment */
    hak_store_relaxed(&t->os_id, hak_lock_id());
    /* partner: readers in other processes; inside this one the lists say who owns a record */
    hak_store_release(&t->state, HAK_THREAD_LIVE);
    hak_add_relaxed(&h->thread_live, 1);
    if (!parked) hak_caps_fit(t);
    if (hak_number(hak_policy_of(h)->caches.prewarm)) hak_cache_prewarm(t);
    hak_slow_leave(t);
    return t;
}

/* Ends a thread's use of a record: caches that are small enough are parked for the next thread, the
 * others flushed. Called under hak_root.lock, or for the process heap, which is never destroyed.
 * The thread counts as live until the end, so that a fork meanwhile knows there may be claims to
 * repair. */
static void detach(hak_heap *h, hak_thread *t) {
    const hak_cache_policy *caches = &hak_policy_of(h)->caches;
    hak_assert(t->index && t->state == HAK_THREAD_LIVE && hak_heap_of(t) == h);
    hak_slow_enter_locked(t);
    hak_cache_flush(t, hak_number(caches->park_bytes));
    if (hak_cache_bytes(t) > hak_number(caches->park_cached_bytes)) hak_cache_flush(t, 0);
    t->held_bytes = (int64_t)hak_cache_bytes(t); /* the next thread took nothing else */
    hak_store_release(&t->state, HAK_THREAD_PARKED);
    hak_slow_leave(t); /* now no reaper comes in; and the next thread counts itself in */
    if (!list_push(&h->parked_word, t, hak_number(caches->parked_count))) {
        hak_cache_flush(t, 0);
        hak_store_release(&t->state, HAK_THREAD_UNUSED);
        list_push(&h->unused_word, t, 256);
    }
    hak_add_relaxed(&h->thread_live, -1u);
}

static void thread_exit(void *unused) {
    (void)unused;
    hak_fork_look();
    hak_thread *mine = hak_tls_thread;
    hak_tls_thread = &late_thread;
    if (mine->heap) {
        detach(hak_heap_of(mine), mine);
        hak_background_see_end(hak_heap_of(mine));
    }
    hak_directory *d = directory;
    directory = NULL;
    if (!d) return;
    hak_root_lock();
    for (hak_heap *h = (hak_heap *)(uintptr_t)hak_root_.first_heap; h;
         h = (hak_heap *)(uintptr_t)h->next_heap)
        if (h->slot < d->count && d->place[h->slot].heap == h &&
            d->place[h->slot].generation == h->generation)
            detach(h, d->place[h->slot].thread);
    hak_root_unlock();
    hak_os_release_range(d, d->map_bytes);
}

/* libc's list of what C++ destroys when a thread ends. */
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *) __attribute__((weak));
extern void *__dso_handle __attribute__((visibility("hidden")));

/* Takes the pthread key whose destructor ends a thread's caches, once for the process: when the
 * library is loaded, before a program can have taken all keys, or at a malloc before that. Called
 * under no lock, since pthread_key_create may be somebody's wrapper, which allocates and so comes
 * back here. */
__attribute__((constructor)) void hak_threads_exit_hook(void) {
    if (hak_load_relaxed(&exit_hook) != HOOK_NONE) return;
    pthread_key_t key;
    uint64_t expected = HOOK_NONE;
    bool made = pthread_key_create(&key, thread_exit) == 0;
    if (!hak_cas_acq_rel(&exit_hook, &expected, made ? (uint64_t)key + HOOK_KEY : HOOK_LIST) &&
        made)
        pthread_key_delete(key);
}

/* Asks libc to call thread_exit when the calling thread ends; may allocate. Asking twice does no
 * harm: the second call finds nothing to end. False: libc will not, and nobody would give the
 * thread's records back. */
static bool ask_for_the_end(void) {
    hak_threads_exit_hook();
    uint64_t hook = hak_load_relaxed(&exit_hook);
    if (hook != HOOK_LIST)
        return pthread_setspecific((pthread_key_t)(hook - HOOK_KEY), &exit_hook) == 0;
    return __cxa_thread_atexit_impl &&
           __cxa_thread_atexit_impl(thread_exit, NULL, &__dso_handle) == 0;
}

static bool directory_grow(uint32_t slot) {
    hak_directory *old = directory;
    uint64_t bytes = old ? old->map_bytes * 2 : HAK_OS_PAGE_BYTES;
    while (bytes < sizeof(hak_directory) + (slot + 1) * sizeof(hak_place)) bytes *= 2;
    hak_directory *made = hak_os_map_anywhere(bytes);
    if (!made) return false;
    for (uint32_t i = 0; old && i < old->count; i++) made->place[i] = old->place[i];
    made->map_bytes = bytes;
    made->count = (uint32_t)((bytes - sizeof(hak_directory)) / sizeof(hak_place));
    directory = made;
    if (old) hak_os_release_range(old, old->map_bytes);
    return true;
}

/* The calling thread's record of a heap, if it has one. */
hak_thread *hak_thread_known(hak_heap *h) {
    if (h->flags & HAK_HEAP_PROCESS) return hak_tls_thread->heap ? hak_tls_thread : NULL;
    hak_directory *d = directory;
    if (!d || h->slot >= d->count || d->place[h->slot].heap != h ||
        d->place[h->slot].generation != h->generation)
        return NULL;
    return d->place[h->slot].thread;
}

/* The calling thread's record of a heap, attached at the first call. NULL when no record is left,
 * or when the thread's end has begun: destructors that run after ours use record 0. */
hak_thread *hak_thread_get(hak_heap *h) {
    hak_thread *t = hak_thread_known(h);
    if (hak_likely(t != NULL)) return t;
    hak_fork_look();
    /* too late to ask libc: nobody would give the record back */
    if (hak_tls_thread == &late_thread) return NULL;
    bool process = h->flags & HAK_HEAP_PROCESS;
    if (!process && (!directory || h->slot >= directory->count) && !directory_grow(h->slot))
        return NULL;
    t = attach(h);
    if (!t) return NULL;
    if (process) hak_tls_thread = t;
    else directory->place[h->slot] = (hak_place){h, t, h->generation};
    /* the record is in place before this call, which may allocate */
    if (hak_likely(ask_for_the_end())) return t;
    thread_exit(NULL);
    return NULL;
}

/* Record 0 with its lock taken, for a thread that gets no record of its own. */
hak_thread *hak_thread_enter_shared(hak_heap *h) {
    hak_fork_look();
    hak_thread *t = hak_thread_at(h, 0);
    hak_record_lock(h);
    if (!t->base) hak_thread_record_init(h, t, 0);
    return t;
}
/* The record for one operation, a slow path: the thread's own, or record 0 with its lock taken. */
hak_thread *hak_thread_enter(hak_heap *h) {
    hak_thread *t = hak_thread_get(h);
    if (hak_unlikely(!t)) return hak_thread_enter_shared(h);
    hak_slow_enter(t);
    return t;
}
void hak_thread_leave(hak_thread *t) {
    if (hak_likely(t->index)) hak_slow_leave(t);
    else hak_record_unlock(hak_heap_of(t));
}

/* Flushes the caches of ended threads. */
void hak_threads_flush_parked(hak_heap *h) {
    for (hak_thread *t; (t = list_pop(h, &h->parked_word, true));) {
        hak_assert(t->state == HAK_THREAD_PARKED);
        hak_cache_flush(t, 0);
        hak_store_release(&t->state, HAK_THREAD_UNUSED);
        list_push(&h->unused_word, t, 256);
    }
}

/* Flushes the caches that belong to no live thread: those of ended threads, and that of record 0.
 * The caller does not hold record 0. */
void hak_threads_flush_idle(hak_heap *h) {
    hak_thread *shared = hak_thread_at(h, 0);
    hak_record_lock(h);
    if (shared->base) hak_cache_flush(shared, 0);
    hak_record_unlock(h);
    hak_threads_flush_parked(h);
}
