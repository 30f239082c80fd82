/* calls.c: makes known calls of malloc, for the recorder.
 *
 *   calls known        one of each call
 *   calls hand N       threads that make blocks, and N each that free those of the next one
 *   calls ends N       N threads one after another, with a free from a destructor
 *   calls fork         a child frees what it inherits and makes blocks of its own
 *   calls killed N     N blocks, then SIGKILL
 *   calls many N       N pairs, every descriptor closed before
 *   calls signal       mallocs out of a signal handler while another malloc goes on */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4 };
static long count;
static void **slots[THREADS];

static void known(void) {
    void *a = malloc(1001), *b = calloc(7, 1003), *c = memalign(256, 1005), *d = NULL;
    if (posix_memalign(&d, 64, 1007)) abort();
    a = realloc(a, 100009);
    free(b);
    free(c);
    d = realloc(d, 0);
    free(NULL);
    free(a);
    free(d);
}

static void *make(void *at) {
    void **mine = slots[(size_t)at];
    for (long i = 0; i < count; i++)
        __atomic_store_n(&mine[i], malloc(2000 + (size_t)i % 50), __ATOMIC_RELEASE);
    return NULL;
}
static void *give(void *at) {
    void **theirs = slots[((size_t)at + 1) % THREADS], *block;
    for (long i = 0; i < count; i++) {
        while (!(block = __atomic_load_n(&theirs[i], __ATOMIC_ACQUIRE))) sched_yield();
        if (i % 3) free(block);
        else free(realloc(block, 3000));
    }
    return NULL;
}
static void hand(void) {
    pthread_t threads[2 * THREADS];
    for (size_t i = 0; i < THREADS; i++) slots[i] = calloc((size_t)count, sizeof(void *));
    for (size_t i = 0; i < 2 * THREADS; i++)
        pthread_create(&threads[i], NULL, i < THREADS ? make : give, (void *)(i % THREADS));
    for (size_t i = 0; i < 2 * THREADS; i++) pthread_join(threads[i], NULL);
}

static pthread_key_t key;
static void *end(void *at) {
    pthread_setspecific(key, malloc(4001));
    return at;
}
static void ends(void) {
    pthread_key_create(&key, free);
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, end, NULL);
        pthread_join(thread, NULL);
    }
}

static void forked(void) {
    void *before = malloc(5001);
    pid_t child = fork();
    if (!child) {
        free(before);
        free(malloc(5003));
        void *kept = malloc(5005);
        exit(!kept);
    }
    waitpid(child, NULL, 0);
    free(before);
}

static void beat(int number) {
    (void)number;
    free(malloc(6001));
}
static void signals(void) {
    struct itimerval often = {{0, 300}, {0, 300}};
    signal(SIGALRM, beat);
    setitimer(ITIMER_REAL, &often, NULL);
    for (long i = 0; i < 300000; i++) free(malloc(6003));
    often = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    count = argc > 2 ? atol(argv[2]) : 1;
    if (!strcmp(what, "known")) known();
    else if (!strcmp(what, "hand")) hand();
    else if (!strcmp(what, "ends")) ends();
    else if (!strcmp(what, "fork")) forked();
    else if (!strcmp(what, "signal")) signals();
    else if (!strcmp(what, "killed")) {
        for (long i = 0; i < count; i++) malloc(7000 + (size_t)i % 2);
        kill(getpid(), SIGKILL);
    } else {
        for (int file = 0; file < 256; file++) close(file);
        for (long i = 0; i < count; i++) free(malloc(8000 + (size_t)i % 100));
    }
    return 0;
}
