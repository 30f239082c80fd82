/* A program in phases: 60 MB of blocks of one size, written, then freed in scattered order, before
 * the next size. Its peak shows whether memory freed as one size serves another one. One op is one
 * block's malloc, memset and free; the order of the frees is drawn before the work. */
#include "common.h"

#define PHASE_BYTES 60000000u

static const uint32_t phase_sizes[] = {48, 200, 600, 3000};
enum { PHASE_COUNT = sizeof phase_sizes / sizeof *phase_sizes };

static void order_scatter(uint32_t *order, uint64_t count, uint64_t *random) {
    for (uint32_t i = 0; i < count; i++) order[i] = i;
    for (uint32_t i = (uint32_t)count - 1; i > 0; i--) {
        uint32_t k = bench_random_below((uint32_t)(bench_random_next(random) >> 32), i + 1);
        uint32_t kept = order[i];
        order[i] = order[k];
        order[k] = kept;
    }
}

void bench_work_phase(const bench_row *row, bench_run *run) {
    uint32_t *orders[PHASE_COUNT];
    uint64_t counts[PHASE_COUNT];
    uint64_t random = run->seed, sum = 0;
    (void)row;
    run->ops = 0;
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        counts[phase] = bench_scaled(PHASE_BYTES / phase_sizes[phase], run->scale);
        orders[phase] = bench_table_new(run, counts[phase] * sizeof *orders[phase]);
        order_scatter(orders[phase], counts[phase], &random);
        run->ops += counts[phase];
    }
    unsigned char **blocks = bench_table_new(run, counts[0] * sizeof *blocks);

    bench_work_begin(run);
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        const uint32_t size = phase_sizes[phase];
        const uint32_t *order = orders[phase];
        const uint64_t count = counts[phase];
        for (uint64_t i = 0; i < count; i++) {
            blocks[i] = bench_block_check(malloc(size));
            memset(blocks[i], (int)(i & 0xff), size);
            bench_escape(blocks[i]);
        }
        for (uint64_t i = 0; i < count; i += 64) sum += blocks[i][size - 1];
        for (uint64_t i = 0; i < count; i++) free(blocks[order[i]]);
    }
    bench_work_end(run);
    run->checksum = bench_checksum_add(random, sum);
}
