/* storm.c: processes made in every way in the middle of threads that allocate and print, and
 * signals all the while.
 *
 *   storm [--forks N] [--threads N] [--signals] [--tls N]
 *
 * Nothing but the C library's own interface, but for the count of thread records at the end. Every
 * child must exit 0 within its alarm; one line on stderr and exit 1 otherwise.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hakmem.h"

#define CHILD_SECONDS 30
#define HANG_SECONDS 240

static FILE *sink;
static uint32_t over, child_runs, signal_count;
static char *self;

#define load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

__attribute__((noreturn)) static void die(const char *what, int value) {
    char line[128];
    int n = snprintf(line, sizeof line, "storm: %s: %d\n", what, value);
    if (write(2, line, (size_t)n) < 0) _exit(2);
    _exit(1);
}

static uint64_t next_random(uint64_t *state) {
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = (*state ^ *state >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ z >> 29;
}

/* Allocates, resizes, verifies and frees; `held` blocks stay out between calls. */
#define HELD 64
typedef struct mess {
    uint64_t random;
    unsigned char *held[HELD];
    uint32_t bytes[HELD];
} mess;

static void stir(mess *m, uint32_t steps) {
    for (uint32_t i = 0; i < steps; i++) {
        uint64_t r = next_random(&m->random);
        uint32_t at = r % HELD, bytes = (uint32_t)(1 + (r >> 8) % ((r >> 60) == 0  ? 300000
                                                                   : (r >> 60) < 4 ? 20000
                                                                                   : 800));
        unsigned char *block = m->held[at];
        if (block && (block[0] != (unsigned char)m->bytes[at] ||
                      block[m->bytes[at] - 1] != (unsigned char)m->bytes[at]))
            die("a block changed, of size", (int)m->bytes[at]);
        if (block && r >> 32 & 1) block = realloc(block, bytes);
        else free(block), block = malloc(bytes);
        if (!block) die("no memory for", (int)bytes);
        block[0] = block[bytes - 1] = (unsigned char)bytes;
        m->held[at] = block, m->bytes[at] = bytes;
    }
}
static void clear(mess *m) {
    for (uint32_t i = 0; i < HELD; i++) free(m->held[i]), m->held[i] = NULL;
}

static void *stir_once(void *seed) {
    mess m = {.random = (uintptr_t)seed};
    stir(&m, 400);
    clear(&m);
    return NULL;
}

static void *noisy(void *seed) {
    mess m = {.random = (uintptr_t)seed};
    while (!load(&over)) {
        stir(&m, 40);
        fprintf(sink, "thread %p says %d\n", seed, (int)m.bytes[0]);
        if ((m.random & 15) == 0) fflush(sink);
        while (load(&child_runs) && !load(&over)) usleep(200); /* it has the processors to itself */
    }
    clear(&m);
    return NULL;
}

static void reap(pid_t pid, const char *kind) {
    int status = 0;
    if (pid < 0) die(kind, -1);
    store(&child_runs, 1);
    while (waitpid(pid, &status, 0) != pid) {}
    store(&child_runs, 0);
    if (WIFSIGNALED(status))
        fprintf(stderr, "storm: child of %s died\n", kind), die("of signal", WTERMSIG(status));
    if (status)
        fprintf(stderr, "storm: child of %s failed\n", kind),
            die("with status", WEXITSTATUS(status));
}

/* The child of a fork may do anything: print, start threads, fork again, exit through the handlers
 * or exec. */
static void whole_child(mess *m, uint32_t how) {
    alarm(CHILD_SECONDS);
    stir(m, 200);
    fprintf(sink, "child %d\n", (int)getpid());
    if (how & 1) {
        pthread_t threads[3];
        for (uintptr_t i = 0; i < 3; i++)
            if (pthread_create(&threads[i], NULL, stir_once, (void *)(i + how)))
                die("pthread_create in a child", 0);
        if (how & 2) {
            pid_t pid = fork(); /* beside its threads; the grandchild goes on here as well */
            if (pid) reap(pid, "a child");
            else stir(m, 200);
        }
        for (uint32_t i = 0; i < 3 && !(how & 2); i++) pthread_join(threads[i], NULL);
    }
    if (how & 4) clear(m);
    if (how & 8) execl(self, self, "--forks", "0", (char *)NULL), die("exec", 0);
    if (how & 16) exit(0);
    _exit(0);
}

static void bare_child(mess *m) { /* no libc knows of this child: memory only */
    alarm(CHILD_SECONDS);
    stir(m, 300);
    clear(m);
    _exit(0);
}

static void one_fork(mess *m, uint32_t i) {
    extern char **environ;
    char *words[] = {self, "--forks", "0", NULL};
    pid_t pid = 0;
    stir(m, 20);
    switch (i % 8) {
    case 0:
    case 1:
    case 2:
        pid = fork();
        if (!pid) whole_child(m, i / 8);
        break;
    case 3:
        if (!(pid = _Fork())) bare_child(m);
        break;
    case 4:
        if (!(pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))) bare_child(m);
        break;
    case 5:
        if (!(pid = vfork())) _exit(0);
        break;
    case 6:
        if (!(pid = vfork())) execl(self, self, "--forks", "0", (char *)NULL), _exit(9);
        break;
    default:
        if (posix_spawn(&pid, self, NULL, NULL, words, environ)) pid = -1;
    }
    static const char *const kinds[] = {"fork",  "fork",  "fork",           "_Fork",
                                        "clone", "vfork", "vfork and exec", "posix_spawn"};
    reap(pid, kinds[i % 8]);
    if (i % 64 == 63) {
        FILE *pipe = popen("exit 0", "r");
        if (!pipe || pclose(pipe)) die("popen", 0);
    }
}

static void on_signal(int number) {
    (void)number;
    __atomic_fetch_add(&signal_count, 1, __ATOMIC_RELAXED);
}

/* Thread-local storage whose destructors allocate, round after round, after the library's own has
 * run. */
static pthread_key_t key;
static void again(void *rounds) {
    stir_once(rounds);
    char *kept = strdup("a block that outlives its thread's cache");
    free(kept);
    /* until libc stops asking */
    if ((uintptr_t)rounds < 16) pthread_setspecific(key, (void *)((uintptr_t)rounds + 1));
}
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;
static void stir_at_end(void *seed) { stir_once(seed); }
static void *with_tls(void *left) {
    mess m = {.random = (uintptr_t)left};
    stir(&m, 40);
    pthread_setspecific(key, (void *)1);
    __cxa_thread_atexit_impl(stir_at_end, left, &__dso_handle);
    /* else the blocks are lost with the thread, as in any leak */
    if ((uintptr_t)left & 1) clear(&m);
    return NULL;
}

static void tls(uint32_t threads) {
    pthread_key_create(&key, again);
    for (uint32_t done = 0; done < threads; done += 8) {
        pthread_t running[8];
        for (uint32_t i = 0; i < 8; i++)
            if (pthread_create(&running[i], NULL, with_tls, (void *)(uintptr_t)(done + i)))
                die("pthread_create", (int)done);
        for (uint32_t i = 0; i < 8; i++) pthread_join(running[i], NULL);
    }
}

int main(int count, char **words) {
    uint32_t forks = 200, threads = 4, signals = 0, ends = 0;
    self = words[0];
    for (int i = 1; i < count; i++) {
        uint32_t value = i + 1 < count ? (uint32_t)atoi(words[i + 1]) : 0;
        if (!strcmp(words[i], "--signals")) signals = 1;
        else if (!strcmp(words[i], "--forks")) forks = value, i++;
        else if (!strcmp(words[i], "--threads")) threads = value, i++;
        else if (!strcmp(words[i], "--tls")) ends = value, i++;
        else die("unknown option", i);
    }
    sink = fopen("/dev/null", "w");
    if (!sink) die("/dev/null", 0);
    mess m = {.random = 5};
    if (!forks && !ends) { /* what an exec ends in */
        stir(&m, 100);
        return 0;
    }
    alarm(HANG_SECONDS);
    if (signals) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        struct itimerval often = {{0, 500}, {0, 500}};
        sigaction(SIGVTALRM, &action, NULL);
        sigaction(SIGPROF, &action, NULL);
        setitimer(ITIMER_VIRTUAL, &often, NULL);
        setitimer(ITIMER_PROF, &often, NULL);
    }
    if (ends) tls(ends);
    pthread_t running[64];
    for (uintptr_t i = 0; i < threads && forks; i++)
        if (pthread_create(&running[i], NULL, noisy, (void *)(i + 1)))
            die("pthread_create", (int)i);
    for (uint32_t i = 0; i < forks; i++) one_fork(&m, i);
    store(&over, 1);
    for (uint32_t i = 0; i < threads && forks; i++) pthread_join(running[i], NULL);
    if (signals && !load(&signal_count)) die("signals that came", 0);
    clear(&m);
    hak_heap *heap = hak_process_heap();
    printf("%u forks, %u signals, %u ends, %u records\n", forks, load(&signal_count), ends,
           heap ? heap->thread_top : 0);
    return 0;
}
