/* What a contended cache line costs: two threads on two CPUs add to one word in turn. Prints the
 * least of the rounds' ns for one handover, as JSON; a round is shorter than a time slice, so that
 * a busy machine lets some of them through. Called by shared_writes.py. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define HANDOVERS 2000u
#define ROUNDS 2000u

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
        while (atomic_load_explicit(&word, memory_order_acquire) != turn) continue;
        atomic_store_explicit(&word, turn + 1, memory_order_release);
    }
}

static void *other_side(void *unused) {
    (void)unused;
    turns_take(1, (uint64_t)HANDOVERS * ROUNDS);
    return NULL;
}

int main(void) {
    double least = 1e18;
    pthread_t other;
    if (pthread_create(&other, NULL, other_side, NULL)) return 1;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        const uint64_t start = now_ns();
        turns_take(round * HANDOVERS, (round + 1) * HANDOVERS);
        const double taken = (double)(now_ns() - start) / HANDOVERS;
        if (taken < least) least = taken;
    }
    pthread_join(other, NULL);
    printf("{\"handover_ns\": %.1f}\n", least);
    return 0;
}
