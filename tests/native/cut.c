/* cut.c: forks at every store of one operation of another thread.
 *
 *   cut [CASE]...   prints a line a case: instructions, children; exit 1 with a line on stderr
 * where a child's heap is not whole
 *
 * torn.c writes by hand the states that a fork can leave; this one meets them all. A tracer, the
 * parent of the process, lets the other thread go on by one instruction at a time. After each that
 * changed the heap's metadata the main thread forks, and the child settles, walks the whole heap,
 * finds cleared memory zero, works, and walks again.
 */
#define _GNU_SOURCE
#pragma GCC diagnostic ignored "-Wunused-function" /* the driver's other scenarios */
#include <errno.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "stress_alone.h"
#include "stress_named.h"

/* The blocks that a case's thread works on; a case that needs more of a class takes it full. */
enum { HELD = 140 };
static stage quiet;
static worker other;
static void *held[HELD];

typedef struct shared { /* by the tracer, the main thread and the traced one */
    uint32_t thread_id, ready, go, done;
} shared;
static shared *common;
static uint64_t library_start, library_end; /* of the library's code */

typedef struct scene {
    const char *name;
    void (*before)(hak_heap *);
    void (*act)(hak_heap *);
    const char *policy; /* NULL: the default */
} scene;
static const scene *current;

static void *alloc(hak_heap *h, uint64_t size) {
    void *block = hak_heap_alloc(h, size);
    if (!block) die("no memory");
    memset(block, 0x5a, size < 4096 ? size : 4096);
    return block;
}
static void take(hak_heap *h, uint32_t count, uint64_t size) {
    for (uint32_t i = 0; i < count; i++) held[i] = alloc(h, size);
}
static void give(hak_heap *h, uint32_t from, uint32_t to) {
    hak_fault fault;
    for (uint32_t i = from; i < to; i++)
        if (hak_heap_free(h, held[i], &fault)) die("free: fault %u", fault.code);
}
static void resize(hak_heap *h, uint64_t size) {
    hak_fault fault;
    void *out;
    if (hak_heap_realloc(h, held[0], size, &out, &fault)) die("realloc: fault %u", fault.code);
    held[0] = out;
}

static void nothing(hak_heap *h) { (void)h; }
static void flushed(hak_heap *h) { (void)hak_heap_trim(h); }
/* Of units that are clean, as their marks say while they are out. */
static void one_span(hak_heap *h) { (void)hak_heap_trim(h), take(h, 1, 6 << 16); }
static void two_spans(hak_heap *h) { take(h, 2, 6 << 16), give(h, 1, 2); }
static void span_alloc(hak_heap *h) { held[0] = hak_heap_alloc(h, 7 << 16); }
static void span_free(hak_heap *h) { give(h, 0, 1); }
static void span_shrink(hak_heap *h) { resize(h, 5 << 16); }
static void span_grow(hak_heap *h) { resize(h, 7 << 16); }
static void span_move(hak_heap *h) { resize(h, 12 << 16); }
static void two_mapped(hak_heap *h) { take(h, 2, UINT64_C(1) << 30); }
static void mapped_alloc(hak_heap *h) { held[2] = hak_heap_alloc(h, UINT64_C(1) << 30); }
static void mapped_move(hak_heap *h) { resize(h, UINT64_C(3) << 30); }
static void mapped_shrink(hak_heap *h) { resize(h, UINT64_C(1) << 29); }
static void dirty_runs(hak_heap *h) {
    take(h, 5, 6 << 16);
    for (uint32_t i = 0; i < 5; i += 2) give(h, i, i + 1);
}
static void trim(hak_heap *h) { (void)hak_heap_trim(h); }
static void first_of_a_class(hak_heap *h) { held[0] = hak_heap_alloc(h, 7000); }
static void first_of_a_small_class(hak_heap *h) { held[0] = hak_heap_alloc(h, 900); }
static void full_slabs(hak_heap *h) {
    take(h, HELD, 900), give(h, 0, 100);
    hak_heap_flush(h);
}
static void refill_from_lists(hak_heap *h) { held[0] = hak_heap_alloc(h, 900); }
static void many(hak_heap *h) { take(h, HELD, 900), give(h, 0, 60); }
static void overflow(hak_heap *h) { give(h, 60, 68); }
static void all_given(hak_heap *h) { take(h, 80, 900), give(h, 0, 80); }
static void flush(hak_heap *h) { hak_heap_flush(h); }
static void prewarm(hak_heap *h) { hak_heap_prewarm(h); }
static void large_ones(hak_heap *h) { take(h, 12, 20000), give(h, 0, 11); }
static void last_of_a_slab(hak_heap *h) {
    give(h, 11, 12);
    hak_heap_flush(h);
}

static const scene scenes[] = {
    {"span_alloc", nothing, span_alloc, NULL},
    {"span_alloc_dirty", dirty_runs, span_alloc, NULL},
    {"span_free", one_span, span_free, NULL},
    {"span_free_between", dirty_runs, trim, NULL},
    {"span_shrink", one_span, span_shrink, NULL},
    {"span_grow", two_spans, span_grow, NULL},
    {"span_move", one_span, span_move, NULL},
    {"mapped_alloc", two_mapped, mapped_alloc, NULL},
    {"mapped_free", two_mapped, span_free, NULL},
    {"mapped_move", two_mapped, mapped_move, NULL},
    {"mapped_shrink", two_mapped, mapped_shrink, NULL},
    {"trim", all_given, trim, NULL},
    {"slab_of_units", flushed, first_of_a_class, NULL},
    {"slab", flushed, first_of_a_small_class, NULL},
    {"refill", full_slabs, refill_from_lists, NULL},
    {"overflow", many, overflow, NULL},
    {"flush", all_given, flush, NULL},
    {"retire", large_ones, last_of_a_slab, NULL},
    {"prewarm", nothing, prewarm, NULL},
    {"magazine_put", many, overflow, "magazines"},
    {"magazine_flush", all_given, flush, "magazines"},
};

/* ---- the target: a thread that is traced, and the main thread, which forks ---- */

static void *traced(void *unused) {
    (void)unused;
    for (uint32_t i = 0; i < 1500; i++) step(&other);
    current->before(quiet.heap);
    common->thread_id = (uint32_t)gettid();
    hak_store_release(&common->ready, 1); /* partner: the tracer */
    while (!hak_load_acquire(&common->go)) sched_yield();
    current->act(quiet.heap);
    hak_store_release(&common->done, 1);
    for (;;) pause();
    return NULL;
}

/* A hash of everything but the blocks themselves. */
static uint64_t metadata(hak_heap *h) {
    uint64_t sum = 0, top = hak_load_relaxed(&h->unit_top);
    const struct {
        const void *at;
        uint64_t bytes;
    } parts[] = {
        {h, sizeof *h},
        {hak_registry(h), top * sizeof *hak_registry(h)},
        {hak_slab_at(h, 0), top * sizeof(hak_slab)},
        {hak_at(h, h->dirty_offset), (top + 7) / 8},
        {hak_thread_at(h, 0), h->thread_top * sizeof(hak_thread)},
        {hak_at(h, h->magazines_offset),
         h->magazines_offset ? h->thread_top * sizeof(hak_magazines) : 0},
        {hak_at(h, h->mapped_offset), h->mapped_rows * sizeof(hak_mapped)},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (uint64_t k = 0; k + 8 <= parts[i].bytes; k += 8)
            sum = (sum ^ *(const uint64_t *)((const char *)parts[i].at + k)) *
                      UINT64_C(0x9e3779b97f4a7c15) +
                  (sum >> 29);
    return sum;
}

static void expect_zero(hak_heap *h) {
    static const uint32_t sizes[] = {48, 900, 5000, 7000, 20000, 100000, 300000};
    for (uint32_t k = 0; k < 6; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const uint8_t *block = hak_heap_alloc_aligned(h, sizes[i], 1, 1);
            if (!block) die("no memory in the child");
            for (uint32_t at = 0; at < sizes[i]; at++)
                if (block[at]) die("a cleared block of %u bytes is not zero", sizes[i]);
        }
}

static void look(void) {
    hak_heap *h = quiet.heap;
    alarm(20);
    hak_fork_settle();
    heap_walk_child(&quiet, 1);
    if (h->lost_count > 1) die("%u slabs are lost", h->lost_count);
    expect_zero(h);
    for (uint32_t i = 0; i < 500; i++) step(&quiet.workers[0]);
    heap_walk_child(&quiet, 1);
    hak_heap_trim(h);
    heap_walk_child(&quiet, 1);
    if (hak_root_.lock) die("the root lock is held");
}

/* Answers the tracer: 0 nothing changed, 1 a child was well, 2 it was not. */
static void serve(int questions, int answers) {
    hak_fault fault;
    pthread_t thread;
    quiet = (stage){
        .name = current->name, .mix = {96, 0, 6, 64, 0, 8, 0, 0, 18}, .threads = 1, .seed = 7};
    quiet.heap = hak_heap_create(policy_named(current->policy ? current->policy : "default"),
                                 64 << 20, 0, &fault);
    if (!quiet.heap) die("create: fault %u", fault.code);
    quiet.slots = get(SLOT_COUNT * sizeof(slot));
    worker mine = {&quiet, 0, 11, 0, get(96 * sizeof(item)), 96};
    quiet.workers = &mine;
    other = (worker){&quiet, 1, 13, 0, get(96 * sizeof(item)), 96};
    for (uint32_t i = 0; i < 1500; i++) step(&mine);
    if (pthread_create(&thread, NULL, traced, NULL)) die("pthread_create");
    uint64_t before = 0;
    for (char word; read(questions, &word, 1) == 1;) {
        uint64_t now = metadata(quiet.heap);
        char answer = 0;
        if (now != before) {
            pid_t pid = fork();
            if (pid == 0) {
                look();
                _exit(0);
            }
            int status;
            answer = waitpid(pid, &status, 0) == pid && status == 0 ? 1 : 2;
        }
        before = now;
        if (write(answers, &answer, 1) != 1) _exit(2);
    }
    _exit(0);
}

/* ---- the tracer ---- */

static void trace(int request, pid_t thread, void *data) {
    if (ptrace(request, thread, NULL, data) < 0) die("ptrace %d: %s", request, strerror(errno));
    int status;
    if (request == PTRACE_SEIZE) return;
    if (waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status))
        die("the traced thread ended: %x", status);
}

/* Whether the thread stands in the C library or the kernel's pages: no store of ours came since. */
static bool is_elsewhere(pid_t thread) {
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, thread, NULL, &registers) < 0) die("PTRACE_GETREGS");
    return registers.rip < library_start || registers.rip >= library_end;
}

static char ask(int questions, int answers) {
    char word = '?', answer;
    if (write(questions, &word, 1) != 1 || read(answers, &answer, 1) != 1)
        die("the target is gone");
    return answer;
}

static void one(void) {
    int questions[2], answers[2];
    uint32_t instructions = 0, children = 0;
    memset(common, 0, sizeof *common);
    if (pipe(questions) || pipe(answers)) die("pipe");
    pid_t target = fork();
    if (target == 0) {
        close(questions[1]), close(answers[0]);
        serve(questions[0], answers[1]);
    }
    close(questions[0]), close(answers[1]);
    while (!hak_load_acquire(&common->ready)) {
        usleep(500);
        if (waitpid(target, NULL, WNOHANG) == target) die("the target ended early");
    }
    pid_t thread = (pid_t)common->thread_id;
    trace(PTRACE_SEIZE, thread, NULL);
    trace(PTRACE_INTERRUPT, thread, NULL);
    hak_store_release(&common->go, 1);
    for (; !hak_load_acquire(&common->done); instructions++) {
        trace(PTRACE_SINGLESTEP, thread, NULL);
        if (is_elsewhere(thread)) continue;
        char answer = ask(questions[1], answers[0]);
        children += answer == 1;
        if (answer == 2) {
            struct user_regs_struct registers;
            ptrace(PTRACE_GETREGS, thread, NULL, &registers);
            die("cut behind instruction %u, at %#llx", instructions,
                (unsigned long long)registers.rip);
        }
    }
    ptrace(PTRACE_DETACH, thread, NULL, NULL); /* else its end would be ours to wait for, too */
    kill(target, SIGKILL);
    waitpid(target, NULL, 0);
    close(questions[1]), close(answers[0]);
    printf("%-18s %6u instructions %5u children\n", current->name, instructions, children);
    fflush(stdout);
}

static int find_library(struct dl_phdr_info *about, size_t size, void *unused) {
    (void)size, (void)unused;
    if (!strstr(about->dlpi_name, "libhakmem")) return 0;
    for (int i = 0; i < about->dlpi_phnum; i++)
        if (about->dlpi_phdr[i].p_type == PT_LOAD && about->dlpi_phdr[i].p_flags & PF_X) {
            library_start = about->dlpi_addr + about->dlpi_phdr[i].p_vaddr;
            library_end = library_start + about->dlpi_phdr[i].p_memsz;
        }
    return 1;
}

int main(int count, char **words) {
    /* they take turns: on one CPU nobody has to be woken on another */
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    (void)sched_setaffinity(0, sizeof here, &here);
    dl_iterate_phdr(find_library, NULL);
    common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (common == MAP_FAILED) die("mmap");
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        bool chosen = count == 1;
        for (int k = 1; k < count; k++) chosen |= !strcmp(words[k], scenes[i].name);
        current = &scenes[i];
        current_name = current->name;
        if (chosen) one();
    }
    return 0;
}
