/* How long single calls take: random replacement in which each malloc and each free is timed by
 * itself, into histograms with 32 steps for each doubling. Each time includes one reading of the
 * clock, whose cost is printed beside. One op is one free and one malloc, with the readings of the
 * clock. */
#include "common.h"
#include "ticks.h"

#include <pthread.h>

#define THREADS_MAX 16
#define STEP_SHIFT 5
#define STEPS (1u << STEP_SHIFT)
#define BUCKETS (STEPS * 44)

typedef struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t max, total;
} histogram;

typedef struct worker {
    _Alignas(BENCH_CACHE_LINE_BYTES) unsigned char **slots;
    const bench_row *row;
    pthread_barrier_t *start;
    uint64_t random, ops;
    histogram *mallocs, *frees;
} worker;

static uint32_t bucket_of(uint64_t ticks) {
    if (ticks < STEPS) return (uint32_t)ticks;
    uint32_t shift = (uint32_t)(63 - __builtin_clzll(ticks)) - STEP_SHIFT;
    uint32_t bucket = (shift + 1) * STEPS + (uint32_t)(ticks >> shift) - STEPS;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The middle of a bucket. */
static double bucket_ticks(uint32_t bucket) {
    if (bucket < STEPS) return bucket;
    uint32_t shift = bucket / STEPS - 1;
    return ((double)(bucket % STEPS + STEPS) + 0.5) * (double)(UINT64_C(1) << shift);
}

static void histogram_add(histogram *h, uint64_t ticks) {
    h->counts[bucket_of(ticks)]++;
    h->total++;
    if (ticks > h->max) h->max = ticks;
}

static double histogram_quantile(const histogram *h, double quantile) {
    uint64_t wanted = (uint64_t)(quantile * (double)h->total), seen = 0;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen > wanted) return bucket_ticks(i);
    }
    return (double)h->max;
}

static unsigned char *timed_new(worker *self, uint64_t bits) {
    const bench_row *row = self->row;
    size_t size = row->flags & BENCH_SPREAD
                      ? bench_random_spread(bits, row->size_min, row->size_max)
                      : bench_random_size((uint32_t)bits, row->size_min, row->size_max);
    uint64_t start = bench_ticks_begin();
    unsigned char *block = malloc(size);
    uint64_t end = bench_ticks_end();
    histogram_add(self->mallocs, end - start);
    bench_block_check(block);
    for (size_t offset = 0; offset < size; offset += BENCH_OS_PAGE_BYTES)
        block[offset] = (unsigned char)size;
    block[size - 1] = (unsigned char)(size >> 3);
    block[0] = (unsigned char)size;
    bench_escape(block);
    return block;
}

static void *latency_work(void *argument) {
    worker *self = argument;
    const uint32_t slot_count = self->row->slots;
    for (uint32_t i = 0; i < slot_count; i++)
        self->slots[i] = timed_new(self, bench_random_next(&self->random));
    memset(self->mallocs, 0, sizeof *self->mallocs);
    pthread_barrier_wait(self->start);
    pthread_barrier_wait(self->start);
    for (uint64_t i = 0; i < self->ops; i++) {
        unsigned char **slot = &self->slots[bench_random_below(
            (uint32_t)bench_random_next(&self->random), slot_count)];
        uint64_t start = bench_ticks_begin();
        free(*slot);
        histogram_add(self->frees, bench_ticks_end() - start);
        *slot = timed_new(self, bench_random_next(&self->random));
    }
    return NULL;
}

static void histogram_report(bench_run *run, const histogram *h, double ns_per_tick,
                             const char *const names[5], const char *series_name) {
    static const double quantiles[] = {0.5, 0.99, 0.999, 0.9999};
    for (int i = 0; i < 4; i++)
        bench_figure_add(run, names[i], histogram_quantile(h, quantiles[i]) * ns_per_tick);
    bench_figure_add(run, names[4], (double)h->max * ns_per_tick);
    /* For the picture: pairs of a bucket's middle in ns and its count. */
    bench_series *series = bench_series_new(run, series_name, 2 * BUCKETS);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        if (!h->counts[i]) continue;
        bench_series_add(series, bucket_ticks(i) * ns_per_tick);
        bench_series_add(series, (double)h->counts[i]);
    }
}

static void histogram_merge(histogram *into, const histogram *from) {
    for (uint32_t i = 0; i < BUCKETS; i++) into->counts[i] += from->counts[i];
    into->total += from->total;
    if (from->max > into->max) into->max = from->max;
}

void bench_work_latency(const bench_row *row, bench_run *run) {
    static const char *const malloc_names[] = {"malloc_p50_ns", "malloc_p99_ns", "malloc_p99_9_ns",
                                               "malloc_p99_99_ns", "malloc_max_ns"};
    static const char *const free_names[] = {"free_p50_ns", "free_p99_ns", "free_p99_9_ns",
                                             "free_p99_99_ns", "free_max_ns"};
    static worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    pthread_barrier_t start;
    const double ns_per_tick = bench_ns_per_tick();
    pthread_barrier_init(&start, NULL, row->threads + 1);
    for (uint32_t i = 0; i < row->threads; i++) {
        workers[i] = (worker){
            .slots = bench_table_new(run, row->slots * sizeof *workers[i].slots),
            .row = row,
            .start = &start,
            .random = run->seed + (uint64_t)i * 0x632be59bd9b4e019u,
            .ops = bench_scaled(row->ops / row->threads, run->scale),
            .mallocs = bench_table_new(run, sizeof(histogram)),
            .frees = bench_table_new(run, sizeof(histogram)),
        };
        if (pthread_create(&threads[i], NULL, latency_work, &workers[i]))
            bench_give_up("pthread_create failed");
    }
    pthread_barrier_wait(&start);
    bench_work_begin(run);
    pthread_barrier_wait(&start);
    for (uint32_t i = 0; i < row->threads; i++) pthread_join(threads[i], NULL);
    bench_work_end(run);
    run->ops = workers[0].ops * row->threads;
    run->checksum = run->seed;
    for (uint32_t i = 0; i < row->threads; i++) {
        run->checksum = bench_checksum_add(run->checksum, workers[i].random);
        run->checksum = bench_slots_clear(run->checksum, workers[i].slots, row->slots);
        if (i) {
            histogram_merge(workers[0].mallocs, workers[i].mallocs);
            histogram_merge(workers[0].frees, workers[i].frees);
        }
    }
    bench_figure_add(run, "clock_ns", bench_ticks_overhead() * ns_per_tick);
    histogram_report(run, workers[0].mallocs, ns_per_tick, malloc_names, "malloc_histogram_ns");
    histogram_report(run, workers[0].frees, ns_per_tick, free_names, "free_histogram_ns");
}
