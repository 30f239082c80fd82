/* hak_internal.h: the map of the native plane. Rooms from the bottom up; each may call those above
 * its line only:
 *
 *   os.c        the only file that maps memory          atomic.h    operations by name and order
 *   lists.h     accessors of a slab's lists and claim   fault.c     what was wrong, and saying so
 *   describe.c  an address in words                     crash.c     the crash report, on request
 *   runs.c      the run heap: free units                marks.h     bit maps over units
 *   region.c    which units are mapped                  tables.c    the metadata, mapped as it grows
 *   window.c    which addresses are whose
 *   purge.c     what goes back to the OS, and when      partial.c   sets of slabs, mailboxes
 *   slabs.c     a slab's life: made, given to, taken from, retired
 *   holes.c     purged pages of slabs in use            acquire.c   where a refill finds a slab
 *   bins.c      what a class of a thread's cache gives away   caps.c      how much it may hold
 *   cache.c     thread caches: refill, overflow, flush, loans
 *   threads.c   thread records: attach, park, release   spans.c     blocks of whole units
 *   fork.c      a fork's child: noticed, repaired       policy.c    images judged and read
 *   environment.c  the process's policy, from its environment
 *   blocks.c    alloc, free, realloc of one block       heap.c      the C API: heaps, batches
 *   malloc.c    malloc and its family for a process     new_delete.c  C++'s operators
 *   accounts.c  mallinfo, malloc_trim: what is where    reports.c   malloc_info, mallopt and kin
 *   primitives.c  what Python gets of C                 background.c  a thread that gives back
 *   requests.c  trim and drain, asked for from outside
 *   events.c    the event ring of debug builds
 *
 * No room holds a policy number: they come from hak_policy, made by Python. Locks, outer first:
 * hak_root.lock (list of heaps), a heap's shared record, run_lock. Under run_lock nobody claims or
 * waits. A claim is a try-lock of one slab; who waits for one (hak_slab_claim_wait) holds no other.
 * A claimer may take run_lock (stage_adopt does while it settles the slabs it does not keep), never
 * the other way round.
 */
#ifndef HAK_INTERNAL_H
#define HAK_INTERNAL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "asserts.h"
#include "atomic.h"
#include "hak_layout.h"

#define HAK_HIDDEN __attribute__((visibility("hidden")))
#define HAK_EXPORT __attribute__((visibility("default")))
/* kept out of line, so that its callers save no registers for it */
#define HAK_COLD __attribute__((noinline, cold))
#define hak_likely(x) __builtin_expect(!!(x), 1)
#define hak_unlikely(x) __builtin_expect(!!(x), 0)

/* A heap's struct stands at the start of its region, so an offset from the heap is an offset in the
 * region. */
static inline void *hak_at(hak_heap *h, uint64_t offset) { return (char *)h + offset; }
static inline hak_policy *hak_policy_of(hak_heap *h) { return hak_at(h, h->policy_offset); }
static inline uint32_t *hak_registry(hak_heap *h) { return hak_at(h, HAK_REGISTRY_OFFSET); }
static inline hak_slab *hak_slab_at(hak_heap *h, uint32_t unit) {
    return (hak_slab *)hak_at(h, h->slabs_offset) + unit;
}
static inline hak_thread *hak_thread_at(hak_heap *h, uint32_t index) {
    return (hak_thread *)hak_at(h, h->threads_offset) + index;
}
static inline char *hak_unit_address(hak_heap *h, uint32_t unit) {
    return (char *)h + ((uint64_t)unit << HAK_UNIT_SHIFT);
}
static inline hak_heap *hak_heap_of(hak_thread *t) { return (hak_heap *)(uintptr_t)t->heap; }

/* Registry entry: tag in the low byte, head unit above. Written before a block escapes; the
 * program's own hand-over of the block publishes it, so relaxed suffices on both sides. */
static inline uint32_t hak_entry(uint32_t tag, uint32_t head) { return tag | head << 8; }
static inline uint32_t hak_entry_get(hak_heap *h, uint32_t unit) {
    return hak_load_relaxed(&hak_registry(h)[unit]);
}
static inline void hak_entry_fill(hak_heap *h, uint32_t unit, uint32_t count, uint32_t entry) {
    for (uint32_t i = 0; i < count; i++) hak_store_relaxed(&hak_registry(h)[unit + i], entry);
}

/* The link of a cached or listed block is its first word. */
static inline uint64_t hak_next(uint64_t block) {
    return hak_load_relaxed((uint64_t *)(uintptr_t)block);
}
static inline void hak_set_next(uint64_t block, uint64_t next) {
    hak_store_relaxed((uint64_t *)(uintptr_t)block, next);
}

/* Units in use but for the purged pages in them. A stale figure is a little off for a moment. */
static inline uint64_t hak_live_units(hak_heap *h) {
    uint64_t live = hak_load_relaxed(&h->live_units),
             holes = hak_load_relaxed(&h->hole_now_pages) / HAK_UNIT_PAGES;
    return live > holes ? live - holes : 0;
}

#define hak_count(t, name, n) hak_store_relaxed(&(t)->name, (t)->name + (n))

/* os.c */
HAK_HIDDEN void *hak_os_reserve_aligned(uint64_t bytes, uint64_t align, uint64_t *map_base,
                                        uint64_t *map_bytes);
HAK_HIDDEN uint32_t hak_os_map_range(hak_os_counts *counts, void *address, uint64_t bytes,
                                     bool reserved);
HAK_HIDDEN bool hak_os_unmap_range(hak_os_counts *counts, void *address, uint64_t bytes,
                                   bool reserved);
HAK_HIDDEN bool hak_os_purge_range(hak_os_counts *counts, void *address, uint64_t bytes, bool lazy);
HAK_HIDDEN bool hak_os_is_locked(hak_os_counts *counts, void *address);
HAK_HIDDEN void hak_os_advise_huge(hak_os_counts *counts, void *address, uint64_t bytes);
HAK_HIDDEN void hak_os_populate_range(hak_os_counts *counts, void *address, uint64_t bytes);
HAK_HIDDEN bool hak_os_remap_range(hak_os_counts *counts, void *from, void *to, uint64_t bytes);
HAK_HIDDEN bool hak_os_release_range(void *address, uint64_t bytes);
HAK_HIDDEN void hak_os_resident(hak_os_counts *counts, void *address, uint64_t bytes,
                                uint8_t *pages);
HAK_HIDDEN uint32_t hak_os_resident_count(hak_os_counts *counts, void *address,
                                          uint32_t page_count);
HAK_HIDDEN uint64_t hak_os_resident_bytes(hak_os_counts *counts, void *address, uint64_t bytes);
HAK_HIDDEN uint64_t hak_os_region_wish(uint64_t wish_bytes);
HAK_HIDDEN uint64_t hak_os_mapping_limit(void);
HAK_HIDDEN uint64_t hak_os_clock_ns(void);
HAK_HIDDEN void hak_os_yield(void);
HAK_HIDDEN uint32_t hak_os_thread_id(void);
HAK_HIDDEN uint32_t hak_os_process_id(void);
HAK_HIDDEN bool hak_os_is_first_thread(void);
HAK_HIDDEN void *hak_os_map_anywhere(uint64_t bytes);
HAK_HIDDEN void *hak_os_wiped_page(bool *wiped);
HAK_HIDDEN void hak_os_sleep_ms(uint32_t ms);
HAK_HIDDEN void hak_os_let_others_read(void);
HAK_HIDDEN void hak_os_say(const char *text, uint64_t bytes);
struct stat;
HAK_HIDDEN int hak_os_open(const char *path);
HAK_HIDDEN int hak_os_stat(int file, struct stat *about);
HAK_HIDDEN int64_t hak_os_read(int file, void *at, uint64_t bytes);
HAK_HIDDEN void hak_os_close(int file);
HAK_HIDDEN void hak_os_wait(uint32_t *word, uint32_t value);
HAK_HIDDEN void hak_os_wake(uint32_t *word);
extern HAK_EXPORT hak_root hak_root_;

/* fault.c */
HAK_HIDDEN void hak_fault_fatal(hak_heap *h, const hak_fault *fault, const char *caller)
    __attribute__((noreturn));
extern HAK_HIDDEN bool hak_fault_told;

/* runs.c */
typedef struct hak_run {
    uint32_t unit;  /* first unit, 0: none */
    uint32_t dirty; /* units of it that may be non-zero */
    uint32_t open;  /* mask of further units that were opened behind it, for the open superslab */
} hak_run;
HAK_HIDDEN hak_run hak_run_alloc(hak_heap *h, uint32_t units, uint32_t align_units);
HAK_HIDDEN hak_run hak_run_alloc_open(hak_heap *h);
HAK_HIDDEN void hak_run_free(hak_heap *h, uint32_t unit, uint32_t units, bool dirty);
HAK_HIDDEN bool hak_run_extend(hak_heap *h, uint32_t unit, uint32_t have, uint32_t want);
HAK_HIDDEN bool hak_unit_is_dirty(hak_heap *h, uint32_t unit);
HAK_HIDDEN void hak_unit_mark_dirty(hak_heap *h, uint32_t unit);
HAK_HIDDEN void hak_runs_rebuild(hak_heap *h);

/* window.c */
HAK_HIDDEN void *hak_window_take(uint64_t bytes, uint64_t first_bytes);
HAK_HIDDEN void hak_window_give(void *base, uint64_t bytes);

/* tables.c: more in region.h */
HAK_HIDDEN uint64_t hak_recent_bytes(uint64_t units);

/* purge.c */
HAK_HIDDEN void hak_tick(hak_heap *h, uint64_t asked);
HAK_HIDDEN void hak_tick_fully(hak_heap *h, bool idle);
HAK_HIDDEN bool hak_purge_is_due(hak_heap *h);
HAK_HIDDEN void hak_recent_take(hak_heap *h, uint32_t unit, uint32_t units);
HAK_HIDDEN uint64_t hak_purge_all(hak_heap *h);
HAK_HIDDEN uint64_t hak_clock_of(hak_heap *h);
HAK_HIDDEN uint64_t hak_work_credit(hak_heap *h, uint64_t now);
HAK_HIDDEN void hak_work_spend(hak_heap *h, uint64_t ns);

/* background.c */
HAK_HIDDEN void hak_background_start(hak_heap *h);
HAK_HIDDEN void hak_background_wake(void);
HAK_HIDDEN void hak_background_forked(void);
/* Whether the background thread sees to this heap; wakes it when it waits. */
static inline bool hak_background_serves(hak_heap *h) {
    uint32_t state = hak_load_relaxed(&hak_root_.background);
    if (hak_unlikely(state == HAK_BACKGROUND_WAITING)) hak_background_wake();
    return (h->flags & HAK_HEAP_PROCESS) &&
           (state == HAK_BACKGROUND_LOOKING || state == HAK_BACKGROUND_WAITING);
}
/* For callers that hold nothing, on malloc's side only: libc frees under a lock that pthread_create
 * takes. */
static inline void hak_background_look(hak_heap *h) {
    if (hak_load_relaxed(&hak_root_.background) == HAK_BACKGROUND_NONE) hak_background_start(h);
}

/* partial.c */
HAK_HIDDEN void hak_partial_insert(hak_heap *h, uint32_t unit);
HAK_HIDDEN void hak_partial_remove(hak_heap *h, uint32_t unit);
HAK_HIDDEN uint32_t hak_partial_find(hak_heap *h, uint32_t class_index, uint32_t from);
HAK_HIDDEN void hak_mail(hak_thread *t, uint32_t unit);
HAK_HIDDEN uint32_t hak_mail_take_all(hak_thread *t, uint32_t class_index);

/* slabs.c */
typedef struct hak_chain { /* linked blocks of one slab */
    uint64_t first, last, highest;
    uint32_t unit, count;
} hak_chain;
/* a stride of blocks whose free asked whether they are carved */
#define HAK_CHECKED_AT_FREE (UINT64_C(1) << 32)
HAK_HIDDEN bool hak_slab_claim(hak_thread *t, hak_slab *slab);
HAK_HIDDEN void hak_slab_claim_wait(hak_thread *t, hak_slab *slab);
HAK_HIDDEN void hak_slab_make(hak_thread *t, uint32_t class_index, uint32_t unit, bool fresh);
HAK_HIDDEN void hak_slab_retire(hak_thread *t, uint32_t unit);
HAK_HIDDEN void hak_slab_settle(hak_thread *t, uint32_t unit, uint32_t list_count);
HAK_HIDDEN void hak_slab_let_go(hak_thread *t, uint32_t unit);
HAK_HIDDEN void hak_slab_drain(hak_thread *t, uint32_t unit);
HAK_HIDDEN void hak_slab_return(hak_thread *t, const hak_chain *chain, uint64_t stride,
                                uint32_t list_count);
HAK_HIDDEN uint32_t hak_empty_pop(hak_thread *t);

/* holes.c */
HAK_HIDDEN void hak_holes_restore(hak_thread *t, uint32_t unit);
HAK_HIDDEN void hak_holes_forget(hak_heap *h, uint32_t unit, uint32_t units);
HAK_HIDDEN void hak_sweep(hak_thread *t, uint32_t units, uint64_t most_ns, bool pauses);
HAK_HIDDEN uint64_t hak_sweep_all(hak_thread *t);

/* acquire.c: a claimed slab of the class that has blocks to take or to carve, or 0 */
HAK_HIDDEN uint32_t hak_acquire(hak_thread *t, uint32_t class_index);
HAK_HIDDEN uint32_t hak_acquire_partial(hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_acquire_collect(hak_thread *t);
HAK_HIDDEN void hak_acquire_flush_empty(hak_thread *t);
HAK_HIDDEN void hak_acquire_flush_ready(hak_thread *t);

/* cache.c */
HAK_HIDDEN bool hak_refill(hak_thread *t, uint32_t class_index, uint32_t least);
HAK_HIDDEN uint32_t hak_lend(hak_thread *t, uint32_t class_index);
HAK_HIDDEN uint8_t *hak_fast_map(hak_heap *h); /* heap.c */
HAK_HIDDEN bool hak_is_line_of_others(const hak_thread *t, uint32_t class_index);
HAK_HIDDEN void hak_overflow(hak_thread *t, uint32_t class_index, uint64_t block);
HAK_HIDDEN void hak_cache_flush(hak_thread *t, uint64_t above);
HAK_HIDDEN void hak_cache_prewarm(hak_thread *t);

/* requests.c */
HAK_HIDDEN uint64_t hak_trim(hak_thread *t);
HAK_HIDDEN HAK_COLD void hak_request_serve(hak_thread *t);
/* At the end of a slow path, holding nothing: has anybody outside asked for something? */
static inline void hak_request_look(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    if (hak_unlikely((hak_load_relaxed(&h->drain_request) != t->drain_served) |
                     (hak_load_relaxed(&h->trim_request) != hak_load_relaxed(&h->trim_served))))
        hak_request_serve(t);
}

/* threads.c */
HAK_HIDDEN hak_thread *hak_thread_get(hak_heap *h);
HAK_HIDDEN hak_thread *hak_thread_enter(hak_heap *h);
HAK_HIDDEN hak_thread *hak_thread_enter_shared(hak_heap *h);
HAK_HIDDEN void hak_thread_leave(hak_thread *t);
HAK_HIDDEN hak_thread *hak_thread_known(hak_heap *h);
HAK_HIDDEN void hak_threads_flush_parked(hak_heap *h);
HAK_HIDDEN void hak_threads_flush_idle(hak_heap *h);
HAK_HIDDEN void hak_threads_exit_hook(void);
HAK_HIDDEN void hak_thread_record_init(hak_heap *h, hak_thread *t, uint32_t index);
HAK_HIDDEN void hak_thread_list_push(uint64_t *list, hak_thread *t);
HAK_HIDDEN hak_thread *hak_thread_list_pop(hak_heap *h, uint64_t *list);
extern HAK_HIDDEN __thread hak_thread *hak_tls_thread __attribute__((tls_model("initial-exec")));
extern HAK_HIDDEN hak_thread hak_early_thread;

/* fork.c: hak_fork_look stands at the start of every slow path that touches what threads share,
 * under no lock, no claim */
extern HAK_HIDDEN uint32_t *hak_fork_word;
HAK_HIDDEN void hak_fork_watch(void);
HAK_HIDDEN HAK_COLD void hak_fork_slow(void);
static inline void hak_fork_look(void) {
    if (hak_unlikely(hak_load_acquire(hak_load_relaxed(&hak_fork_word)) != HAK_FORK_WHOLE))
        hak_fork_slow();
}

/* events.c: hak_event(t, HAK_EVENT_..., class, unit, count) notes what a slow path did; nothing in
 * a release build */
#ifdef HAK_DEBUG
HAK_HIDDEN void hak_event_note(hak_heap *h, uint32_t thread, uint32_t kind, uint32_t class_index,
                               uint32_t unit, uint64_t count);
#define hak_event_of(h, thread, kind, class_index, unit, count) \
    hak_event_note((h), (thread), (kind), (class_index), (unit), (count))
#else
#define hak_event_of(h, thread, kind, class_index, unit, count) ((void)0)
#endif
#define hak_event(t, kind, class_index, unit, count) \
    hak_event_of(hak_heap_of(t), (t)->index, (kind), (class_index), (unit), (count))

/* spans.c */
HAK_HIDDEN void *hak_span_alloc(hak_thread *t, uint64_t size, uint64_t align, bool zero);
HAK_HIDDEN void hak_span_free(hak_thread *t, uint32_t unit);
HAK_HIDDEN void *hak_span_resize(hak_thread *t, uint32_t unit, uint64_t size);

/* blocks.c */
typedef struct hak_block {
    uint32_t unit;        /* head unit of its slab or span */
    uint32_t class_index; /* 0: span */
    uint32_t index;       /* block of the slab */
    uint64_t bytes;       /* usable bytes */
} hak_block;
HAK_HIDDEN uint32_t hak_resolve(hak_heap *h, uint64_t address, hak_block *block, hak_fault *fault);
HAK_HIDDEN void *hak_alloc_slow(hak_thread *t, uint64_t size, uint64_t align, bool zero);
HAK_HIDDEN uint32_t hak_check_live(hak_heap *h, uint64_t address, hak_block *block,
                                   hak_fault *fault);
HAK_HIDDEN uint32_t hak_check_own(const hak_thread *t, hak_heap *h, uint64_t address,
                                  const hak_block *block, hak_fault *fault);
HAK_HIDDEN uint32_t hak_free_slow(hak_thread *t, uint64_t address, hak_fault *fault);
HAK_HIDDEN uint32_t hak_realloc_block(hak_thread *t, uint64_t address, uint64_t size, void **out,
                                      hak_fault *fault);

#endif
