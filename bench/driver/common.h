/* Shared by every row of the benchmark driver: random numbers, waiting, touching, the work window.
 *
 * The driver knows malloc, free, calloc and realloc of its process and nothing else of an
 * allocator; which allocator that is, LD_PRELOAD decides. Its own tables come from mmap, are
 * resident before the work begins and are counted apart, so that neither time nor memory of a row
 * includes them.
 *
 *   rows.c      the table of rows                  measure.c   the work window, tables, figures
 *   replace.c   random replacement                 order.c     frees in a known order
 *   grow.c      growth, realloc, calloc            phase.c     one size after the other
 *   handover.c  arrays that change their thread    larson.c    threads that start their successors
 *   transfer.c  producer and consumer              sharing.c   cache lines between threads
 *   latency.c   histograms of single calls         first.c     a thread's first calls
 *   week.c      a long run with days and nights    limit.h     the list that no malloc can beat
 *   replay.c    a recorded program's calls
 *   live.c      what a byte of a live set costs    idle.c      threads that did a job and sleep
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef BENCH_LIMIT
#include "limit.h"
#endif

#define BENCH_CACHE_LINE_BYTES 64
#define BENCH_OS_PAGE_BYTES 4096
#define BENCH_FIGURES_MAX 24
#define BENCH_SERIES_MAX 4

/* What was read from the kernel at one end of the work window. */
typedef struct bench_sample {
    uint64_t wall_ns;
    uint64_t cpu_ns; /* of all threads */
    uint64_t minor_faults;
    uint64_t major_faults;
    uint64_t peak_rss_kib; /* VmHWM */
} bench_sample;

/* A number beside the time; its name carries the unit. */
typedef struct bench_figure {
    const char *name;
    double value;
} bench_figure;

/* Numbers in a row, for a picture; they lie in a table of the driver's. */
typedef struct bench_series {
    const char *name;
    double *values;
    uint32_t count, limit;
} bench_series;

/* One run of one row: what was asked, and what was measured. */
typedef struct bench_run {
    double scale; /* multiplies the amount of work */
    uint64_t seed;
    uint64_t ops;         /* a row may set it to what it really did */
    uint64_t checksum;    /* depends on row, seed and scale, never on the allocator */
    uint64_t table_bytes; /* the driver's own tables */
    bench_sample before;
    bench_sample after;
    bench_figure figures[BENCH_FIGURES_MAX];
    bench_series series[BENCH_SERIES_MAX];
    uint32_t figure_count, series_count;
} bench_run;

enum {
    BENCH_GATE = 1,    /* one of the thirteen rows of the first gate */
    BENCH_LIMITED = 2, /* one thread, small blocks: the limit (limit.h) can be measured on it */
    /* sizes are drawn so that each doubling has as many, not uniformly */
    BENCH_SPREAD = 4,
    BENCH_TIMED = 8, /* runs for a time, so that the work done differs */
};

typedef struct bench_row bench_row;
struct bench_row {
    const char *name;
    const char *family;
    const char *summary;
    void (*work)(const bench_row *row, bench_run *run);
    /* at scale 1, milliseconds if BENCH_TIMED; an op is one block's malloc and free unless the row
     * says otherwise */
    uint64_t ops;
    uint32_t slots;
    uint32_t size_min;
    uint32_t size_max;
    uint32_t threads;
    uint32_t flags;
    uint32_t repetitions; /* 0: as many as are asked for */
    /* raised whenever the work changes: results of two versions are not compared */
    uint32_t version;
};

/* rows.c */
extern const bench_row bench_rows[];
extern const uint32_t bench_row_count;

/* measure.c: the work window, the driver's tables, figures beside the time, the one way to give
 * up. */
void bench_work_begin(bench_run *run);
void bench_work_end(bench_run *run);
void *bench_table_new(bench_run *run, size_t bytes);
void bench_figure_add(bench_run *run, const char *name, double value);
bench_series *bench_series_new(bench_run *run, const char *name, uint32_t limit);
void bench_series_add(bench_series *series, double value);
uint64_t bench_clock_ns(void);
uint64_t bench_rss_kib(void);
_Noreturn void bench_give_up(const char *what);

/* replay.c: the calls of a trace. */
void bench_replay(bench_run *run, const char *path);

/* Rows by file. */
void bench_work_replace(const bench_row *row, bench_run *run);
void bench_work_replace_big(const bench_row *row, bench_run *run);
void bench_work_replace_mt(const bench_row *row, bench_run *run);
void bench_work_pair(const bench_row *row, bench_run *run);
void bench_work_lifo(const bench_row *row, bench_run *run);
void bench_work_fifo(const bench_row *row, bench_run *run);
void bench_work_growth(const bench_row *row, bench_run *run);
void bench_work_realloc(const bench_row *row, bench_run *run);
void bench_work_calloc(const bench_row *row, bench_run *run);
void bench_work_handover(const bench_row *row, bench_run *run);
void bench_work_churn(const bench_row *row, bench_run *run);
void bench_work_larson(const bench_row *row, bench_run *run);
void bench_work_larson_repro(const bench_row *row, bench_run *run);
void bench_work_larson_guard(const bench_row *row, bench_run *run);
void bench_work_ring(const bench_row *row, bench_run *run);
void bench_work_batches(const bench_row *row, bench_run *run);
void bench_work_phase(const bench_row *row, bench_run *run);
void bench_work_sharing_active(const bench_row *row, bench_run *run);
void bench_work_sharing_passive(const bench_row *row, bench_run *run);
void bench_work_latency(const bench_row *row, bench_run *run);
void bench_work_first(const bench_row *row, bench_run *run);
void bench_work_week(const bench_row *row, bench_run *run);
void bench_work_live(const bench_row *row, bench_run *run);
void bench_work_live_reused(const bench_row *row, bench_run *run);
void bench_work_idle(const bench_row *row, bench_run *run);

/* SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). */
static inline uint64_t bench_random_next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 32 random bits to [0, bound), by multiplying instead of dividing. */
static inline uint32_t bench_random_below(uint32_t bits, uint32_t bound) {
    return (uint32_t)(((uint64_t)bits * bound) >> 32);
}

static inline uint32_t bench_random_size(uint32_t bits, uint32_t size_min, uint32_t size_max) {
    return size_min + bench_random_below(bits, size_max - size_min + 1);
}

/* Draws a size so that each doubling of [size_min, size_max] is as likely as any other. */
static inline uint32_t bench_random_spread(uint64_t bits, uint32_t size_min, uint32_t size_max) {
    uint32_t doublings = (uint32_t)(__builtin_clz(size_min) - __builtin_clz(size_max));
    if ((uint64_t)size_min << doublings > size_max) doublings--;
    uint64_t low = (uint64_t)size_min << bench_random_below((uint32_t)(bits >> 32), doublings + 1);
    uint64_t high = low * 2 - 1 < size_max ? low * 2 - 1 : size_max;
    return bench_random_size((uint32_t)bits, (uint32_t)low, (uint32_t)high);
}

static inline uint64_t bench_scaled(uint64_t count, double scale) {
    uint64_t scaled = (uint64_t)((double)count * scale);
    return scaled ? scaled : 1;
}

static inline uint64_t bench_checksum_add(uint64_t checksum, uint64_t value) {
    return (checksum ^ value) * 0x100000001b3u + 1;
}

/* Makes the compiler assume that somebody reads and writes the block here. */
static inline void bench_escape(void *block) { __asm__ volatile("" : : "r"(block) : "memory"); }

static inline void *bench_block_check(void *block) {
    if (__builtin_expect(!block, 0)) bench_give_up("malloc returned NULL");
    return block;
}

/* A block of `size` bytes whose first and last byte are written. */
static inline unsigned char *bench_block_new(size_t size) {
    unsigned char *block = bench_block_check(malloc(size));
    block[size - 1] = (unsigned char)(size >> 3);
    block[0] = (unsigned char)size;
    bench_escape(block);
    return block;
}

/* The same for a large block, of which every OS page is written. */
static inline unsigned char *bench_block_new_touched(size_t size) {
    unsigned char *block = bench_block_check(malloc(size));
    for (size_t offset = 0; offset < size; offset += BENCH_OS_PAGE_BYTES)
        block[offset] = (unsigned char)size;
    block[size - 1] = (unsigned char)(size >> 3);
    block[0] = (unsigned char)size;
    bench_escape(block);
    return block;
}

/* Frees the blocks that are left after the work and folds the first byte of each into the
 * checksum: two allocators whose checksums agree both kept the blocks' contents apart. */
static inline uint64_t bench_slots_clear(uint64_t checksum, unsigned char **slots, size_t count) {
    for (size_t i = 0; i < count; i++) {
        checksum = bench_checksum_add(checksum, slots[i][0]);
        free(slots[i]);
    }
    return checksum;
}

/* Waits for another thread: a short spin, then a yield to whichever thread needs the core. */
static inline void bench_pause(unsigned *spins) {
    if (++*spins < 128) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        __asm__ volatile("" : : : "memory");
#endif
    } else {
        *spins = 0;
        sched_yield();
    }
}

#endif
