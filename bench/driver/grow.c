/* A heap that grows, buffers that grow, and blocks that must be clear. */
#include "common.h"

/* A heap that only grows: every block is filled, none is freed before the end of the work.
 * One op is one malloc and the memset of its block. */
void bench_work_growth(const bench_row *row, bench_run *run) {
    const uint64_t count = run->ops;
    unsigned char **slots = bench_table_new(run, count * sizeof *slots);
    uint64_t random = run->seed;

    bench_work_begin(run);
    for (uint64_t i = 0; i < count; i++) {
        size_t size =
            bench_random_size((uint32_t)bench_random_next(&random), row->size_min, row->size_max);
        slots[i] = bench_block_check(malloc(size));
        memset(slots[i], (int)(size & 0xff), size);
        bench_escape(slots[i]);
    }
    bench_work_end(run);
    run->checksum = bench_slots_clear(random, slots, count);
}

/* Buffers that grow by half from size_min to size_max, `slots` of them in turns; the OS pages they
 * grow by are written. One op is one realloc. */
void bench_work_realloc(const bench_row *row, bench_run *run) {
    const uint32_t slot_count = row->slots;
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint32_t *sizes = bench_table_new(run, slot_count * sizeof *sizes);
    uint64_t random = run->seed;
    for (uint32_t i = 0; i < slot_count; i++) slots[i] = bench_block_new(sizes[i] = row->size_min);

    bench_work_begin(run);
    for (uint64_t i = 0; i < run->ops; i++) {
        uint32_t slot = bench_random_below((uint32_t)bench_random_next(&random), slot_count);
        uint32_t grown = sizes[slot] + sizes[slot] / 2;
        uint32_t size = grown > row->size_max ? row->size_min : grown;
        slots[slot] = bench_block_check(realloc(slots[slot], size));
        for (uint32_t offset = sizes[slot]; offset < size; offset += BENCH_OS_PAGE_BYTES)
            slots[slot][offset] = (unsigned char)size;
        slots[slot][size - 1] = (unsigned char)size;
        bench_escape(slots[slot]);
        sizes[slot] = size;
    }
    bench_work_end(run);
    run->checksum = bench_slots_clear(random, slots, slot_count);
}

/* Random replacement with calloc: a block that is not clear fails the run. */
void bench_work_calloc(const bench_row *row, bench_run *run) {
    const uint32_t slot_count = row->slots;
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint64_t random = run->seed;
    for (uint32_t i = 0; i < slot_count; i++)
        slots[i] = bench_block_new(
            bench_random_size((uint32_t)bench_random_next(&random), row->size_min, row->size_max));

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
