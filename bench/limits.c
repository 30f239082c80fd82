/* limits.c: one program under one limit of the OS, on whatever malloc it is run with.
 *
 *   limits fill as|data MIB before|late BLOCK_KIB   how much can be allocated, and what works then
 *   limits lock current|future|both MIB [LIMIT_MIB] mlockall; then MIB allocated, freed, trimmed
 *   limits rest | core | wait                       a small heap: told, aborted, or waited with
 *   limits sparse                                   the sum of blocks that are hardly touched
 *   limits huge                                     blocks of 16 times the machine's memory
 *   limits layout fixed|legacy|stack                mixed work in another layout of addresses
 *
 * Prints `name=number` lines, KiB where the name says so. A limit that is set before the start and
 * a layout are set by the program, which then executes itself. `fault=TEXT` is what must not be.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define TIB ((size_t)1 << 40)
#define AGAIN "LIMITS_AGAIN"
#define NOBODY 65534

struct block {
    struct block *next;
};

static void say(const char *name, long value) { dprintf(1, "%s=%ld\n", name, value); }

static void fault(const char *what, const char *why) { dprintf(1, "fault=%s: %s\n", what, why); }

static long status_kib(const char *name) { /* no stdio: it would allocate */
    char text[4096] = "";
    int fd = open("/proc/self/status", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0) abort();
    close(fd);
    char *line = strstr(text, name);
    return line ? atol(line + strlen(name) + 1) : -1;
}

/* The second time: what is set before the start is set. */
static void execute_again(char **words) {
    setenv(AGAIN, "1", 1);
    execv("/proc/self/exe", words);
    fault("exec", strerror(errno));
    exit(1);
}

static void *do_nothing(void *argument) { return argument; }

/* A thread, a mapping and a library still are to be had. */
static void try_others(const char *when, size_t map_bytes) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, do_nothing, NULL);
    if (error) dprintf(1, "fault=%s, thread: %s\n", when, strerror(error));
    else pthread_join(thread, NULL);
    void *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) dprintf(1, "fault=%s, mmap: %s\n", when, strerror(errno));
    else munmap(map, map_bytes);
    void *library = dlopen("libresolv.so.2", RTLD_NOW);
    if (!library) dprintf(1, "fault=%s, import: %s\n", when, dlerror());
    else dlclose(library);
}

static long take(struct block **list, size_t bytes, long most) {
    long count = 0;
    for (struct block *block; count < most && (block = malloc(bytes)); count++)
        block->next = *list, *list = block;
    return count;
}

static void give(struct block **list, long count) {
    while (count--) {
        struct block *block = *list;
        *list = block->next;
        free(block);
    }
}

/* `stack`: the C library keeps the ended thread's, 8 MiB and a page. */
static int fill(int which, size_t mib, int late, size_t block_kib, char **words) {
    struct rlimit limit = {mib * MIB, mib * MIB};
    void *volatile early = malloc(100);
    if (late) {
        setrlimit(which, &limit);
        try_others("at first", MIB);
    } else if (!getenv(AGAIN)) {
        setrlimit(which, &limit);
        execute_again(words);
    }
    struct block *list = NULL;
    size_t bytes = block_kib * KIB;
    long most = (long)(mib * KIB / block_kib), count = take(&list, bytes, most + 1);
    if (count > most) fault("the limit", "not kept");
    else if (errno != ENOMEM) fault("malloc", strerror(errno));
    give(&list, count / 2);
    try_others("after ENOMEM", mib * MIB / 8);
    long again = take(&list, bytes, most), stack = (long)(9 * KIB / block_kib);
    say("again_kib", again * (long)block_kib);
    if (again + stack < count / 2 * 95 / 100) fault("after free", "less to be had than before");
    give(&list, count - count / 2 + again);
    say("filled_kib", count * (long)block_kib);
    free(early);
    return 0;
}

/* First allocated, first freed: what a cache keeps of the first does not stand above all others. */
static void give_in_order(struct block *list) {
    struct block *oldest = NULL;
    for (struct block *block = list, *next; block; block = next)
        next = block->next, block->next = oldest, oldest = block;
    while (oldest) {
        struct block *block = oldest;
        oldest = block->next;
        free(block);
    }
}

static int lock_all(int which, size_t mib, size_t limit_mib) {
    if (limit_mib) {
        struct rlimit limit = {limit_mib * MIB, limit_mib * MIB};
        if (setrlimit(RLIMIT_MEMLOCK, &limit)) fault("setrlimit", strerror(errno));
        if (!geteuid() && setuid(NOBODY)) fault("setuid", strerror(errno));
    }
    void *volatile early = malloc(1000);
    if (mlockall(which)) fault("mlockall", strerror(errno));
    say("locked_kib", status_kib("VmRSS"));
    struct block *small = NULL, *large = NULL;
    long small_count = (long)(mib / 2 * MIB / 1000), large_count = (long)(mib / 2 * MIB / 100000);
    if (take(&small, 1000, small_count) < small_count ||
        take(&large, 100000, large_count) < large_count)
        fault("malloc", "no memory");
    give_in_order(small), give_in_order(large);
    malloc_trim(0);
    say("trimmed_kib", status_kib("VmRSS"));
    void *volatile late = malloc(1 << 20);
    if (!late) fault("malloc of 1 MiB", strerror(errno));
    free(early), free(late);
    return 0;
}

/* What strict overcommit charges: private mappings that may be written, or were. */
static long charged_kib(void) {
    FILE *maps = fopen("/proc/self/smaps", "r");
    char line[4096];
    long size = 0, sum = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "Size: %ld", &size) == 1 || strncmp(line, "VmFlags:", 8)) continue;
        int exempt = strstr(line, " nr") && strstr(line, " wr") && !strstr(line, " sh");
        if (strstr(line, " ac") || exempt) sum += size;
    }
    if (maps) fclose(maps);
    return sum;
}

static void use_a_little(void) {
    static void *kept[1000];
    for (int i = 0; i < 1000; i++)
        if ((kept[i] = malloc(1000))) memset(kept[i], i, 1000);
}

static int rest(const char *then) {
    use_a_little();
    say("resident_kib", status_kib("VmRSS"));
    if (!strcmp(then, "core")) {
        struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
        setrlimit(RLIMIT_CORE, &all);
        abort();
    }
    if (!strcmp(then, "wait")) return (int)read(0, (char[1]){0}, 1);
    say("charged_kib", charged_kib());
    pid_t child = fork();
    if (!child) {
        use_a_little();
        say("child_charged_kib", charged_kib());
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return 0;
}

static size_t machine_bytes(void) {
    return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
}

/* An allocator whose own tables grow with what is mapped must not use up the machine's memory. */
static int sparse(void) {
    size_t bytes = MIB, most = 80 * TIB, sum = 0;
    long own = 0;
    while (bytes * 2 <= machine_bytes()) bytes *= 2; /* what the kernel's heuristic lets through */
    for (; sum < most && own < 2 * (long)MIB && malloc(bytes); sum += bytes)
        own = status_kib("VmRSS");
    if (own >= 2 * (long)MIB) fault("resident", "2 GiB, stopped");
    say("sum_kib", (long)(sum / KIB));
    return 0;
}

static int huge(void) {
    size_t volatile bytes = 16 * machine_bytes();
    void *volatile small = malloc(100);
    long given = !!malloc(bytes);
    given += !!calloc(1, bytes);
    given += !!aligned_alloc(1 << 16, bytes);
    given += !!realloc(small, bytes);
    say("given", given);
    if (!given && errno != ENOMEM) fault("malloc", strerror(errno));
    void *volatile after = malloc(100);
    if (!after) fault("malloc of 100 bytes", strerror(errno));
    free(after);
    return 0;
}

/* Blocks of all sizes, grown and freed in another order, with their contents looked at. */
static void *mixed_work(void *seed) {
    enum { SLOTS = 512 };
    static _Thread_local unsigned char *block[SLOTS];
    static _Thread_local size_t size[SLOTS];
    uint64_t state = 88172645463325252u + (uintptr_t)seed;
    for (int step = 0; step < 10000; step++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        size_t at = state % SLOTS, bytes = (state >> 20 & 1023) << (state >> 32) % 11;
        if (block[at] && (block[at][0] != at % 251 || block[at][size[at] - 1] != at % 251))
            return "contents lost";
        if (state >> 40 & 1) free(block[at]), block[at] = NULL;
        void *grown = realloc(block[at], bytes + 1);
        if (!grown) return "no memory";
        block[at] = grown, size[at] = bytes + 1;
        block[at][0] = block[at][bytes] = (unsigned char)(at % 251);
    }
    for (int at = 0; at < SLOTS; at++) free(block[at]);
    return NULL;
}

static int layout(const char *which, char **words) {
    if (!getenv(AGAIN)) {
        if (!strcmp(which, "fixed") && personality(ADDR_NO_RANDOMIZE) < 0)
            fault("personality", strerror(errno));
        if (!strcmp(which, "legacy") && personality(ADDR_COMPAT_LAYOUT) < 0)
            fault("personality", strerror(errno));
        struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
        if (!strcmp(which, "stack") && setrlimit(RLIMIT_STACK, &all))
            fault("setrlimit", strerror(errno));
        execute_again(words);
    }
    pthread_t thread[4];
    void *why = NULL;
    for (uintptr_t i = 0; i < 4; i++) pthread_create(&thread[i], NULL, mixed_work, (void *)i);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], &why);
        if (why) fault("mixed work", why);
    }
    say("peak_kib", status_kib("VmPeak"));
    return 0;
}

int main(int count, char **words) {
    const char *work = count > 1 ? words[1] : "", *kind = count > 2 ? words[2] : "";
    if (!strcmp(work, "fill") && count == 6)
        return fill(strcmp(kind, "as") ? RLIMIT_DATA : RLIMIT_AS, (size_t)atol(words[3]),
                    !strcmp(words[4], "late"), (size_t)atol(words[5]), words);
    if (!strcmp(work, "lock") && count > 3) {
        int which = !strcmp(kind, "current")  ? MCL_CURRENT
                    : !strcmp(kind, "future") ? MCL_FUTURE
                                              : MCL_CURRENT | MCL_FUTURE;
        return lock_all(which, (size_t)atol(words[3]), count > 4 ? (size_t)atol(words[4]) : 0);
    }
    if (!strcmp(work, "rest") || !strcmp(work, "core") || !strcmp(work, "wait")) return rest(work);
    if (!strcmp(work, "sparse")) return sparse();
    if (!strcmp(work, "huge")) return huge();
    if (!strcmp(work, "layout") && count == 3) return layout(kind, words);
    fprintf(stderr, "usage: limits fill|lock|rest|core|wait|sparse|huge|layout ... (limits.c)\n");
    return 2;
}
