/* places.c: stacks of every kind that a walk may begin on. */
#include "stacks.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096u

static library lib;

/* --- threads ---------------------------------------------------------------------------------- */

NOINLINE void *thread_body(void *unused) {
    for (int round = 0; round < 3; round++) check_chain(&lib, thread_body);
    KEEP(unused);
    return NULL;
}

static void run_thread(const pthread_attr_t *attributes) {
    pthread_t thread;
    int failed = pthread_create(&thread, attributes, thread_body, NULL);
    if (failed) wrong("expected a thread", (uint64_t)failed);
    pthread_join(thread, NULL);
}

/* Of the C library's making, as small as may be, and supplied by who makes the thread. */
void threads_case(void) {
    lib = open_library("chain_bare");
    pthread_attr_t attributes;
    run_thread(NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    run_thread(&attributes);
    pthread_attr_setguardsize(&attributes, 0);
    run_thread(&attributes);
    void *own = aligned_alloc(PAGE, 16384), *shared;
    pthread_attr_setstack(&attributes, own, 16384);
    run_thread(&attributes);
    free(own);
    shared = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_attr_setstack(&attributes, shared, 65536);
    run_thread(&attributes);
}

/* --- coroutines ------------------------------------------------------------------------------- */

static ucontext_t outside, inside;

NOINLINE void coroutine(void) {
    for (;;) {
        check_chain(&lib, coroutine);
        swapcontext(&inside, &outside);
    }
}

NOINLINE void run_coroutine(void *stack, size_t bytes) {
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = bytes;
    makecontext(&inside, coroutine, 0);
    for (int round = 0; round < 3; round++) swapcontext(&outside, &inside);
    check_chain(&lib, run_coroutine);
}

static void *on_coroutines(void *bytes) {
    size_t size = (size_t)bytes;
    char *fenced = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(fenced + PAGE, size, PROT_READ | PROT_WRITE);
    run_coroutine(fenced + PAGE, size);
    void *block = malloc(size);
    run_coroutine(block, size);
    free(block);
    munmap(fenced, size + 2 * PAGE);
    run_coroutine(alloca(size), size); /* a part of the thread's own stack */
    return NULL;
}

/* In the first thread, in another one, and in one whose stack adjoins the coroutine's. */
void coroutines_case(void) {
    lib = open_library("chain_framed");
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    for (size_t bytes = 16384; bytes <= 1 << 20; bytes *= 4) {
        on_coroutines((void *)bytes);
        if (pthread_create(&thread, NULL, on_coroutines, (void *)bytes)) wrong("no thread", bytes);
        pthread_join(thread, NULL);
    }
    char *both = mmap(NULL, 8 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_setstack(&attributes, both + (4 << 16), 4 << 16);
    run_thread(&attributes);
    run_coroutine(both + (3 << 16), 1 << 16);
}

/* --- handlers --------------------------------------------------------------------------------- */

static taken in_handler;
static void on_signal(int number) {
    KEEP(number);
    look(&in_handler);
}

NOINLINE void raiser(void *number) { raise((int)(uintptr_t)number); }

NOINLINE void raise_through(int number) {
    in_handler.count = 0;
    lib.first(raiser, (void *)(uintptr_t)number, 5);
    const void *const called[] = {raiser, lib.third, lib.second, lib.first, raise_through};
    uint32_t place = 0;
    while (place < in_handler.count && !is_in(in_handler.frames[place], raiser)) place++;
    for (size_t i = 0; i < sizeof called / sizeof *called; i++)
        if (place + i >= in_handler.count || !is_in(in_handler.frames[place + i], called[i]))
            wrong("expected what was interrupted", i);
    expect_same(&in_handler);
}

static void handle(int number, int flags) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    if (sigaction(number, &action, NULL)) wrong("no handler", (uint64_t)number);
}

static void *on_handlers(void *stack) {
    stack_t alternate = {.ss_sp = stack, .ss_size = 32768};
    if (sigaltstack(&alternate, NULL)) wrong("no alternate stack", (uintptr_t)stack);
    for (int round = 0; round < 2; round++) raise_through(SIGUSR1), raise_through(SIGUSR2);
    alternate.ss_flags = SS_DISABLE;
    sigaltstack(&alternate, NULL);
    return NULL;
}

/* On the stack, on an alternate one above it and below it, in a thread and the first one. */
void handler_case(void) {
    lib = open_library("chain_bare");
    handle(SIGUSR1, 0);
    handle(SIGUSR2, SA_ONSTACK);
    static char below[32768];
    pthread_t thread;
    void *above = malloc(32768);
    on_handlers(below);
    on_handlers(above);
    free(above);
    if (pthread_create(&thread, NULL, on_handlers, below)) wrong("no thread", 0);
    pthread_join(thread, NULL);
}

/* --- children --------------------------------------------------------------------------------- */

NOINLINE int child_body(void *unused) {
    check_chain(&lib, child_body);
    KEEP(unused);
    _exit(0);
    return 0;
}

static void join(pid_t child) {
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        wrong("expected a child that ends well", (uint64_t)status);
}

/* By fork; by vfork, on its parent's stack; by clone, in its parent's memory on a stack of its own,
 * with its parent's thread pointer. Before the first walk of the process, and after it. */
void children_case(void) {
    lib = open_library("chain_bare");
    size_t bytes = 256 << 10;
    char *stack = malloc(bytes);
    for (int round = 0; round < 2; round++) {
        pid_t child = fork();
        if (!child) child_body(NULL);
        join(child);
        child = vfork();
        if (!child) child_body(NULL);
        join(child);
        join(clone(child_body, stack + bytes, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
        join(clone(child_body, stack + bytes, SIGCHLD, NULL));
        check_chain(&lib, children_case);
    }
    free(stack);
}
