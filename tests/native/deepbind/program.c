/* program.c: loads plugins with RTLD_DEEPBIND and exchanges blocks with them.
 *
 *   program now|lazy PLUGIN...    a thread for each plugin; prints what it saw
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int mode;

const char *whose(void) { return "program"; }

static void *symbol(void *plugin, const char *name) {
    void *found = dlsym(plugin, name);
    if (!found) fprintf(stderr, "%s\n", dlerror()), exit(2);
    return found;
}

/* Mappings of the C library that may be written: as many behind as before. */
static int writable_maps(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4096];
    int count = 0;
    while (fgets(line, sizeof line, maps)) count += strstr(line, "libc.so") && strstr(line, " rw");
    fclose(maps);
    return count;
}

static void *load(void *name) {
    void *plugin = dlopen(name, mode | RTLD_DEEPBIND);
    if (!plugin) fprintf(stderr, "%s\n", dlerror()), exit(2);
    void *(*make)(unsigned) = (void *(*)(unsigned))symbol(plugin, "plugin_make");
    void (*take)(void *) = (void (*)(void *))symbol(plugin, "plugin_take");
    char **early = symbol(plugin, "plugin_early");
    for (unsigned way = 0; way < 10; way++) {
        void *block = make(way);
        if (!block) fprintf(stderr, "no block of way %u\n", way), exit(2);
        free(realloc(block, 10000));
        take(malloc(way * 1000 + 1));
    }
    free(*early);
    void *inner = ((void *(*)(void))symbol(plugin, "plugin_inner"))();
    if (!inner) fprintf(stderr, "inner: %s\n", dlerror()), exit(2);
    free(inner);
    printf("%s\n", ((const char *(*)(void))symbol(plugin, "plugin_whose"))());
    if (dlclose(plugin)) fprintf(stderr, "%s\n", dlerror()), exit(2);
    return NULL;
}

int main(int count, char **words) {
    enum { MOST = 64 };
    pthread_t thread[MOST];
    int before = writable_maps();
    mode = strcmp(words[1], "lazy") ? RTLD_NOW : RTLD_LAZY;
    for (int i = 2; i < count && i < MOST; i++) pthread_create(&thread[i], NULL, load, words[i]);
    for (int i = 2; i < count && i < MOST; i++) pthread_join(thread[i], NULL);
    printf("%d mappings more\n", writable_maps() - before);
    return 0;
}
