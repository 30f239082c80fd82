/* priorities.c: how long a thread of high priority waits for locks that threads of low priority
 * hold, on a CPU that a thread of middle priority keeps busy.
 *
 *   priorities WHAT SECONDS: WHAT spans (the run lock) or slabs (claims); refused: spans by eight
 *   ordinary threads, where the OS refuses to lend priorities.
 *
 * All threads run on one CPU: four ordinary ones that allocate and free all the time; at SCHED_FIFO
 * 20 one that computes for 20 ms of every 25; at SCHED_FIFO 50 the one that is measured, every 2
 * ms. Without inheritance its wait ends when the middle one pauses, if the holder runs then. Prints
 * calls, mean and worst wait. Exit 2: real-time priorities are refused here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LOW_THREADS = 4, LOW = 0, MIDDLE = 20, HIGH = 50, SLOTS = 4096 };
static const char *what;
static unsigned stop;
static void *shared[SLOTS]; /* blocks that one thread makes and another frees */

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void run_at(int priority) {
    struct sched_param wish = {.sched_priority = priority};
    if (sched_setscheduler(0, priority ? SCHED_FIFO : SCHED_OTHER, &wish) == 0) return;
    perror("priorities: SCHED_FIFO");
    exit(2);
}

/* A call of each is measured, by the thread of high priority. */
static void work(unsigned *seed, unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        size_t size = strcmp(what, "slabs") ? 100000 + (size_t)(rand_r(seed) % 8) * 65536
                                            : 40 + (size_t)(rand_r(seed) % 64) * 32;
        unsigned slot = (unsigned)rand_r(seed) % SLOTS;
        free(__atomic_exchange_n(&shared[slot], malloc(size), __ATOMIC_ACQ_REL));
    }
}

static void *low(void *seed) {
    unsigned own = (unsigned)(uintptr_t)seed;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) work(&own, 100);
    return NULL;
}
static void *middle(void *unused) {
    run_at(MIDDLE);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        for (uint64_t start = now_ns(); now_ns() - start < 20000000;) {}
        usleep(5000);
    }
    return unused;
}
static void *high(void *seconds) {
    run_at(HIGH);
    unsigned own = 77, calls = 0;
    uint64_t worst = 0, sum = 0, end = now_ns() + (uint64_t)atoi(seconds) * 1000000000u;
    while (now_ns() < end) {
        usleep(2000);
        uint64_t start = now_ns();
        work(&own, 1);
        uint64_t took = now_ns() - start;
        sum += took;
        calls++;
        if (took > worst) worst = took;
    }
    printf("%u calls, mean %.1f us, worst %.1f us\n", calls, (double)sum / calls / 1e3,
           (double)worst / 1e3);
    return NULL;
}

/* From now on the kernel knows no FUTEX_LOCK_PI. */
static void refuse_inheritance(void) {
    struct sock_filter rows[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, FUTEX_CMD_MASK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FUTEX_LOCK_PI, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rows / sizeof *rows, rows};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("priorities: seccomp");
        exit(2);
    }
}

static int without_inheritance(const char *seconds) {
    pthread_t threads[2 * LOW_THREADS];
    refuse_inheritance();
    for (uintptr_t i = 0; i < 2 * LOW_THREADS; i++)
        pthread_create(&threads[i], NULL, low, (void *)i);
    sleep((unsigned)atoi(seconds));
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 2 * LOW_THREADS; i++) pthread_join(threads[i], NULL);
    return puts("done"), 0;
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: priorities spans|slabs|refused SECONDS\n"), 1;
    what = argv[1];
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one)) return perror("priorities: affinity"), 2;
    if (!strcmp(what, "refused")) return without_inheritance(argv[2]);
    pthread_t threads[LOW_THREADS + 2];
    for (uintptr_t i = 0; i < LOW_THREADS; i++) pthread_create(&threads[i], NULL, low, (void *)i);
    pthread_create(&threads[LOW_THREADS], NULL, middle, NULL);
    pthread_create(&threads[LOW_THREADS + 1], NULL, high, argv[2]);
    pthread_join(threads[LOW_THREADS + 1], NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i <= LOW_THREADS; i++) pthread_join(threads[i], NULL);
    return 0;
}
