/* changed.c: threads allocate in a heap whose policy alternates between two, a thousand times a
 * second, and look after each step at the rows that they obey.
 *
 *   changed FIRST.image SECOND.image THREADS CHANGES
 *
 * The heap begins under FIRST; each change turns to the other. So the generation that a row was
 * copied at says which of the two it must be, word for word; and no cap may be above its row's.
 * Prints how many changes and takings-over there were, in how many ms. Exit code 1, with a line,
 * for a row that is of neither policy, or of the other.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hakmem.h"

enum { BLOCKS = 512, LARGEST = 40000, PAUSE_NS = 200000 };

static hak_policy policies[2];
static hak_heap *heap;
static atomic_int over;
static atomic_ulong wrong, adopted;

static hak_thread *own_record(void) {
    uint32_t id = (uint32_t)syscall(SYS_gettid);
    hak_thread *records = (hak_thread *)((char *)heap + heap->threads_offset);
    for (uint32_t i = 1; i < __atomic_load_n(&heap->thread_top, __ATOMIC_ACQUIRE); i++)
        if (__atomic_load_n(&records[i].os_id, __ATOMIC_RELAXED) == id &&
            __atomic_load_n(&records[i].state, __ATOMIC_ACQUIRE) == HAK_THREAD_LIVE)
            return &records[i];
    return NULL;
}

/* Only this thread writes its record. */
static void look(const hak_thread *t) {
    for (uint32_t c = 1; c <= policies[0].sizes.class_count; c++) {
        hak_cache_class row = t->rows[c];
        const hak_policy *policy = &policies[row.generation / 2 % 2];
        uint32_t generation = row.generation;
        row.generation = 0;
        if (memcmp(&row, &policy->caches.classes[c], sizeof row) == 0 && generation % 2 == 0 &&
            t->bins[c].cap_count <= row.cap_max_count)
            continue;
        if (atomic_fetch_add(&wrong, 1) == 0)
            printf("thread %u, class %u: a row of generation %u with batch %u, highest cap %u, "
                   "carve %u; cap %u\n",
                   t->index, c, generation, row.batch_count, row.cap_max_count, row.carve_count,
                   t->bins[c].cap_count);
    }
}

static void *work(void *seed) {
    void *blocks[BLOCKS] = {0};
    hak_fault fault;
    uint64_t state = (uintptr_t)seed * 2654435761u + 1;
    blocks[0] = hak_heap_alloc(heap, 1);
    const hak_thread *t = own_record();
    if (!t) abort();
    while (!atomic_load(&over)) {
        for (int i = 0; i < 64; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            uint32_t at = state >> 40 & (BLOCKS - 1), bits = state >> 52 & 15;
            if (hak_heap_free(heap, blocks[at], &fault) != HAK_OK) abort();
            blocks[at] = hak_heap_alloc(heap, (state >> 33) % (bits ? 1024 : LARGEST) + 1);
        }
        look(t);
    }
    for (int i = 0; i < BLOCKS; i++) (void)hak_heap_free(heap, blocks[i], &fault);
    look(t);
    atomic_fetch_add(&adopted, t->row_adopt_count);
    return NULL;
}

static void load(const char *path, hak_policy *policy) {
    FILE *file = fopen(path, "rb");
    if (!file || fread(policy, sizeof *policy, 1, file) != 1) {
        perror(path);
        exit(2);
    }
    fclose(file);
}

static double now_ms(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

int main(int count, char **words) {
    if (count != 5) return 2;
    for (int i = 0; i < 2; i++) load(words[i + 1], &policies[i]);
    int threads = atoi(words[3]), changes = atoi(words[4]);
    pthread_t made[64];
    hak_fault fault;
    heap = hak_heap_create(&policies[0], 0, 0, &fault);
    if (!heap || threads > 64) return 2;
    for (int i = 0; i < threads; i++) pthread_create(&made[i], NULL, work, (void *)(uintptr_t)i);
    double start = now_ms();
    for (int i = 1; i <= changes; i++) {
        uint32_t code = hak_heap_policy_set(heap, &policies[i % 2]);
        if (code != HAK_CHANGE_DONE) {
            printf("change %d: refused, %u\n", i, code);
            return 2;
        }
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, PAUSE_NS}, NULL);
    }
    double took = now_ms() - start;
    atomic_store(&over, 1);
    for (int i = 0; i < threads; i++) pthread_join(made[i], NULL);
    printf("%d changes in %.0f ms, %lu rows taken over, %lu wrong\n", changes, took,
           atomic_load(&adopted), atomic_load(&wrong));
    hak_heap_destroy(heap);
    return atomic_load(&wrong) != 0;
}
