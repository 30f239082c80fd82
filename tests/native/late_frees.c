/* late_frees.c: 200 threads, one after another, that each free four blocks of 16 sizes and do no
 * more. Prints the bytes that record 0, which they share for their first frees, still caches.
 * Linked without the library. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "hak_layout.h"

enum { THREADS = 200, EACH = 4, SIZES = 16 };

static void *body(void *blocks) {
    for (int i = 0; i < EACH; i++) free(((void **)blocks)[i]);
    return NULL;
}

int main(void) {
    static void *blocks[THREADS][EACH];
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < EACH; i++) blocks[t][i] = malloc(24u << (t * EACH + i) % SIZES % 11);
    for (int t = 0; t < THREADS; t++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, body, blocks[t])) return 2;
        pthread_join(thread, NULL);
    }
    hak_heap *(*heap_of)(void) = (hak_heap * (*)(void)) dlsym(RTLD_DEFAULT, "hak_process_heap");
    if (!heap_of) return 3;
    hak_heap *heap = heap_of();
    hak_thread *shared = (hak_thread *)((char *)heap + heap->threads_offset);
    long cached = 0;
    for (uint32_t c = 1; c < HAK_CLASS_LIMIT; c++)
        cached += ((long)shared->bins[c].cap_count - shared->room_counts[c]) *
                  (long)shared->bins[c].stride_bytes;
    printf("%ld\n", cached);
    return 0;
}
