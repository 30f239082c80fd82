/* Where the limit's blocks come from: a range of addresses for each class, used from its start
 * on. */
#ifdef BENCH_LIMIT
#include "common.h"

#include <sys/mman.h>

_Thread_local limit_block *limit_lists[LIMIT_CLASSES];
uintptr_t limit_base;

#define LIMIT_ROOM_BYTES ((UINT64_C(1) << LIMIT_RANGE_SHIFT) - LIMIT_CLASSES * LIMIT_STAGGER_BYTES)
#define LIMIT_STAGGER_BYTES (17 * 4096 + 5 * 64)

/* how much of a range a thread takes at once, so that no two threads share a cache line */
#define LIMIT_CHUNK_BYTES 65536

static uint64_t limit_used_bytes[LIMIT_CLASSES];
static _Thread_local uintptr_t limit_next[LIMIT_CLASSES], limit_end[LIMIT_CLASSES];

__attribute__((constructor)) static void limit_reserve(void) {
    void *base = mmap(NULL, (uint64_t)LIMIT_CLASSES << LIMIT_RANGE_SHIFT, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) bench_give_up("no addresses for the limit");
    limit_base = (uintptr_t)base;
}

__attribute__((noinline)) void *limit_carve(size_t size) {
    uint64_t class_index = (size + 15) >> LIMIT_GRANULE_SHIFT,
             bytes = class_index << LIMIT_GRANULE_SHIFT;
    if (size > LIMIT_SIZE_MAX) bench_give_up("the limit has no room for this row");
    if (limit_end[class_index] - limit_next[class_index] < bytes) {
        /* Each range begins elsewhere in the processor's caches. */
        uintptr_t range = limit_base + (class_index << LIMIT_RANGE_SHIFT) +
                          class_index * LIMIT_STAGGER_BYTES;
        uint64_t used =
            __atomic_fetch_add(&limit_used_bytes[class_index], LIMIT_CHUNK_BYTES, __ATOMIC_RELAXED);
        if (used + LIMIT_CHUNK_BYTES > LIMIT_ROOM_BYTES)
            bench_give_up("the limit has no room for this row");
        limit_next[class_index] = range + used;
        limit_end[class_index] = range + used + LIMIT_CHUNK_BYTES;
    }
    void *block = (void *)limit_next[class_index];
    limit_next[class_index] += bytes;
    return block;
}
#else
typedef int limit_is_empty; /* a translation unit needs a declaration */
#endif
