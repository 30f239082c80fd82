/* late_keys.c: thread-specific values when the program took every key before the library could.
 *
 * `late_keys values`: what threads set under the program's keys is theirs, whatever they allocate.
 * `late_keys ends COUNT`: the records of COUNT short threads come back. Linked without the library
 * and run under LD_PRELOAD, its constructor has a key already; `late_keys late LIBRARY ...` opens
 * the library only after the keys are gone.
 */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hak_layout.h"

static pthread_key_t keys[PTHREAD_KEYS_MAX];
static int key_count;
static char mine;
static void *volatile seen;
static void *(*take)(size_t) = malloc;
static void (*give)(void *) = free;

static void ended(void *value) { seen = value; }

static void take_all_keys(void) {
    while (key_count < PTHREAD_KEYS_MAX &&
           pthread_key_create(&keys[key_count], key_count ? NULL : ended) == 0)
        key_count++;
}

static void *sets(void *unused) {
    pthread_setspecific(keys[0], &mine);
    give(take(100));
    seen = pthread_getspecific(keys[0]);
    return unused;
}
static void *sets_nothing(void *unused) {
    give(take(100));
    return unused;
}

static void join(void *(*work)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL)) exit(3);
    pthread_join(thread, NULL);
}

static int values(void) {
    join(sets);
    if (seen != &mine) return printf("key 0 was overwritten\n"), 1;
    seen = NULL;
    join(sets_nothing);
    if (seen) return printf("the destructor of key 0 got a value that nobody set\n"), 1;
    return 0;
}

static int ends(int count) {
    hak_heap *(*heap)(void) = (hak_heap * (*)(void)) dlsym(RTLD_DEFAULT, "hak_process_heap");
    for (int i = 0; i < count; i++) join(sets_nothing);
    if (!heap || !heap()) return printf("no library\n"), 1;
    if (heap()->thread_top > 16) return printf("%u records\n", heap()->thread_top), 1;
    return 0;
}

int main(int argc, char **words) {
    take_all_keys();
    if (argc > 2 && !strcmp(words[1], "late")) {
        void *library = dlopen(words[2], RTLD_NOW | RTLD_GLOBAL);
        if (!library) return printf("%s\n", dlerror()), 1;
        take = (void *(*)(size_t))dlsym(library, "malloc");
        give = (void (*)(void *))dlsym(library, "free");
        words += 2, argc -= 2;
    }
    int bad = argc > 2 && !strcmp(words[1], "ends") ? ends(atoi(words[2])) : values();
    printf("%d keys: %s\n", key_count, bad ? "wrong" : "right");
    return bad;
}
