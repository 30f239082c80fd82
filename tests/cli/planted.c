/* A program with planted causes: "pins" keeps one block of each slab that pin_here filled together
 * with temp_here; "leaks" leaks one block of a hundred, for ever; "ends" pins and ends with 3;
 * "burst" holds 64 MiB for a second at its start, frees all but one of a hundred and goes on at its
 * usual work; "rises" ends as soon as it holds 48 MiB. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZE = 640, SLABS = 200, EACH = 102, RING = 4096 };
static char *blocks[SLABS * EACH], *ring[RING], *volatile sink;

static __attribute__((noinline)) char *pin_here(void) {
    char *made = malloc(SIZE);
    memset(made, 1, SIZE);
    return made;
}
static __attribute__((noinline)) char *temp_here(void) {
    char *made = malloc(SIZE);
    memset(made, 2, SIZE);
    return made;
}
static __attribute__((noinline)) char *leak_here(size_t size) {
    char *made = malloc(size);
    made[0] = 3;
    return made;
}
static __attribute__((noinline)) char *work_here(size_t size) {
    char *made = malloc(size);
    made[0] = 4;
    return made;
}

static void pin(void) {
    for (int i = 0; i < SLABS * EACH; i++) blocks[i] = i % EACH ? temp_here() : pin_here();
    for (int i = 0; i < SLABS * EACH; i++)
        if (i % EACH) free(blocks[i]);
}

static void leak(void) {
    unsigned seed = 1;
    for (unsigned long i = 0;; i++) {
        unsigned at = (unsigned)rand_r(&seed) % RING;
        size_t size = 16 + (unsigned)rand_r(&seed) % 2000;
        free(ring[at]);
        ring[at] = work_here(size);
        if (i % 100 == 0) sink = leak_here(size);
        if (i % 200 == 0) usleep(1000);
    }
}

enum { BURST = 65536 };
static char *burst[BURST];

static __attribute__((noinline)) char *burst_here(void) {
    char *made = malloc(1000);
    memset(made, 5, 1000);
    return made;
}

static void start_with_a_burst(void) {
    for (int i = 0; i < BURST; i++) burst[i] = burst_here();
    usleep(1500000);
    for (int i = 0; i < BURST; i++)
        if (i % 100) free(burst[i]);
}

static void work(void) {
    unsigned seed = 1;
    for (unsigned long i = 0;; i++) {
        unsigned at = (unsigned)rand_r(&seed) % RING;
        free(ring[at]);
        ring[at] = work_here(16 + (unsigned)rand_r(&seed) % 2000);
        if (i % 200 == 0) usleep(1000);
        if (i == 20000) puts("ready"), fflush(stdout);
    }
}

int main(int count, char **words) {
    char kind = count > 1 ? words[1][0] : 'p';
    if (kind == 'b') start_with_a_burst(), work();
    if (kind == 'r') {
        for (int i = 0; i < BURST * 3 / 4; i++) burst[i] = burst_here();
        return 4;
    }
    if (kind != 'l') pin();
    puts("ready");
    fflush(stdout);
    if (kind == 'l') leak();
    if (kind == 'p') pause();
    return 3;
}
