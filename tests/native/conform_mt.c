/* conform_mt.c: the figures and C++'s and C's entries while other threads allocate, hold, sleep and
 * end. */
#include "conform.h"

#include <malloc.h>
#include <pthread.h>

#define THREADS 4
#define BLOCKS 3000

static pthread_barrier_t meet;
static int stop;
static void *held[THREADS][BLOCKS];

static void *touched(size_t size) { return memset(kept(malloc(size)), 1, size); }
static size_t size_of(size_t i) { return i * 7919 % 9000 + 1; }

static size_t out_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Allocates, meets, frees all, is back at work for a moment, since a thread that has freed its own
 * caches nothing; meets, sleeps until met again, ends. */
static void *holder(void *mine) {
    void **blocks = mine;
    for (size_t i = 0; i < BLOCKS; i++) blocks[i] = touched(size_of(i));
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    for (size_t i = 0; i < BLOCKS; i++) free(blocks[i]);
    for (size_t size = 1; size < 9000; size += 100) free(touched(size));
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    return NULL;
}

CHECK(mallinfo2_counts_the_blocks_of_all_threads) {
    pthread_t threads[THREADS];
    size_t asked = 0;
    for (size_t i = 0; i < BLOCKS; i++) asked += size_of(i) * THREADS;
    pthread_barrier_init(&meet, NULL, THREADS + 1);
    size_t before = out_bytes();
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, holder, held[i]);
    pthread_barrier_wait(&meet);
    size_t out = out_bytes() - before;
    EXPECT(out >= asked && out < asked + asked / 4, "out %zu, asked %zu", out, asked);
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    struct mallinfo2 asleep = mallinfo2();
    EXPECT(out_bytes() <= before + 65536,
           "out %zu, before %zu: what sleeping threads cache is free", out_bytes(), before);
    EXPECT(asleep.fsmblks > 100000 && asleep.smblks > 100, "cached %zu", asleep.fsmblks);
    pthread_barrier_wait(&meet);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    malloc_trim(0);
    EXPECT(mallinfo2().fsmblks < 100000, "cached %zu by threads that ended", mallinfo2().fsmblks);
}

static void *churner(void *mine) {
    void **blocks = mine;
    for (size_t i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        free(blocks[i % BLOCKS]);
        blocks[i % BLOCKS] = touched(size_of(i * 31) << (i % 50 == 0 ? 6 : 0));
    }
    return NULL;
}

CHECK(figures_are_bounded_while_threads_allocate) {
    pthread_t threads[THREADS];
    static char text[1 << 16];
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, churner, held[i]);
    for (int round = 0; round < 100; round++) {
        struct mallinfo2 info = mallinfo2();
        EXPECT(info.arena < (size_t)4 << 30 && info.uordblks < (size_t)4 << 30 &&
                   info.hblkhd < (size_t)4 << 30,
               "arena %zu", info.arena);
        EXPECT(info.fordblks <= info.arena && info.keepcost <= info.arena &&
                   info.ordblks < 1u << 30,
               "free %zu", info.fordblks);
        FILE *out = fmemopen(text, sizeof text, "w");
        EXPECT(malloc_info(0, out) == 0, "malloc_info");
        fclose(out);
        EXPECT(strstr(text, "</malloc>"), "it ends with %s", text + strlen(text) / 2);
        if (round % 10 == 0) malloc_trim(0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

static void *frees(void *blocks) {
    for (size_t i = 0; i < BLOCKS; i++) {
        errno = 77;
        free(((void **)blocks)[i]);
        if (errno != 77) return blocks;
    }
    return NULL;
}

CHECK(free_of_another_threads_blocks_keeps_errno) {
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        void *wrong;
        for (size_t i = 0; i < BLOCKS; i++) held[0][i] = touched(size_of(i));
        pthread_create(&thread, NULL, frees, held[0]);
        pthread_join(thread, &wrong);
        EXPECT(!wrong, "round %d", round);
    }
}

int main(int argc, char **argv) { return run_checks(argc, argv); }
