/* What a contended cache line costs: two threads on two CPUs add to one word in turn. Prints the
 * least of the rounds' ns for one handover, as JSON; a round is shorter than a time slice, so that
 * a busy machine lets some of them through, and the last begins within a second. Called by
 * shared_writes.py. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define HANDOVERS 200u
#define ROUNDS 20000u
#define SPINS 10000u /* longer than a handover: the other side has no CPU */
#define PATIENCE_NS 1000000000u
#define OVER UINT64_MAX /* no turn: the other side ends */

static _Alignas(128) atomic_uint_fast64_t word;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Each side waits for its parity and adds one: every add needs the line from the other side. */
static void turns_take(uint64_t turn, uint64_t end) {
    for (; turn < end; turn += 2) {
        /* acquire and release pair with each other: the turns are in order. */
        uint64_t seen;
        for (uint32_t spins = 1; (seen = atomic_load_explicit(&word, memory_order_acquire)) != turn;
             spins++) {
            if (seen == OVER) return;
            if (spins % SPINS == 0) sched_yield();
        }
        atomic_store_explicit(&word, turn + 1, memory_order_release);
    }
}

static void *other_side(void *unused) {
    (void)unused;
    turns_take(1, OVER);
    return NULL;
}

int main(void) {
    double least = 1e18;
    pthread_t other;
    if (pthread_create(&other, NULL, other_side, NULL)) return 1;
    const uint64_t begin = now_ns();
    uint64_t start = begin;
    for (uint64_t round = 0; round < ROUNDS && start - begin < PATIENCE_NS; round++) {
        turns_take(round * HANDOVERS, (round + 1) * HANDOVERS);
        const uint64_t end = now_ns();
        const double taken = (double)(end - start) / HANDOVERS;
        if (taken < least) least = taken;
        start = end;
    }
    /* its partner is the load of the other side, whose turn the last round's end has left */
    while (atomic_load_explicit(&word, memory_order_acquire) & 1) continue;
    atomic_store_explicit(&word, OVER, memory_order_release);
    pthread_join(other, NULL);
    printf("{\"handover_ns\": %.1f}\n", least);
    return 0;
}
