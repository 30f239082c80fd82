/* late_ends.c: short threads of every kind, and how many thread records they leave.
 *
 *   late_ends KIND WORK COUNT: KIND joined, detached or cancelled; WORK nothing, frees or mallocs.
 *
 * Linked without the library. Stacks are of the default size: libc keeps some 40 MiB of them, and
 * what it kept of threads beyond that is freed by whichever thread ends, after its last destructor.
 * A thread that does nothing itself is then a thread that only frees.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hak_layout.h"

enum { AT_ONCE = 32, BLOCKS = 64 };
static unsigned running;
static const char *work;

static void count_out(void *unused) {
    (void)unused;
    __atomic_sub_fetch(&running, 1, __ATOMIC_RELEASE);
}

static void *body(void *blocks) {
    pthread_cleanup_push(count_out, NULL);
    if (!strcmp(work, "mallocs")) free(malloc(100));
    for (size_t i = 0; blocks && i < BLOCKS; i++) free(((void **)blocks)[i]);
    free(blocks);
    pthread_testcancel();
    pthread_cleanup_pop(1);
    return NULL;
}

static void *made_for(void) {
    if (strcmp(work, "frees")) return NULL;
    void **blocks = malloc(BLOCKS * sizeof *blocks);
    for (size_t i = 0; i < BLOCKS; i++) blocks[i] = malloc(48);
    return blocks;
}

static long rss_kib(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) exit(3);
    fclose(file);
    return pages * 4;
}

static void round_of(const char *kind, unsigned count) {
    pthread_t threads[AT_ONCE];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    if (!strcmp(kind, "detached")) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (unsigned i = 0; i < count; i++) {
        __atomic_add_fetch(&running, 1, __ATOMIC_RELAXED);
        if (pthread_create(&threads[i], &attr, body, made_for())) exit(3);
        if (!strcmp(kind, "cancelled")) pthread_cancel(threads[i]);
    }
    pthread_attr_destroy(&attr);
    for (unsigned i = 0; i < count && strcmp(kind, "detached"); i++) pthread_join(threads[i], NULL);
    if (strcmp(kind, "cancelled")) /* one may be cancelled before it counts */
        while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) usleep(200);
    running = 0;
}

int main(int argc, char **words) {
    if (argc != 4) return 2;
    hak_heap *(*heap)(void) = (hak_heap * (*)(void)) dlsym(RTLD_DEFAULT, "hak_process_heap");
    work = words[2];
    unsigned count = (unsigned)atoi(words[3]);
    for (unsigned i = 0; i < count / 10; i += AT_ONCE) round_of(words[1], AT_ONCE);
    long first = rss_kib();
    for (unsigned i = 0; i < count; i += AT_ONCE) round_of(words[1], AT_ONCE);
    printf("%u records, RSS +%ld KiB\n", heap ? heap()->thread_top : 0, rss_kib() - first);
    return 0;
}
