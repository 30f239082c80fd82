/* Threads that did one job and sleep, as those of a pool do. Each makes blocks of its own until the
 * job's bytes are live, as many in each doubling of size, writes them whole, frees them, and waits.
 * The first thread goes on with a little work, so that whoever gives back by time or at slow paths
 * can. Then each sleeper is woken alone, and its next mallocs are timed.
 *
 * The window holds the jobs; one op is a job. The figures say what a sleeping thread keeps
 * resident, its stack included, a while after the last job, and what its first malloc takes
 * afterwards. */
#include "common.h"
#include "ticks.h"

#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#define JOB_BYTES (2u << 20)
#define JOB_BLOCKS_MAX 65536u
#define STACK_BYTES (256u << 10)
#define AT_WORK 8u      /* jobs at a time */
#define REST_STEPS 150u /* of 10 ms: more than two epochs of whoever has them */
#define REST_SLOTS 256u

static const uint32_t next_sizes[] = {64, 256, 1024, 4096, 16384};
enum { SIZE_COUNT = sizeof next_sizes / sizeof *next_sizes };

typedef struct sleeper {
    const bench_row *row;
    unsigned char **blocks; /* a table that jobs use in turn */
    uint64_t random, sum;
    uint64_t first, others; /* ticks */
    sem_t wake, done;
} sleeper;

static uint64_t job(sleeper *self) {
    uint64_t live = 0, sum = 0;
    uint32_t count = 0;
    while (live < JOB_BYTES && count < JOB_BLOCKS_MAX) {
        const uint32_t size = bench_random_spread(bench_random_next(&self->random),
                                                  self->row->size_min, self->row->size_max);
        self->blocks[count] = bench_block_check(malloc(size));
        memset(self->blocks[count], (int)size, size);
        bench_escape(self->blocks[count++]);
        live += size;
    }
    for (uint32_t i = 0; i < count; i++) {
        sum += self->blocks[i][0];
        free(self->blocks[i]);
    }
    return sum;
}

static void semaphore_wait(sem_t *semaphore) {
    while (sem_wait(semaphore)) continue;
}

static void *sleeper_work(void *argument) {
    sleeper *self = argument;
    unsigned char *blocks[SIZE_COUNT];
    self->sum = job(self);
    sem_post(&self->done);
    semaphore_wait(&self->wake);
    for (int i = 0; i < SIZE_COUNT; i++) {
        const uint64_t start = bench_ticks_begin();
        blocks[i] = malloc(next_sizes[i]);
        const uint64_t taken = bench_ticks_end() - start;
        *(i ? &self->others : &self->first) += taken;
        bench_block_check(blocks[i]);
        blocks[i][0] = (unsigned char)i;
        bench_escape(blocks[i]);
    }
    for (int i = 0; i < SIZE_COUNT; i++) {
        self->sum += blocks[i][0];
        free(blocks[i]);
    }
    sem_post(&self->done);
    semaphore_wait(&self->wake); /* ends with the process: no exit of a thread is in any figure */
    return NULL;
}

/* A program that is not quite idle: 100 steps a second, each replaces a few small blocks. */
static void rest(unsigned char **slots, uint64_t *random) {
    const struct timespec step = {.tv_nsec = 10000000};
    for (uint32_t i = 0; i < REST_STEPS; i++) {
        nanosleep(&step, NULL);
        for (int k = 0; k < 50; k++) {
            const uint64_t bits = bench_random_next(random);
            unsigned char **slot = &slots[bench_random_below((uint32_t)(bits >> 32), REST_SLOTS)];
            free(*slot);
            *slot = bench_block_new(bench_random_size((uint32_t)bits, 16, 8192));
        }
    }
}

static int ticks_compare(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void jobs_run(sleeper *sleepers, uint64_t count) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (uint64_t i = 0; i < count; i++) {
        pthread_t thread;
        if (i >= AT_WORK) semaphore_wait(&sleepers[i - AT_WORK].done); /* its table is free now */
        if (pthread_create(&thread, &attributes, sleeper_work, &sleepers[i]))
            bench_give_up("pthread_create failed");
        pthread_detach(thread);
    }
    for (uint64_t i = count > AT_WORK ? count - AT_WORK : 0; i < count; i++)
        semaphore_wait(&sleepers[i].done);
    pthread_attr_destroy(&attributes);
}

static void wake_each(sleeper *sleepers, uint64_t count, bench_run *run, uint64_t *sorted) {
    const double ns_per_tick = bench_ns_per_tick();
    for (uint64_t i = 0; i < count; i++) {
        sem_post(&sleepers[i].wake);
        semaphore_wait(&sleepers[i].done);
        run->checksum = bench_checksum_add(run->checksum, sleepers[i].sum);
    }
    bench_figure_add(run, "clock_ns", bench_ticks_overhead() * ns_per_tick);
    for (uint64_t i = 0; i < count; i++) sorted[i] = sleepers[i].first;
    qsort(sorted, count, sizeof *sorted, ticks_compare);
    bench_figure_add(run, "first_malloc_p50_ns", (double)sorted[count / 2] * ns_per_tick);
    bench_figure_add(run, "first_malloc_p99_ns",
                     (double)sorted[count - 1 - count / 100] * ns_per_tick);
    for (uint64_t i = 0; i < count; i++) sorted[i] = sleepers[i].others;
    qsort(sorted, count, sizeof *sorted, ticks_compare);
    bench_figure_add(run, "four_other_sizes_p50_ns", (double)sorted[count / 2] * ns_per_tick);
}

void bench_work_idle(const bench_row *row, bench_run *run) {
    static unsigned char *rest_slots[REST_SLOTS];
    const uint64_t count = run->ops;
    unsigned char **tables[AT_WORK];
    sleeper *sleepers = bench_table_new(run, count * sizeof *sleepers);
    uint64_t *sorted = bench_table_new(run, count * sizeof *sorted), random = run->seed;
    for (uint32_t i = 0; i < AT_WORK; i++)
        tables[i] = bench_table_new(run, JOB_BLOCKS_MAX * sizeof(unsigned char *));
    for (uint64_t i = 0; i < count; i++) {
        sleepers[i] = (sleeper){.row = row,
                                .blocks = tables[i % AT_WORK],
                                .random = run->seed + i * 0x632be59bd9b4e019u};
        sem_init(&sleepers[i].wake, 0, 0);
        sem_init(&sleepers[i].done, 0, 0);
    }
    for (uint32_t i = 0; i < REST_SLOTS; i++) rest_slots[i] = bench_block_new(64);
    const uint64_t before_kib = bench_rss_kib();

    bench_work_begin(run);
    jobs_run(sleepers, count);
    bench_work_end(run);

    const uint64_t after_kib = bench_rss_kib();
    rest(rest_slots, &random);
    const uint64_t rested_kib = bench_rss_kib();
    run->checksum = bench_checksum_add(run->seed, random);
    bench_figure_add(run, "kept_kib_a_thread",
                     ((double)after_kib - (double)before_kib) / (double)count);
    bench_figure_add(run, "kept_kib_a_thread_later",
                     ((double)rested_kib - (double)before_kib) / (double)count);
    bench_figure_add(run, "resident_mib_later", (double)rested_kib / 1024);
    wake_each(sleepers, count, run, sorted);
}
