/* One thread, an order of frees that is known: at once, last first, first first, never. */
#include "common.h"

void bench_work_pair(const bench_row *row, bench_run *run)
{
    const size_t size = row->size_min;
    const uint64_t ops = run->ops;
    bench_work_begin(run);
    for (uint64_t i = 0; i < ops; i++)
        free(bench_block_new(size));
    bench_work_end(run);
    run->checksum = bench_checksum_add(run->seed, ops);
}

/* Rounds of `slots` blocks; last in, first out. */
void bench_work_lifo(const bench_row *row, bench_run *run)
{
    const uint32_t slot_count = row->slots;
    const uint64_t rounds = bench_scaled(row->ops / slot_count, run->scale);
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint64_t random = run->seed;
    uint64_t sum = 0;

    bench_work_begin(run);
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < slot_count; i++)
            slots[i] = bench_block_new(bench_random_size((uint32_t)bench_random_next(&random), row->size_min, row->size_max));
        sum += slots[round % slot_count][0];
        for (uint32_t i = slot_count; i-- > 0;)
            free(slots[i]);
    }
    bench_work_end(run);
    run->ops = rounds * slot_count;
    run->checksum = bench_checksum_add(random, sum);
}

/* Rounds of `slots` blocks; first in, first out. */
void bench_work_fifo(const bench_row *row, bench_run *run)
{
    const uint32_t slot_count = row->slots;
    const uint64_t rounds = bench_scaled(row->ops / slot_count, run->scale);
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint64_t random = run->seed;
    uint64_t sum = 0;

    bench_work_begin(run);
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < slot_count; i++)
            slots[i] = bench_block_new(bench_random_size((uint32_t)bench_random_next(&random), row->size_min, row->size_max));
        sum += slots[round % slot_count][0];
        for (uint32_t i = 0; i < slot_count; i++)
            free(slots[i]);
    }
    bench_work_end(run);
    run->ops = rounds * slot_count;
    run->checksum = bench_checksum_add(random, sum);
}

/* A heap that only grows: every block is filled, none is freed before the end of the work.
 * One op is one malloc and the memset of its block. */
void bench_work_growth(const bench_row *row, bench_run *run)
{
    const uint64_t count = run->ops;
    unsigned char **slots = bench_table_new(run, count * sizeof *slots);
    uint64_t random = run->seed;

    bench_work_begin(run);
    for (uint64_t i = 0; i < count; i++) {
        size_t size = bench_random_size((uint32_t)bench_random_next(&random), row->size_min, row->size_max);
        slots[i] = bench_block_check(malloc(size));
        memset(slots[i], (int)(size & 0xff), size);
        bench_escape(slots[i]);
    }
    bench_work_end(run);
    run->checksum = bench_slots_clear(random, slots, count);
}

/* Buffers that grow by half from size_min to size_max, `slots` of them in turns. One op is one realloc. */
void bench_work_realloc(const bench_row *row, bench_run *run)
{
    const uint32_t slot_count = row->slots;
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint32_t *sizes = bench_table_new(run, slot_count * sizeof *sizes);
    uint64_t random = run->seed;
    for (uint32_t i = 0; i < slot_count; i++)
        slots[i] = bench_block_new(sizes[i] = row->size_min);

    bench_work_begin(run);
    for (uint64_t i = 0; i < run->ops; i++) {
        uint32_t slot = bench_random_below((uint32_t)bench_random_next(&random), slot_count);
        uint32_t grown = sizes[slot] + sizes[slot] / 2;
        uint32_t size = grown > row->size_max ? row->size_min : grown;
        slots[slot] = bench_block_check(realloc(slots[slot], size));
        slots[slot][size - 1] = (unsigned char)size;
        bench_escape(slots[slot]);
        sizes[slot] = size;
    }
    bench_work_end(run);
    run->checksum = bench_slots_clear(random, slots, slot_count);
}

/* Random replacement with calloc: a block that is not clear fails the run. */
void bench_work_calloc(const bench_row *row, bench_run *run)
{
    const uint32_t slot_count = row->slots;
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint64_t random = run->seed;
    for (uint32_t i = 0; i < slot_count; i++)
        slots[i] = bench_block_new(bench_random_size((uint32_t)bench_random_next(&random), row->size_min, row->size_max));

    bench_work_begin(run);
    for (uint64_t i = 0; i < run->ops; i++) {
        uint64_t bits = bench_random_next(&random);
        unsigned char **slot = &slots[bench_random_below((uint32_t)(bits >> 32), slot_count)];
        size_t size = bench_random_size((uint32_t)bits, row->size_min, row->size_max);
        free(*slot);
        unsigned char *block = bench_block_check(calloc(1, size));
        if (block[0] | block[size / 2] | block[size - 1])
            bench_give_up("calloc returned a block that is not clear");
        block[0] = block[size / 2] = block[size - 1] = 0xff;
        bench_escape(block);
        *slot = block;
    }
    bench_work_end(run);
    run->checksum = bench_slots_clear(random, slots, slot_count);
}
