/* conform_accounts.c: mallinfo, mallinfo2, malloc_info, malloc_stats, mallopt, malloc_trim, beside
 * what the OS says.
 *
 * /proc/self/smaps is read into a static buffer, so that looking changes nothing. Where glibc is
 * not replaced, the region is all that is mapped without a file.
 */
#include "conform.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#include "hak_layout.h"

#define COUNT(array) (sizeof array / sizeof *array)

/* Rss of the region of the process heap, in bytes. */
static size_t region_rss(void) {
    static char text[1 << 20];
    hak_heap *(*process_heap)(void) =
        (hak_heap * (*)(void))(uintptr_t)dlsym(RTLD_DEFAULT, "hak_process_heap");
    hak_heap *heap = process_heap ? process_heap() : NULL;
    int file = open("/proc/self/smaps", O_RDONLY);
    size_t used = 0, rss = 0, kib;
    for (ssize_t got; (got = read(file, text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)got;
    close(file);
    text[used] = 0;
    int inside = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        unsigned long low, high, inode;
        *end = 0;
        if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &low, &high, &inode) == 3)
            inside = heap ? low >= (uintptr_t)heap && low < (uintptr_t)heap + heap->reserved_bytes
                          : inode == 0 && !strstr(line, "[stack");
        else if (inside && sscanf(line, "Rss: %zu kB", &kib) == 1) rss += kib << 10;
    }
    return rss;
}

/* Bytes that were read but never written, all of which are the kernel's one page of zeros: resident
 * by mincore, and not in Rss. False where the kernel does not say (before Linux 6.7). */
static bool region_zeros(size_t *zeros) {
    hak_heap *(*process_heap)(void) =
        (hak_heap * (*)(void))(uintptr_t)dlsym(RTLD_DEFAULT, "hak_process_heap");
    hak_heap *heap = process_heap ? process_heap() : NULL;
    int file = heap ? open("/proc/self/pagemap", O_RDONLY) : -1;
    *zeros = 0;
    if (file < 0) return false;
    static uint64_t found[1024][3]; /* first address, end, what it is */
    uint64_t at = (uintptr_t)heap, end = at + heap->reserved_bytes;
    while (at < end) {
        /* struct pm_scan_arg: size, flags, start, end, where it ended, regions, how many, pages at
         * most, inverted, all of, any of, told */
        uint64_t ask[12] = {sizeof ask, 0, at, end,    0, (uintptr_t)found,
                            1024,       0, 0,  1 << 5, 0, 1 << 5};
        int count = ioctl(file, _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, sizeof ask), ask);
        if (count < 0) break;
        for (int i = 0; i < count; i++) *zeros += found[i][1] - found[i][0];
        if (ask[4] <= at) break;
        at = ask[4];
    }
    close(file);
    return at >= end;
}

/* A look before, so that pages which the first one touches are in the next. The OS is asked only
 * with HAKMEM_OS_CALLS=wide, and then all agree to the page, but for 16 of what runs meanwhile; the
 * records alone do not know which pages of a dirty unit were touched. Between the questions the OS
 * may move pages about, so a look that disagrees is taken again, and all of them are told. */
static void expect_agreement(int line, const char *when) {
    char seen[3][100];
    bool wide = getenv("HAKMEM_OS_CALLS") != NULL;
    (void)mallinfo2();
    for (int look = 0; look < 3; look++) {
        struct mallinfo2 info = mallinfo2();
        size_t zeros, sum = info.arena + info.hblkhd;
        bool exact = region_zeros(&zeros) && wide;
        size_t rss = region_rss();
        double least = exact ? (double)(rss + zeros) - (1 << 16) : (double)rss * 0.94,
               most = exact ? (double)(rss + zeros) + (1 << 16)
                            : (double)(rss + zeros) * 1.06 + (2 << 20);
        if ((double)sum >= least && (double)sum <= most) return;
        snprintf(seen[look], sizeof *seen, "arena %zu + hblkhd %zu, Rss %zu, zeros %zu", info.arena,
                 info.hblkhd, rss, zeros);
    }
    fail(line, when, "%s; %s; %s", seen[0], seen[1], seen[2]);
}
#define EXPECT_AGREEMENT(when) expect_agreement(__LINE__, when)

static void *touched(size_t size) { return memset(kept(malloc(size)), 1, size); }

typedef struct workload {
    size_t count, low, high;
} workload;
static void *blocks[60000];
static size_t asked_of(const workload *work, size_t i) {
    return work->low + i * 7919 * 97 % (work->high - work->low + 1);
}
static size_t allocate(const workload *work) {
    size_t asked = 0;
    for (size_t i = 0; i < work->count; i++)
        blocks[i] = touched(asked_of(work, i)), asked += asked_of(work, i);
    return asked;
}
static const workload small = {60000, 1, 1024}, pool = {2000, 1025, 53248},
                      big = {600, 53249, 262144}, spans = {60, 262145, 2000000},
                      mixed = {3000, 1, 60000};

static void look_at(const workload *work) {
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd, asked = allocate(work);
    struct mallinfo2 info = mallinfo2();
    size_t out = info.uordblks + info.hblkhd - before;
    EXPECT_AGREEMENT("all out");
    EXPECT(out >= asked && out < asked + asked / 5, "out %zu, asked %zu", out, asked);
    for (size_t i = 0; i < work->count; i += 3) free(blocks[i]);
    EXPECT_AGREEMENT("a third freed");
    size_t left = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    EXPECT(left < out && left > asked / 2, "left %zu of %zu", left, out);
    malloc_trim(0);
    EXPECT_AGREEMENT("trimmed");
    for (size_t i = 0; i < work->count; i += 3) blocks[i] = touched(asked_of(work, i));
    EXPECT_AGREEMENT("out again");
    for (size_t i = 0; i < work->count; i++) free(blocks[i]);
    EXPECT_AGREEMENT("all freed");
    left = mallinfo2().uordblks + mallinfo2().hblkhd;
    EXPECT(left <= before + 65536, "left %zu, before %zu", left, before);
}

CHECK(mallinfo2_agrees_with_smaps_on_small_blocks) { look_at(&small); }
CHECK(mallinfo2_agrees_with_smaps_on_pool_blocks) { look_at(&pool); }
CHECK(mallinfo2_agrees_with_smaps_on_big_blocks) { look_at(&big); }
CHECK(mallinfo2_agrees_with_smaps_on_spans) { look_at(&spans); }
CHECK(mallinfo2_agrees_with_smaps_on_all_bands) { look_at(&mixed); }

CHECK(mallinfo2_agrees_with_smaps_on_spans_over_dirty_ones) {
    for (size_t i = 0; i < 100; i++) blocks[i] = touched(1000000);
    for (size_t i = 0; i < 100; i++) free(blocks[i]);
    /* in 320 KiB that are dirty to their ends */
    for (size_t i = 0; i < 100; i++) blocks[i] = touched(270000);
    EXPECT_AGREEMENT("out");
    struct mallinfo2 info = mallinfo2();
    EXPECT(info.hblks == 100 && info.hblkhd == 100 * 270336, "%zu spans of %zu bytes", info.hblks,
           info.hblkhd);
    EXPECT(info.fordblks >= 50 * 57344, "free %zu", info.fordblks);
}

CHECK(mallinfo2_counts_what_is_out_though_untouched) {
    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < 1000; i++) blocks[i] = kept(malloc(40000));
    for (int i = 0; i < 10; i++) blocks[1000 + i] = kept(malloc(10 << 20));
    struct mallinfo2 after = mallinfo2();
    EXPECT(after.uordblks - before.uordblks >= 40000000, "%zu", after.uordblks - before.uordblks);
    EXPECT(after.hblkhd - before.hblkhd == 100 << 20 && after.hblks - before.hblks == 10, "%zu",
           after.hblkhd - before.hblkhd);
    EXPECT(after.arena < before.arena + (4 << 20), "arena %zu", after.arena);
    EXPECT(after.uordblks > after.arena ? after.fordblks == 0 : after.fordblks < after.arena,
           "free %zu", after.fordblks);
}

CHECK(mallinfo2_sees_a_cached_block_as_free) {
    struct mallinfo2 out, cached;
    for (int i = 0; i < 10; i++) blocks[i] = touched(3000);
    out = mallinfo2();
    for (int i = 0; i < 10; i++) free(blocks[i]);
    cached = mallinfo2();
    EXPECT(cached.smblks == out.smblks + 10 && cached.fsmblks > out.fsmblks, "%zu blocks after %zu",
           cached.smblks, out.smblks);
    EXPECT(out.uordblks - cached.uordblks == cached.fsmblks - out.fsmblks, "out %zu, cached %zu",
           cached.uordblks, cached.fsmblks);
}

/* A class's first block comes with a range carved for the thread: nobody freed what is in it. */
CHECK(mallinfo2_counts_only_what_was_freed_as_fast) {
    struct mallinfo2 before = mallinfo2(), after;
    free(kept(malloc(232)));
    after = mallinfo2();
    EXPECT(after.smblks == before.smblks + 1 && after.fsmblks == before.fsmblks + 256,
           "%zu fast blocks after %zu", after.smblks, before.smblks);
}

CHECK(mallinfo2_keepcost_is_what_a_trim_gives_back) {
    for (int i = 0; i < 40; i++) blocks[i] = touched(1000000);
    for (int i = 0; i < 40; i += 2) free(blocks[i]);
    size_t promised = mallinfo2().keepcost, before = region_rss();
    EXPECT(promised >= 4000000 && malloc_trim(0) == 1, "promised %zu", promised);
    EXPECT(before - region_rss() + 65536 >= promised, "promised %zu, gave %zu", promised,
           before - region_rss());
}

ALIKE(mallinfo_is_mallinfo2_in_ints) {
    (void)touched(5000000);
    (void)mallinfo2();
    struct mallinfo2 wide = mallinfo2();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop
    EXPECT((int)wide.arena == narrow.arena && (int)wide.ordblks == narrow.ordblks &&
               (int)wide.hblks == narrow.hblks,
           "arena %d", narrow.arena);
    EXPECT((int)wide.hblkhd == narrow.hblkhd && (int)wide.uordblks == narrow.uordblks,
           "uordblks %d", narrow.uordblks);
    EXPECT((int)wide.fordblks == narrow.fordblks && (int)wide.keepcost == narrow.keepcost,
           "fordblks %d", narrow.fordblks);
}

/* ---- malloc_info ---- */

static size_t number_behind(const char *text, const char *what) {
    const char *at = text ? strstr(text, what) : NULL;
    if (!at) fail(__LINE__, what, "it is not there");
    return strtoul(at + strlen(what), NULL, 10);
}

CHECK(malloc_info_agrees_with_smaps) {
    static const workload *const works[] = {&small, &pool, &spans, &mixed};
    static char text[1 << 16];
    for (size_t i = 0; i < COUNT(works); i++) {
        allocate(works[i]);
        for (int look = 0; look < 2; look++) {
            FILE *out = fmemopen(text, sizeof text, "w");
            EXPECT(malloc_info(0, out) == 0, "malloc_info");
            fclose(out);
        }
        const char *all = strstr(text, "</heap>");
        size_t sum = number_behind(all, "<system type=\"current\" size=\"") +
                     strtoul(strstr(strstr(all, "type=\"mmap\""), "size=\"") + 6, NULL, 10);
        double rss = (double)region_rss();
        EXPECT((double)sum > rss * 0.98 && (double)sum < rss * 1.02, "%zu, Rss %.0f", sum, rss);
        for (size_t n = 0; n < works[i]->count; n++) free(blocks[n]);
    }
}

ALIKE(malloc_info_refuses_options) {
    static char text[1000];
    FILE *out = fmemopen(text, sizeof text, "w");
    errno = 77;
    EXPECT(malloc_info(1, out) == EINVAL && malloc_info(-1, out) == EINVAL && errno == 77,
           "errno %d", errno);
    fclose(out);
    EXPECT(!*text, "it printed %s", text);
}

/* ---- mallopt ---- */

ALIKE(mallopt_takes_what_glibc_has) {
    static const int known[] = {M_MXFAST,         M_TRIM_THRESHOLD, M_TOP_PAD,
                                M_MMAP_THRESHOLD, M_MMAP_MAX,       M_CHECK_ACTION,
                                M_PERTURB,        M_ARENA_TEST,     M_ARENA_MAX};
    for (size_t i = 0; i < COUNT(known); i++)
        EXPECT(mallopt(known[i], 64) == 1, "parameter %d", known[i]);
}

CHECK(mallopt_refuses_what_is_none) {
    EXPECT(mallopt(99, 1) == 0 && mallopt(0, 1) == 0 && mallopt(-99, 1) == 0, "it took one");
}

/* ---- malloc_trim ---- */

CHECK(malloc_trim_gives_back_what_is_free) {
    for (size_t i = 0; i < 50000; i++) blocks[i] = touched(asked_of(&mixed, i) % 3000 + 1);
    size_t full = region_rss();
    for (size_t i = 0; i < 50000; i++) free(blocks[i]);
    EXPECT(malloc_trim(0) == 1, "it gave nothing back");
    EXPECT(region_rss() < full / 10, "Rss %zu of %zu", region_rss(), full);
}

CHECK(malloc_trim_gives_back_once) {
    free(touched(3000000));
    EXPECT(malloc_trim(0) == 1, "the first");
    for (int i = 0; i < 3; i++) EXPECT(malloc_trim(0) == 0, "again: %d", i);
}

CHECK(malloc_trim_of_what_was_never_touched_is_0) {
    (void)malloc_trim(0);
    free(kept(malloc(20 << 20)));
    EXPECT(malloc_trim(0) == 0, "there was nothing to give back");
}

/* records that a trim may be the first to touch; they do not count as its gain or loss */
#define METADATA 65536

CHECK(malloc_trim_says_what_rss_says) {
    unsigned seed = 1, given = 0, kept_all = 0;
    for (int round = 0; round < 60; round++) {
        for (int step = 0; step < 60; step++) {
            seed = seed * 1103515245 + 12345;
            size_t i = seed >> 8 & 255, kind = seed >> 16 & 3, size = seed >> 18 & 0xfff;
            free(blocks[i]);
            blocks[i] = NULL;
            if (round % 4 == 0 || kind == 0) continue;
            blocks[i] = kept(malloc(kind == 1 ? size : kind == 2 ? size * 16 : size * 256));
            if (round % 3 && blocks[i])
                memset(blocks[i], 1, kind == 1 ? size : kind == 2 ? size * 16 : size * 256);
        }
        (void)mallinfo2();
        size_t before = region_rss();
        int said_so = malloc_trim(0);
        size_t after = region_rss();
        if (said_so) given++;
        else kept_all++;
        if (said_so)
            EXPECT(after < before + METADATA, "round %d: Rss %zu, then %zu", round, before, after);
        else EXPECT(before < after + METADATA, "round %d: Rss %zu, then %zu", round, before, after);
        if (round % 7 == 0) EXPECT(malloc_trim(0) == 0, "round %d: again", round);
    }
    EXPECT(given > 20, "%u gave, %u did not", given, kept_all);
}

/* With one of these words the program prints for a test to read: a heap with something of
 * everything in it. */
static int print(const char *what) {
    static char buffer[BUFSIZ];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer); /* or glibc sorts its free blocks to make one */
    for (size_t i = 0; i < 3000; i++) blocks[i] = touched(asked_of(&mixed, i));
    for (size_t i = 0; i < 3000; i += 4) free(blocks[i]);
    (void)touched(70000); /* glibc sorts what is free by now, and not what comes */
    for (size_t i = 2; i < 3000; i += 4) free(blocks[i]);
    if (!strcmp(what, "--info")) return malloc_info(0, stdout);
    if (!strcmp(what, "--mallopt"))
        return mallopt(M_ARENA_MAX, 1) + mallopt(M_ARENA_MAX, 2) +
                   mallopt(M_MMAP_THRESHOLD, 1 << 20) !=
               3;
    mallopt(M_ARENA_MAX, 1);
    if (!strcmp(what, "--cancelled")) pthread_cancel(pthread_self());
    malloc_stats();
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strncmp(argv[1], "--", 2) == 0 && strcmp(argv[1], "--alike") != 0)
        return print(argv[1]);
    return run_checks(argc, argv);
}
