/* stress_work.h: what a worker thread does in one round of a scenario: the mixes, rings, churn, and
 * trimming beside. */
#ifndef STRESS_WORK_H
#define STRESS_WORK_H
#include "stress.h"

/* A size of any band: uniform in its logarithm, so that small ones are common and no class is left
 * out. */
static uint64_t random_size(worker *w) {
    const mix *m = &w->stage->mix;
    uint32_t dice = (uint32_t)below(w, 256);
    uint32_t low = dice < m->span             ? 16
                   : dice < m->span + m->pool ? 10
                                              : 0,
             high = dice < m->span             ? m->span_shift
                    : dice < m->span + m->pool ? 16
                                               : 10;
    uint64_t top = UINT64_C(1) << (low + 1 + below(w, high - low));
    return 1 + below(w, top);
}

static item random_item(worker *w) {
    const mix *m = &w->stage->mix;
    uint64_t bytes = random_size(w), align = 0;
    if (one_in_256(w, m->aligned)) align = UINT64_C(1) << below(w, below(w, 16) ? 13 : 23);
    return item_alloc(w, bytes, align, one_in_256(w, m->zeroed));
}

/* One operation on a random place of the worker's table. */
static void step(worker *w) {
    const mix *m = &w->stage->mix;
    item *it = &w->table[below(w, w->table_count)];
    if (one_in_256(w, m->swapped)) {
        *it = slot_swap(&w->stage->slots[below(w, SLOT_COUNT)], *it);
        if (it->at && one_in_256(w, 128)) item_free(w, it);
    } else if (it->at && one_in_256(w, m->resized)) {
        item_resize(w, it,
                    one_in_256(w, 128) ? random_size(w) : 1 + it->bytes + below(w, it->bytes));
    } else if (it->at) {
        item_free(w, it);
    } else {
        *it = random_item(w);
        if (!it->at) /* out of memory, which is allowed here: make room */
            for (uint32_t i = 0; i < w->table_count; i++)
                if (one_in_256(w, 128)) item_free(w, &w->table[i]);
    }
}

static void work_mixed(worker *w) {
    for (uint32_t i = 0; i < w->stage->mix.ops; i++) step(w);
}

/* Even workers fill the ring that the next worker empties; both in batches of a random length. */
static void work_ring(worker *w) {
    stage *s = w->stage;
    ring *r = &s->rings[w->index / 2];
    bool consumer = w->index & 1;
    if (!consumer && w->index + 1 == s->threads) { /* the odd one out */
        work_mixed(w);
        return;
    }
    for (uint32_t left = s->mix.ops; left;) {
        /* each acquires the other's release */
        uint64_t head = hak_load_acquire(&r->head), tail = hak_load_acquire(&r->tail);
        uint64_t room = consumer ? tail - head : RING_COUNT - (tail - head), n = 1 + below(w, 64);
        if (n > left) n = left;
        if (n > room) n = room;
        if (!n) sched_yield();
        for (uint64_t i = 0; i < n; i++) {
            if (consumer) item_free(w, &r->items[(head + i) % RING_COUNT]);
            else r->items[(tail + i) % RING_COUNT] = random_item(w);
        }
        if (consumer) hak_store_release(&r->head, head + n);
        else hak_store_release(&r->tail, tail + n);
        left -= (uint32_t)n;
    }
}

/* The batch calls: a handful of blocks at once, freed in another order by whoever finds them. */
static void work_batch(worker *w) {
    enum { BATCH_COUNT = 96 };
    uint64_t sizes[BATCH_COUNT], blocks[BATCH_COUNT];
    hak_heap *h = w->stage->heap;
    for (uint32_t round = 0; round < w->stage->mix.ops / BATCH_COUNT; round++) {
        for (uint32_t i = 0; i < BATCH_COUNT; i++) sizes[i] = random_size(w);
        uint64_t n = hak_heap_alloc_many(h, sizes, BATCH_COUNT, blocks);
        if (n != BATCH_COUNT) die("alloc_many: %llu of %d", (unsigned long long)n, BATCH_COUNT);
        uint64_t kept = 0;
        for (uint32_t i = 0; i < BATCH_COUNT; i++) {
            item it = {(unsigned char *)(uintptr_t)blocks[i], sizes[i],
                       (uint64_t)w->index << 48 ^ ++w->serial, 0};
            check_place(&it);
            fill(&it);
            item other = slot_swap(&w->stage->slots[below(w, SLOT_COUNT)], it);
            if (!other.at) continue;
            verify(&other);
            blocks[kept++] = (uintptr_t)other.at;
        }
        hak_fault fault;
        uint64_t freed = hak_heap_free_many(h, blocks, kept, &fault);
        if (freed != kept)
            die("free_many stopped at %llu of %llu: fault %u", (unsigned long long)freed,
                (unsigned long long)kept, fault.code);
    }
}

/* Worker 0 trims, flushes, ticks and prewarms while the others work. */
static void work_trim(worker *w) {
    hak_heap *h = w->stage->heap;
    if (w->index) {
        work_mixed(w);
        return;
    }
    for (uint32_t i = 0; i < w->stage->mix.ops / 256 + 1; i++) {
        switch (below(w, 4)) {
        case 0: hak_heap_flush(h); break;
        case 1: hak_heap_tick(h); break;
        case 2: hak_heap_prewarm(h); break;
        default: hak_heap_trim(h);
        }
        for (uint32_t j = 0; j < 16; j++) step(w);
    }
}

/* A thread of the churn: some work, its blocks left in the slots for others to free after it is
 * gone. */
static void *short_life(void *argument) {
    worker *w = argument;
    for (uint32_t i = 0; i < 24; i++) step(w);
    for (uint32_t i = 0; i < w->table_count; i++) {
        if (!w->table[i].at) continue;
        w->table[i] = slot_swap(&w->stage->slots[below(w, SLOT_COUNT)], w->table[i]);
        item_free(w, &w->table[i]);
    }
    return NULL;
}

/* Threads one after another; ops is how many in a round. The table goes from one to the next, never
 * shared. */
static void work_churn(worker *w) {
    for (uint32_t i = 0; i < w->stage->mix.ops; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, short_life, w)) die("pthread_create");
        pthread_join(thread, NULL);
    }
}

#endif
