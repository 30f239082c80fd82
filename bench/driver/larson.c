/* Threads that start their successor on the same array and end
 * (after Larson and Krishnan: Memory Allocation for Long-Running Server Applications, 1998).
 *
 *  plain   a fixed amount of work; first and last byte of each block are written
 *  repro   runs for a time; each block carries its size and a serial number, checked at its free
 *  guard   runs for a time; each block is filled; alignment and every byte are checked
 *
 * Larson's threads end while others work on, so that blocks outlive the threads that allocated
 * them.
 */
#include "common.h"

#include <pthread.h>
#include <semaphore.h>

#define ROUND_STEPS 10000u
#define THREADS_MAX 16
#define STAMP_BYTES 16u /* the least size of the checked profiles */

enum profile { PLAIN, REPRO, GUARD };

typedef struct array {
    _Alignas(BENCH_CACHE_LINE_BYTES) unsigned char **slots;
    const bench_row *row;
    enum profile profile;
    uint64_t random;
    uint64_t serial;      /* of the next block */
    uint64_t rounds_left; /* plain */
    uint64_t end_ns;      /* repro, guard */
    uint64_t rounds_done;
    sem_t *done;
} array;

/* Checked blocks: size and serial number in the first 16 bytes; guard fills the rest, repro writes
 * its last byte. */
typedef struct stamp {
    uint64_t size;
    uint64_t serial;
} stamp;

static unsigned char fill_of(uint64_t serial) { return (unsigned char)(serial * 0x9d + 0x2b); }

static unsigned char *block_new_checked(array *a, size_t size) {
    unsigned char *block = bench_block_check(malloc(size));
    if ((uintptr_t)block % _Alignof(max_align_t))
        bench_give_up("malloc returned a block that is not aligned to 16");
    *(stamp *)block = (stamp){size, a->serial};
    unsigned char fill = fill_of(a->serial++);
    if (a->profile == GUARD) memset(block + STAMP_BYTES, fill, size - STAMP_BYTES);
    else if (size > STAMP_BYTES) block[size - 1] = fill;
    bench_escape(block);
    return block;
}

static void block_check(const array *a, const unsigned char *block) {
    const stamp *found = (const stamp *)block;
    if (found->size < a->row->size_min || found->size > a->row->size_max ||
        found->serial >= a->serial)
        bench_give_up("a block's first bytes were overwritten");
    unsigned char fill = fill_of(found->serial);
    for (uint64_t i = a->profile == GUARD ? STAMP_BYTES : found->size - 1; i < found->size; i++)
        if (i >= STAMP_BYTES && block[i] != fill) bench_give_up("a block's bytes were overwritten");
}

static unsigned char *block_new(array *a, uint64_t bits) {
    uint32_t size = bench_random_size((uint32_t)bits, a->row->size_min, a->row->size_max);
    return a->profile == PLAIN ? bench_block_new(size) : block_new_checked(a, size);
}

static void array_round(array *a) {
    const uint32_t slot_count = a->row->slots;
    for (uint32_t i = 0; i < ROUND_STEPS; i++) {
        uint64_t bits = bench_random_next(&a->random);
        unsigned char **slot = &a->slots[bench_random_below((uint32_t)(bits >> 32), slot_count)];
        if (a->profile != PLAIN) block_check(a, *slot);
        free(*slot);
        *slot = block_new(a, bits);
    }
    a->rounds_done++;
}

static void *larson_work(void *argument);

static void larson_thread_start(array *a) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, larson_work, a)) bench_give_up("pthread_create failed");
    pthread_detach(thread);
}

static void *larson_work(void *argument) {
    array *a = argument;
    array_round(a);
    if (a->profile == PLAIN ? --a->rounds_left != 0 : bench_clock_ns() < a->end_ns)
        larson_thread_start(a);
    else sem_post(a->done);
    return NULL;
}

static void larson(const bench_row *row, bench_run *run, enum profile profile) {
    static array arrays[THREADS_MAX];
    static sem_t done;
    sem_init(&done, 0, 0);
    for (uint32_t i = 0; i < row->threads; i++) {
        array *a = &arrays[i];
        *a = (array){.row = row,
                     .profile = profile,
                     .random = run->seed + (uint64_t)i * 0x632be59bd9b4e019u,
                     .done = &done};
        a->rounds_left = bench_scaled(row->ops / (ROUND_STEPS * row->threads), run->scale);
        a->slots = bench_table_new(run, row->slots * sizeof *a->slots);
        for (uint32_t k = 0; k < row->slots; k++)
            a->slots[k] = block_new(a, bench_random_next(&a->random));
    }
    bench_work_begin(run);
    for (uint32_t i = 0; i < row->threads; i++) {
        arrays[i].end_ns = run->before.wall_ns + (uint64_t)((double)row->ops * run->scale * 1e6);
        larson_thread_start(&arrays[i]);
    }
    for (uint32_t i = 0; i < row->threads; i++)
        while (sem_wait(&done));
    bench_work_end(run);
    run->ops = 0;
    run->checksum = run->seed;
    for (uint32_t i = 0; i < row->threads; i++) {
        run->ops += arrays[i].rounds_done * ROUND_STEPS;
        for (uint32_t k = 0; profile != PLAIN && k < row->slots; k++)
            block_check(&arrays[i], arrays[i].slots[k]);
        if (profile != PLAIN) continue; /* how much was done depends on the time */
        run->checksum = bench_checksum_add(run->checksum, arrays[i].random);
        run->checksum = bench_slots_clear(run->checksum, arrays[i].slots, row->slots);
    }
    bench_figure_add(run, "mops_per_s",
                     (double)run->ops * 1e3 / (double)(run->after.wall_ns - run->before.wall_ns));
}

void bench_work_larson(const bench_row *row, bench_run *run) { larson(row, run, PLAIN); }
void bench_work_larson_repro(const bench_row *row, bench_run *run) { larson(row, run, REPRO); }
void bench_work_larson_guard(const bench_row *row, bench_run *run) { larson(row, run, GUARD); }
