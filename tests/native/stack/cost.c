/* cost.c: `stacks cost`: what a frame costs, the least of many walks; a command, not a test. Beside
 * it libgcc's unwinder, by glibc's backtrace. */
#include "stacks.h"

#include <time.h>

#define ROUNDS 300

typedef struct cost {
    uint64_t first_ns, hot_ns, other_ns; /* of one walk */
    uint32_t count;
} cost;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
static void keep_least(uint64_t *least, uint64_t ns) {
    if (!*least || ns < *least) *least = ns;
}

static void measure(void *with) {
    cost *c = with;
    uint64_t frames[MOST], start = now_ns(), end;
    void *others[MOST];
    stack_take(frames, MOST);
    end = now_ns();
    keep_least(&c->first_ns, end - start);
    for (int i = 0; i < 100; i++) c->count = stack_take(frames, MOST);
    start = now_ns();
    keep_least(&c->hot_ns, (start - end) / 100);
    (void)backtrace(others, MOST);
    keep_least(&c->other_ns, now_ns() - start);
}

NOINLINE uint64_t descend(uint32_t depth, const library *lib, cost *c) {
    uint64_t room[2] = {depth};
    KEEP(room);
    if (depth) room[1] = descend(depth - 1, lib, c);
    else lib->first(measure, c, 5);
    KEEP(room);
    return room[1] + 1;
}

/* A library of another build each time: three frames that no walk has met. */
void cost_case(void) {
    cost c = {0};
    for (int round = 0; round < ROUNDS; round++) {
        library lib = open_library(round % 2 ? "chain_bare" : "chain_wide");
        descend(12, &lib, &c);
        dlclose(lib.handle);
    }
    printf("%u frames: hot %llu ns, %.1f ns a frame; three of them unknown %llu ns, %.0f ns each; "
           "libgcc %llu ns\n",
           c.count, (unsigned long long)c.hot_ns, (double)c.hot_ns / c.count,
           (unsigned long long)c.first_ns, ((double)c.first_ns - (double)c.hot_ns) / 3,
           (unsigned long long)c.other_ns);
}
