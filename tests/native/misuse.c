/* misuse.c: one misuse or crash a run, by name; each must end in the library's report and the death
 * that belongs to it.
 *
 *   misuse NAME   prints the address it misuses, then does it; "survived" and exit 1 if nothing
 *                 comes of it
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hakmem.h"

#pragma GCC diagnostic ignored "-Wfree-nonheap-object"
#pragma GCC diagnostic ignored "-Wuse-after-free"
#pragma GCC diagnostic ignored "-Winfinite-recursion"
#pragma GCC diagnostic ignored "-Wunused-result"

static char global[4096];
static char *volatile nowhere;

static void say(void *address) {
    printf("%p\n", address);
    fflush(stdout);
}

static void *tiny(void) { return malloc(100); }
static void *span(void) { return malloc(300000); }
static void *foreign_stack(void) {
    static __thread char *here;
    here = __builtin_frame_address(0);
    return here - 64;
}
static void *foreign_map(void) {
    return mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static void *other_heap(void) {
    hak_fault fault;
    return hak_heap_alloc(hak_heap_create(NULL, 1 << 20, 0, &fault), 100);
}
/* Far behind the range that is carved for the cache. */
static void *uncarved(void) { return (char *)malloc(5000) + 5120 * 11; }
/* The next block that malloc would hand out of the slab. */
static void *next(void) { return (char *)malloc(5000) + 5120; }
static void *last_freed(void) {
    void *block = tiny();
    free(block);
    return block;
}
static void *freed_span(void) {
    void *block = span();
    free(block);
    return block;
}

static void *mapped(void) { return malloc((size_t)1 << 31); }
static void *freed_mapped(void) {
    void *block = mapped();
    free(block);
    return block;
}

/* Where an address comes from. */
static const struct {
    const char *name;
    void *(*make)(void);
    ptrdiff_t off;
} sources[] = {
    {"stack", foreign_stack, 0},
    {"static", NULL, 0},
    {"mmap", foreign_map, 0},
    {"null_page", NULL, 16},
    {"heap", other_heap, 0},
    {"interior", tiny, 8},
    {"interior_odd", tiny, 1},
    {"span_interior", span, 4096},
    {"span_odd", span, 1},
    {"uncarved", uncarved, 0},
    {"last_freed", last_freed, 0},
    {"freed_span", freed_span, 0},
    {"next", next, 0},
    {"metadata", NULL, 0},
    {"mapped_interior", mapped, 4096},
    {"freed_mapped", freed_mapped, 0},
};

static void *address_of(const char *name) {
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        if (strcmp(sources[i].name, name)) continue;
        if (sources[i].make) return (char *)sources[i].make() + sources[i].off;
        if (!strcmp(name, "static")) return global + 64;
        if (!strcmp(name, "metadata")) return (char *)hak_process_heap() + 4096;
        return (char *)sources[i].off;
    }
    fprintf(stderr, "misuse: no source %s\n", name);
    exit(2);
}

static int deep(volatile char *up) {
    volatile char here[4096];
    here[0] = up ? up[0] : 1;
    return deep(here) + here[0];
}
static void *deep_thread(void *unused) {
    (void)unused;
    hak_crash_report(1);
    return (void *)(intptr_t)deep(NULL);
}
static void own_handler(int number) {
    static const char text[] = "own handler\n";
    (void)number;
    (void)write(1, text, sizeof text - 1);
    _exit(3);
}

static void crash(const char *how) {
    void *mapped = foreign_map();
    mprotect(mapped, 4096, PROT_NONE);
    char *block = tiny();
    if (!strcmp(how, "foreign")) say(mapped), *(volatile char *)mapped = 1;
    if (!strcmp(how, "null")) say(NULL), *(volatile char *)nowhere = 1;
    if (!strcmp(how, "uncommitted"))
        block = (char *)hak_process_heap() + (UINT64_C(1) << 34), say(block),
        *(volatile char *)block = 1;
    /* a block made unreadable, so that an access to it is what crashes */
    if (!strcmp(how, "block")) {
        char *big = malloc(300000);
        mprotect(big, 65536, PROT_NONE);
        say(big + 100), *(volatile char *)(big + 100) = 1;
    }
    if (!strcmp(how, "slab")) {
        block = malloc(40000);
        free(malloc(40000));
        mprotect((void *)((uintptr_t)block & ~UINT64_C(4095)), 4096, PROT_READ);
        say(block + 3), block[3] = 1;
    }
    /* the program unmaps the pages of two blocks, of which a cache lists one */
    if (!strcmp(how, "unmapped")) {
        char *listed = malloc(40000);
        block = malloc(40000);
        free(listed);
        munmap((void *)((uintptr_t)listed & ~UINT64_C(4095)), 4096);
        munmap((void *)((uintptr_t)block & ~UINT64_C(4095)), 4096);
        say(block + 3), block[3] = 1;
    }
    if (!strcmp(how, "freed_mapped"))
        block = freed_mapped(), say(block + 5000), *(volatile char *)(block + 5000) = 1;
    if (!strcmp(how, "abort")) say(NULL), abort();
    if (!strcmp(how, "sent")) say(NULL), raise(SIGSEGV);
    if (!strcmp(how, "deep")) {
        say(NULL);
        pthread_t thread;
        pthread_create(&thread, NULL, deep_thread, NULL);
        pthread_join(thread, NULL);
    }
    if (!strcmp(how, "chained")) {
        hak_crash_report(0);
        signal(SIGSEGV, own_handler);
        hak_crash_report(1);
        say(mapped), *(volatile char *)mapped = 1;
    }
    if (!strcmp(how, "off")) hak_crash_report(0), say(mapped), *(volatile char *)mapped = 1;
    if (!strcmp(how, "bus")) {
        FILE *file = tmpfile();
        char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
        say(map), (void)*(volatile char *)map;
    }
}

static void *freeing(void *address) {
    free(tiny()); /* a record, and so a fast path */
    free(address);
    return NULL;
}

/* A free that passes, and then the cache gives the block to its slab: when it is full, on demand,
 * or with its thread. */
static void leave(const char *how) {
    enum { MOST = 2000 };
    static void *blocks[MOST];
    bool full = !strcmp(how, "full");
    pthread_t thread;
    for (size_t i = 0; i < MOST && full; i++) blocks[i] = malloc(5000);
    char *address = uncarved();
    if (!strcmp(how, "next")) address = next();
    say(address);
    if (!strcmp(how, "thread")) {
        pthread_create(&thread, NULL, freeing, address);
        pthread_join(thread, NULL);
    } else {
        free(address);
    }
    for (size_t i = 0; i < MOST && full; i++) free(blocks[i]);
    if (!full) malloc_trim(0);
}

int main(int count, char **words) {
    if (count != 3) return 2;
    void *volatile keep = tiny(); /* the block before and behind are somebody's */
    (void)keep;
    if (!strcmp(words[1], "crash")) crash(words[2]);
    else if (!strcmp(words[1], "leave")) leave(words[2]);
    else {
        void *address = address_of(words[2]);
        say(address);
        if (!strcmp(words[1], "free")) free(address);
        else if (!strcmp(words[1], "realloc")) (void)realloc(address, 3000);
        else if (!strcmp(words[1], "usable")) (void)malloc_usable_size(address);
        else return 2;
    }
    puts("survived");
    return 1;
}
