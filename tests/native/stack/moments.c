/* moments.c: a handler that walks at every instruction of what it interrupts, by single steps; code
 * that goes and other code that comes; and all of it at once. */
#include "stacks.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define TRAP_FLAG 0x100

/* --- at every instruction --------------------------------------------------------------------- */

static struct {
    uint64_t steps, system_calls, locked;
    bool only_count;
    const void *runner;
} stepper;

static inline void step_on(void) {
    __asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq" : : : "memory", "cc");
}
static inline void step_off(void) {
    __asm__ volatile("pushfq\n andq $~0x100, (%%rsp)\n popfq" : : : "memory", "cc");
}

/* The red zone below a leaf's stack is not touched: the handler has a stack of its own. */
static void on_step(int number, siginfo_t *info, void *context) {
    const ucontext_t *at = context;
    uint64_t ip = (uint64_t)at->uc_mcontext.gregs[REG_RIP];
    const uint8_t *code = (const uint8_t *)ip;
    stepper.steps++;
    stepper.system_calls += code[0] == 0x0f && code[1] == 0x05;
    stepper.locked += code[0] == 0xf0;
    if (stepper.only_count) return;
    taken t = {.other_count = 0};
    look(&t);
    uint32_t place = 0;
    while (place < t.count && t.frames[place] != ip) place++;
    if (place == t.count || place > 4) wrong("expected the instruction that was interrupted", ip);
    expect_same(&t);
    while (place < t.count && !is_in(t.frames[place], stepper.runner)) place++;
    if (place >= t.count) wrong("expected who runs the steps, interrupted at", ip);
    KEEP(number);
    KEEP(info);
}

static void step_with(bool only_count, const void *runner) {
    static char room[65536];
    stack_t alternate = {.ss_sp = room, .ss_size = sizeof room};
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaltstack(&alternate, NULL) || sigaction(SIGTRAP, &action, NULL)) wrong("no handler", 0);
    memset(&stepper, 0, sizeof stepper);
    stepper.only_count = only_count;
    stepper.runner = runner;
}

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* The first walk of the process and the next ones, calls that are bound when they are made, frames
 * of all kinds, malloc, free, and code of the C library in assembly. */
NOINLINE void stepped_case(void) {
    library lib = open_library("chain_framed"), bare = open_library("chain_bare");
    taken t = {.other_count = -1};
    int numbers[] = {4, 2, 3, 1};
    char text[64];
    step_with(false, stepped_case);
    step_on();
    lib.first(look, &t, 5);
    bare.first(look, &t, 5);
    bare.first(look, &t, 5);
    qsort(numbers, 4, sizeof *numbers, compare);
    void *block = malloc(100);
    memset(block, 1, 100);
    free(block);
    snprintf(text, sizeof text, "%d %g", numbers[0], 1.5);
    step_off();
    if (stepper.steps < 5000) wrong("expected more steps", stepper.steps);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_UNDEFINED__)
#define STEPS_MOST 20000
#else
#define STEPS_MOST 5000
#endif
/* A walk over frames that are known is free of system calls and of locks. */
NOINLINE void quiet_case(void) {
    library lib = open_library("chain_bare");
    taken t = {.other_count = -1};
    for (int round = 0; round < 2; round++) {
        step_with(true, NULL);
        step_on();
        lib.first(look, &t, 5);
        step_off();
    }
    if (stepper.system_calls || stepper.locked || !t.count)
        wrong("expected neither", stepper.system_calls << 32 | stepper.locked);
    if (stepper.steps < 200 || stepper.steps > STEPS_MOST)
        wrong("expected few steps", stepper.steps);
}

/* --- code that goes --------------------------------------------------------------------------- */

static const char *const copies[] = {"chain_bare", "chain_wide", "chain_framed"};
#define COPIES (sizeof copies / sizeof *copies)

/* Other code at the same addresses: what was found for a return address is found anew. */
NOINLINE void reloaded_case(void) {
    const void *before = NULL;
    uint32_t reused = 0;
    for (int round = 0; round < 60; round++) {
        library lib = open_library(copies[(size_t)round % COPIES]);
        reused += before == (const void *)(uintptr_t)lib.third;
        before = (const void *)(uintptr_t)lib.third;
        check_chain(&lib, reloaded_case);
        dlclose(lib.handle);
    }
    if (!reused) wrong("expected code at an address that other code had", 0);
}

/* --- all at once ------------------------------------------------------------------------------ */

static bool over;
static library steady;

NOINLINE void on_timer(int number) {
    uint64_t frames[MOST];
    uint32_t count = stack_take(frames, MOST);
    /* dladdr takes the loader's lock, which whom this interrupts may hold */
    if (!count || frames[0] - (uintptr_t)on_timer > 256) _exit(3);
    KEEP(number);
}

NOINLINE void *loads(void *first) {
    for (size_t round = (size_t)first; !__atomic_load_n(&over, __ATOMIC_RELAXED); round++) {
        library lib = open_library(copies[round % COPIES]);
        check_chain(&lib, loads);
        dlclose(lib.handle);
    }
    return NULL;
}

NOINLINE void *walks(void *unused) {
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) check_chain(&steady, walks);
    KEEP(unused);
    return NULL;
}

NOINLINE void look_through(taken *t) {
    steady.first(look, t, 5);
    KEEP(t);
}

/* The loader's lock may be held in the child by a thread that is gone: what its walks find is
 * compared with its parent's. */
NOINLINE void check_fork(void) {
    int status = -1;
    taken here = {.other_count = -1};
    look_through(&here);
    pid_t child = fork();
    for (int i = 0; !child && i < 20; i++) {
        taken there = {.other_count = -1};
        look_through(&there);
        if (there.count != here.count) _exit(4);
        if (memcmp(there.frames, here.frames, 5 * sizeof *here.frames)) _exit(5);
    }
    if (!child) _exit(0);
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        wrong("expected a child that ends well", (uint64_t)status);
}

#if defined(__SANITIZE_THREAD__)
#define LOADS walks /* it knows nothing of the loader's own order */
#else
#define LOADS loads
#endif
/* Walks in threads while others load and unload code, in a timer's handler over both, and in
 * children of forks. */
void storm_case(void) {
    pthread_t threads[4];
    steady = open_library("chain_large");
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    sigaction(SIGPROF, &action, NULL);
    for (size_t i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, i < 2 ? LOADS : walks, (void *)i)) wrong("thread", i);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_PROF, &often, NULL);
    for (int i = 0; i < 40; i++) check_fork(), usleep(20000);
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}
