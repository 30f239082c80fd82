/* Says where its functions call from, a name and a return address a line, and waits for its input
 * to end. */
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((noinline)) void say(const char *name) {
    printf("%s %p\n", name, __builtin_return_address(0));
    __asm__ volatile("");
}

static inline __attribute__((always_inline)) void innermost(void) { say("inlined"); }

static inline __attribute__((always_inline)) void inner(void) { innermost(); }

__attribute__((noinline)) void outer(void) {
    inner();
    __asm__ volatile("");
}

__attribute__((noinline)) static void hidden(void) {
    say("hidden");
    __asm__ volatile("");
}

int main(int count, char **words) {
    outer();
    hidden();
    if (count > 1) {
        void *library = dlopen(words[1], RTLD_NOW);
        void (*call)(void (*)(const char *)) = library ? dlsym(library, "plugin_call") : 0;
        if (!call) {
            return 1;
        }
        call(say);
    }
    fflush(stdout);
    char end;
    return (int)read(0, &end, 1);
}
