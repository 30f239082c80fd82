/* Random replacement: every step frees the block in a random slot and puts a new one of random
 * size there. The slots are filled before the work begins. */
#include "common.h"

void bench_work_replace(const bench_row *row, bench_run *run)
{
    const uint32_t slot_count = row->slots, size_min = row->size_min, size_max = row->size_max;
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint64_t random = run->seed;
    for (uint32_t i = 0; i < slot_count; i++)
        slots[i] = bench_block_new(bench_random_size((uint32_t)bench_random_next(&random), size_min, size_max));

    const uint64_t ops = run->ops;
    bench_work_begin(run);
    for (uint64_t i = 0; i < ops; i++) {
        uint64_t bits = bench_random_next(&random);
        unsigned char **slot = &slots[bench_random_below((uint32_t)(bits >> 32), slot_count)];
        free(*slot);
        *slot = bench_block_new(bench_random_size((uint32_t)bits, size_min, size_max));
    }
    bench_work_end(run);
    run->checksum = bench_slots_clear(random, slots, slot_count);
}

/* As many sizes in each doubling as in any other. */
static size_t size_spread(uint64_t bits, uint32_t size_min, uint32_t size_max)
{
    uint32_t doublings = 0;
    while ((uint64_t)size_min << (doublings + 1) <= size_max)
        doublings++;
    uint64_t low = (uint64_t)size_min << bench_random_below((uint32_t)(bits >> 32), doublings + 1);
    uint64_t high = low * 2 - 1 < size_max ? low * 2 - 1 : size_max;
    return bench_random_size((uint32_t)bits, (uint32_t)low, (uint32_t)high);
}

static unsigned char *block_new_touched(size_t size)
{
    unsigned char *block = bench_block_check(malloc(size));
    for (size_t offset = 0; offset < size; offset += BENCH_OS_PAGE_BYTES)
        block[offset] = (unsigned char)size;
    block[size - 1] = (unsigned char)(size >> 3);
    block[0] = (unsigned char)size;
    bench_escape(block);
    return block;
}

/* The same for large blocks, of which every OS page is written. */
void bench_work_replace_big(const bench_row *row, bench_run *run)
{
    const uint32_t slot_count = row->slots;
    unsigned char **slots = bench_table_new(run, slot_count * sizeof *slots);
    uint64_t random = run->seed;
    for (uint32_t i = 0; i < slot_count; i++)
        slots[i] = block_new_touched(size_spread(bench_random_next(&random), row->size_min, row->size_max));

    bench_work_begin(run);
    for (uint64_t i = 0; i < run->ops; i++) {
        unsigned char **slot = &slots[bench_random_below((uint32_t)bench_random_next(&random), slot_count)];
        free(*slot);
        *slot = block_new_touched(size_spread(bench_random_next(&random), row->size_min, row->size_max));
    }
    bench_work_end(run);
    run->checksum = bench_slots_clear(random, slots, slot_count);
}
