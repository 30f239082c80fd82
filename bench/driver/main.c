/* The benchmark driver: one process runs one row once and prints one line of JSON. Its work ends
 * with the row: what is left is not freed.
 *
 *   driver ROW [--scale F] [--seed N]     driver --replay FILE     driver --list     driver --probe
 *
 * The work of a row is fixed by row, scale and seed; its time is what is measured. */
#include "common.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

static void json_text_print(const char *key, const char *text) {
    if (!text) {
        printf("\"%s\": null", key);
        return;
    }
    printf("\"%s\": \"", key);
    for (; *text; text++)
        if (*text == '"' || *text == '\\') printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20) printf("\\u%04x", *text);
        else putchar(*text);
    putchar('"');
}

/* Which object serves malloc in this process, and which build it says it is. All of malloc's
 * family must come from one object: with a preload that brings malloc alone, another object's free
 * would be measured. */
static void allocator_print(void) {
    static const char *const family[] = {"malloc", "free", "calloc", "realloc", "posix_memalign"};
    Dl_info found[5] = {0};
    const char *path = NULL, *stranger = NULL;
    for (int i = 0; i < 5; i++) {
        void *symbol = dlsym(RTLD_DEFAULT, family[i]);
        const char *from = symbol && dladdr(symbol, &found[i]) ? found[i].dli_fname : NULL;
        if (!i) path = from;
        else if (!stranger && (!from || !path || strcmp(from, path))) stranger = family[i];
    }
#ifdef BENCH_LIMIT
    printf("\"limit\": true, ");
    path = stranger = NULL;
#endif
    json_text_print("malloc_path", path);
    printf(", ");
    json_text_print("stranger", stranger);
    printf(", ");
    const char *(*build_kind)(void) = NULL;
    *(void **)&build_kind = dlsym(RTLD_DEFAULT, "hak_build_kind");
    json_text_print("build_kind", build_kind ? build_kind() : NULL);
}

static void figures_print(const bench_run *run) {
    printf("\"figures\": {");
    for (uint32_t i = 0; i < run->figure_count; i++)
        printf("%s\"%s\": %.6g", i ? ", " : "", run->figures[i].name, run->figures[i].value);
    printf("}, \"series\": {");
    for (uint32_t i = 0; i < run->series_count; i++) {
        printf("%s\"%s\": [", i ? ", " : "", run->series[i].name);
        for (uint32_t k = 0; k < run->series[i].count; k++)
            printf("%s%.6g", k ? ", " : "", run->series[i].values[k]);
        printf("]");
    }
    printf("}, ");
}

static void run_print(const bench_row *row, const bench_run *run) {
    const bench_sample *a = &run->before, *b = &run->after;
    printf("{\"row\": \"%s\", \"ops\": %llu, ", row->name, (unsigned long long)run->ops);
    printf("\"wall_ns\": %llu, \"cpu_ns\": %llu, ", (unsigned long long)(b->wall_ns - a->wall_ns),
           (unsigned long long)(b->cpu_ns - a->cpu_ns));
    printf("\"ns_per_op\": %.3f, ", (double)(b->wall_ns - a->wall_ns) / (double)run->ops);
    printf("\"peak_rss_kib\": %llu, \"baseline_rss_kib\": %llu, \"table_kib\": %llu, ",
           (unsigned long long)b->peak_rss_kib, (unsigned long long)a->peak_rss_kib,
           (unsigned long long)(run->table_bytes >> 10));
    printf("\"minor_faults\": %llu, \"major_faults\": %llu, ",
           (unsigned long long)(b->minor_faults - a->minor_faults),
           (unsigned long long)(b->major_faults - a->major_faults));
    printf("\"checksum\": \"%016llx\", ", (unsigned long long)run->checksum);
    figures_print(run);
    allocator_print();
    printf("}\n");
}

static int usage_refuse(const char *problem, const char *word) {
    fprintf(stderr, "driver: %s%s%s; usage: driver ROW [--scale F] [--seed N] | --list | --probe\n",
            problem, word ? " " : "", word ? word : "");
    return 2;
}

static int row_refuse(const char *name) {
    fprintf(stderr, "driver: no row named %s; rows:", name);
    for (uint32_t i = 0; i < bench_row_count; i++) fprintf(stderr, " %s", bench_rows[i].name);
    fputc('\n', stderr);
    return 2;
}

static void row_list(const bench_row *row) {
    printf("{\"name\": \"%s\", \"family\": \"%s\", \"threads\": %u, \"version\": %u, "
           "\"repetitions\": %u, ",
           row->name, row->family, row->threads, row->version, row->repetitions);
    printf("\"gate\": %s, \"limited\": %s, \"one_size\": %s, \"timed\": %s, ",
           row->flags & BENCH_GATE ? "true" : "false",
           row->flags & BENCH_LIMITED ? "true" : "false",
           row->size_min == row->size_max ? "true" : "false",
           row->flags & BENCH_TIMED ? "true" : "false");
    printf("\"ops\": %llu, ", (unsigned long long)row->ops);
    printf("\"summary\": \"%s\"}\n", row->summary);
}

static const bench_row *row_find(const char *name) {
    for (uint32_t i = 0; i < bench_row_count; i++)
        if (!strcmp(bench_rows[i].name, name)) return &bench_rows[i];
    return NULL;
}

int main(int argc, char **argv) {
    bench_run run = {.scale = 1.0, .seed = 1};
    if (argc < 2) return usage_refuse("no row given", NULL);
    if (!strcmp(argv[1], "--list")) {
        for (uint32_t i = 0; i < bench_row_count; i++) row_list(&bench_rows[i]);
        return 0;
    }
    if (!strcmp(argv[1], "--probe")) {
        printf("{");
        allocator_print();
        printf("}\n");
        return 0;
    }
    if (!strcmp(argv[1], "--replay") && argc == 3) {
        bench_replay(&run, argv[2]);
        run_print(&(bench_row){.name = "replay"}, &run);
        return 0;
    }
    const bench_row *row = row_find(argv[1]);
    if (!row) return row_refuse(argv[1]);
#ifdef BENCH_LIMIT
    if (!(row->flags & BENCH_LIMITED))
        return usage_refuse("the limit has no blocks for row", argv[1]);
#endif
    for (int i = 2; i < argc; i += 2) {
        char *end = NULL;
        if (i + 1 == argc) return usage_refuse("no value after", argv[i]);
        errno = 0;
        if (!strcmp(argv[i], "--scale")) run.scale = strtod(argv[i + 1], &end);
        else if (!strcmp(argv[i], "--seed")) run.seed = strtoull(argv[i + 1], &end, 10);
        else return usage_refuse("unknown option", argv[i]);
        if (errno || end == argv[i + 1] || *end) return usage_refuse("not a number:", argv[i + 1]);
    }
    if (!(run.scale > 0 && run.scale <= 1000))
        return usage_refuse("--scale must lie above 0 and not above 1000", NULL);
    run.ops = bench_scaled(row->ops, run.scale);
    row->work(row, &run);
    run_print(row, &run);
    return 0;
}
