/* Live sets: how much is resident for each byte that a program holds. Every OS page of every block
 * is written.
 *
 *  live         a set of blocks of random size is made, then replaced in random order
 *  live_reused  before the set as many bytes stood there in blocks of another size, written whole
 *               and freed: what the set's blocks leave unused of their room is dirty already
 *
 * The figures say the most that was resident over the most that was live, and what is resident with
 * the whole set live at the end over that set. One op is one block's malloc, writing and free. */
#include "common.h"

typedef struct set {
    unsigned char **blocks;
    uint32_t *sizes;
    uint64_t live_bytes, most_bytes;
} set;

static void set_put(set *s, uint32_t at, uint32_t size) {
    s->blocks[at] = bench_block_new_touched(size);
    s->sizes[at] = size;
    s->live_bytes += size;
    if (s->live_bytes > s->most_bytes) s->most_bytes = s->live_bytes;
}

static void set_take(set *s, uint32_t at) {
    s->live_bytes -= s->sizes[at];
    free(s->blocks[at]);
}

static set set_new(bench_run *run, uint32_t count) {
    return (set){.blocks = bench_table_new(run, count * sizeof(unsigned char *)),
                 .sizes = bench_table_new(run, count * sizeof(uint32_t))};
}

static void figures_add(bench_run *run, const set *s, uint64_t resident_kib) {
    const double table_kib = (double)(run->table_bytes >> 10);
    bench_figure_add(run, "live_mib", (double)s->live_bytes / (1 << 20));
    bench_figure_add(run, "peak_over_live",
                     ((double)run->after.peak_rss_kib - table_kib) * 1024 / (double)s->most_bytes);
    bench_figure_add(run, "resident_over_live",
                     ((double)resident_kib - table_kib) * 1024 / (double)s->live_bytes);
}

void bench_work_live(const bench_row *row, bench_run *run) {
    set s = set_new(run, row->slots);
    uint64_t random = run->seed;
    bench_work_begin(run);
    for (uint32_t i = 0; i < row->slots; i++)
        set_put(
            &s, i,
            bench_random_size((uint32_t)bench_random_next(&random), row->size_min, row->size_max));
    for (uint64_t i = row->slots; i < run->ops; i++) {
        const uint64_t bits = bench_random_next(&random);
        const uint32_t at = bench_random_below((uint32_t)(bits >> 32), row->slots);
        set_take(&s, at);
        set_put(&s, at, bench_random_size((uint32_t)bits, row->size_min, row->size_max));
    }
    bench_work_end(run);
    if (run->ops < row->slots) run->ops = row->slots;
    figures_add(run, &s, bench_rss_kib());
    run->checksum = bench_slots_clear(random, s.blocks, row->slots);
}

/* `size_max` before, `size_min` for the set. */
void bench_work_live_reused(const bench_row *row, bench_run *run) {
    const uint32_t before_count = (uint32_t)((uint64_t)row->slots * row->size_min / row->size_max);
    set before = set_new(run, before_count), s = set_new(run, row->slots);
    const uint64_t rounds = bench_scaled(row->ops / (row->slots + before_count), run->scale);
    bench_work_begin(run);
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; round && i < row->slots; i++) set_take(&s, i);
        for (uint32_t i = 0; i < before_count; i++) set_put(&before, i, row->size_max);
        for (uint32_t i = 0; i < before_count; i++) set_take(&before, i);
        for (uint32_t i = 0; i < row->slots; i++) set_put(&s, i, row->size_min);
    }
    bench_work_end(run);
    run->ops = rounds * (row->slots + before_count);
    figures_add(run, &s, bench_rss_kib());
    run->checksum = bench_slots_clear(run->seed, s.blocks, row->slots);
}
