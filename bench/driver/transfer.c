/* Producer and consumer: the first thread allocates, the second one reads and frees.
 * A ring with one writer and one reader carries single blocks, or numbers of whole batches. */
#include "common.h"

#include <pthread.h>
#include <stdatomic.h>

#define RING_ENTRIES 1024u /* powers of two */
#define BATCH_BLOCKS 1024u
#define BATCH_COUNT 8u

/* head is written by the producer and read by the consumer; tail the other way round. Each side
 * keeps the last value of the other's index that it saw, and looks again only when it is stuck. */
typedef struct ring {
    _Alignas(BENCH_CACHE_LINE_BYTES) atomic_uint_fast64_t head;
    uint64_t tail_seen;
    _Alignas(BENCH_CACHE_LINE_BYTES) atomic_uint_fast64_t tail;
    uint64_t head_seen;
    _Alignas(BENCH_CACHE_LINE_BYTES) unsigned char *blocks[RING_ENTRIES];
    unsigned char **batches[BATCH_COUNT];
    uint64_t transfers; /* blocks or batches, known to both sides from the start */
    uint64_t sum;       /* the consumer's, read after the join */
} ring;

/* Waits until entry `index` may be written, in a ring of `entries`. */
static inline void ring_room_wait(ring *r, uint64_t index, uint64_t entries) {
    unsigned spins = 0;
    while (index - r->tail_seen >= entries) {
        /* acquire pairs with the consumer's release of tail: the entry has been read. */
        r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
        if (index - r->tail_seen >= entries) bench_pause(&spins);
    }
}

/* Waits until entry `index` may be read. */
static inline void ring_entry_wait(ring *r, uint64_t index) {
    unsigned spins = 0;
    while (index == r->head_seen) {
        /* acquire pairs with the producer's release of head: entry and block are written. */
        r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
        if (index == r->head_seen) bench_pause(&spins);
    }
}

static void *ring_consume(void *argument) {
    ring *r = argument;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < r->transfers; i++) {
        ring_entry_wait(r, i);
        unsigned char *block = r->blocks[i % RING_ENTRIES];
        atomic_store_explicit(&r->tail, i + 1, memory_order_release);
        sum += block[0];
        free(block);
    }
    r->sum = sum;
    return NULL;
}

static void *batches_consume(void *argument) {
    ring *r = argument;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < r->transfers; i++) {
        ring_entry_wait(r, i);
        unsigned char **batch = r->batches[i % BATCH_COUNT];
        for (uint32_t k = 0; k < BATCH_BLOCKS; k++) {
            sum += batch[k][0];
            free(batch[k]);
        }
        atomic_store_explicit(&r->tail, i + 1, memory_order_release);
    }
    r->sum = sum;
    return NULL;
}

void bench_work_ring(const bench_row *row, bench_run *run) {
    static ring r;
    pthread_t consumer;
    uint64_t random = run->seed;
    r.transfers = run->ops;
    if (pthread_create(&consumer, NULL, ring_consume, &r)) bench_give_up("pthread_create failed");

    bench_work_begin(run);
    for (uint64_t i = 0; i < r.transfers; i++) {
        unsigned char *block = bench_block_new(
            bench_random_size((uint32_t)bench_random_next(&random), row->size_min, row->size_max));
        ring_room_wait(&r, i, RING_ENTRIES);
        r.blocks[i % RING_ENTRIES] = block;
        atomic_store_explicit(&r.head, i + 1, memory_order_release);
    }
    pthread_join(consumer, NULL);
    bench_work_end(run);
    run->checksum = bench_checksum_add(random, r.sum);
}

void bench_work_batches(const bench_row *row, bench_run *run) {
    static ring r;
    pthread_t consumer;
    uint64_t random = run->seed;
    r.transfers = bench_scaled(row->ops / BATCH_BLOCKS, run->scale);
    for (uint32_t i = 0; i < BATCH_COUNT; i++)
        r.batches[i] = bench_table_new(run, BATCH_BLOCKS * sizeof *r.batches[i]);
    if (pthread_create(&consumer, NULL, batches_consume, &r))
        bench_give_up("pthread_create failed");

    bench_work_begin(run);
    for (uint64_t i = 0; i < r.transfers; i++) {
        ring_room_wait(&r, i, BATCH_COUNT);
        unsigned char **batch = r.batches[i % BATCH_COUNT];
        for (uint32_t k = 0; k < BATCH_BLOCKS; k++)
            batch[k] = bench_block_new(bench_random_size((uint32_t)bench_random_next(&random),
                                                         row->size_min, row->size_max));
        atomic_store_explicit(&r.head, i + 1, memory_order_release);
    }
    pthread_join(consumer, NULL);
    bench_work_end(run);
    run->ops = r.transfers * BATCH_BLOCKS;
    run->checksum = bench_checksum_add(random, r.sum);
}
