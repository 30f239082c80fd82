/* stress.h: what the stress driver's rooms share: options, random numbers, blocks filled and
 * verified, the shared slots.
 *
 * Every block carries a pattern made of its tag (who allocated it, and when) and verified when it
 * is freed, also by another thread. An error is one line on stderr and exit status 1, at once:
 * die() never returns.
 */
#ifndef STRESS_H
#define STRESS_H
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hak_internal.h"
#include "hakmem.h"

#if defined(__SANITIZE_THREAD__)
#define STRESS_SLOW 8 /* ThreadSanitizer: so many times fewer operations */
#elif defined(__SANITIZE_ADDRESS__)
#define STRESS_SLOW 3
#else
#define STRESS_SLOW 1
#endif
#define EDGE_BYTES 256
#define SLOT_COUNT 1024

typedef struct item {
    unsigned char *at;
    uint64_t bytes;
    uint64_t tag;
    uint64_t align;
} item;

/* One block on its way from thread to thread; `busy` is the hand-over's lock. */
typedef struct slot {
    uint32_t busy;
    item held;
} slot;

/* A ring from one producer to one consumer. */
#define RING_COUNT 256
typedef struct ring {
    uint64_t head __attribute__((aligned(64))); /* written by the consumer */
    uint64_t tail __attribute__((aligned(64))); /* written by the producer */
    item items[RING_COUNT];
} ring;

/* What a worker does, in 1/256 of its operations; the rest are plain allocations and frees. */
typedef struct mix {
    uint32_t table_count; /* blocks a worker holds at most */
    uint32_t ops;         /* operations of a round */
    uint32_t span, pool;  /* share of sizes past the tiny band */
    uint32_t aligned, resized, zeroed, swapped;
    uint32_t span_shift; /* spans are below 1 << span_shift bytes */
} mix;

typedef struct stage stage;
typedef struct worker {
    stage *stage;
    uint32_t index;
    uint64_t random, serial;
    item *table;
    uint32_t table_count;
} worker;

struct stage { /* one scenario that runs */
    const char *name;
    hak_heap *heap;
    mix mix;
    uint32_t threads;
    uint32_t allows_null; /* running out of memory is part of the scenario */
    uint32_t process;     /* through malloc and free of this process instead of the C API */
    uint32_t stop;
    uint64_t seed;
    worker *workers;
    slot *slots;
    ring *rings;
    pthread_barrier_t barrier;
};

static const char *current_name = "start";
/* Blocks up to here are filled whole, larger ones at their edges and once a page; --short: 8 KiB.
 */
static uint64_t full_bytes = 65536;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...) {
    /* the first of several threads reports; the others leave it a moment to do so */
    static int reported;
    if (__atomic_exchange_n(&reported, 1, __ATOMIC_ACQ_REL)) {
        sleep(1);
        _exit(1);
    }
    char line[512];
    int n = snprintf(line, sizeof line, "stress: %s: ", current_name);
    va_list arguments;
    va_start(arguments, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, arguments);
    va_end(arguments);
    if (n > (int)sizeof line - 2) n = sizeof line - 2;
    line[n++] = '\n';
    if (write(2, line, (size_t)n) < 0) _exit(2);
    _exit(1);
}

static void *get(size_t bytes) {
    void *made = calloc(1, bytes);
    if (!made) die("no memory for the driver itself");
    return made;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static uint64_t below(worker *w, uint64_t n) { return next_random(&w->random) % n; }
static bool one_in_256(worker *w, uint32_t share) {
    return (next_random(&w->random) & 255) < share;
}

/* ---- pattern ---- */

static uint64_t pattern(uint64_t tag, uint64_t offset) {
    return (tag ^ offset) * UINT64_C(0xff51afd7ed558ccd) + tag;
}

static void fill_range(const item *it, uint64_t from, uint64_t to) {
    for (uint64_t at = from; at < to; at += 8) {
        uint64_t word = pattern(it->tag, at);
        memcpy(it->at + at, &word, to - at < 8 ? to - at : 8);
    }
}
static void verify_range(const item *it, uint64_t from, uint64_t to) {
    for (uint64_t at = from; at < to; at += 8) {
        uint64_t word = pattern(it->tag, at), found = 0;
        uint64_t n = to - at < 8 ? to - at : 8;
        memcpy(&found, it->at + at, n);
        if (memcmp(&word, &found, n))
            die("contents of %p (%llu bytes) at +%llu: expected %016llx, found %016llx",
                (void *)it->at, (unsigned long long)it->bytes, (unsigned long long)at,
                (unsigned long long)word, (unsigned long long)found);
    }
}
/* Calls range(it, from, to) on the filled parts of the first `bytes` bytes. */
static void for_each_part(const item *it, uint64_t bytes, bool tail,
                          void (*range)(const item *, uint64_t, uint64_t)) {
    if (bytes <= full_bytes) {
        range(it, 0, bytes);
        return;
    }
    range(it, 0, EDGE_BYTES);
    for (uint64_t at = HAK_OS_PAGE_BYTES; at + EDGE_BYTES < bytes; at += HAK_OS_PAGE_BYTES)
        range(it, at, at + 8);
    if (tail) range(it, (bytes - EDGE_BYTES) & ~UINT64_C(7), bytes);
}
static void fill(const item *it) { for_each_part(it, it->bytes, true, fill_range); }
static void verify(const item *it) { for_each_part(it, it->bytes, true, verify_range); }

/* ---- blocks ---- */

static void check(stage *s, uint32_t code, const hak_fault *fault, const char *call,
                  const item *it) {
    (void)s;
    if (code)
        die("%s of live block %p (%llu bytes): fault %u, class %u, expected %u, found %u", call,
            (void *)it->at, (unsigned long long)it->bytes, code, fault->class_index,
            fault->expected, fault->found);
}

static void check_place(const item *it) {
    uint64_t least = it->bytes > 8 ? 16 : 8, align = it->align > least ? it->align : least;
    if ((uintptr_t)it->at % align)
        die("block %p of %llu bytes is not aligned to %llu", (void *)it->at,
            (unsigned long long)it->bytes, (unsigned long long)align);
}

/* A block filled with its pattern; at == NULL when out of memory, which only some scenarios
 * allow. */
static item item_alloc(worker *w, uint64_t bytes, uint64_t align, bool zero) {
    hak_heap *h = w->stage->heap;
    item it = {NULL, bytes, (uint64_t)w->index << 48 ^ ++w->serial ^ bytes << 24, align};
    if (w->stage->process)
        it.at = zero        ? (it.align = 0, calloc(1, bytes))
                : align > 1 ? aligned_alloc(align, bytes)
                            : malloc(bytes);
    else
        it.at = align || zero ? hak_heap_alloc_aligned(h, bytes, align ? align : 1, zero)
                              : hak_heap_alloc(h, bytes);
    if (!it.at) {
        if (!w->stage->allows_null) die("no memory for %llu bytes", (unsigned long long)bytes);
        return it;
    }
    check_place(&it);
    if (zero)
        for (uint64_t i = 0; i < bytes; i++)
            if (it.at[i])
                die("zeroed block %p of %llu bytes holds %02x at +%llu", (void *)it.at,
                    (unsigned long long)bytes, it.at[i], (unsigned long long)i);
    if (!one_in_256(w, 240)) { /* sometimes all that may be used */
        hak_fault fault;
        uint64_t usable = 0;
        check(w->stage, hak_heap_usable(h, it.at, &usable, &fault), &fault, "usable", &it);
        if (usable < bytes)
            die("usable size %llu of a block of %llu bytes", (unsigned long long)usable,
                (unsigned long long)bytes);
        it.bytes = usable;
    }
    fill(&it);
    return it;
}

static void item_free(worker *w, item *it) {
    hak_fault fault;
    if (!it->at) return;
    verify(it);
    if (w->stage->process) free(it->at);
    else check(w->stage, hak_heap_free(w->stage->heap, it->at, &fault), &fault, "free", it);
    it->at = NULL;
}

static void item_resize(worker *w, item *it, uint64_t bytes) {
    hak_fault fault;
    void *out = NULL;
    uint64_t kept = bytes < it->bytes ? bytes : it->bytes;
    uint32_t code = HAK_OK;
    if (w->stage->process) out = realloc(it->at, bytes);
    else code = hak_heap_realloc(w->stage->heap, it->at, bytes, &out, &fault);
    if (!code && !out) die("realloc to %llu bytes", (unsigned long long)bytes);
    if (code == HAK_FAULT_NOMEM && w->stage->allows_null) return;
    check(w->stage, code, &fault, "realloc", it);
    it->at = out;
    it->align = 0;
    bool whole = it->bytes <= full_bytes;
    if (whole) verify_range(it, 0, kept);
    else
        for_each_part(it, kept <= full_bytes ? kept < EDGE_BYTES ? kept : EDGE_BYTES : kept, false,
                      verify_range);
    it->bytes = bytes;
    check_place(it);
    fill(it);
}

/* Puts `in` into a slot and returns what was there; the slot's lock is the program's own hand-over
 * of both. */
static item slot_swap(slot *s, item in) {
    uint32_t expected = 0;
    while (!hak_cas_acquire(&s->busy, &expected, 1)) {
        expected = 0;
        sched_yield();
    }
    item out = s->held;
    s->held = in;
    hak_store_release(&s->busy, 0);
    return out;
}

#endif
