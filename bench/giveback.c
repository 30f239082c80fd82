/* giveback.c: does freed memory go back to the OS? Allocates a phase, frees it in random order, and
 * watches RSS.
 *
 *   giveback THREADS CLASSES MIB AFTER [SECONDS] [KEEP] [AGE]
 *
 * Each of THREADS threads (0: the main thread alone, no other ever) allocates MIB / THREADS MiB of
 * CLASSES sizes (spread over 16 .. 32,768 bytes; 1 class: 64 bytes), touches every byte, frees all
 * in random order but every KEEP-th block (0: all), and then does AFTER: `sleep`, or `little`: a
 * few malloc and free calls a millisecond, sizes of all classes. AGE: seconds of other work before
 * the phase, since what a program may spend on giving back grows with its age. Prints RSS in KiB:
 * empty, peak, and after the last free at 0, .25, .5, 1, 1.5, 2 ... SECONDS s (default 2), then ns
 * of the freeing a block.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned thread_count, class_count, keep;
static size_t bytes_each;
static int little;
static volatile int stop;
static pthread_barrier_t allocated, freed;
static double free_ns;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static long rss_kib(void) { /* no stdio: it would allocate */
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY);
    if (read(fd, text, sizeof text - 1) < 0) abort();
    close(fd);
    return atol(strchr(text, ' ')) * 4;
}

static uint64_t step(uint64_t *state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

static size_t size_of(unsigned c) {
    if (class_count == 1) return 64;
    size_t size = 16;
    /* about 16 .. 32 KiB */
    for (unsigned i = 0; i < c * 44 / class_count; i++)
        size += size / 4 & ~(size_t)7 ? size / 4 & ~(size_t)7 : 8;
    return size > 32768 ? 32768 : size;
}

static void wait_at(pthread_barrier_t *barrier) {
    if (thread_count) pthread_barrier_wait(barrier);
}

static void use_a_little(uint64_t *state) {
    void *few[8];
    for (int i = 0; i < 8; i++) few[i] = malloc(size_of((unsigned)(step(state) % class_count)));
    for (int i = 0; i < 8; i++) free(few[i]);
    usleep(1000);
}

static void *worker(void *seed) {
    uint64_t state = 88172645463325252u + (uintptr_t)seed * 7919;
    size_t total = 0, count = 0, room = bytes_each / size_of(0) + 1;
    void **block = NULL;
    size_t bytes_room = room * sizeof *block;
    /* The table of blocks is not the allocator's to give back: it comes from the OS, and goes
     * before the watch. */
    extern void *mmap(void *, size_t, int, int, int, long);
    extern int munmap(void *, size_t);
    block = mmap(NULL, bytes_room, 3, 0x22, -1, 0);
    while (total < bytes_each) {
        size_t size = size_of((unsigned)(step(&state) % class_count));
        block[count] = malloc(size);
        if (!block[count]) abort();
        memset(block[count++], 1, size);
        total += size;
    }
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = step(&state) % (i + 1);
        void *other = block[i];
        block[i] = block[j], block[j] = other;
    }
    wait_at(&allocated);
    wait_at(&allocated);
    double start = now();
    for (size_t i = 0; i < count; i++)
        if (!keep || i % keep) free(block[i]);
    free_ns = (now() - start) * 1e9 / (double)count;
    munmap(block, bytes_room);
    wait_at(&freed);
    while (thread_count && !stop) {
        if (little) use_a_little(&state);
        else usleep(100000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr,
                "usage: giveback THREADS CLASSES MIB sleep|little [SECONDS] [KEEP] [AGE]\n");
        return 2;
    }
    thread_count = (unsigned)atoi(argv[1]), class_count = (unsigned)atoi(argv[2]);
    size_t mib = (size_t)atol(argv[3]);
    little = !strcmp(argv[4], "little");
    double seconds = argc > 5 ? atof(argv[5]) : 2;
    keep = argc > 6 ? (unsigned)atoi(argv[6]) : 0;
    double born = now(), age = argc > 7 ? atof(argv[7]) : 0;
    for (void *volatile pair; now() - born < age;) pair = malloc(100), free(pair);
    bytes_each = (mib << 20) / (thread_count ? thread_count : 1);
    long empty = rss_kib(), peak;
    static pthread_t thread[1024];
    if (thread_count) {
        pthread_barrier_init(&allocated, NULL, thread_count + 1);
        pthread_barrier_init(&freed, NULL, thread_count + 1);
        for (uintptr_t i = 0; i < thread_count; i++)
            pthread_create(&thread[i], NULL, worker, (void *)(i + 1));
        pthread_barrier_wait(&allocated);
        peak = rss_kib();
        pthread_barrier_wait(&allocated);
        pthread_barrier_wait(&freed);
    } else {
        worker((void *)1);
        peak = (long)(mib << 10); /* roughly: measured by the run's own getrusage */
    }
    static double when[64] = {0, .25, .5, 1};
    int points = 4;
    for (double t = 1.5; t <= seconds && points < 64; t += .5) when[points++] = t;
    double start = now();
    uint64_t state = 12345;
    printf("threads %u classes %u MiB %zu %s keep %u: empty %ld peak %ld |", thread_count,
           class_count, mib, argv[4], keep, empty, peak);
    for (int i = 0; i < points; i++) {
        while (now() - start < when[i]) {
            if (little) use_a_little(&state);
            else usleep(10000);
        }
        printf(" %.2fs %ld", when[i], rss_kib());
        fflush(stdout); /* who watches need not wait for the last look */
    }
    printf(" | %.1f ns a free\n", free_ns);
    stop = 1;
    for (unsigned i = 0; i < thread_count; i++) pthread_join(thread[i], NULL);
    return 0;
}
