/* hak_internal.h: the map of the native plane, and what all its files share.
 *
 * Layers from the bottom up, one concern a line. A file calls into those above its line only, which
 * `python -m tools.layers` shows and tests/tools/test_layers.py holds; what must be called upward
 * stands behind the list.
 *
 *    1  atomic.h       atomic operations by name and order
 *    2  syscall.h      a system call, without the C library
 *    3  dynamic.[hc]   the symbols of a loaded library
 *    4  vdso.[hc]      the clock, without the kernel
 *    5  os_calls.h     system calls about memory, and which of them a test makes fail
 *    6  os.c           memory of the OS: the only file that maps any
 *    7  os_process.c   limits, clock, waits, files: all else that the OS is asked
 *    8  line.h         one line for stderr
 *    9  asserts.[hc]   what debug builds check: asserts, ranks of locks, claims
 *   10  hak_internal.h the parts of a region by offset, unit and index
 *   11  dwarf.h        numbers of .eh_frame, and its reader
 *   12  eh_frame.[hc] eh_rows.c  what .eh_frame says of a place in code
 *   13  stack_range.[hc]  which addresses of a stack may be read
 *   14  eh_expression.c  expressions of .eh_frame
 *   15  stack.[hc]     who called: the native stack
 *   16  linked.[hc]    the link map's symbols, without the loader's lock
 *   17  python_layout.[hc]  where a CPython keeps its frames
 *   18  python_text.[hc]  its texts and lines
 *   19  python_frames.[hc]  the Python frames that a thread is in
 *   20  probe.h        places that a tracer may stop at
 *   21  events.[hc]    the event ring of debug builds
 *   22  hooks.h        what slow paths look for on their way
 *   23  locks.[hc]     every lock but claims, and the order of all
 *   24  policy.[hc]    policy images judged and read
 *   25  environment.c  the process's policy, from its environment
 *   26  mapped.[hc]    the table of blocks outside the region
 *   27  resolve.c      which block an address belongs to
 *   28  lists.h        a slab's lists, used count and claim
 *   29  describe.[hc]  an address in words
 *   30  fault.c        the fatal report
 *   31  crash.c        the crash report, on request
 *   32  window.c       which addresses are whose
 *   33  tables.c       the metadata, mapped as it grows
 *   34  marks.h        maps of bits over units
 *   35  budget.c       what work for the OS may cost
 *   36  stuck.[hc]     units that the OS would not purge
 *   37  moved.[hc]     mappings of their own within a region
 *   38  run_bins.[hc]  free runs and unmapped runs, by length
 *   39  region.[hc]    which units are mapped, and how that changes
 *   40  runs.c         the run heap: units taken and given
 *   41  purging.c      dirty runs, purged one after another
 *   42  purge.c        what goes back to the OS, and when
 *   43  partial.c      sets of partly free slabs, mailboxes
 *   44  slabs.c        a slab's life: made, given to, taken from, retired
 *   45  waiting.c      freed spans that wait in a thread's record
 *   46  holes.c        purged pages of slabs in use
 *   47  acquire.c      where a refill finds a slab
 *   48  bins.[hc]      one class of a thread's cache: its list, its carved range
 *   49  caps.[hc]      how much a bin may hold
 *   50  rows.[hc]      the policy's rows that a thread obeys
 *   51  gate.[hc]      the gate of a thread record: who reaps keeps its owner out
 *   52  cache.c        thread caches: refill, overflow, flush, loans
 *   53  fast.h         the fast paths of malloc and free
 *   54  magazine.h     the same with magazines, where lists miss
 *   55  threads.c      thread records: attach, park, release
 *   56  reap.c         another thread's caches, taken without its help
 *   57  spans.c        blocks of whole units
 *   58  resize.c       spans that grow, shrink, move
 *   59  mappings.c     blocks that are mappings of their own
 *   60  draw.h         how far it is to the next sample
 *   61  sites.[hc]     call stacks that allocated samples, names in them
 *   62  frames.[hc]    the call stack of a sample
 *   63  profile.[hc]   samples of who allocates, until they are freed
 *   64  change.[hc]    the policy, changed while the heap runs
 *   65  blocks.c       one block: checked, allocated, freed, resized
 *   66  requests.c     trim and drain, asked for from outside
 *   67  errand.c       a stopped thread serves what was asked
 *   68  background.c   a thread that gives back
 *   69  fork.c         a fork's child: noticed, repaired
 *   70  heap.c hakmem.h  heaps and batches: the C API
 *   71  malloc.c       malloc and its family, over the process heap
 *   72  deepbind.c     plugins that look in the C library first
 *   73  new_delete.c   C++'s operators
 *   74  accounts.[hc]  mallinfo, malloc_trim: what is where
 *   75  reports.c      malloc_info, malloc_stats, mallopt
 *   76  primitives.c   what Python gets of C
 *
 * Upward:
 *   hooks.h hak_fork_slow         any slow path may be a child's first, and must find it repaired
 *   hooks.h hak_request_serve     a thread's caches are drained by the thread itself, on its way
 *   hooks.h hak_policy_serve      a policy is adopted by who comes to a slow path first
 *   hooks.h hak_background_wake   the thread sleeps until somebody frees or allocates again
 *   hooks.h hak_background_leave  the thread goes with the last other one but one
 *
 * No file holds a policy number: they come from hak_policy, made by Python.
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
/* kept out of line, so that callers need not save registers for it */
#define HAK_COLD __attribute__((noinline, cold))
#define hak_likely(x) __builtin_expect(!!(x), 1)
#define hak_unlikely(x) __builtin_expect(!!(x), 0)

/* A heap's struct stands at the start of its region, so an offset from the heap is an offset in the
 * region. */
static inline void *hak_at(hak_heap *h, uint64_t offset) { return (char *)h + offset; }
static inline hak_policy *hak_policy_of(hak_heap *h) { return hak_at(h, HAK_POLICY_OFFSET); }
/* One number of a heap's policy that may change while the heap runs, as a whole (change.c). */
#define hak_number(field) hak_load_relaxed(&(field))
static inline uint64_t *hak_registry(hak_heap *h) { return hak_at(h, HAK_REGISTRY_OFFSET); }
static inline hak_slab *hak_slab_at(hak_heap *h, uint32_t unit) {
    return (hak_slab *)hak_at(h, h->slabs_offset) + unit;
}
static inline hak_thread *hak_thread_at(hak_heap *h, uint32_t index) {
    return (hak_thread *)hak_at(h, h->threads_offset) + index;
}
static inline hak_magazines *hak_magazines_at(hak_heap *h, uint32_t index) {
    return (hak_magazines *)hak_at(h, h->magazines_offset) + index;
}
static inline char *hak_unit_address(hak_heap *h, uint32_t unit) {
    return (char *)h + ((uint64_t)unit << HAK_UNIT_SHIFT);
}
static inline hak_heap *hak_heap_of(hak_thread *t) { return (hak_heap *)(uintptr_t)t->heap; }

/* Registry entry: the tag in the low byte, above it where the head begins, in bytes from the heap:
 * a unit's alignment leaves room for the tag. Written before a block escapes; the program's own
 * hand-over of the block publishes it, so relaxed suffices on both sides. */
static inline uint64_t hak_entry(uint32_t tag, uint32_t head) {
    return tag | (uint64_t)head << HAK_ENTRY_HEAD_SHIFT;
}
static inline uint32_t hak_entry_tag(uint64_t entry) { return entry & HAK_ENTRY_TAG_MASK; }
static inline uint32_t hak_entry_head(uint64_t entry) {
    return (uint32_t)(entry >> HAK_ENTRY_HEAD_SHIFT);
}
static inline uint64_t hak_entry_get(hak_heap *h, uint32_t unit) {
    return hak_load_relaxed(&hak_registry(h)[unit]);
}
static inline uint32_t hak_tag_get(hak_heap *h, uint32_t unit) {
    return hak_entry_tag(hak_entry_get(h, unit));
}
/* The first unit of the slab or span that an address is in. */
static inline uint32_t hak_head_of(hak_heap *h, uint64_t address) {
    return hak_entry_head(hak_entry_get(h, (uint32_t)((address - (uintptr_t)h) >> HAK_UNIT_SHIFT)));
}
static inline void hak_entry_fill(hak_heap *h, uint32_t unit, uint32_t count, uint64_t entry) {
    hak_assert(unit >= h->meta_units && unit + count <= h->table_units);
    for (uint32_t i = 0; i < count; i++) hak_store_relaxed(&hak_registry(h)[unit + i], entry);
}

/* For asserts: whether these units are in the arena; and whether their registry entries all equal
 * `entry`. */
HAK_PREDICATE bool hak_units_are_arena(hak_heap *h, uint64_t unit, uint64_t count) {
    return unit >= h->meta_units && count && unit + count <= hak_load_acquire(&h->unit_top);
}
HAK_PREDICATE bool hak_entries_are(hak_heap *h, uint32_t unit, uint32_t count, uint64_t entry) {
    for (uint32_t i = 0; i < count; i++)
        if (hak_entry_get(h, unit + i) != entry) return false;
    return true;
}

/* The tag of an entry, for a slab that holds samples its class. */
static inline uint32_t hak_entry_class(hak_heap *h, uint64_t entry) {
    uint32_t tag = hak_entry_tag(entry);
    if (hak_likely(tag != HAK_TAG_SAMPLED)) return tag;
    return hak_load_relaxed(&hak_slab_at(h, hak_entry_head(entry))->class_index);
}
/* Whether these are the units of a slab, sampled or not. */
HAK_PREDICATE bool hak_units_are_slab(hak_heap *h, uint32_t unit, uint32_t count,
                                      uint32_t class_index) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t entry = hak_entry_get(h, unit + i);
        if (hak_entry_head(entry) != unit || hak_entry_class(h, entry) != class_index) return false;
    }
    return true;
}

/* Whether the record of a span and the entries of all its units agree. */
HAK_PREDICATE bool hak_is_span(hak_heap *h, uint32_t unit) {
    const hak_slab *span = hak_slab_at(h, unit);
    return span->kind == HAK_KIND_SPAN && hak_units_are_arena(h, unit, span->unit_count) &&
           hak_entries_are(h, unit, span->unit_count, hak_entry(HAK_TAG_SPAN, unit));
}

/* The link of a cached or listed block is its first word. */
static inline uint64_t hak_next(uint64_t block) {
    return hak_load_relaxed((uint64_t *)(uintptr_t)block);
}
static inline void hak_set_next(uint64_t block, uint64_t next) {
    hak_store_relaxed((uint64_t *)(uintptr_t)block, next);
}

/* In a checked heap, the word and the bit that mark this block as live. */
static inline uint64_t *hak_live_word(hak_heap *h, uint64_t address, uint64_t *bit) {
    uint64_t granule = (address - (uintptr_t)h) >> HAK_SIZE_GRANULE_SHIFT;
    *bit = UINT64_C(1) << (granule & 63);
    return (uint64_t *)hak_at(h, h->live_offset) + (granule >> 6);
}

/* Units in use, without the holes in them. The figure may be stale by a moment. */
static inline uint64_t hak_in_use_units(hak_heap *h) {
    uint64_t live = hak_load_relaxed(&h->in_use_units),
             holes = hak_load_relaxed(&h->hole_now_pages) / HAK_UNIT_PAGES;
    return live > holes ? live - holes : 0;
}

/* The entry of the size map's coarse part for a size. */
static inline uint64_t hak_big_entry(uint64_t size) {
    return (size + (1u << HAK_BIG_MAP_SHIFT) - 1) >> HAK_BIG_MAP_SHIFT;
}

/* Whether blocks of the class need nothing checked or written when they come and go. */
static inline bool hak_class_is_plain(hak_heap *h, uint32_t class_index) {
    return !(h->flags & HAK_HEAP_CHECKED) && !hak_policy_of(h)->sizes.classes[class_index].header;
}

/* The thread's magazines; NULL: its heap has none. */
static inline hak_magazines *hak_magazines_of(const hak_thread *t) {
    return (hak_magazines *)(uintptr_t)t->magazine_row;
}
/* The block on top of a class's magazine; 0: none. */
static inline uint64_t hak_magazine_first(const hak_magazines *row, uint32_t class_index) {
    return row->slots[row->classes[class_index].top];
}

/* How many blocks a class's magazine has, where the heap has magazines. */
static inline uint32_t hak_magazine_count(hak_heap *h, uint32_t class_index) {
    return h->magazines_offset ? hak_policy_of(h)->caches.classes[class_index].magazine_count : 0;
}

/* Whether the fast paths over lists may serve the class. To those of a class with a magazine every
 * call is a miss, and magazine.h is asked where a miss leads: so magazines cost lists nothing. */
static inline bool hak_class_is_fast(hak_heap *h, uint32_t class_index) {
    return hak_class_is_plain(h, class_index) && !hak_magazine_count(h, class_index);
}

/* of gate.c: what a size map is while the gate is closed, and in a record of no heap */
extern HAK_HIDDEN uint8_t hak_no_classes[HAK_FAST_MAP_BYTES];

/* Whether both maps that malloc reads are the empty one: the gate is closed, or the owner has to
 * look which rate of samples is in force. */
static inline bool hak_maps_are_empty(const hak_thread *t) {
    return (hak_load_relaxed(&t->fast_map) == (uintptr_t)hak_no_classes) &
           (hak_load_relaxed(&t->counted_map) == (uintptr_t)hak_no_classes);
}

/* The size map that the fast paths read. It is the policy's own map where every class may take the
 * fast path: that saves three OS pages. */
static inline uint8_t *hak_fast_map(hak_heap *h) {
    hak_policy *policy = hak_policy_of(h);
    for (uint32_t class_index = 1; class_index <= policy->sizes.class_count; class_index++)
        if (!hak_class_is_fast(h, class_index)) return hak_at(h, h->fast_map_offset);
    return policy->sizes.size_map;
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
HAK_HIDDEN void hak_os_advise_huge(hak_os_counts *counts, void *address, uint64_t bytes, bool huge);
HAK_HIDDEN void hak_os_populate_range(hak_os_counts *counts, void *address, uint64_t bytes);
HAK_HIDDEN uint32_t hak_os_remap_range(hak_os_counts *counts, void *from, void *to, uint64_t bytes);
HAK_HIDDEN bool hak_os_extend_range(hak_os_counts *counts, void *address, uint64_t bytes);
HAK_HIDDEN uint32_t hak_os_map_anew(hak_os_counts *counts, void *address, uint64_t bytes);
HAK_HIDDEN void *hak_os_map_block(hak_os_counts *counts, uint64_t bytes, uint64_t align);
HAK_HIDDEN void *hak_os_resize_block(hak_os_counts *counts, void *block, uint64_t have,
                                     uint64_t want);
HAK_HIDDEN bool hak_os_release_range(void *address, uint64_t bytes);
HAK_HIDDEN void hak_os_resident(hak_os_counts *counts, void *address, uint64_t bytes,
                                uint8_t *pages);
HAK_HIDDEN uint32_t hak_os_resident_count(hak_os_counts *counts, void *address,
                                          uint32_t page_count);
HAK_HIDDEN uint64_t hak_os_resident_bytes(hak_os_counts *counts, void *address, uint64_t bytes);
HAK_HIDDEN void *hak_os_map_anywhere(uint64_t bytes);
HAK_HIDDEN void *hak_os_wiped_page(bool *wiped);
HAK_HIDDEN bool hak_os_protect(void *address, uint64_t bytes, bool write, bool execute);

/* os_process.c */
HAK_HIDDEN uint32_t hak_os_slow_count(const void *address, uint64_t apart, uint32_t count,
                                      uint64_t slow_ns);
HAK_HIDDEN uint64_t hak_os_region_wish(uint64_t wish_bytes);
HAK_HIDDEN uint64_t hak_os_mapping_limit(void);
HAK_HIDDEN uint64_t hak_os_clock_ns(void);
HAK_HIDDEN uint32_t hak_os_thread_id(void);
HAK_HIDDEN uint32_t hak_os_process_id(void);
HAK_HIDDEN bool hak_os_is_first_thread(void);
HAK_HIDDEN void hak_os_sleep_ms(uint32_t ms);
HAK_HIDDEN void hak_os_let_others_read(void);
HAK_HIDDEN void hak_os_say(const char *text, uint64_t bytes);
struct stat;
HAK_HIDDEN uint64_t hak_os_page_bytes(void);
HAK_HIDDEN void hak_os_end(int status) __attribute__((noreturn));
HAK_HIDDEN int hak_os_open(const char *path);
HAK_HIDDEN int hak_os_stat(int file, struct stat *about);
HAK_HIDDEN int64_t hak_os_read(int file, void *at, uint64_t bytes);
HAK_HIDDEN void hak_os_close(int file);
HAK_HIDDEN void hak_os_wait(uint32_t *word, uint32_t value);
HAK_HIDDEN void hak_os_wake(uint32_t *word);
HAK_HIDDEN bool hak_os_is_readable(uint64_t address);
HAK_HIDDEN bool hak_os_copy(uint64_t from, void *to, uint64_t bytes);
HAK_HIDDEN void hak_os_wait_for(uint32_t *word, uint32_t value, uint64_t most_ns);
HAK_HIDDEN bool hak_os_barrier(void);
HAK_HIDDEN void hak_os_nap(uint64_t ns);
HAK_HIDDEN bool hak_os_lock_inherit(uint32_t *word, uint64_t most_ns);
HAK_HIDDEN bool hak_os_unlock_inherit(uint32_t *word);
extern HAK_EXPORT hak_root hak_root_;
extern HAK_HIDDEN hak_os_faults hak_os_faults_;

/* malloc's heap; NULL before the first malloc. Partner: the release of who made it, in malloc.c. */
static inline hak_heap *hak_heap_of_process(void) {
    return (hak_heap *)(uintptr_t)hak_load_acquire(&hak_root_.process_heap);
}

/* window.c */
HAK_HIDDEN void *hak_window_take(uint64_t bytes, uint64_t first_bytes);
HAK_HIDDEN void hak_window_give(void *base, uint64_t bytes);

/* tables.c: more in region.h */
HAK_HIDDEN uint64_t hak_recent_bytes(uint64_t units);

/* resolve.c */
typedef struct hak_block {
    uint32_t unit;        /* head unit of its slab or span; 0: a mapped block */
    uint32_t class_index; /* 0: span */
    uint32_t index;       /* block of the slab */
    uint64_t bytes;       /* usable bytes */
} hak_block;
HAK_HIDDEN uint32_t hak_resolve(hak_heap *h, uint64_t address, hak_block *block, hak_fault *fault);

HAK_HIDDEN uint32_t hak_check_live(hak_heap *h, uint64_t address, hak_block *block,
                                   hak_fault *fault);
HAK_HIDDEN uint32_t hak_check_own(const hak_thread *t, hak_heap *h, uint64_t address,
                                  const hak_block *block, hak_fault *fault);
/* Fills a fault; returns its code. */
static inline uint32_t hak_fault_set(hak_fault *fault, hak_heap *h, uint32_t code, uint64_t address,
                                     uint64_t block, uint32_t unit, uint32_t class_index,
                                     uint32_t expected, uint32_t found) {
    *fault = (hak_fault){.code = code,
                         .unit = unit,
                         .address = address,
                         .block = block,
                         .class_index = class_index,
                         .expected = expected,
                         .found = found,
                         .heap = (uintptr_t)h};
    return code;
}

/* fault.c */
HAK_HIDDEN void hak_fault_fatal(hak_heap *h, const hak_fault *fault, const char *caller)
    __attribute__((noreturn));
extern HAK_HIDDEN bool hak_fault_told;

/* budget.c */
HAK_HIDDEN uint64_t hak_work_credit(hak_heap *h, uint64_t now);
HAK_HIDDEN uint64_t hak_work_units(hak_heap *h, uint64_t now);
HAK_HIDDEN void hak_work_grow_locked(hak_heap *h, uint64_t units);
HAK_HIDDEN void hak_work_spend(hak_heap *h, uint64_t ns);
HAK_HIDDEN void hak_work_spend_locked(hak_heap *h, uint64_t ns);
HAK_HIDDEN void hak_recent_take(hak_heap *h, uint32_t unit, uint32_t units);
HAK_HIDDEN void hak_recent_turn(hak_heap *h, uint32_t epochs);

/* runs.c */
typedef struct hak_run {
    uint32_t unit;  /* first unit, 0: none */
    uint32_t dirty; /* units of it that may hold other bytes than 0 */
    uint32_t open;  /* mask of the units behind it that were taken along, for the open superslab */
} hak_run;
HAK_HIDDEN hak_run hak_run_alloc(hak_heap *h, uint32_t units, uint32_t align_units);
HAK_HIDDEN hak_run hak_run_alloc_open(hak_heap *h);
HAK_HIDDEN void hak_run_free(hak_heap *h, uint32_t unit, uint32_t units, bool dirty);
HAK_HIDDEN hak_run hak_run_take_moved(hak_heap *h, uint32_t *units);
HAK_HIDDEN bool hak_run_extend(hak_heap *h, uint32_t unit, uint32_t have, uint32_t want);
HAK_HIDDEN bool hak_unit_is_dirty(hak_heap *h, uint32_t unit);
HAK_HIDDEN void hak_unit_mark_dirty(hak_heap *h, uint32_t unit);
HAK_HIDDEN void hak_runs_rebuild(hak_heap *h);

/* purging.c */
HAK_HIDDEN uint64_t hak_purge_runs(hak_heap *h, uint64_t limit, uint32_t runs, bool lazy,
                                   uint64_t *pages);
/* purge.c */
HAK_HIDDEN void hak_tick(hak_heap *h, uint64_t asked);
HAK_HIDDEN void hak_tick_fully(hak_heap *h, bool idle);
HAK_HIDDEN bool hak_purge_is_due(hak_heap *h);
HAK_HIDDEN bool hak_purge_spares(hak_heap *h, uint64_t units);
HAK_HIDDEN uint64_t hak_purge_all(hak_heap *h);
HAK_HIDDEN uint64_t hak_clock_of(hak_heap *h);

/* partial.c */
HAK_HIDDEN void hak_partial_insert(hak_heap *h, uint32_t unit);
HAK_HIDDEN void hak_partial_remove(hak_heap *h, uint32_t unit);
HAK_HIDDEN uint32_t hak_partial_find(hak_heap *h, uint32_t class_index, uint32_t from);
HAK_HIDDEN void hak_mail(hak_thread *t, uint32_t unit);
HAK_HIDDEN void hak_mail_leave(hak_thread *t, uint32_t unit);
HAK_HIDDEN uint32_t hak_mail_take_all(hak_thread *t, uint32_t class_index);

/* slabs.c */
typedef struct hak_chain { /* linked blocks of one slab */
    uint64_t first, last, highest;
    uint32_t unit, count;
} hak_chain;
/* stands for a stride: the free has already checked that the blocks were carved */
#define HAK_CHECKED_AT_FREE (UINT64_C(1) << 32)
HAK_HIDDEN bool hak_slab_claim(hak_thread *t, hak_slab *slab);
HAK_HIDDEN bool hak_slab_make(hak_thread *t, uint32_t class_index, uint32_t unit, bool fresh);
HAK_HIDDEN void hak_slab_retire(hak_thread *t, uint32_t unit);
HAK_HIDDEN void hak_slab_settle(hak_thread *t, uint32_t unit, uint32_t list_count);
HAK_HIDDEN void hak_slab_let_go(hak_thread *t, uint32_t unit);
HAK_HIDDEN void hak_slab_drain(hak_thread *t, uint32_t unit);
HAK_HIDDEN void hak_slab_return(hak_thread *t, const hak_chain *chain, uint64_t stride,
                                uint32_t list_count);
HAK_HIDDEN uint32_t hak_empty_pop(hak_thread *t, uint32_t units);

/* waiting.c */
HAK_HIDDEN bool hak_waiting_put(hak_thread *t, uint32_t unit);
HAK_HIDDEN uint32_t hak_waiting_take(hak_thread *t, uint32_t units, uint64_t align);
HAK_HIDDEN void hak_waiting_flush(hak_thread *t);
HAK_HIDDEN void hak_waiting_look(hak_thread *t);
HAK_HIDDEN void hak_waiting_settle(hak_heap *h, hak_thread *t);

/* holes.c */
HAK_HIDDEN void hak_holes_restore(hak_thread *t, uint32_t unit);
HAK_HIDDEN void hak_sweep(hak_thread *t, uint32_t units, uint64_t most_ns, bool pauses);
HAK_HIDDEN void hak_sweep_one(hak_thread *t, uint32_t unit);
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
HAK_HIDDEN uint32_t hak_lend_last(hak_thread *t, uint32_t class_index, uint64_t align);
HAK_HIDDEN bool hak_is_line_of_others(const hak_thread *t, uint32_t class_index);
HAK_HIDDEN bool hak_frees_home(hak_thread *t);
HAK_HIDDEN void hak_free_home(hak_thread *t, uint32_t class_index, uint64_t block);
HAK_HIDDEN void hak_overflow(hak_thread *t, uint32_t class_index, uint64_t block);
HAK_HIDDEN void hak_cache_flush(hak_thread *t, uint64_t above);
HAK_HIDDEN uint64_t hak_cache_bytes(hak_thread *t);
HAK_HIDDEN void hak_cache_prewarm(hak_thread *t);

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

/* spans.c */
/* Rounds up without adding first, since a sum could wrap to 0 units and no span may have 0. */
static inline uint64_t hak_units_for(uint64_t size) {
    return (size >> HAK_UNIT_SHIFT) + ((size & (HAK_UNIT_BYTES - 1)) != 0);
}
HAK_HIDDEN void hak_span_note(hak_heap *h, uint32_t unit, uint32_t units, uint64_t size);
HAK_HIDDEN void *hak_span_alloc(hak_thread *t, uint64_t size, uint64_t align, bool zero);
HAK_HIDDEN void hak_span_free(hak_thread *t, uint32_t unit);

/* resize.c */
HAK_HIDDEN void *hak_span_resize(hak_thread *t, uint32_t unit, uint64_t size);
HAK_HIDDEN void hak_span_free_hole(hak_heap *h, uint32_t unit, uint32_t units);

/* mappings.c */
HAK_HIDDEN void *hak_mapping_alloc(hak_thread *t, uint64_t size, uint64_t align);
HAK_HIDDEN bool hak_mapping_free(hak_thread *t, uint64_t address, uint64_t bytes);
HAK_HIDDEN void *hak_mapping_resize(hak_thread *t, uint64_t address, uint64_t have, uint64_t size);
HAK_HIDDEN void *hak_mapping_from_span(hak_thread *t, uint32_t unit, uint64_t size);
HAK_HIDDEN void hak_mapping_release(hak_heap *h);

/* blocks.c */
HAK_HIDDEN void *hak_alloc_slow(hak_thread *t, uint64_t size, uint64_t align, bool zero);
HAK_HIDDEN uint32_t hak_free_slow(hak_thread *t, uint64_t address, hak_fault *fault);
HAK_HIDDEN uint32_t hak_realloc_block(hak_thread *t, uint64_t address, uint64_t size, void **out,
                                      hak_fault *fault);

/* requests.c */
HAK_HIDDEN uint64_t hak_trim(hak_thread *t);

/* background.c */
HAK_HIDDEN void hak_background_forked(uint32_t process_id);
HAK_HIDDEN HAK_COLD void hak_background_start(hak_heap *h);

/* fork.c */
HAK_HIDDEN void hak_fork_watch(void);

#endif
