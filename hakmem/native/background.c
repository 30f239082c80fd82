/* background.c: one thread in a process, which gives back to the OS what the program's sleeping
 * threads cannot. It serves the process heap only.
 *
 * Off by default (RetainPolicy.background_bytes). The last act of a malloc's slow path starts it,
 * holding no lock, in a process that has threads already and a heap that is large enough; the end
 * of the last other thread but one ends it. In a single-threaded process a second thread would make
 * libc's stdio slower; there the eager budget works alone (purge.c). The thread blocks all signals.
 * It looks once a tick; when the program has been quiet for as long as giving everything back
 * takes, it waits on hak_root.background.
 *
 * States of hak_root.background: NONE -> STARTING by the CAS of the thread that starts it; STARTING
 * -> LOOKING by the same thread; LOOKING <-> WAITING by the background thread; WAITING -> LOOKING
 * by the thread that wakes it; both -> LEAVING by the thread whose end ends it, which joins it and
 * goes on to NONE. Each is a CAS, acq_rel; it publishes nothing but the state. A wake
 * that comes between the last look and WAITING is not lost, because the background thread counts
 * the slow-path events once more after it has set WAITING; a thread that comes later sees WAITING.
 * A fork's child starts with NONE.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gnu/lib-names.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "hooks.h"

static pthread_t helper; /* while LOOKING or WAITING; whoever says LEAVING joins it */
static __thread bool is_helper __attribute__((tls_model("initial-exec")));

static bool move(uint32_t from, uint32_t to) {
    return hak_cas_acq_rel(&hak_root_.background, &from, to);
}

/* List words as the last tick saw them. Their tags change at each use: a word that stayed the same
 * for a whole tick belongs to a list that nobody needs. */
typedef struct seen {
    uint64_t parked, empty[HAK_SLAB_UNITS_MAX], mailbox[HAK_CLASS_LIMIT];
} seen;

static bool idle(uint64_t *before, const uint64_t *word) {
    uint64_t now = hak_load_relaxed(word);
    bool same = now == *before && (uint32_t)now;
    *before = now;
    return same;
}

/* Gives back what belongs to no thread: the caches of ended threads, the mailboxes, the empty slabs
 * that are kept ready. */
static void bring_home(hak_thread *t, seen *before) {
    hak_heap *h = hak_heap_of(t);
    bool mail = false, parked = idle(&before->parked, &h->parked_word),
         empty = idle(&before->empty[0], &h->empty_word);
    for (uint32_t i = 1; i < HAK_SLAB_UNITS_MAX; i++)
        empty |= idle(&before->empty[i], &h->longer_word[i - 1]);
    for (uint32_t class_index = 1; class_index < HAK_CLASS_LIMIT; class_index++)
        mail |= idle(&before->mailbox[class_index], &h->mailbox[class_index]);
    if (parked) hak_threads_flush_parked(h);
    if (mail || parked) hak_acquire_collect(t);
    if (empty) hak_acquire_flush_empty(t);
}

/* A sum that grows with each slow-path event of any thread but the background thread. */
static uint64_t activity(hak_heap *h, const hak_thread *mine) {
    uint64_t sum = 0;
    for (uint32_t i = 0, top = hak_load_acquire(&h->thread_top); i < top; i++) {
        const hak_thread *t = hak_thread_at(h, i);
        if (t != mine)
            sum += hak_load_relaxed(&t->refill_count) + hak_load_relaxed(&t->overflow_count) +
                   hak_load_relaxed(&t->span_free_count);
    }
    return sum;
}

static void *work(void *heap) {
    hak_heap *h = heap;
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    seen before = {0};
    uint64_t quiet_ns = 0, events = 0;
    (void)prctl(PR_SET_NAME, "hakmem", 0, 0, 0);
    is_helper = true;
    while (hak_load_acquire(&hak_root_.background) != HAK_BACKGROUND_LEAVING) {
        hak_thread *t = hak_thread_enter(h);
        bring_home(t, &before);
        hak_request_look(t);
        bool quiet = quiet_ns >= 2 * hak_number(retain->epoch_ns);
        hak_tick_fully(h, quiet);
        hak_sweep(t, UINT32_MAX, UINT64_MAX, !quiet);
        uint64_t now = activity(h, t);
        hak_thread_leave(t);
        bool due = hak_purge_is_due(h) || hak_load_relaxed(&h->sweep_unit);
        quiet_ns = now != events ? 0
                                 : quiet_ns + (uint64_t)hak_number(retain->background_tick_ms) *
                                                  HAK_NS_PER_MS;
        events = now;
        /* two epochs until a slab counts as untouched, after the epoch that touched it */
        if (due || quiet_ns < 3 * hak_number(retain->epoch_ns)) {
            hak_os_wait_for(&hak_root_.background, HAK_BACKGROUND_LOOKING,
                            (uint64_t)hak_number(retain->background_tick_ms) * HAK_NS_PER_MS);
            continue;
        }
        if (!move(HAK_BACKGROUND_LOOKING, HAK_BACKGROUND_WAITING)) continue;
        if (activity(h, t) != events) (void)move(HAK_BACKGROUND_WAITING, HAK_BACKGROUND_LOOKING);
        while (hak_load_acquire(&hak_root_.background) == HAK_BACKGROUND_WAITING)
            hak_os_wait(&hak_root_.background, HAK_BACKGROUND_WAITING);
        quiet_ns = 0;
    }
    return NULL;
}

/* libc's own, whoever wraps the name: a wrapper may hold a lock of its own where it allocates.
 * Found at load, when a call of the loader waits for nobody; until then no thread is started. */
typedef int (*create_call)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static create_call create;
__attribute__((constructor)) static void find_create(void) {
    void *(*open)(const char *, int) =
        (void *(*)(const char *, int))(uintptr_t)dlsym(RTLD_NEXT, "dlopen");
    void *libc = open ? open(LIBC_SO, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    if (libc) create = (create_call)(uintptr_t)dlsym(libc, "pthread_create");
}

/* Threads with records: in a fork's child only those that it made are left. */
static bool has_threads(hak_heap *h) { return hak_load_relaxed(&h->thread_live) > 1; }

/* Whatever the calling thread's scheduling and CPUs: this one is ordinary, and runs anywhere. */
static bool make_thread(hak_heap *h, uint64_t stack) {
    pthread_attr_t attr;
    cpu_set_t all;
    struct sched_param none = {.sched_priority = 0};
    memset(&all, UINT8_MAX, sizeof all);
    pthread_attr_init(&attr);
    pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
    pthread_attr_setschedparam(&attr, &none);
    pthread_attr_setaffinity_np(&attr, sizeof all, &all);
    if (stack) pthread_attr_setstacksize(&attr, stack);
    bool made = create(&helper, &attr, work, h) == 0;
    pthread_attr_destroy(&attr);
    return made;
}

/* What pthread_create allocates comes here again and finds STARTING. The thread whose CAS finds
 * NONE starts the background thread; all others go on. */
void hak_background_start(hak_heap *h) {
    uint64_t least = hak_number(hak_policy_of(h)->retain.background_bytes) >> HAK_UNIT_SHIFT;
    if (!least) (void)move(HAK_BACKGROUND_NONE, HAK_BACKGROUND_REFUSED);
    if (!least || !create || !hak_thread_known(h) || !has_threads(h) ||
        hak_load_relaxed(&h->in_use_units) + hak_load_relaxed(&h->dirty_units) < least)
        return;
    /* in a vfork's child, which runs in its parent's memory */
    if (hak_root_.process_id != hak_os_process_id()) return;
    if (!move(HAK_BACKGROUND_NONE, HAK_BACKGROUND_STARTING)) return;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    /* 0 asks for the default stack, where static TLS leaves too little of the small one */
    bool made = make_thread(h, HAK_BACKGROUND_STACK_BYTES) || make_thread(h, 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)move(HAK_BACKGROUND_STARTING, made ? HAK_BACKGROUND_LOOKING : HAK_BACKGROUND_REFUSED);
    if (made && !has_threads(h)) hak_background_leave(h); /* the others ended meanwhile */
}

/* A thread with a record has ended: when it leaves one other at most, it takes the background
 * thread with it. A program that is alone again may make a user namespace, or end with its last
 * thread. */
void hak_background_leave(hak_heap *h) {
    uint32_t state = hak_load_acquire(&hak_root_.background);
    if (is_helper || !(h->flags & HAK_HEAP_PROCESS)) return;
    if (state != HAK_BACKGROUND_LOOKING && state != HAK_BACKGROUND_WAITING) return;
    /* of those counted one is the background thread itself, once it has come to its first look */
    if (hak_load_relaxed(&h->thread_live) > 2) return;
    if (!move(HAK_BACKGROUND_LOOKING, HAK_BACKGROUND_LEAVING) &&
        !move(HAK_BACKGROUND_WAITING, HAK_BACKGROUND_LEAVING))
        return;
    hak_os_wake(&hak_root_.background);
    pthread_join(helper, NULL);
    (void)move(HAK_BACKGROUND_LEAVING, HAK_BACKGROUND_NONE);
}

void hak_background_wake(void) {
    if (hak_load_relaxed(&hak_root_.background) != HAK_BACKGROUND_WAITING) return;
    if (move(HAK_BACKGROUND_WAITING, HAK_BACKGROUND_LOOKING)) hak_os_wake(&hak_root_.background);
}

/* Called in a fork's child, which has no background thread. */
void hak_background_forked(uint32_t process_id) {
    hak_root_.process_id = process_id;
    if (hak_load_relaxed(&hak_root_.background) != HAK_BACKGROUND_REFUSED)
        hak_store_relaxed(&hak_root_.background, HAK_BACKGROUND_NONE);
}
