/* stress_alone.h: the scenarios that are no rounds of workers over one heap: heaps destroyed while
 * their threads end, and a fork in the middle of everything. */
#ifndef STRESS_ALONE_H
#define STRESS_ALONE_H
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "stress_walk.h"
#include "stress_work.h"

typedef struct visit {
    stage *stage;
    worker worker;
    uint32_t *done;
} visit;

/* Uses the heap, says so, and ends: the end of the thread and the end of the heap race. */
static void *visit_heap(void *argument) {
    visit *v = argument;
    for (uint32_t i = 0; i < v->stage->mix.ops; i++) step(&v->worker);
    hak_add_acq_rel(v->done, 1); /* partner: the load in work_destroy */
    return NULL;
}

static void work_destroy(worker *w) {
    stage *s = w->stage;
    for (uint32_t round = 0; round < 8; round++) {
        hak_fault fault;
        stage own = *s;
        own.heap =
            hak_heap_create(hak_policy_of(s->heap), UINT64_C(64) << 20, s->heap->flags, &fault);
        if (!own.heap) die("create: fault %u", fault.code);
        own.slots = get(SLOT_COUNT * sizeof(slot));
        uint32_t done = 0, count = 4;
        visit visits[4];
        pthread_t threads[4];
        for (uint32_t i = 0; i < count; i++) {
            visits[i] = (visit){
                &own, {&own, i, next_random(&w->random), 0, get(32 * sizeof(item)), 32}, &done};
            if (pthread_create(&threads[i], NULL, visit_heap, &visits[i])) die("pthread_create");
        }
        while (hak_load_acquire(&done) != count) sched_yield();
        hak_heap_destroy(own.heap);
        for (uint32_t i = 0; i < count; i++) {
            pthread_join(threads[i], NULL);
            free(visits[i].worker.table);
        }
        free(own.slots);
    }
}

extern void hak_fork_settle(void);

/* The child must be able to allocate and free, whatever was in flight in the threads that are
 * gone. */
static void child(worker *w) {
    alarm(20); /* a hang is what is looked for */
    stage *s = w->stage;
    stage alone = *s;
    alone.threads = 1;
    alone.slots = get(SLOT_COUNT * sizeof(slot));
    alone.mix.swapped = 0;
    worker mine = {&alone, 99, w->random, 0, get(64 * sizeof(item)), 64};
    stage known = alone; /* the tables that the forking thread knows */
    known.workers = w;
    slot *steady = s->mix.swapped ? alone.slots : s->slots;
    known.slots = steady;
    hak_fork_settle();
    for (uint32_t i = 0; i < SLOT_COUNT; i++)
        if (steady[i].busy) steady[i].held = (item){0};
    heap_walk_child(&known, s->threads - 1);
    for (uint32_t i = 0; i < 3000; i++) step(&mine);
    for (uint32_t i = 0; i < 64; i++) item_free(&mine, &mine.table[i]);
    /* the parent's, ours by copy */
    for (uint32_t i = 0; i < w->table_count; i++) item_free(w, &w->table[i]);
    /* another thread's, but for one in the middle of a swap */
    for (uint32_t i = 0; i < SLOT_COUNT && !s->mix.swapped; i++)
        if (!s->slots[i].busy) item_free(w, &s->slots[i].held);
    hak_heap_trim(s->heap);
    for (uint32_t i = 0; i < SLOT_COUNT; i++) steady[i].held = (item){0};
    heap_walk_child(&known, s->threads - 1);
    for (uint32_t i = 0; i < 1000; i++) step(&mine);
    _exit(0);
}

static void child_wait(pid_t pid) {
    int status = 0;
    if (pid < 0) die("fork");
    if (waitpid(pid, &status, 0) != pid) die("waitpid");
    if (WIFSIGNALED(status)) die("the child of a fork died of signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status)) die("the child of a fork exited with %d", WEXITSTATUS(status));
}

/* Worker 0 forks; where there are but two, it never used the heap before. */
static void work_fork(worker *w) {
    slot *last = &w->stage->slots[SLOT_COUNT - 1];
    if (w->index) {
        /* blocks that stay as they are, for the children */
        for (uint32_t i = 0; i < SLOT_COUNT && !w->stage->mix.swapped; i++) {
            item old = slot_swap(&w->stage->slots[i], random_item(w));
            item_free(w, &old);
        }
        work_mixed(w);
        return;
    }
    for (bool filled = w->stage->mix.swapped; !filled; sched_yield()) {
        item seen = slot_swap(last, (item){0});
        filled = seen.at != NULL;
        if (filled) (void)slot_swap(last, seen);
    }
    for (uint32_t i = 0; i < 16; i++) {
        for (uint32_t j = 0; j < 64 && w->stage->threads > 2; j++) step(w);
        pid_t pid = fork();
        if (pid == 0) child(w);
        child_wait(pid);
    }
}

/* Many forks, of each kind, and children that do little but look: to meet threads at every point of
 * a slow path. */
static void work_forks(worker *w) {
    static uint32_t rounds_done, child_runs;
    static __thread uint32_t round;
    round++;
    if (w->index) {
        for (uint32_t i = 1; hak_load_relaxed(&rounds_done) < round; i++) {
            step(w);
            while (hak_load_relaxed(&child_runs)) usleep(200); /* it has the processors to itself */
            if (i % 64 == 0) sched_yield();                    /* the forking thread's turn */
        }
        return;
    }
    stage alone = *w->stage;
    alone.threads = 1;
    alone.workers = w;
    alone.slots = get(SLOT_COUNT * sizeof(slot));
    for (uint32_t i = 0; i < w->stage->mix.ops / 64; i++) {
        step(w);
        pid_t pid = i % 3 == 0   ? fork()
                    : i % 3 == 1 ? _Fork()
                                 : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) {
            alarm(20);
            if (i % 2) hak_fork_settle();
            for (uint32_t j = 0; j < 40; j++) step(w);
            hak_fork_settle();
            heap_walk_child(&alone, w->stage->threads - 1);
            _exit(0);
        }
        hak_store_relaxed(&child_runs, 1);
        child_wait(pid);
        hak_store_relaxed(&child_runs, 0);
    }
    free(alone.slots);
    hak_store_relaxed(&rounds_done, round);
}

#endif
