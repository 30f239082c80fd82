/* The benchmark driver: one process runs one row once and prints one line of JSON.
 *
 *   driver ROW [--scale F] [--seed N]     driver --list     driver --probe
 *
 * The work of a row is fixed by row, scale and seed; its time is what is measured. */
#include "common.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

#define KIB 1024u
#define MIB (1024u * 1024u)

static const bench_row rows[] = {
    {"replace_256", "gate", "random replacement, 256 slots, 16-1,024 B",
     bench_work_replace, 24000000, 256, 16, 1024, 1},
    {"replace_4k", "gate", "random replacement, 4,096 slots, 16-1,024 B",
     bench_work_replace, 20000000, 4096, 16, 1024, 1},
    {"replace_100k", "gate", "random replacement, 100,000 slots, 16-1,024 B",
     bench_work_replace, 5000000, 100000, 16, 1024, 1},
    {"replace_1m", "gate", "random replacement, 1,000,000 slots, 16-1,024 B",
     bench_work_replace, 3000000, 1000000, 16, 1024, 1},
    {"pair_64", "gate", "malloc and free of one block of 64 B",
     bench_work_pair, 40000000, 1, 64, 64, 1},
    {"lifo_64", "gate", "1,000 blocks of 64 B, freed last first",
     bench_work_lifo, 50000000, 1000, 64, 64, 1},
    {"fifo_mixed", "gate", "1,000 blocks of 16-1,024 B, freed first first",
     bench_work_fifo, 20000000, 1000, 16, 1024, 1},
    {"growth", "gate", "300,000 blocks of 16-1,024 B, filled, none freed",
     bench_work_growth, 300000, 0, 16, 1024, 1},
    {"replace_mid", "gate", "random replacement, 256 slots, 8-32 KiB",
     bench_work_replace, 8000000, 256, 8 * KIB, 32 * KIB, 1},
    {"handover_2t", "gate", "2 threads replace in arrays of 1,000 slots and exchange them every 10,000 steps",
     bench_work_handover, 20000000, 1000, 16, 1024, 2},
    {"ring", "gate", "one thread allocates 16-1,024 B, another frees, single blocks over a ring",
     bench_work_ring, 8000000, 0, 16, 1024, 2},
    {"ring_batches", "gate", "one thread allocates 16-1,024 B, another frees, batches of 1,024",
     bench_work_batches, 10000000, 0, 16, 1024, 2},
    {"phase", "gate", "60 MB each of 48, 200, 600, 3,000 B, filled, freed in scattered order",
     bench_work_phase, 1670000, 0, 48, 3000, 1},

    {"fixed_128", "extra", "random replacement, 4,096 slots of 128 B",
     bench_work_replace, 20000000, 4096, 128, 128, 1},
    {"fixed_256", "extra", "random replacement, 4,096 slots of 256 B",
     bench_work_replace, 20000000, 4096, 256, 256, 1},
    {"fixed_512", "extra", "random replacement, 4,096 slots of 512 B",
     bench_work_replace, 20000000, 4096, 512, 512, 1},
    {"fixed_1024", "extra", "random replacement, 4,096 slots of 1,024 B",
     bench_work_replace, 20000000, 4096, 1024, 1024, 1},
    {"replace_pool", "extra", "random replacement, 256 slots, 8-52 KiB",
     bench_work_replace, 4000000, 256, 8 * KIB, 52 * KIB, 1},
    {"replace_big", "extra", "random replacement, 16 slots, 64 KiB-25 MiB, every OS page written",
     bench_work_replace_big, 400, 16, 64 * KIB, 25 * MIB, 1},
    {"replace_5m_25m", "extra", "random replacement, 16 slots, 5-25 MiB, every OS page written",
     bench_work_replace_big, 150, 16, 5 * MIB, 25 * MIB, 1},
    {"calloc_mixed", "extra", "random replacement with calloc, 4,096 slots, 16-1,024 B",
     bench_work_calloc, 10000000, 4096, 16, 1024, 1},
    {"realloc_grow", "extra", "64 buffers that grow by half from 16 B to 256 KiB, an op is a realloc",
     bench_work_realloc, 1000000, 64, 16, 256 * KIB, 1},
    {"larson_2t", "extra", "2 arrays of 1,000 slots, each thread works 10,000 steps and starts its successor",
     bench_work_larson, 20000000, 1000, 16, 1024, 2},
    {"larson_8t", "extra", "8 arrays of 1,000 slots, each thread works 10,000 steps and starts its successor",
     bench_work_larson, 20000000, 1000, 16, 1024, 8},
    {"handover_mid_2t", "extra", "2 threads replace 8-32 KiB in arrays of 100 slots and exchange them every 10,000 steps",
     bench_work_handover, 6000000, 100, 8 * KIB, 32 * KIB, 2},
    {"churn", "extra", "threads one after the other, each replaces the 64 blocks its predecessor left, an op is a thread",
     bench_work_churn, 10000, 64, 16, 1024, 1},
};
enum { ROW_COUNT = sizeof rows / sizeof *rows };

static void json_text_print(const char *key, const char *text)
{
    if (!text) {
        printf("\"%s\": null", key);
        return;
    }
    printf("\"%s\": \"", key);
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\u%04x", *text);
        else
            putchar(*text);
    putchar('"');
}

/* Which object serves malloc in this process, and which build it says it is. */
static void allocator_print(void)
{
    Dl_info found = {0};
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    int known = symbol && dladdr(symbol, &found);
    json_text_print("malloc_path", known ? found.dli_fname : NULL);
    printf(", ");
    const char *(*build_kind)(void) = NULL;
    *(void **)&build_kind = dlsym(RTLD_DEFAULT, "hak_build_kind");
    json_text_print("build_kind", build_kind ? build_kind() : NULL);
}

static void run_print(const bench_row *row, const bench_run *run)
{
    const bench_sample *a = &run->before, *b = &run->after;
    printf("{\"row\": \"%s\", \"ops\": %llu, ", row->name, (unsigned long long)run->ops);
    printf("\"wall_ns\": %llu, \"cpu_ns\": %llu, ", (unsigned long long)(b->wall_ns - a->wall_ns),
           (unsigned long long)(b->cpu_ns - a->cpu_ns));
    printf("\"ns_per_op\": %.3f, ", (double)(b->wall_ns - a->wall_ns) / (double)run->ops);
    printf("\"peak_rss_kib\": %llu, \"baseline_rss_kib\": %llu, \"table_kib\": %llu, ",
           (unsigned long long)b->peak_rss_kib, (unsigned long long)a->peak_rss_kib,
           (unsigned long long)(run->table_bytes / KIB));
    printf("\"minor_faults\": %llu, \"major_faults\": %llu, ", (unsigned long long)(b->minor_faults - a->minor_faults),
           (unsigned long long)(b->major_faults - a->major_faults));
    printf("\"checksum\": \"%016llx\", ", (unsigned long long)run->checksum);
    allocator_print();
    printf("}\n");
}

static int usage_refuse(const char *problem, const char *word)
{
    fprintf(stderr, "driver: %s%s%s; usage: driver ROW [--scale F] [--seed N] | --list | --probe\n", problem,
            word ? " " : "", word ? word : "");
    return 2;
}

static int row_refuse(const char *name)
{
    fprintf(stderr, "driver: no row named %s; rows:", name);
    for (int i = 0; i < ROW_COUNT; i++)
        fprintf(stderr, " %s", rows[i].name);
    fputc('\n', stderr);
    return 2;
}

static const bench_row *row_find(const char *name)
{
    for (int i = 0; i < ROW_COUNT; i++)
        if (!strcmp(rows[i].name, name))
            return &rows[i];
    return NULL;
}

int main(int argc, char **argv)
{
    bench_run run = {.scale = 1.0, .seed = 1};
    if (argc < 2)
        return usage_refuse("no row given", NULL);
    if (!strcmp(argv[1], "--list")) {
        for (int i = 0; i < ROW_COUNT; i++)
            printf("%s\t%s\t%u\t%s\n", rows[i].name, rows[i].group, rows[i].threads, rows[i].summary);
        return 0;
    }
    if (!strcmp(argv[1], "--probe")) {
        printf("{");
        allocator_print();
        printf("}\n");
        return 0;
    }
    const bench_row *row = row_find(argv[1]);
    if (!row)
        return row_refuse(argv[1]);
    for (int i = 2; i < argc; i += 2) {
        char *end = NULL;
        if (i + 1 == argc)
            return usage_refuse("no value after", argv[i]);
        errno = 0;
        if (!strcmp(argv[i], "--scale"))
            run.scale = strtod(argv[i + 1], &end);
        else if (!strcmp(argv[i], "--seed"))
            run.seed = strtoull(argv[i + 1], &end, 10);
        else
            return usage_refuse("unknown option", argv[i]);
        if (errno || end == argv[i + 1] || *end)
            return usage_refuse("not a number:", argv[i + 1]);
    }
    if (!(run.scale > 0 && run.scale <= 1000))
        return usage_refuse("--scale must lie above 0 and not above 1000", NULL);
    run.ops = bench_scaled(row->ops, run.scale);
    row->work(row, &run);
    run_print(row, &run);
    return 0;
}
