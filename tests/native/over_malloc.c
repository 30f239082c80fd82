/* over_malloc.c: threads are reaped while a signal handler that sleeps lies over their malloc or
 * free, cut anywhere; no block may be handed out twice.
 *
 *   over_malloc ROUNDS   a line: operations, sleeps, reaps; exit 1 where a block has changed
 *
 * The process heap's policy must allow membarrier: HAKMEM_OS_CALLS=wide.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "hakmem.h"

enum { THREADS = 16, BLOCKS = 64 };
static int over;
static uint64_t operations, sleeps, broken;

static void sleep_over(int signal) {
    (void)signal;
    struct timespec some = {0, 150000000};
    nanosleep(&some, NULL);
    __atomic_fetch_add(&sleeps, 1, __ATOMIC_RELAXED);
}

static void *work(void *number) {
    uint64_t mark = (uintptr_t)number, n = 0, *row[BLOCKS] = {0};
    uint32_t turn = (uint32_t)mark;
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        turn = turn * 1664525 + 1013904223;
        uint32_t i = (turn >> 10) % BLOCKS;
        if (row[i]) {
            if (row[i][0] != (mark << 32 | i) || row[i][1] != mark)
                __atomic_fetch_add(&broken, 1, __ATOMIC_RELAXED);
            free(row[i]);
        }
        row[i] = malloc(16 + (turn >> 20) % 48);
        row[i][0] = mark << 32 | i;
        row[i][1] = mark;
        n++;
    }
    for (uint32_t i = 0; i < BLOCKS; i++) free(row[i]);
    __atomic_fetch_add(&operations, n, __ATOMIC_RELAXED);
    return NULL;
}

int main(int count, char **words) {
    struct sigaction handler = {.sa_handler = sleep_over};
    pthread_t ids[THREADS];
    uint64_t reaps = 0, blocks = 0;
    sigaction(SIGUSR1, &handler, NULL);
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&ids[i], NULL, work, (void *)(i + 1));
    for (int round = 0; round < (count > 1 ? atoi(words[1]) : 4); round++) {
        usleep(60000);
        for (int i = 0; i < THREADS; i++) pthread_kill(ids[i], SIGUSR1);
        usleep(40000);
        for (uint32_t i = 1; i < THREADS + 4; i++) {
            hak_reaped out;
            if (hak_heap_reap(hak_process_heap(), i, &out) != HAK_REAP_DONE) continue;
            reaps++;
            blocks += out.block_count;
        }
        usleep(150000);
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
    printf("%llu operations, %llu sleeps over them, %llu reaps took %llu blocks, %llu broken\n",
           (unsigned long long)operations, (unsigned long long)sleeps, (unsigned long long)reaps,
           (unsigned long long)blocks, (unsigned long long)broken);
    return broken != 0;
}
