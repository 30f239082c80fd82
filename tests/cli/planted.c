/* A program with planted causes: "pins" keeps one block of each slab that pin_here filled together
 * with temp_here; "leaks" leaks one block of a hundred, for ever; "ends" pins and ends with 3. */
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

int main(int count, char **words) {
    char kind = count > 1 ? words[1][0] : 'p';
    if (kind != 'l') pin();
    puts("ready");
    fflush(stdout);
    if (kind == 'l') leak();
    if (kind == 'p') pause();
    return 3;
}
