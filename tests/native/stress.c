/* stress.c: the stress driver over the C API: many threads on one heap, every block verified, the
 * heap walked.
 *
 *   stress [--short] [--threads N] [--seconds S] [--scenario NAME]... [--policy FILE]
 *          [--region MIB] [--seed N] [--list]
 *
 * A scenario runs in rounds. After each round all threads stand still and the heap is walked
 * (stress_walk.h); at the end everything is freed, the caches go back, and the heap must be empty.
 * An error or a hang is one line and exit 1. The same seed gives each thread the same choices in
 * the same order; how the threads interleave is the machine's.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "stress_alone.h"
#include "stress_named.h"
#include "stress_walk.h"
#include "stress_work.h"

#define HANG_SECONDS 120

typedef struct scenario {
    const char *name, *policy; /* no policy: the process's malloc */
    void (*work)(worker *);
    mix mix;
    uint32_t flags;
    uint32_t region_mib; /* 0: as the library likes */
    uint32_t threads;    /* 0: what --threads says */
    uint32_t allows_null;
    uint32_t rounds; /* when no --seconds are given */
    const char *meaning;
} scenario;

/* clang-format off */
/* A scenario a row: table, ops, span, pool, aligned, resized, zeroed, swapped, span_shift */
#define ALL_BANDS {128, 6000, 6, 64, 0, 0, 0, 64, 20}
static const scenario scenarios[] = {
    {"handoff", "default", work_mixed, {64, 12000, 0, 48, 0, 0, 0, 160, 17}, 0, 0, 0, 0, 4,
     "blocks passed between threads, freed by whoever gets them"},
    {"rings", "default", work_ring, {64, 8000, 1, 64, 0, 0, 0, 64, 18}, 0, 0, 0, 0, 4,
     "producers and consumers in pairs"},
    {"batches", "default", work_batch, {0, 6000, 1, 32, 0, 0, 0, 0, 18}, 0, 0, 0, 0, 4,
     "alloc_many and free_many, blocks passed on"},
    {"random", "default", work_mixed, ALL_BANDS, 0, 0, 0, 0, 4,
     "random sizes of all bands, spans too"},
    {"aligned", "default", work_mixed, {96, 5000, 6, 64, 192, 0, 16, 32, 20}, 0, 0, 0, 0, 4,
     "alignments up to 4 MiB"},
    {"realloc", "default", work_mixed, {64, 4000, 20, 64, 8, 160, 0, 32, 22}, 0, 0, 0, 0, 4,
     "blocks resized in place, by copy, by remapping"},
    {"zeroed", "lean", work_mixed, {96, 5000, 10, 64, 8, 0, 192, 32, 20}, 0, 0, 0, 0, 4,
     "zeroed blocks are zero, whatever was there before"},
    {"caps0", "caps0", work_mixed, ALL_BANDS, 0, 0, 0, 0, 4,
     "no thread caches: every call meets a slab"},
    {"contend", "caps0", work_mixed, {32, 20000, 0, 0, 0, 0, 0, 128, 17}, 0, 0, 0, 0, 4,
     "no caches, few slabs, many threads on each"},
    {"smallcaps", "smallcaps", work_mixed, ALL_BANDS, 0, 0, 0, 0, 4,
     "caps of 4, batches of 2, four slabs a refill"},
    {"pool", "smallcaps", work_mixed, {48, 8000, 0, 256, 0, 16, 0, 128, 17}, 0, 0, 0, 0, 4,
     "the pool band alone, four slabs a refill"},
    {"magazines", "magazines", work_mixed, ALL_BANDS, 0, 0, 0, 0, 4,
     "magazines before the lists"},
    {"smallmags", "small_magazines", work_trim, {96, 5000, 6, 64, 8, 32, 16, 64, 19}, 0, 0, 0, 0, 4,
     "magazines of 3 and 1 before lists of 4, trim and flush beside"},
    {"orders", "orders", work_mixed, ALL_BANDS, 0, 0, 0, 0, 4,
     "acquire stages in an odd order, one try each"},
    {"noadopt", "noadopt", work_mixed, ALL_BANDS, 0, 0, 0, 0, 4,
     "adoption switched off"},
    {"headers", "headers", work_mixed, {96, 5000, 6, 64, 16, 48, 32, 64, 19}, 0, 0, 0, 0, 4,
     "a header byte before every block"},
    {"headers0", "headers_caps0", work_mixed, {96, 5000, 6, 64, 16, 48, 32, 64, 19}, 0, 0, 0, 0, 4,
     "headers without caches"},
    {"checked", "default", work_mixed, {64, 4000, 20, 64, 8, 160, 16, 32, 22}, HAK_HEAP_CHECKED,
     0, 0, 0, 4, "a checked heap: no false alarm"},
    {"trim", "lean", work_trim, {96, 5000, 10, 64, 8, 16, 16, 64, 20}, 0, 0, 0, 0, 4,
     "trim, flush, tick and prewarm beside the others"},
    {"holes", "holes", work_mixed, {96, 5000, 1, 64, 8, 32, 32, 64, 18}, 0, 0, 0, 0, 4,
     "pages purged in slabs that others use meanwhile"},
    {"lazy", "lazy", work_trim, {96, 5000, 10, 64, 8, 16, 64, 64, 20}, 0, 0, 0, 0, 4,
     "the same with MADV_FREE"},
    {"churn", "default", work_churn, {16, 0, 2, 32, 0, 8, 8, 64, 18}, 0, 0, 0, 0, 2,
     "10,000 short threads, late frees by others"},
    {"shared", "default", work_mixed, {8, 200, 0, 16, 0, 8, 8, 64, 17}, 0, 12, 300, 1, 2,
     "more threads than records: the shared one"},
    {"full", "default", work_mixed, {256, 4000, 24, 96, 0, 32, 16, 32, 19}, 0, 24, 0, 1, 4,
     "a region that runs full, and nothing lost by it"},
    {"tight", "tight", work_mixed, {24, 8000, 24, 0, 0, 0, 0, 64, 17}, 0, 96, 0, 0, 4,
     "a region with room enough: memory never runs out"},
    {"destroy", "lean", work_destroy, {0, 300, 2, 48, 0, 8, 8, 64, 18}, 0, 0, 0, 0, 2,
     "heaps destroyed while their threads end"},
    {"malloc", NULL, work_churn, {32, 0, 4, 64, 8, 16, 16, 64, 19}, 0, 0, 0, 0, 2,
     "malloc and free of the process, threads coming and going"},
    {"fork1", "caps0", work_fork, {64, 150000, 0, 0, 0, 0, 0, 0, 17}, 0, 0, 2, 0, 2,
     "children forked by a thread that never used the heap"},
    {"fork", "default", work_fork, {64, 20000, 4, 64, 0, 16, 0, 64, 19}, 0, 0, 0, 0, 2,
     "children forked in the middle of everything"},
    {"forks", "smallcaps", work_forks, {24, 6400, 4, 24, 0, 16, 0, 0, 17}, 0, 0, 4, 0, 2,
     "many children by fork, _Fork and clone, each walked over"},
    {"forkmags", "magazines", work_forks, {24, 6400, 4, 24, 0, 16, 0, 0, 17}, 0, 0, 4, 0, 2,
     "the same with magazines before the lists"},
};
/* clang-format on */
#define SCENARIO_COUNT (sizeof scenarios / sizeof *scenarios)

static uint32_t option_threads = 8, option_short;
static uint64_t option_seed = 1, option_region_mib;
static const hak_policy *option_policy;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void on_signal(int number) {
    die(number == SIGALRM ? "hang: no round ended in time" : "signal %d", number);
}

static void (*current_work)(worker *);
static void *worker_main(void *argument) {
    worker *w = argument;
    stage *s = w->stage;
    for (;;) {
        pthread_barrier_wait(&s->barrier); /* a round starts, or it is over */
        if (s->stop) break;
        current_work(w);
        pthread_barrier_wait(&s->barrier); /* all stand still: the heap is walked */
    }
    for (uint32_t i = 0; i < w->table_count; i++) item_free(w, &w->table[i]);
    if (w->index % 2) hak_heap_flush(s->heap); /* the others leave it to the thread's end */
    return NULL;
}

static void free_left(stage *s) {
    worker *w = &s->workers[0];
    for (uint32_t i = 0; i < SLOT_COUNT; i++) item_free(w, &s->slots[i].held);
    for (uint32_t i = 0; i < s->threads / 2; i++)
        for (uint64_t at = s->rings[i].head; at < s->rings[i].tail; s->rings[i].head = ++at)
            item_free(w, &s->rings[i].items[at % RING_COUNT]);
}

static void run(const scenario *sc, uint64_t budget_ns) {
    current_name = sc->name;
    current_work = sc->work;
    hak_fault fault;
    stage s = {.name = sc->name,
               .mix = sc->mix,
               .threads = sc->threads ? sc->threads : option_threads,
               .allows_null = sc->allows_null,
               .seed = option_seed};
    if (sc->work == work_churn)
        s.mix.ops = 10000 / s.threads / (option_short ? 8 : 1) / sc->rounds / STRESS_SLOW;
    else s.mix.ops = s.mix.ops / STRESS_SLOW / (option_short ? 2 : 1);
    if (!sc->policy) s.process = 1, s.heap = hak_process_heap();
    else
        s.heap = hak_heap_create(option_policy ? option_policy : policy_named(sc->policy),
                                 (option_region_mib ? option_region_mib : sc->region_mib) << 20,
                                 sc->flags, &fault);
    if (!s.heap) die("create: fault %u", fault.code);
    s.workers = get(s.threads * sizeof(worker));
    s.slots = get(SLOT_COUNT * sizeof(slot));
    s.rings = get((s.threads / 2 + 1) * sizeof(ring));
    pthread_barrier_init(&s.barrier, NULL, s.threads + 1);
    pthread_t *threads = get(s.threads * sizeof(pthread_t));
    uint64_t start = now_ns(), rounds = 0;
    for (uint32_t i = 0; i < s.threads; i++) {
        worker *w = &s.workers[i];
        *w = (worker){&s,
                      i,
                      option_seed << 32 ^ (uint64_t)(sc - scenarios) << 16 ^ i,
                      0,
                      get((sc->mix.table_count + 1) * sizeof(item)),
                      sc->mix.table_count};
        if (pthread_create(&threads[i], NULL, worker_main, w)) die("pthread_create");
    }
    do {
        alarm(HANG_SECONDS);
        pthread_barrier_wait(&s.barrier);
        pthread_barrier_wait(&s.barrier);
        if (!s.process) heap_walk(&s); /* the driver's own blocks are in no table */
        rounds++;
    } while (budget_ns ? now_ns() - start < budget_ns : rounds < sc->rounds);
    s.stop = 1;
    pthread_barrier_wait(&s.barrier);
    for (uint32_t i = 0; i < s.threads; i++) pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < s.threads; i++) free(s.workers[i].table), s.workers[i].table_count = 0;
    free_left(&s);
    if (!s.process) heap_walk_empty(&s);
    printf("%-10s %3u threads %5llu rounds %6.2f s  %6u units %4u records\n", sc->name, s.threads,
           (unsigned long long)rounds, (double)(now_ns() - start) / 1e9,
           s.heap->unit_top - s.heap->meta_units, s.heap->thread_top);
    fflush(stdout);
    pthread_barrier_destroy(&s.barrier);
    if (!s.process) hak_heap_destroy(s.heap);
    free(s.workers), free(s.slots), free(s.rings), free(threads);
}

static const hak_policy *read_policy(const char *path) {
    static _Alignas(64) hak_policy image;
    FILE *file = fopen(path, "rb");
    if (!file || fread(&image, 1, sizeof image, file) != sizeof image)
        die("cannot read a policy image from %s", path);
    fclose(file);
    return &image;
}

static uint64_t number(const char *text, uint64_t low, uint64_t high, const char *option) {
    char *end;
    uint64_t value = text ? strtoull(text, &end, 10) : 0;
    if (!text || *end || value < low || value > high)
        die("%s takes a number from %llu to %llu", option, (unsigned long long)low,
            (unsigned long long)high);
    return value;
}

int main(int count, char **words) {
    uint64_t seconds = 0, chosen = 0, picked = 0;
    current_name = "options";
    for (int i = 1; i < count; i++) {
        const char *word = words[i], *next = i + 1 < count ? words[i + 1] : NULL;
        if (!strcmp(word, "--short")) option_short = 1, full_bytes = 8192;
        else if (!strcmp(word, "--threads"))
            option_threads = (uint32_t)number(next, 1, 1024, word), i++;
        else if (!strcmp(word, "--seconds")) seconds = number(next, 1, 86400, word), i++;
        else if (!strcmp(word, "--seed")) option_seed = number(next, 0, UINT32_MAX, word), i++;
        else if (!strcmp(word, "--region")) option_region_mib = number(next, 1, 1 << 20, word), i++;
        else if (!strcmp(word, "--policy") && next) option_policy = read_policy(next), i++;
        else if (!strcmp(word, "--scenario") && next) {
            uint64_t before = chosen;
            for (size_t k = 0; k < SCENARIO_COUNT; k++)
                if (!strcmp(scenarios[k].name, next)) chosen |= UINT64_C(1) << k;
            if (chosen == before) die("no new scenario %s; --list names them", next);
            i++;
        } else if (!strcmp(word, "--list")) {
            for (size_t k = 0; k < SCENARIO_COUNT; k++)
                printf("%-10s %s\n", scenarios[k].name, scenarios[k].meaning);
            return 0;
        } else die("unknown or incomplete option %s", word);
    }
    signal(SIGALRM, on_signal);
#if STRESS_SLOW == 1
    signal(SIGSEGV, on_signal), signal(SIGBUS, on_signal), signal(SIGABRT, on_signal);
#endif
    free(get(1)); /* the process heap is made by its first malloc */
    if (!chosen) chosen = (UINT64_C(1) << SCENARIO_COUNT) - 1;
    for (size_t k = 0; k < SCENARIO_COUNT; k++) {
        /* Sanitizer run-times do not survive a fork among threads, and have a malloc of their
         * own. */
        bool no_fork = STRESS_SLOW > 1 &&
                       (scenarios[k].work == work_fork || scenarios[k].work == work_forks),
             no_malloc = !scenarios[k].policy && !hak_process_heap();
        if (no_fork || no_malloc) chosen &= ~(UINT64_C(1) << k);
    }
    picked = (uint64_t)__builtin_popcountll(chosen);
    for (size_t k = 0; k < SCENARIO_COUNT; k++)
        if (chosen >> k & 1) run(&scenarios[k], seconds * 1000000000u / picked);
    alarm(0);
    return 0;
}
