/* objects.c: windows of the table of objects, see objects.h. */
#define _GNU_SOURCE
#include "objects.h"

#include <errno.h>
#include <sys/mman.h>

uint64_t *object_windows[1u << (OBJECT_ADDRESS_BITS - OBJECT_WINDOW_SHIFT)];

uint64_t *object_window_new(uintptr_t address) {
    int before = errno;
    size_t bytes = (size_t)1 << OBJECT_WINDOW_SHIFT;
    uint64_t **place = &object_windows[address >> OBJECT_WINDOW_SHIFT], *found = NULL;
    void *fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED) {
        record_stop(HAK_TRACE_NO_MEMORY);
        errno = before;
        return NULL;
    }
    madvise(fresh, bytes, MADV_HUGEPAGE);
    /* Release: who loads the window (acquire, object_word) sees it mapped. The loser takes the
     * winner's. */
    if (!__atomic_compare_exchange_n(place, &found, (uint64_t *)fresh, false, __ATOMIC_RELEASE,
                                     __ATOMIC_ACQUIRE))
        munmap(fresh, bytes);
    else found = fresh;
    errno = before;
    return found;
}
