/* Threads that each do one job of mixed sizes and then sleep in one call, errno set and known
 * values in their vector registers where they run; then they do a job again. "ready" comes when all
 * sleep; at the end it is said how many saw anything: an early or late wake, an error, a changed
 * register, a block that is not theirs.
 *
 * sleepers THREADS SECONDS CALL: CALL is a letter of wait_in; m: a thread each of MIXED in turn.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 4000, JOB_BYTES = 2 << 20, ODD_ERRNO = 77 };
static double sleep_seconds;
static char call;
static _Atomic int asleep_count, seen_count;
static int pipe_ends[2], word;
static volatile sig_atomic_t woken;

static void on_signal(int number) {
    (void)number;
    woken = 1;
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* Its tables are blocks, too: on the stack they would stay when the thread sleeps. */
static int job(unsigned seed) {
    unsigned char **block = malloc(BLOCKS * sizeof *block);
    unsigned *size = malloc(BLOCKS * sizeof *size);
    int n = 0, wrong = 0;
    for (long total = 0; total < JOB_BYTES && n < BLOCKS; total += size[n++]) {
        size[n] = 16u << rand_r(&seed) % 11;
        size[n] += (unsigned)rand_r(&seed) % size[n];
        block[n] = malloc(size[n]);
        memset(block[n], n & 0xff, size[n]);
    }
    for (int i = 0; i < n; i++) {
        wrong |= block[i][0] != (i & 0xff) || block[i][size[i] - 1] != (i & 0xff);
        free(block[i]);
    }
    free(block), free(size);
    return wrong;
}

/* Runs in user code for the time, with known values in registers. */
static int spin(void) {
    static const uint64_t known[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint64_t kept[8];
    double end = now() + sleep_seconds;
    do {
        uint64_t rounds = 1000 * 1000, sum = 41, flags;
        __asm__ volatile("vmovdqu (%[known]), %%ymm7\n"
                         "vmovdqu 32(%[known]), %%ymm15\n"
                         "fldpi\n"
                         "std\n"
                         "1: add $1, %[sum]\n"
                         "dec %[rounds]\n"
                         "jnz 1b\n"
                         "pushfq\n"
                         "popq %[flags]\n"
                         "cld\n"
                         "fstp %%st(0)\n"
                         "vmovdqu %%ymm7, (%[kept])\n"
                         "vmovdqu %%ymm15, 32(%[kept])\n"
                         : [sum] "+r"(sum), [rounds] "+r"(rounds), [flags] "=&r"(flags)
                         : [known] "r"(known), [kept] "r"(kept)
                         : "ymm7", "ymm15", "memory", "cc");
        if (memcmp(known, kept, sizeof known) || sum != 41 + 1000 * 1000 || !(flags & 0x400))
            return -1;
    } while (now() < end);
    return 0;
}

/* Replaces blocks and looks at each, while handlers that sleep lie over it. */
static int replace_blocks(void) {
    enum { HELD = 64 };
    uintptr_t *held[HELD] = {0}, me = (uintptr_t)&held;
    unsigned seed = (unsigned)me;
    int wrong = 0;
    for (double end = now() + sleep_seconds; now() < end;)
        for (int rounds = 0; rounds < 1000; rounds++) {
            int i = rand_r(&seed) % HELD;
            if (held[i]) wrong |= held[i][0] != me + (uintptr_t)i || held[i][1] != me;
            free(held[i]);
            held[i] = malloc(16 + (size_t)(rand_r(&seed) % 48));
            held[i][0] = me + (uintptr_t)i, held[i][1] = me;
        }
    for (int i = 0; i < HELD; i++) free(held[i]);
    return wrong ? -1 : 0;
}

/* Forks children that allocate and end. */
static int make_children(void) {
    for (double end = now() + sleep_seconds; now() < end; usleep(2000)) {
        int status;
        pid_t child = fork();
        if (child == 0) _exit(job((unsigned)getpid()));
        if (child < 0 || waitpid(child, &status, 0) != child || status) return -1;
    }
    errno = ODD_ERRNO;
    return 0;
}

static pthread_t replacers[4096];
static _Atomic int replacer_count;
static pthread_mutex_t replacers_lock = PTHREAD_MUTEX_INITIALIZER;
static volatile sig_atomic_t over;

static void sleep_over_it(int number) {
    struct timespec time = {0, 5000000};
    int saved = errno;
    (void)number;
    nanosleep(&time, NULL);
    errno = saved;
}

static void *pester(void *unused) {
    for (; !over; usleep(10000))
        for (int i = 0; i < replacer_count; i++) pthread_kill(replacers[i], SIGUSR2);
    return unused;
}

static int wait_in(char which) {
    struct timespec time = {(time_t)sleep_seconds, 0};
    struct timeval part = {(time_t)sleep_seconds, 0};
    struct pollfd nothing = {.fd = pipe_ends[0], .events = POLLIN};
    struct epoll_event event;
    struct timeval limit = {(time_t)sleep_seconds, 0};
    int queue, ends[2], ms = (int)(sleep_seconds * 1000), got;
    char byte;
    switch (which) {
    case 'n': return nanosleep(&time, NULL);
    case 'p': return poll(&nothing, 1, ms);
    case 'P': return ppoll(&nothing, 1, &time, NULL);
    case 's': return select(0, NULL, NULL, NULL, &part);
    case 'f':
        got = (int)syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0);
        return got == -1 && errno == ETIMEDOUT ? (errno = ODD_ERRNO, 0) : -1;
    case 'r': return read(pipe_ends[0], &byte, 1) == 1 ? 0 : -1;
    case 'e':
        queue = epoll_create1(0);
        event = (struct epoll_event){.events = EPOLLIN};
        epoll_ctl(queue, EPOLL_CTL_ADD, pipe_ends[0], &event);
        got = epoll_wait(queue, &event, 1, -1);
        return got == 1 && read(pipe_ends[0], &byte, 1) == 1 ? (close(queue), 0) : -1;
    case 'v': /* a socket with a time limit */
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
        limit.tv_sec += 60;
        setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        got = dup2(ends[1], 900) == 900 ? (int)recv(ends[0], &byte, 1, 0) : -1;
        return got == 1 ? 0 : -1;
    case 'u': return spin();
    case 'k': return make_children();
    case 'h':
        pthread_mutex_lock(&replacers_lock);
        replacers[replacer_count] = pthread_self();
        replacer_count++;
        pthread_mutex_unlock(&replacers_lock);
        got = replace_blocks();
        return errno = ODD_ERRNO, got;
    default: return -2;
    }
}

/* main's own wait: sigsuspend, which a signal ends. */
static int suspend(void) {
    sigset_t old, none;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&none);
    sigaddset(&none, SIGUSR1);
    sigprocmask(SIG_BLOCK, &none, &old);
    puts("ready"), fflush(stdout);
    while (!woken)
        if (sigsuspend(&old) != -1 || errno != EINTR) return 1;
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    return !sigismember(&mask, SIGUSR1) || sigismember(&mask, SIGUSR2);
}

static void *work(void *id) {
    static const char mixed[] = "nhpuskfPhu";
    char mine = call == 'm' ? mixed[(uintptr_t)id % (sizeof mixed - 1)] : call;
    int wrong = job((unsigned)(uintptr_t)id + 1);
    asleep_count++;
    double began = now();
    errno = ODD_ERRNO;
    int result = wait_in(mine), error = errno;
    double took = now() - began;
    /* those that a byte ends are ended after that time */
    wrong |= result != 0 || took < sleep_seconds - 0.01 || took > sleep_seconds + 5;
    wrong |= mine != 'e' && mine != 'v' && error != ODD_ERRNO;
    if (wrong) fprintf(stderr, "%c: %d, errno %d, %f s\n", mine, result, error, took);
    wrong |= job((unsigned)(uintptr_t)id + 7);
    seen_count += wrong != 0;
    return NULL;
}

int main(int count, char **words) {
    static pthread_t thread[4096];
    int threads = count > 1 ? atoi(words[1]) : 400;
    sleep_seconds = count > 2 ? atof(words[2]) : 20;
    call = count > 3 ? words[3][0] : 'n';
    if (pipe(pipe_ends)) return 2;
    if (call == 'g') {
        seen_count += job(1) | suspend() | job(7);
        threads = 0;
    }
    for (uintptr_t i = 0; i < (uintptr_t)threads; i++)
        pthread_create(&thread[i], NULL, work, (void *)i);
    double began = now();
    while (asleep_count < threads) usleep(1000);
    usleep(50000);
    if (call != 'g') puts("ready"), fflush(stdout);
    struct sigaction action = {.sa_handler = sleep_over_it, .sa_flags = SA_NODEFER};
    sigaction(SIGUSR2, &action, NULL);
    pthread_t pesterer;
    pthread_create(&pesterer, NULL, pester, NULL);
    while (now() < began + sleep_seconds - 0.5) usleep(1000);
    over = 1;
    pthread_join(pesterer, NULL);
    if (strchr("rev", call)) {
        while (now() < began + sleep_seconds + 0.2) usleep(1000);
        for (int i = 0; i < threads; i++)
            if (write(call == 'v' ? 900 : pipe_ends[1], "x", 1) != 1) return 2;
    }
    for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
    printf("%d saw something\n", seen_count);
    return seen_count != 0;
}
