/* Arrays of blocks that change hands: what one thread allocated, another one replaces. Each array
 * carries its own random state, so that the work is the same whichever thread does it.
 *
 *  handover  as many lasting threads as arrays; after each round array i goes to the next thread
 *  churn     threads that end; each leaves its blocks to the next one
 */
#include "common.h"

#include <pthread.h>
#include <stdatomic.h>

#define ROUND_STEPS 10000u
#define THREADS_MAX 16

typedef struct array {
    _Alignas(BENCH_CACHE_LINE_BYTES) unsigned char **slots;
    const bench_row *row;
    uint64_t random;
} array;

static unsigned char *array_block_new(array *a) {
    const uint64_t bits = bench_random_next(&a->random);
    if (a->row->flags & BENCH_SPREAD)
        return bench_block_new_touched(
            bench_random_spread(bits, a->row->size_min, a->row->size_max));
    return bench_block_new(bench_random_size((uint32_t)bits, a->row->size_min, a->row->size_max));
}

static void array_fill(array *a, const bench_row *row, bench_run *run, uint32_t index) {
    a->row = row;
    a->random = run->seed + (uint64_t)index * 0x632be59bd9b4e019u;
    a->slots = bench_table_new(run, row->slots * sizeof *a->slots);
    for (uint32_t i = 0; i < row->slots; i++) a->slots[i] = array_block_new(a);
}

static void array_round(array *a) {
    const uint32_t slot_count = a->row->slots, size_min = a->row->size_min,
                   size_max = a->row->size_max;
    unsigned char **slots = a->slots;
    uint64_t random = a->random;
    for (uint32_t i = 0; i < ROUND_STEPS; i++) {
        uint64_t bits = bench_random_next(&random);
        unsigned char **slot = &slots[bench_random_below((uint32_t)(bits >> 32), slot_count)];
        free(*slot);
        *slot = bench_block_new(bench_random_size((uint32_t)bits, size_min, size_max));
    }
    a->random = random;
}

static void arrays_clear(array *arrays, uint32_t count, bench_run *run) {
    run->checksum = run->seed;
    for (uint32_t i = 0; i < count; i++) {
        run->checksum = bench_checksum_add(run->checksum, arrays[i].random);
        run->checksum = bench_slots_clear(run->checksum, arrays[i].slots, arrays[i].row->slots);
    }
}

/* handover */

typedef struct ring_of_threads {
    array arrays[THREADS_MAX];
    uint32_t thread_count;
    uint64_t rounds;
    /* threads, summed over all rounds */
    _Alignas(BENCH_CACHE_LINE_BYTES) atomic_uint_fast64_t arrived;
} ring_of_threads;

typedef struct worker {
    ring_of_threads *shared;
    uint32_t index;
} worker;

static void *handover_work(void *argument) {
    worker *self = argument;
    ring_of_threads *shared = self->shared;
    for (uint64_t round = 0; round < shared->rounds; round++) {
        array_round(&shared->arrays[(self->index + round) % shared->thread_count]);
        /* acq_rel pairs with the acquire below: the next owner sees the array as it was left. */
        atomic_fetch_add_explicit(&shared->arrived, 1, memory_order_acq_rel);
        unsigned spins = 0;
        while (atomic_load_explicit(&shared->arrived, memory_order_acquire) <
               (round + 1) * shared->thread_count)
            bench_pause(&spins);
    }
    return NULL;
}

void bench_work_handover(const bench_row *row, bench_run *run) {
    static ring_of_threads shared;
    pthread_t threads[THREADS_MAX];
    worker workers[THREADS_MAX];
    shared.thread_count = row->threads;
    shared.rounds = bench_scaled(row->ops / (ROUND_STEPS * row->threads), run->scale);
    for (uint32_t i = 0; i < row->threads; i++) {
        workers[i] = (worker){&shared, i};
        array_fill(&shared.arrays[i], row, run, i);
    }
    bench_work_begin(run);
    for (uint32_t i = 1; i < row->threads; i++)
        if (pthread_create(&threads[i], NULL, handover_work, &workers[i]))
            bench_give_up("pthread_create failed");
    handover_work(&workers[0]);
    for (uint32_t i = 1; i < row->threads; i++) pthread_join(threads[i], NULL);
    bench_work_end(run);
    run->ops = shared.rounds * ROUND_STEPS * row->threads;
    arrays_clear(shared.arrays, row->threads, run);
}

/* churn: one op is one thread, which replaces every slot of the array once. */

static void *churn_work(void *argument) {
    array *a = argument;
    for (uint32_t i = 0; i < a->row->slots; i++) {
        free(a->slots[i]);
        a->slots[i] = array_block_new(a);
    }
    return NULL;
}

/* As many threads at a time as the row says, each on its own array. */
void bench_work_churn(const bench_row *row, bench_run *run) {
    static array arrays[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    const uint64_t turns = bench_scaled(row->ops / row->threads, run->scale);
    for (uint32_t i = 0; i < row->threads; i++) array_fill(&arrays[i], row, run, i);
    bench_work_begin(run);
    for (uint64_t turn = 0; turn < turns; turn++) {
        for (uint32_t i = 0; i < row->threads; i++)
            if (pthread_create(&threads[i], NULL, churn_work, &arrays[i]))
                bench_give_up("pthread_create failed");
        for (uint32_t i = 0; i < row->threads; i++) pthread_join(threads[i], NULL);
    }
    bench_work_end(run);
    run->ops = turns * row->threads;
    arrays_clear(arrays, row->threads, run);
}
