/* plugin.c: a plugin that is loaded with RTLD_DEEPBIND. Each function allocates for its caller, or
 * frees what its caller allocated. `whose` stands in the program too: the flag keeps them apart.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char *needed_early;

char *plugin_early;

__attribute__((constructor)) static void begin(void) { plugin_early = malloc(200); }

const char *whose(void) { return "plugin"; }
const char *plugin_whose(void) { return whose(); }

void *plugin_make(unsigned way) {
    void *block = NULL;
    char *line = NULL;
    size_t room = 0;
    FILE *file;
    switch (way) {
    case 0: return malloc(100);
    case 1: return calloc(10, 100);
    case 2: return realloc(NULL, 5000);
    case 3: return aligned_alloc(256, 512);
    case 4: return posix_memalign(&block, 4096, 100) ? NULL : block;
    case 5: return reallocarray(NULL, 10, 10);
    case 6: return memalign(64, 64);
    case 7: return strdup("from libc");
    case 8: return asprintf(&line, "%d", 7) > 0 ? line : NULL;
    case 9:
        file = fopen("/proc/self/maps", "r");
        if (getline(&line, &room, file) < 1) abort();
        fclose(file);
        return line;
    default: return NULL;
    }
}

void plugin_take(void *block) {
    block = realloc(block, malloc_usable_size(block) + 1000);
    memset(block, 1, malloc_usable_size(block));
    free(block);
    free(needed_early), needed_early = NULL;
}

/* inner.so is in a directory that is in this plugin's RUNPATH and in no other. */
void *plugin_inner(void) {
    void *inner = dlopen("deepbind-inner.so", RTLD_NOW | RTLD_DEEPBIND);
    if (!inner) return NULL;
    void *(*make)(void) = (void *(*)(void))dlsym(inner, "inner_make");
    void (*take)(void *) = (void (*)(void *))dlsym(inner, "inner_take");
    take(malloc(300));
    return make();
}
