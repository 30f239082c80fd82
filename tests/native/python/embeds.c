/* embeds.c: a program that loads a Python late, ends and unloads it, and does so once more,
 * by the names of its API, without its headers. Preloaded with probe.c; prints a line a step.
 *
 *   embeds LIBPYTHON HOME
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIZE 345679
static const char script[] = "def made():\n    return bytearray(345679)\n\nmade()\n";

static void *need(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) fprintf(stderr, "embeds: no %s: %s\n", name, dlerror());
    if (!found) exit(2);
    return found;
}
static void say(const char *step) {
    uint32_t (*take)(char *, uint32_t) = need(RTLD_DEFAULT, "probe_take");
    char record[4096];
    uint32_t bytes = take(record, sizeof record);
    for (uint32_t i = 0; i < bytes; i++)
        if (record[i] == '\n') record[i] = '|';
    printf("%s: %.*s\n", step, (int)bytes, record);
    fflush(stdout);
}
static void rest(void) {
    /* longer than the library waits between two looks for a Python */
    nanosleep(&(struct timespec){1, 100000000}, NULL);
}

static void once(const char *file) {
    void *library = dlopen(file, RTLD_NOW | RTLD_GLOBAL);
    if (!library) fprintf(stderr, "embeds: %s\n", dlerror());
    if (!library) exit(2);
    *(int *)need(library, "Py_NoSiteFlag") = 1;
    rest();
    free(malloc(SIZE));
    say("loaded");
    ((void (*)(int))need(library, "Py_InitializeEx"))(0);
    ((int (*)(const char *, void *))need(library, "PyRun_SimpleStringFlags"))(script, NULL);
    say("run");
    free(malloc(SIZE));
    say("outside");
    ((int (*)(void))need(library, "Py_FinalizeEx"))();
    free(malloc(SIZE));
    say("ended");
    dlclose(library);
    printf("unloaded: %d\n", !dlopen(file, RTLD_NOW | RTLD_NOLOAD));
    free(malloc(SIZE));
    say("gone");
}

int main(int count, char **words) {
    if (count != 3) return 2;
    *(uint64_t *)need(RTLD_DEFAULT, "probe_to") = SIZE + 99;
    *(uint64_t *)need(RTLD_DEFAULT, "probe_from") = SIZE;
    setenv("PYTHONHOME", words[2], 1);
    free(malloc(SIZE));
    say("none");
    once(words[1]);
    once(words[1]);
    return 0;
}
