/* The limit: an inlined, thread-local list that is told the class of each call, serves one thread's
 * blocks and gives nothing back. No malloc can be as cheap; a row's distance to it is what the
 * allocator itself costs.
 *
 * Only in builds of the driver with -DBENCH_LIMIT: 1 for rows of one size, where the class is a
 * constant; 2 for rows of several sizes, where the class is a shift of the size on malloc and of
 * the address on free.
 */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include <stddef.h>
#include <stdint.h>

#define LIMIT_GRANULE_SHIFT 4
#define LIMIT_SIZE_MAX 4096
#define LIMIT_CLASSES ((LIMIT_SIZE_MAX >> LIMIT_GRANULE_SHIFT) + 1)
#define LIMIT_RANGE_SHIFT 31 /* addresses of one class: as many as the largest row needs */

typedef struct limit_block {
    struct limit_block *next;
} limit_block;

extern _Thread_local limit_block *limit_lists[LIMIT_CLASSES];
extern uintptr_t limit_base;
void *limit_carve(size_t size);

static inline limit_block **limit_list_of(uint64_t class_index) {
#if BENCH_LIMIT == 1
    (void)class_index;
    return &limit_lists[0];
#else
    return &limit_lists[class_index];
#endif
}

static inline void *limit_malloc(size_t size) {
    limit_block **list = limit_list_of((size + 15) >> LIMIT_GRANULE_SHIFT), *block = *list;
    if (__builtin_expect(!block, 0)) return limit_carve(size);
    *list = block->next;
    return block;
}

static inline void limit_free(void *block) {
    limit_block **list = limit_list_of(((uintptr_t)block - limit_base) >> LIMIT_RANGE_SHIFT),
                *freed = block;
    freed->next = *list;
    *list = freed;
}

#define malloc(size) limit_malloc(size)
#define free(block) limit_free(block)

#endif
