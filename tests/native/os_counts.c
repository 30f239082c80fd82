/* os_counts.c: does some of everything that calls the OS, between two markers, and prints the
 * library's own counts.
 *
 * A marker is a system call that does nothing and stands out in a trace:
 * access("/hakmem-marker/..."). One thread, and no allocation but from the heap, so every call
 * between the markers is the library's.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hakmem.h"

extern hak_root hak_root_;

int main(void) {
    static void *blocks[4096];
    hak_fault fault;
    hak_os_counts before, after;
    if (access("/hakmem-marker/begin", F_OK) == 0) return 1;
    before = hak_root_.os;
    for (int round = 0; round < 3; round++) {
        hak_heap *heap =
            hak_heap_create(NULL, UINT64_C(1) << 30, round == 1 ? HAK_HEAP_CHECKED : 0, &fault);
        if (!heap) return 1;
        for (unsigned i = 0; i < 4096; i++) {
            blocks[i] = hak_heap_alloc(heap, 16 + i * 37);
            if (!blocks[i]) return 1;
            memset(blocks[i], 1, 16 + i * 37);
        }
        void *span = hak_heap_alloc(heap, UINT64_C(3) << 20),
             *behind = hak_heap_alloc(heap, UINT64_C(1) << 20);
        /* moves by remapping */
        if (hak_heap_realloc(heap, span, UINT64_C(40) << 20, &span, &fault)) return 1;
        for (unsigned i = 0; i < 4096; i++)
            if (hak_heap_free(heap, blocks[i], &fault)) return 1;
        hak_heap_free(heap, span, &fault);
        hak_heap_free(heap, behind, &fault);
        hak_heap_trim(heap);
        if (round != 2) hak_heap_destroy(heap);
    }
    after = hak_root_.os;
    if (access("/hakmem-marker/end", F_OK) == 0) return 1;
    printf("mmap %llu\nmunmap %llu\nmprotect 0\nmadvise %llu\nmremap %llu\nmincore %llu\n",
           (unsigned long long)(after.reserve_count - before.reserve_count + after.commit_count -
                                before.commit_count),
           (unsigned long long)(after.release_count - before.release_count),
           (unsigned long long)(after.purge_count + after.advise_count - before.purge_count -
                                before.advise_count),
           (unsigned long long)(after.remap_count - before.remap_count),
           (unsigned long long)(after.query_count - before.query_count));
    return 0;
}
