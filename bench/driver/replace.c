/* Random replacement: every step frees the block in a random slot and puts a new one of random
 * size there. The slots are filled before the work begins. */
#include "common.h"

#include <pthread.h>

#define THREADS_MAX 16

static void replace(unsigned char **slots, uint32_t slot_count, uint32_t size_min,
                    uint32_t size_max, uint64_t ops, uint64_t *state) {
    uint64_t random = *state;
    for (uint64_t i = 0; i < ops; i++) {
        uint64_t bits = bench_random_next(&random);
        unsigned char **slot = &slots[bench_random_below((uint32_t)(bits >> 32), slot_count)];
        free(*slot);
        *slot = bench_block_new(bench_random_size((uint32_t)bits, size_min, size_max));
    }
    *state = random;
}

static void fill(unsigned char **slots, const bench_row *row, uint64_t *random) {
    for (uint32_t i = 0; i < row->slots; i++)
        slots[i] = bench_block_new(
            bench_random_size((uint32_t)bench_random_next(random), row->size_min, row->size_max));
}

void bench_work_replace(const bench_row *row, bench_run *run) {
    unsigned char **slots = bench_table_new(run, row->slots * sizeof *slots);
    uint64_t random = run->seed;
    fill(slots, row, &random);
    bench_work_begin(run);
    replace(slots, row->slots, row->size_min, row->size_max, run->ops, &random);
    bench_work_end(run);
    run->checksum = bench_slots_clear(random, slots, row->slots);
}

/* Several threads, each in slots of its own; the work is shared out evenly. One op is one step of
 * one thread. */
typedef struct worker {
    _Alignas(BENCH_CACHE_LINE_BYTES) unsigned char **slots;
    const bench_row *row;
    pthread_barrier_t *start;
    uint64_t random;
    uint64_t ops;
} worker;

static void *replace_mt_work(void *argument) {
    worker *self = argument;
    fill(self->slots, self->row, &self->random);
    pthread_barrier_wait(self->start); /* filled */
    pthread_barrier_wait(self->start); /* the clock runs */
    replace(self->slots, self->row->slots, self->row->size_min, self->row->size_max, self->ops,
            &self->random);
    pthread_barrier_wait(self->start); /* done: the exit of a thread is not timed */
    return NULL;
}

void bench_work_replace_mt(const bench_row *row, bench_run *run) {
    static worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, row->threads + 1);
    for (uint32_t i = 0; i < row->threads; i++) {
        workers[i] = (worker){
            .slots = bench_table_new(run, row->slots * sizeof *workers[i].slots),
            .row = row,
            .start = &start,
            .random = run->seed + (uint64_t)i * 0x632be59bd9b4e019u,
            .ops = bench_scaled(row->ops / row->threads, run->scale),
        };
        if (pthread_create(&threads[i], NULL, replace_mt_work, &workers[i]))
            bench_give_up("pthread_create failed");
    }
    pthread_barrier_wait(&start);
    bench_work_begin(run);
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&start);
    bench_work_end(run);
    run->ops = workers[0].ops * row->threads;
    run->checksum = run->seed;
    for (uint32_t i = 0; i < row->threads; i++) {
        pthread_join(threads[i], NULL);
        run->checksum = bench_checksum_add(run->checksum, workers[i].random);
        run->checksum = bench_slots_clear(run->checksum, workers[i].slots, row->slots);
    }
}

/* Large blocks, of which every OS page is written. */
void bench_work_replace_big(const bench_row *row, bench_run *run) {
    const uint32_t slot_count = row->slots;
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint64_t random = run->seed;
    for (uint32_t i = 0; i < slot_count; i++)
        slots[i] = bench_block_new_touched(
            bench_random_spread(bench_random_next(&random), row->size_min, row->size_max));

    bench_work_begin(run);
    for (uint64_t i = 0; i < run->ops; i++) {
        unsigned char **slot =
            &slots[bench_random_below((uint32_t)bench_random_next(&random), slot_count)];
        free(*slot);
        *slot = bench_block_new_touched(
            bench_random_spread(bench_random_next(&random), row->size_min, row->size_max));
    }
    bench_work_end(run);
    run->checksum = bench_slots_clear(random, slots, slot_count);
}
