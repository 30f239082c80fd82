/* sampled.c: allocates in known ways under the profiler, and prints what is true of each call site
 * beside what the samples say. test_profile.py weighs them.
 *
 *   sampled small N, sampled large N   each pattern of small or large blocks, N rounds. A line
 * "truth NAME FROM BLOCKS BYTES LIVE" for each function that allocates (FROM: its address; BYTES,
 * LIVE: strides), then a line "site FROM CLASS STRIDES RATE SAMPLES FREED LIVE" for each site: FROM
 * is the innermost frame, STRIDES the mean stride, LIVE what still lives. sampled storm N  eight
 * threads allocate, free each other's blocks, fork, end, while the rate changes; the children and
 * the parent see that no sample is left once all is freed. Silent if so. sampled own N    the same
 * without forks, in a heap of its own, which sanitizers see as well
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hak_layout.h"
#include "hakmem.h"

#define SITE __attribute__((noinline))
#define KIB 1024

typedef struct truth {
    const char *name;
    void *from;
    unsigned long blocks, bytes, live;
} truth;

/* The calls are the last thing of no function: a tail call would take the function's frame away. */
#define KEEP_FRAME(block) __asm__ volatile("" : "+r"(block))

static void came(truth *about, void *block) {
    about->blocks++;
    about->bytes += malloc_usable_size(block);
    about->live += malloc_usable_size(block);
}
static void went(truth *about, void *block) {
    about->live -= malloc_usable_size(block);
    free(block);
}

#define ALLOCATES(name, call)      \
    SITE static void *name(void) { \
        void *block = call;        \
        KEEP_FRAME(block);         \
        return block;              \
    }                              \
    static truth name##_ = {#name, (void *)name, 0, 0, 0};

static void *aligned_block(size_t align, size_t size) {
    void *block = NULL;
    return posix_memalign(&block, align, size) ? NULL : block;
}

ALLOCATES(keep, malloc(100))
ALLOCATES(temporary, malloc(100))
ALLOCATES(recycled, malloc(200))
ALLOCATES(zeroed, calloc(3, 180))
ALLOCATES(aligned, aligned_block(64, 900))
ALLOCATES(pool, malloc(9000))
ALLOCATES(big, malloc(100 * KIB))
ALLOCATES(span, malloc(400 * KIB))
ALLOCATES(grown, malloc(300 * KIB))

static truth *const truths[] = {&keep_, &temporary_, &recycled_, &zeroed_, &aligned_,
                                &pool_, &big_,       &span_,     &grown_};
#define TRUTHS (sizeof truths / sizeof *truths)

static void small_patterns(long rounds) {
    void **kept = malloc((size_t)rounds * sizeof *kept), *block;
    for (long i = 0; i < rounds; i++) { /* each new depth of the list is the temporary's */
        came(&keep_, kept[i] = keep());
        came(&temporary_, block = temporary());
        went(&temporary_, block);
    }
    for (long i = 0; i < rounds; i++) {
        came(&recycled_, block = recycled());
        went(&recycled_, block);
        came(&zeroed_, block = zeroed());
        went(&zeroed_, block);
        came(&aligned_, block = aligned());
        went(&aligned_, block);
    }
    for (long i = 0; i < rounds; i += 2) went(&keep_, kept[i]);
}

SITE static void *regrown(void *block) {
    /* in place, where there is room; a sample may be of the first or of a later call */
    for (size_t size = 300 * KIB; size <= 900 * KIB; size += 60 * KIB) block = realloc(block, size);
    KEEP_FRAME(block);
    return block;
}

static void large_patterns(long rounds) {
    void *block;
    for (long i = 0; i < 8 * rounds; i++) {
        came(&pool_, block = pool());
        went(&pool_, block);
    }
    for (long i = 0; i < rounds; i++) {
        came(&big_, block = big());
        went(&big_, block);
        came(&span_, block = span());
        went(&span_, block);
    }
    for (long i = 0; i < rounds / 4; i++) {
        came(&grown_, block = regrown(grown()));
        went(&grown_, block);
    }
}

static hak_profile *profile_of(hak_heap *heap) { return (hak_profile *)heap->profile; }
static hak_site *site_at(hak_profile *p, uint32_t place) {
    return (hak_site *)((char *)p + p->sites_offset + 8ul * place);
}

static uint32_t live_of(hak_profile *p, uint32_t site) {
    const hak_sample *samples = (hak_sample *)((char *)p + p->samples_offset);
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->sample_top; i++)
        count += samples[i].address && samples[i].site == site;
    return count;
}

static void print_sites(hak_profile *p) {
    for (uint32_t at = 1; at < p->sites_used;) {
        const hak_site *site = site_at(p, at);
        const hak_code_name *name = (const hak_code_name *)site;
        const uint64_t *frames = (const uint64_t *)(site + 1);
        if (site->kind == HAK_SITE_STACK) {
            printf("site %p %u %lu %lu %lu %lu %u\n", site->frame_count ? (void *)frames[0] : NULL,
                   site->class_index, (unsigned long)(site->stride_bytes / site->sample_count),
                   (unsigned long)site->rate_bytes, (unsigned long)site->sample_count,
                   (unsigned long)site->freed_count, live_of(p, at));
            at += sizeof *site / 8 + site->frame_count;
        } else {
            at += (uint32_t)(sizeof *name / 8 + (name->name_bytes + name->file_bytes + 7ul) / 8);
        }
    }
}

static int bias(long rounds, bool large) {
    (large ? large_patterns : small_patterns)(rounds);
    for (size_t i = 0; i < TRUTHS; i++)
        printf("truth %s %p %lu %lu %lu\n", truths[i]->name, truths[i]->from, truths[i]->blocks,
               truths[i]->bytes, truths[i]->live);
    printf("truth regrown %p 0 0 0\n", (void *)regrown);
    hak_profile *p = profile_of(hak_process_heap());
    if (!p || p->magic != HAK_PROFILE_MAGIC) return 3;
    print_sites(p);
    return p->lost_count || p->stackless_count ? 4 : 0;
}

/* ---- the storm ---- */

enum { THREADS = 8, SLOTS = 400 };
static _Atomic(void *) slots[SLOTS];
static atomic_bool over;

static size_t size_of(unsigned r) {
    switch (r % 64) {
    case 0: return 300 * KIB + r % 100000;
    case 1: return 60 * KIB + r % 100000;
    case 2: return 1000 + r % 30000;
    default: return 1 + r % 500;
    }
}

static hak_heap *heap; /* malloc's, or one of its own */
static bool is_own;

static void *get(size_t size) { return is_own ? hak_heap_alloc(heap, size) : malloc(size); }
static void give(void *block) {
    hak_fault fault;
    if (!is_own) free(block);
    else if (hak_heap_free(heap, block, &fault)) abort();
}
static void *resize(void *block, size_t size) {
    hak_fault fault;
    void *out = NULL;
    if (!is_own) return realloc(block, size);
    return hak_heap_realloc(heap, block, size, &out, &fault) ? NULL : out;
}

/* Thread 0 ends soon, the others with the storm. */
static void *work(void *number) {
    unsigned r = (unsigned)(size_t)number * 7919 + 1;
    for (int n = 0; !over && (n < 20 || number); n++) {
        for (int i = 0; i < 200; i++) {
            r = r * 1103515245 + 12345;
            void *block = atomic_exchange(&slots[(r >> 8) % SLOTS], NULL);
            if (block && r % 5 == 0) block = resize(block, size_of(r >> 4));
            else {
                give(block);
                block = get(size_of(r >> 4));
            }
            if (!block) abort();
            *(volatile char *)block = 1;
            give(atomic_exchange(&slots[(r >> 16) % SLOTS], block));
        }
    }
    return NULL;
}

static void *again(void *number) {
    while (!over) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, number)) abort();
        pthread_join(thread, NULL);
    }
    return NULL;
}

/* Frees all that the slots hold. What this process still allocates is sampled no more. */
static int left_after_all(uint32_t at_most) {
    hak_heap_profile(heap, 0);
    for (int i = 0; i < SLOTS; i++) give(atomic_exchange(&slots[i], NULL));
    hak_profile *p = profile_of(heap);
    if (p->live_count > at_most)
        fprintf(stderr, "sampled: %u samples left of %lu\n", p->live_count,
                (unsigned long)p->taken_count);
    return p->live_count > at_most;
}

static int child(void) {
    for (int i = 0; i < SLOTS; i++) {
        void *block = get(size_of((unsigned)i * 31));
        *(volatile char *)block = 1;
        give(atomic_exchange(&slots[i], block));
    }
    return left_after_all(THREADS * 2); /* in the hands of threads that are gone */
}

static int storm(long rounds) {
    static const uint64_t rates[] = {300, 0, 4000, 64 * KIB, 0, 1};
    pthread_t threads[THREADS];
    int bad = 0;
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, i ? work : again, (void *)i)) return 2;
    for (long n = 0; n < rounds && !bad; n++) {
        if (hak_heap_profile(heap, rates[n % 6])) return 3;
        usleep(1000);
        if (n % 4 || is_own) continue;
        pid_t pid = fork();
        if (!pid) _exit(child());
        int status;
        if (waitpid(pid, &status, 0) != pid || status) {
            fprintf(stderr, "sampled: a child ended with %#x\n", (unsigned)status);
            bad = 1;
        }
    }
    over = true;
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    return bad ? 1 : left_after_all(2);
}

int main(int count, char **arguments) {
    if (count != 3) return 64;
    long n = atol(arguments[2]);
    is_own = !strcmp(arguments[1], "own");
    hak_fault fault;
    heap = is_own ? hak_heap_create(NULL, 0, 0, &fault) : hak_process_heap();
    if (is_own || !strcmp(arguments[1], "storm")) return storm(n);
    return bias(n, !strcmp(arguments[1], "large"));
}
