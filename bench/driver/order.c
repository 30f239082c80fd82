/* One thread that frees in a known order: at once, last first, first first. */
#include "common.h"

void bench_work_pair(const bench_row *row, bench_run *run) {
    const size_t size = row->size_min;
    const uint64_t ops = run->ops;
    bench_work_begin(run);
    for (uint64_t i = 0; i < ops; i++) free(bench_block_new(size));
    bench_work_end(run);
    run->checksum = bench_checksum_add(run->seed, ops);
}

/* Rounds of `slots` blocks; last in, first out. */
void bench_work_lifo(const bench_row *row, bench_run *run) {
    const uint32_t slot_count = row->slots;
    const uint64_t rounds = bench_scaled(row->ops / slot_count, run->scale);
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint64_t random = run->seed;
    uint64_t sum = 0;

    bench_work_begin(run);
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < slot_count; i++)
            slots[i] = bench_block_new(bench_random_size((uint32_t)bench_random_next(&random),
                                                         row->size_min, row->size_max));
        sum += slots[round % slot_count][0];
        for (uint32_t i = slot_count; i-- > 0;) free(slots[i]);
    }
    bench_work_end(run);
    run->ops = rounds * slot_count;
    run->checksum = bench_checksum_add(random, sum);
}

/* Rounds of `slots` blocks; first in, first out. */
void bench_work_fifo(const bench_row *row, bench_run *run) {
    const uint32_t slot_count = row->slots;
    const uint64_t rounds = bench_scaled(row->ops / slot_count, run->scale);
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint64_t random = run->seed;
    uint64_t sum = 0;

    bench_work_begin(run);
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < slot_count; i++)
            slots[i] = bench_block_new(bench_random_size((uint32_t)bench_random_next(&random),
                                                         row->size_min, row->size_max));
        sum += slots[round % slot_count][0];
        for (uint32_t i = 0; i < slot_count; i++) free(slots[i]);
    }
    bench_work_end(run);
    run->ops = rounds * slot_count;
    run->checksum = bench_checksum_add(random, sum);
}
