/* Cache lines between threads: small blocks written many times by the thread that has them. When
 * two threads' blocks lie in one cache line, the line goes to and fro between the cores.
 *
 *  active    each thread allocates its blocks itself; an allocator that hands neighbours to two
 *            threads is seen
 *  passive   the blocks come from one thread, side by side; each frees the one it was given and
 *            goes on with what malloc gives it then (after Berger et al.: Hoard, 2000)
 *
 * One op is one block: malloc, WRITES writes, free.
 */
#include "common.h"

#include <pthread.h>

#define WRITES 500u
#define THREADS_MAX 16

typedef struct worker {
    _Alignas(BENCH_CACHE_LINE_BYTES) pthread_barrier_t *start;
    unsigned char *given; /* passive: by the first thread */
    uint64_t ops;
    uint64_t sum;
    uint32_t size;
} worker;

static void *sharing_work(void *argument) {
    worker *self = argument;
    const uint32_t size = self->size;
    uint64_t sum = 0;
    pthread_barrier_wait(self->start);
    unsigned char *block = self->given ? self->given : bench_block_check(malloc(size));
    for (uint64_t i = 0; i < self->ops; i++) {
        volatile unsigned char *bytes = block;
        bytes[0] = (unsigned char)i;
        for (uint32_t write = 0; write < WRITES; write++) bytes[0]++;
        sum += bytes[0];
        free(block);
        block = bench_block_check(malloc(size));
    }
    free(block);
    self->sum = sum;
    return NULL;
}

static void sharing(const bench_row *row, bench_run *run, bool passive) {
    static worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, row->threads + 1);
    for (uint32_t i = 0; i < row->threads; i++) {
        workers[i] = (worker){
            .start = &start,
            .given = passive ? bench_block_check(malloc(row->size_min)) : NULL,
            .ops = bench_scaled(row->ops / row->threads, run->scale),
            .size = row->size_min,
        };
        if (pthread_create(&threads[i], NULL, sharing_work, &workers[i]))
            bench_give_up("pthread_create failed");
    }
    bench_work_begin(run);
    pthread_barrier_wait(&start);
    for (uint32_t i = 0; i < row->threads; i++) pthread_join(threads[i], NULL);
    bench_work_end(run);
    run->ops = workers[0].ops * row->threads;
    run->checksum = run->seed;
    for (uint32_t i = 0; i < row->threads; i++)
        run->checksum = bench_checksum_add(run->checksum, workers[i].sum);
}

void bench_work_sharing_active(const bench_row *row, bench_run *run) { sharing(row, run, false); }
void bench_work_sharing_passive(const bench_row *row, bench_run *run) { sharing(row, run, true); }
