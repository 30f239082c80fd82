/* The work window: clocks, faults and peak resident memory at both ends; the driver's tables.
 * Nothing here calls malloc, so that reading the figures does not change them. */
#include "common.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_read_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_clock_ns(void) { return clock_read_ns(CLOCK_MONOTONIC); }

/* A field of /proc/self/status, in KiB; 0 when it cannot be read. */
static uint64_t status_read_kib(const char *name) {
    char text[4096];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0) return 0;
    text[length] = '\0';
    const char *field = strstr(text, name);
    if (!field) return 0;
    uint64_t kib = 0;
    for (field += strlen(name); *field && *field != '\n'; field++)
        if (*field >= '0' && *field <= '9') kib = kib * 10 + (uint64_t)(*field - '0');
    return kib;
}

uint64_t bench_rss_kib(void) { return status_read_kib("VmRSS:"); }

static void faults_read(bench_sample *sample) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    sample->minor_faults = (uint64_t)usage.ru_minflt;
    sample->major_faults = (uint64_t)usage.ru_majflt;
}

/* The clocks are read last here and first at the end: the window holds the work alone. */
void bench_work_begin(bench_run *run) {
    run->before.peak_rss_kib = status_read_kib("VmHWM:");
    faults_read(&run->before);
    run->before.cpu_ns = clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
    run->before.wall_ns = clock_read_ns(CLOCK_MONOTONIC);
}

void bench_work_end(bench_run *run) {
    run->after.wall_ns = clock_read_ns(CLOCK_MONOTONIC);
    run->after.cpu_ns = clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
    faults_read(&run->after);
    run->after.peak_rss_kib = status_read_kib("VmHWM:");
}

void *bench_table_new(bench_run *run, size_t bytes) {
    bytes = (bytes + BENCH_OS_PAGE_BYTES - 1) & ~(size_t)(BENCH_OS_PAGE_BYTES - 1);
    unsigned char *table =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) bench_give_up("no memory for the driver's tables");
    madvise(table, bytes, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < bytes; i += BENCH_OS_PAGE_BYTES)
        ((volatile unsigned char *)table)[i] = 0;
    run->table_bytes += bytes;
    return table;
}

void bench_figure_add(bench_run *run, const char *name, double value) {
    if (run->figure_count == BENCH_FIGURES_MAX)
        bench_give_up("more figures than there is room for");
    run->figures[run->figure_count++] = (bench_figure){name, value};
}

bench_series *bench_series_new(bench_run *run, const char *name, uint32_t limit) {
    if (run->series_count == BENCH_SERIES_MAX) bench_give_up("more series than there is room for");
    bench_series *series = &run->series[run->series_count++];
    *series = (bench_series){name, bench_table_new(run, limit * sizeof(double)), 0, limit};
    return series;
}

void bench_series_add(bench_series *series, double value) {
    if (series->count < series->limit) series->values[series->count++] = value;
}

_Noreturn void bench_give_up(const char *what) {
    static const char head[] = "driver: ";
    ssize_t ignored = write(2, head, sizeof head - 1);
    ignored = write(2, what, strlen(what));
    ignored = write(2, "\n", 1);
    (void)ignored;
    _exit(1);
}
