/* The finest clock there is, for single calls: the time stamp counter. Its readings are kept
 * before and behind the call that they time. */
#ifndef BENCH_TICKS_H
#define BENCH_TICKS_H
#include "common.h"

#if defined(__x86_64__)
#include <x86intrin.h>

static inline uint64_t bench_ticks_begin(void) {
    _mm_lfence();
    uint64_t ticks = __rdtsc();
    _mm_lfence();
    return ticks;
}

static inline uint64_t bench_ticks_end(void) {
    unsigned core;
    uint64_t ticks = __rdtscp(&core); /* waits for the instructions before it */
    _mm_lfence();
    return ticks;
}
#else
static inline uint64_t bench_ticks_begin(void) { return bench_clock_ns(); }
static inline uint64_t bench_ticks_end(void) { return bench_clock_ns(); }
#endif

/* Compares the counter with the monotonic clock, over 20 ms. */
static inline double bench_ns_per_tick(void) {
    uint64_t start_ns = bench_clock_ns(), start = bench_ticks_begin(), now_ns;
    while ((now_ns = bench_clock_ns()) - start_ns < 20000000);
    return (double)(now_ns - start_ns) / (double)(bench_ticks_end() - start);
}

/* The smallest difference of two readings with nothing between them. */
static inline double bench_ticks_overhead(void) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 1000; i++) {
        uint64_t start = bench_ticks_begin(), taken = bench_ticks_end() - start;
        if (taken < least) least = taken;
    }
    return (double)least;
}

#endif
