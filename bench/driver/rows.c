/* The table of rows. A row whose work changes gets a higher version. */
#include "common.h"

#define KIB 1024u
#define MIB (1024u * 1024u)
#define ROW(row_name, row_family, row_work, row_ops, row_slots, least, most, row_threads, ...) \
    {.name = row_name,                                                                         \
     .family = row_family,                                                                     \
     .work = bench_work_##row_work,                                                            \
     .ops = row_ops,                                                                           \
     .slots = row_slots,                                                                       \
     .size_min = least,                                                                        \
     .size_max = most,                                                                         \
     .threads = row_threads,                                                                   \
     .version = 1,                                                                             \
     __VA_ARGS__}

const bench_row bench_rows[] = {
    /* name, family, work, ops, slots, sizes, threads */
    ROW("random_mixed_256", "random_mixed", replace, 24000000, 256, 16, 1024, 1,
        .flags = BENCH_GATE | BENCH_LIMITED,
        .summary = "random replacement, 256 slots, 16-1,024 B"),
    ROW("random_mixed_4k", "random_mixed", replace, 20000000, 4096, 16, 1024, 1,
        .flags = BENCH_GATE | BENCH_LIMITED,
        .summary = "random replacement, 4,096 slots, 16-1,024 B"),
    ROW("random_mixed_100k", "random_mixed", replace, 5000000, 100000, 16, 1024, 1,
        .flags = BENCH_GATE | BENCH_LIMITED,
        .summary = "random replacement, 100,000 slots, 16-1,024 B"),
    ROW("random_mixed_1m", "random_mixed", replace, 3000000, 1000000, 16, 1024, 1,
        .flags = BENCH_GATE | BENCH_LIMITED,
        .summary = "random replacement, 1,000,000 slots, 16-1,024 B"),
    ROW("random_128", "random_mixed", replace, 16000000, 4096, 128, 128, 1, .flags = BENCH_LIMITED,
        .summary = "random replacement, 4,096 slots of 128 B"),
    ROW("random_256", "random_mixed", replace, 16000000, 4096, 256, 256, 1, .flags = BENCH_LIMITED,
        .summary = "random replacement, 4,096 slots of 256 B"),
    ROW("random_512", "random_mixed", replace, 16000000, 4096, 512, 512, 1, .flags = BENCH_LIMITED,
        .summary = "random replacement, 4,096 slots of 512 B"),
    ROW("random_1024", "random_mixed", replace, 16000000, 4096, 1024, 1024, 1,
        .flags = BENCH_LIMITED, .summary = "random replacement, 4,096 slots of 1,024 B"),

    ROW("pair_64", "order", pair, 40000000, 1, 64, 64, 1, .flags = BENCH_GATE | BENCH_LIMITED,
        .summary = "malloc and free of one block of 64 B"),
    ROW("lifo_64", "order", lifo, 40000000, 1000, 64, 64, 1, .flags = BENCH_GATE | BENCH_LIMITED,
        .summary = "1,000 blocks of 64 B, freed last first"),
    ROW("fifo_mixed", "order", fifo, 20000000, 1000, 16, 1024, 1,
        .flags = BENCH_GATE | BENCH_LIMITED,
        .summary = "1,000 blocks of 16-1,024 B, freed first first"),
    ROW("fifo_64", "order", fifo, 30000000, 1000, 64, 64, 1, .flags = BENCH_LIMITED,
        .summary = "1,000 blocks of 64 B, freed first first"),
    ROW("growth", "growth", growth, 300000, 0, 16, 1024, 1, .flags = BENCH_GATE,
        .summary = "300,000 blocks of 16-1,024 B, filled, none freed"),
    ROW("phase", "phase", phase, 1670000, 0, 48, 3000, 1, .flags = BENCH_GATE,
        .summary = "60 MB each of 48, 200, 600, 3,000 B, filled, freed in scattered order"),

    ROW("mid_large", "mid_large_mt", replace, 6000000, 256, 8 * KIB, 32 * KIB, 1,
        .flags = BENCH_GATE, .summary = "random replacement, 256 slots, 8-32 KiB"),
    ROW("mid_large_2t", "mid_large_mt", replace_mt, 8000000, 256, 8 * KIB, 32 * KIB, 2,
        .summary = "2 threads, each random replacement in 256 slots, 8-32 KiB"),
    ROW("mid_large_4t", "mid_large_mt", replace_mt, 8000000, 256, 8 * KIB, 32 * KIB, 4,
        .summary = "4 threads, each random replacement in 256 slots, 8-32 KiB"),
    ROW("pool_tls", "pool_tls", replace, 4000000, 256, 8 * KIB, 52 * KIB, 1,
        .summary = "random replacement, 256 slots, 8-52 KiB"),
    ROW("pool_tls_2t", "pool_tls", replace_mt, 6000000, 64, 8 * KIB, 52 * KIB, 2,
        .summary = "2 threads, each random replacement in 64 slots, 8-52 KiB"),
    ROW("big", "big", replace_big, 250, 16, 64 * KIB, 25 * MIB, 1,
        .summary = "random replacement, 16 slots, 64 KiB-25 MiB, every OS page written"),
    ROW("big_5m", "big", replace_big, 100, 16, 5 * MIB, 25 * MIB, 1,
        .summary = "random replacement, 16 slots, 5-25 MiB, every OS page written"),

    ROW("large_pair_1t", "large", replace_mt, 800000, 1, 64 * KIB, 256 * KIB, 1,
        .summary = "free and malloc of one block, 64-256 KiB"),
    ROW("large_pair_2t", "large", replace_mt, 800000, 1, 64 * KIB, 256 * KIB, 2,
        .summary = "2 threads, each free and malloc of one block, 64-256 KiB; the work of "
                   "large_pair_1t shared out"),
    ROW("large_pair_8t", "large", replace_mt, 800000, 1, 64 * KIB, 256 * KIB, 8,
        .summary = "8 threads, each free and malloc of one block, 64-256 KiB; the work of "
                   "large_pair_1t shared out"),
    ROW("large_1t", "large", replace_mt, 400000, 64, 64 * KIB, 256 * KIB, 1,
        .summary = "random replacement, 64 slots, 64-256 KiB"),
    ROW("large_2t", "large", replace_mt, 400000, 64, 64 * KIB, 256 * KIB, 2,
        .summary = "2 threads, each random replacement in 64 slots, 64-256 KiB; the work of "
                   "large_1t shared out"),
    ROW("large_8t", "large", replace_mt, 400000, 64, 64 * KIB, 256 * KIB, 8,
        .summary = "8 threads, each random replacement in 64 slots, 64-256 KiB; the work of "
                   "large_1t shared out"),
    ROW("live_53k", "live", live, 3000, 1000, 53 * KIB, 140 * KIB, 1,
        .summary = "a live set of 1,000 blocks of 53-140 KiB, every OS page written, then 2,000 "
                   "random replacements"),
    ROW("live_132k", "live", live_reused, 2184, 728, 132 * KIB, 264 * KIB, 1,
        .summary = "twice 94 MiB in blocks of 264 KiB, written whole and freed, then a live set "
                   "of 94 MiB in blocks of 128 KiB and a page"),

    ROW("realloc", "realloc", realloc, 1000000, 64, 16, 256 * KIB, 1,
        .summary = "64 buffers that grow by half from 16 B to 256 KiB, an op is a realloc"),
    ROW("realloc_big", "realloc", realloc, 1200, 4, 64 * KIB, 64 * MIB, 1,
        .summary = "4 buffers that grow by half from 64 KiB to 64 MiB, what they grow by is "
                   "written, an op is a realloc"),
    ROW("calloc", "calloc", calloc, 10000000, 4096, 16, 1024, 1,
        .summary = "random replacement with calloc, 4,096 slots, 16-1,024 B"),
    ROW("calloc_big", "calloc", calloc, 800, 16, 256 * KIB, 4 * MIB, 1,
        .summary = "random replacement with calloc, 16 slots, 256 KiB-4 MiB, three bytes of "
                   "each read"),

    ROW("mixed_1t", "scale", replace_mt, 64000000, 1000, 16, 1024, 1, .flags = BENCH_LIMITED,
        .version = 2, .repetitions = 7,
        .summary = "1 thread, random replacement in 1,000 slots, 16-1,024 B"),
    ROW("mixed_2t", "scale", replace_mt, 64000000, 1000, 16, 1024, 2, .flags = BENCH_LIMITED,
        .version = 2, .repetitions = 7,
        .summary = "2 threads, each random replacement in 1,000 slots, 16-1,024 B; the work of "
                   "mixed_1t shared out"),
    ROW("mixed_16t", "scale", replace_mt, 64000000, 1000, 16, 1024, 16, .flags = BENCH_LIMITED,
        .version = 2, .repetitions = 7,
        .summary = "16 threads, each random replacement in 1,000 slots, 16-1,024 B; the work of "
                   "mixed_1t shared out"),

    ROW("larson_1t", "larson", larson, 10000000, 1000, 16, 1024, 1,
        .summary = "1,000 slots, each thread works 10,000 steps and starts its successor"),
    ROW("larson_2t", "larson", larson, 10000000, 1000, 16, 1024, 2,
        .summary = "2 arrays of 1,000 slots, each thread works 10,000 steps and starts its "
                   "successor"),
    ROW("larson_4t", "larson", larson, 10000000, 1000, 16, 1024, 4,
        .summary = "4 arrays of 1,000 slots, each thread works 10,000 steps and starts its "
                   "successor"),
    ROW("larson_8t", "larson", larson, 10000000, 1000, 16, 1024, 8,
        .summary = "8 arrays of 1,000 slots, each thread works 10,000 steps and starts its "
                   "successor"),
    ROW("larson_16t", "larson", larson, 10000000, 1000, 16, 1024, 16,
        .summary = "16 arrays of 1,000 slots, each thread works 10,000 steps and starts its "
                   "successor"),
    ROW("larson_2t_16k", "larson", larson, 10000000, 8000, 16, 1024, 2,
        .summary = "the blocks of larson_16t on 2 threads: 2 arrays of 8,000 slots"),
    ROW("larson_8t_100k", "larson", larson, 8000000, 100000, 8, 128, 8,
        .summary = "8 arrays of 100,000 slots, 8-128 B, each thread works 10,000 steps and "
                   "starts its successor"),
    ROW("larson_clean_4t", "larson_checked", larson_repro, 500, 1000, 16, 1024, 4,
        .flags = BENCH_TIMED, .repetitions = 20,
        .summary = "20 runs of half a second: 4 arrays of 1,000 slots, each block's size and "
                   "number checked"),
    ROW("larson_repro", "larson_checked", larson_repro, 20000, 10000, 16, 1024, 4,
        .flags = BENCH_TIMED, .repetitions = 1,
        .summary = "20 s: 4 arrays of 10,000 slots, each block's size and number checked"),
    ROW("larson_guard", "larson_checked", larson_guard, 20000, 10000, 16, 1024, 8,
        .flags = BENCH_TIMED, .repetitions = 1,
        .summary = "20 s: 8 arrays of 10,000 slots, every byte of each block checked"),

    ROW("handover_2t", "handover", handover, 20000000, 1000, 16, 1024, 2, .flags = BENCH_GATE,
        .summary = "2 threads replace in arrays of 1,000 slots and exchange them every 10,000 "
                   "steps"),
    ROW("handover_mid_2t", "handover", handover, 6000000, 100, 8 * KIB, 32 * KIB, 2,
        .summary = "2 threads replace 8-32 KiB in arrays of 100 slots and exchange them every "
                   "10,000 steps"),
    ROW("ring", "producer_consumer", ring, 8000000, 0, 16, 1024, 2, .flags = BENCH_GATE,
        .summary = "one thread allocates 16-1,024 B, another frees, single blocks over a ring"),
    ROW("ring_batches", "producer_consumer", batches, 10000000, 0, 16, 1024, 2, .flags = BENCH_GATE,
        .summary = "one thread allocates 16-1,024 B, another frees, batches of 1,024"),
    ROW("ring_16k", "producer_consumer", ring, 600000, 0, 1 * KIB, 16 * KIB, 2,
        .summary = "one thread allocates 1-16 KiB, another frees, single blocks over a ring"),
    ROW("churn", "churn", churn, 4000, 64, 16, 1024, 1,
        .summary = "threads one after the other, each replaces the 64 blocks its predecessor "
                   "left, an op is a thread"),
    ROW("churn_500k", "churn", churn, 3000, 64, 16, 500 * KIB, 2, .flags = BENCH_SPREAD,
        .summary = "threads, two at a time, each replaces the 64 blocks of 16 B-500 KiB its "
                   "predecessor left, an op is a thread"),

    ROW("first", "first", first, 2000, 0, 16, 53248, 1,
        .summary = "threads one after the other: the first malloc of each, and of 11 other "
                   "sizes; an op is a thread"),
    ROW("first_prewarmed", "first", first, 2000, 1, 16, 53248, 1,
        .summary = "the same with hak_heap_prewarm called at the start of each thread where "
                   "there is such a thing"),
    ROW("idle_400", "idle", idle, 400, 0, 16, 32 * KIB, 8, .repetitions = 3,
        .summary =
            "400 threads each fill, write and free 2 MiB in blocks of 16 B-32 KiB, as many in "
            "each doubling, and sleep; what they keep 1.5 s later, and their first malloc "
            "afterwards; an op is a thread"),
    ROW("sharing_active", "sharing", sharing_active, 250000, 0, 8, 8, 2,
        .summary = "2 threads write 8 B blocks of their own 500 times each"),
    ROW("sharing_passive", "sharing", sharing_passive, 250000, 0, 8, 8, 2,
        .summary = "2 threads free 8 B neighbours from one thread and write the next ones 500 "
                   "times each"),

    ROW("latency_small", "latency", latency, 2000000, 10000, 16, 1024, 1, .repetitions = 9,
        .summary = "each call timed: random replacement, 10,000 slots, 16-1,024 B"),
    ROW("latency_2t", "latency", latency, 2000000, 5000, 16, 32 * KIB, 2, .flags = BENCH_SPREAD,
        .repetitions = 9,
        .summary = "each call timed: 2 threads, random replacement in 5,000 slots, 16 B-32 KiB, "
                   "as many in each doubling"),
    ROW("latency_big", "latency", latency, 100000, 100, 16, 4 * MIB, 1, .flags = BENCH_SPREAD,
        .repetitions = 9,
        .summary = "each call timed: random replacement, 100 slots, 16 B-4 MiB, as many in each "
                   "doubling"),
    ROW("week", "week", week, 25000, 0, 16, 704000, 1, .flags = BENCH_TIMED, .repetitions = 1,
        .summary = "25 s: 168 hours with days and nights, blocks for a request, for hours and "
                   "for days; memory over time"),
};
const uint32_t bench_row_count = sizeof bench_rows / sizeof *bench_rows;
