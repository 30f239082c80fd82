/* reaped.c: threads whose caches are taken by another thread.
 *
 *   reaped step [OPERATION]...        at each instruction of a malloc or free of another thread
 *   reaped run SECONDS THREADS SEED   at random, while they work, sleep, and sleep over either
 *
 * Exit 1 with a line on stderr where a block is in two places, is lost, or has changed.
 *
 * `step`: a tracer, the parent of the process, lets one thread go on by so many instructions of one
 * operation. There it is reaped as a whole; and again with the reaper held between two of its
 * loads (hak_reap_pause_) while the operation ends and the program writes over the block. Then all
 * is freed and flushed: each block must be back in its slab, once.
 *
 * The library's sources are linked into the program, with the operation's fast path inlined here as
 * into malloc: what ThreadSanitizer builds leave out (malloc.c) is not needed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fast.h"
#include "hakmem.h"
#include "lists.h"
#include "stress_policies.h"

extern void (*hak_reap_pause_)(uint32_t point, uint32_t class_index);
enum { BLOCKS = 10, POINTS = 7, HELD = 200 };
static hak_heap *heap;

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *form, ...) {
    va_list values;
    va_start(values, form);
    fputs("reaped: ", stderr);
    vfprintf(stderr, form, values);
    fputc('\n', stderr);
    _exit(1);
}

/* malloc and free of malloc.c, over a heap of its own */
__attribute__((noinline)) static void *take(uint64_t size) {
    void *block = hak_fast_alloc(hak_thread_get(heap), size);
    if (block) return block;
    hak_thread *t = hak_thread_enter(heap);
    block = hak_alloc_slow(t, size, 1, false);
    hak_thread_leave(t);
    if (!block) die("no memory");
    return block;
}
__attribute__((noinline)) static void give(void *block) {
    if (hak_fast_free(hak_thread_get(heap), (uintptr_t)block, false)) return;
    hak_thread *t = hak_thread_enter(heap);
    hak_fault fault;
    if (hak_free_slow(t, (uintptr_t)block, &fault)) die("free of %p: fault %u", block, fault.code);
    hak_thread_leave(t);
}

static void make_heap(void) {
    hak_fault fault;
    for (size_t i = 0; i < sizeof stress_policies / sizeof *stress_policies; i++)
        if (!strcmp(stress_policies[i].name, "wide"))
            heap =
                hak_heap_create((const hak_policy *)stress_policies[i].words, 256 << 20, 0, &fault);
    if (!heap) die("create");
}

/* After every block was freed and every cache flushed. */
static void all_back(const char *when) {
    for (uint32_t u = heap->meta_units; u < heap->unit_top; u++) {
        hak_slab *slab = hak_slab_at(heap, u);
        if (hak_load_relaxed(&slab->kind) == HAK_KIND_SLAB && hak_used_load(slab))
            die("%s: %u blocks of class %u are in no place", when, hak_used_load(slab),
                slab->class_index);
        if (slab->kind == HAK_KIND_SLAB || slab->kind == HAK_KIND_NONE) continue;
        if (slab->kind == HAK_KIND_WAITING) die("%s: a span waits", when);
    }
}

/* ---- step: the traced thread ---- */

typedef struct act {
    const char *name;
    uint32_t listed; /* blocks in the list of the class that it works on */
    uint32_t carved; /* blocks in its carved range, about: 0 or many */
    bool frees;
    uint64_t size;
} act;
static const act acts[] = {
    {"pop of six", 6, 0, false, 4000},
    {"pop of three", 3, 0, false, 4000},
    {"pop of two", 2, 0, false, 4000},
    {"pop of one", 1, 0, false, 4000},
    {"push on six", 6, 0, true, 4000},
    {"push on two", 2, 0, true, 4000},
    {"push on one", 1, 0, true, 4000},
    {"push on none", 0, 0, true, 4000},
    {"carve", 0, 1, false, 40},
    {"pop before a range", 6, 1, false, 40},
    {"push before a range", 6, 1, true, 40},
};
typedef struct shared { /* of the tracer, the reaper and the traced thread */
    uint32_t thread_id, thread_index, act, stage, done, paused, point, reaped, class_index, go;
} shared;
static shared *common;
static void *held[64];
static uint32_t held_count;
static uint64_t held_size[64];

static void hold(void *block, uint64_t size) {
    memset(block, (int)(0x40 + held_count), size);
    held_size[held_count] = size;
    held[held_count++] = block;
}
static void *unhold(void) {
    uint8_t *block = held[--held_count];
    for (uint64_t i = 0; i < held_size[held_count]; i++)
        if (block[i] != (uint8_t)(0x40 + held_count))
            die("%s: a block of the program's changed", acts[common->act].name);
    return block;
}

/* A list of another class and, without the class of the act, a range of yet another: the reaper
 * takes those too. */
static void prepare(const act *a) {
    void *row[2 * BLOCKS];
    hak_heap_flush(heap);
    for (int i = 0; i < BLOCKS; i++) row[i] = take(700);
    for (int i = 0; i < BLOCKS; i++) give(row[i]);
    hold(take(1500), 1500);
    uint32_t n = a->listed + (a->frees ? 1 : 0) + (a->carved ? 1 : 0);
    for (uint32_t i = 0; i < n; i++) row[i] = take(a->size);
    if (a->frees || a->carved) hold(row[--n], a->size);
    if (a->frees && a->carved) hold(row[--n], a->size);
    for (uint32_t i = 0; i < n; i++) give(row[i]);
    const hak_thread *t = hak_thread_known(heap);
    uint32_t c = hak_policy_of(heap)->sizes.size_map[(a->size + 7) >> HAK_SIZE_GRANULE_SHIFT];
    uint64_t at = t->heads[c], found = 0;
    for (; at; at = hak_next(at)) found++;
    if (found != a->listed || (a->carved && t->bins[c].bump == t->bins[c].bump_end))
        die("%s: prepared are %u blocks", a->name, (uint32_t)found);
    common->class_index = c;
}

static void *traced(void *unused) {
    (void)unused;
    give(take(8));
    common->thread_id = (uint32_t)gettid();
    common->thread_index = hak_thread_known(heap)->index;
    hak_store_release(&common->stage, 1);
    while (!hak_load_acquire(&common->go)) sched_yield(); /* until the tracer has it */
    for (;;) {
        const act *a = &acts[common->act];
        prepare(a);
        void *block = a->frees ? unhold() : NULL;
        __asm__ volatile("int3" ::: "memory");
        if (a->frees) give(block);
        else block = take(a->size);
        hak_store_release(&common->done, 1);
        if (!a->frees) hold(block, a->size);
        __asm__ volatile("int3" ::: "memory");
        while (held_count) give(unhold());
        hak_heap_flush(heap);
        __asm__ volatile("int3" ::: "memory");
    }
    return NULL;
}

/* ---- step: the reaper ---- */

static int orders[2], reports[2];

static void pause_at(uint32_t point, uint32_t class_index) {
    if (point != common->point || common->paused) return;
    if (class_index && class_index != common->class_index) return;
    common->paused = 1;
    char word = 'p';
    if (write(reports[1], &word, 1) != 1 || read(orders[0], &word, 1) != 1) _exit(0);
}

static void serve(void) {
    pthread_t thread;
    make_heap();
    give(take(8));
    hak_heap_flush(heap);
    hak_reap_pause_ = pause_at;
    if (pthread_create(&thread, NULL, traced, NULL)) die("pthread_create");
    for (char word; read(orders[0], &word, 1) == 1;) {
        hak_reaped out;
        if (word == 'c') all_back(acts[common->act].name);
        else if (hak_heap_reap(heap, common->thread_index, &out) == HAK_REAP_DONE)
            common->reaped += out.block_count != 0;
        word = 'd';
        if (write(reports[1], &word, 1) != 1) break;
    }
    _exit(0);
}

/* ---- step: the tracer ---- */

static pid_t target, victim;

static void lost(int status) {
    if (WIFEXITED(status) && WEXITSTATUS(status)) _exit(1); /* it has said why */
    die("%s: the process died of signal %d", acts[common->act].name,
        WIFSIGNALED(status)  ? WTERMSIG(status)
        : WIFSTOPPED(status) ? WSTOPSIG(status)
                             : 0);
}
static char hear(void) {
    char word;
    int status;
    if (read(reports[0], &word, 1) == 1) return word;
    while (waitpid(victim, &status, __WALL) == victim && !WIFEXITED(status) && !WIFSIGNALED(status))
        lost(status);
    if (waitpid(target, &status, 0) != target) status = 0;
    lost(status);
    return 0;
}
static void order(char word) {
    if (write(orders[1], &word, 1) != 1) die("the process is gone");
}
/* Lets it go on; false: it has not stopped again within some ms, because it waits. */
static bool go(int request, bool forever) {
    int status;
    if (ptrace(request, victim, NULL, NULL) < 0) die("ptrace: %s", strerror(errno));
    for (uint32_t tries = 0; forever || tries < 50; tries++) {
        pid_t found = waitpid(victim, &status, __WALL | (forever ? 0 : WNOHANG));
        if (found < 0) die("waitpid: %s", strerror(errno));
        if (found == victim && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP) return true;
        if (found == victim) lost(status);
        usleep(20);
    }
    return false;
}
static void await_stop(void) {
    int status;
    if (waitpid(victim, &status, __WALL) != victim || !WIFSTOPPED(status) ||
        WSTOPSIG(status) != SIGTRAP)
        lost(status);
}

/* One operation, reaped after `steps` instructions with the reaper held at `point`. False: it has
 * fewer. */
static bool one(uint32_t index, uint32_t steps, uint32_t point) {
    common->act = index;
    common->done = common->paused = 0;
    common->point = point;
    (void)go(PTRACE_CONT, true); /* to the operation */
    bool inside = true;
    for (uint32_t i = 0; i < steps && inside; i++) {
        (void)go(PTRACE_SINGLESTEP, true);
        inside = !hak_load_acquire(&common->done);
    }
    order('r');
    bool behind = false;
    if (hear() == 'p') {
        behind = go(PTRACE_CONT, false); /* else it waits at the gate */
        order('g');
        if (hear() != 'd') die("the reaper paused twice");
        if (!behind) await_stop();
    } else (void)go(PTRACE_CONT, true);
    (void)go(PTRACE_CONT, true);
    order('c');
    if (hear() != 'd') die("no answer");
    return inside;
}

static int step_all(int count, char **names) {
    common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (common == MAP_FAILED || pipe(orders) || pipe(reports)) die("pipe");
    target = fork();
    if (target == 0) {
        close(orders[1]), close(reports[0]);
        serve();
    }
    close(orders[0]), close(reports[1]);
    while (!hak_load_acquire(&common->stage)) {
        usleep(500);
        if (waitpid(target, NULL, WNOHANG) == target) die("the process ended early");
    }
    victim = (pid_t)common->thread_id;
    if (ptrace(PTRACE_SEIZE, victim, NULL, NULL) < 0) die("seize: %s", strerror(errno));
    if (ptrace(PTRACE_INTERRUPT, victim, NULL, NULL) < 0) die("interrupt: %s", strerror(errno));
    await_stop();
    hak_store_release(&common->go, 1);
    for (uint32_t a = 0; a < sizeof acts / sizeof *acts; a++) {
        uint32_t steps = 0, before = common->reaped, rounds = 0;
        bool chosen = !count;
        for (int k = 0; k < count; k++) chosen |= !strcmp(names[k], acts[a].name);
        if (!chosen) continue;
        for (bool inside = true; inside; steps++)
            for (uint32_t point = 0; point <= POINTS; point++, rounds++)
                inside = one(a, steps, point);
        printf("%-20s %3u instructions, %4u reaps, %4u of them took blocks\n", acts[a].name,
               steps - 2, rounds, common->reaped - before);
        if (common->reaped == before) die("%s: no reap took anything", acts[a].name);
    }
    kill(target, SIGKILL);
    return 0;
}

/* ---- run ---- */

static uint32_t over;
static uint64_t operations;

static void sleep_over(int signal) {
    (void)signal;
    struct timespec some = {0, 3000000};
    nanosleep(&some, NULL);
}

static void *work(void *number) {
    static const uint32_t sizes[] = {24, 100, 700, 4000, 9000, 30000, 60000, 200000, 400000};
    uint64_t mark = (uintptr_t)number, *row[HELD] = {0}, n = 0;
    uint32_t of[HELD] = {0}, turn = (uint32_t)mark * 7919 + 1;
    while (!hak_load_relaxed(&over)) {
        turn = turn * 1664525 + 1013904223;
        uint32_t i = (turn >> 8) % HELD, words = of[i] / 8;
        if (row[i]) {
            if (row[i][0] != (mark << 32 | i) || row[i][words - 1] != (mark << 32 | i))
                die("a block of %u bytes has changed", of[i]);
            give(row[i]);
            row[i] = NULL;
        } else {
            of[i] = sizes[(turn >> 20) % ((n & 63) ? 5 : 9)];
            row[i] = take(of[i]);
            row[i][0] = row[i][of[i] / 8 - 1] = mark << 32 | i;
        }
        if ((++n & 0x3fff) == 0) usleep(2000); /* sleeps outside of both, too */
    }
    for (uint32_t i = 0; i < HELD; i++)
        if (row[i]) give(row[i]);
    hak_heap_flush(heap);
    (void)hak_add_relaxed(&operations, n);
    return NULL;
}

static int run(double seconds, uint32_t threads, uint32_t seed) {
    struct sigaction handler = {.sa_handler = sleep_over};
    struct timespec start, now;
    pthread_t ids[64];
    uint64_t reaps = 0, blocks = 0, busy = 0;
    if (threads < 1 || threads > 64) die("threads: 1 to 64");
    make_heap();
    give(take(8));
    sigaction(SIGUSR1, &handler, NULL);
    for (uintptr_t i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)(i + 1))) die("pthread_create");
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        hak_reaped out;
        seed = seed * 1664525 + 1013904223;
        uint32_t which = (seed >> 8) % threads;
        if (!(seed >> 29)) pthread_kill(ids[which], SIGUSR1), usleep(100);
        uint32_t code = hak_heap_reap(heap, which + 2, &out);
        if (code == HAK_REAP_DONE) reaps++, blocks += out.block_count;
        else if (code == HAK_REAP_BUSY) busy++;
        else if (code != HAK_REAP_UNKNOWN && code != HAK_REAP_ENDED) die("reap: code %u", code);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 <
             seconds);
    hak_store_relaxed(&over, 1);
    for (uint32_t i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    hak_heap_trim(heap);
    all_back("at the end");
    printf("%llu operations, %llu reaps took %llu blocks, %llu found a slow path\n",
           (unsigned long long)operations, (unsigned long long)reaps, (unsigned long long)blocks,
           (unsigned long long)busy);
    return blocks ? 0 : 1;
}

int main(int count, char **words) {
    if (count >= 2 && !strcmp(words[1], "step")) return step_all(count - 2, words + 2);
    if (count == 5 && !strcmp(words[1], "run"))
        return run(atof(words[2]), (uint32_t)atoi(words[3]), (uint32_t)atoi(words[4]));
    die("usage: reaped step [OPERATION]... | reaped run SECONDS THREADS SEED");
}
