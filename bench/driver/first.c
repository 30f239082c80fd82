/* What a thread's first calls take. Threads run one after the other; each times its first malloc,
 * and the first block of each of several sizes in both bands, then frees them and ends. One op is
 * one thread. The prewarmed row calls hak_heap_prewarm on the process heap first, where the
 * allocator has it, and times that call apart. Other allocators do the same work in both rows. */
#include "common.h"
#include "ticks.h"

#include <dlfcn.h>
#include <pthread.h>

static const uint32_t first_sizes[] = {64,   16,   32,   128,   256,   512,
                                       1024, 2048, 8192, 16384, 32768, 53248};
enum { SIZE_COUNT = sizeof first_sizes / sizeof *first_sizes };

typedef struct times {
    uint64_t first, sizes, prewarm; /* ticks */
    uint64_t sum;
} times;

static void *(*heap_of_process)(void);
static void (*heap_prewarm)(void *);
static bool prewarmed;

static void *first_work(void *argument) {
    times *t = argument;
    unsigned char *blocks[SIZE_COUNT];
    if (prewarmed && heap_prewarm) {
        uint64_t start = bench_ticks_begin();
        heap_prewarm(heap_of_process());
        t->prewarm = bench_ticks_end() - start;
    }
    for (int i = 0; i < SIZE_COUNT; i++) {
        uint64_t start = bench_ticks_begin();
        blocks[i] = malloc(first_sizes[i]);
        uint64_t taken = bench_ticks_end() - start;
        *(i ? &t->sizes : &t->first) += taken;
        bench_block_check(blocks[i]);
        blocks[i][0] = (unsigned char)i;
        bench_escape(blocks[i]);
    }
    for (int i = 0; i < SIZE_COUNT; i++) {
        t->sum += blocks[i][0];
        free(blocks[i]);
    }
    return NULL;
}

static int ticks_compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void quantiles_add(bench_run *run, uint64_t *ticks, uint64_t count, double ns_per_tick,
                          const char *const names[3]) {
    qsort(ticks, count, sizeof *ticks, ticks_compare);
    bench_figure_add(run, names[0], (double)ticks[count / 2] * ns_per_tick);
    bench_figure_add(run, names[1], (double)ticks[count - 1 - count / 100] * ns_per_tick);
    bench_figure_add(run, names[2], (double)ticks[count - 1] * ns_per_tick);
}

void bench_work_first(const bench_row *row, bench_run *run) {
    static const char *const first_names[] = {"first_p50_ns", "first_p99_ns", "first_max_ns"};
    static const char *const size_names[] = {"other_sizes_p50_ns", "other_sizes_p99_ns",
                                             "other_sizes_max_ns"};
    static const char *const prewarm_names[] = {"prewarm_p50_ns", "prewarm_p99_ns",
                                                "prewarm_max_ns"};
    const uint64_t count = run->ops;
    times *taken = bench_table_new(run, count * sizeof *taken);
    uint64_t *sorted = bench_table_new(run, count * sizeof *sorted);
    const double ns_per_tick = bench_ns_per_tick();
    prewarmed = row->slots != 0;
    *(void **)&heap_of_process = dlsym(RTLD_DEFAULT, "hak_process_heap");
    *(void **)&heap_prewarm = heap_of_process ? dlsym(RTLD_DEFAULT, "hak_heap_prewarm") : NULL;

    bench_work_begin(run);
    for (uint64_t i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, first_work, &taken[i]))
            bench_give_up("pthread_create failed");
        pthread_join(thread, NULL);
    }
    bench_work_end(run);

    run->checksum = run->seed;
    for (uint64_t i = 0; i < count; i++)
        run->checksum = bench_checksum_add(run->checksum, taken[i].sum);
    bench_figure_add(run, "clock_ns", bench_ticks_overhead() * ns_per_tick);
    for (uint64_t i = 0; i < count; i++) sorted[i] = taken[i].first;
    quantiles_add(run, sorted, count, ns_per_tick, first_names);
    for (uint64_t i = 0; i < count; i++) sorted[i] = taken[i].sizes;
    quantiles_add(run, sorted, count, ns_per_tick, size_names);
    for (uint64_t i = 0; i < count; i++) sorted[i] = taken[i].prewarm;
    if (prewarmed) quantiles_add(run, sorted, count, ns_per_tick, prewarm_names);
}
