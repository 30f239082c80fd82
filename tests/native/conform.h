/* conform.h: named checks of a malloc, each in a child process of its own, so that a crash is that
 * check's alone.
 *
 * The program prints a line for each check: `ok NAME`, with what it said behind it, or `not ok
 * NAME: why`; with names as arguments only for those. CHECK promises something of our malloc. ALIKE
 * promises that glibc's does the same: it passes there too and says the same. --alike runs those
 * alone.
 */
#ifndef CONFORM_H
#define CONFORM_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct check {
    const char *name;
    void (*run)(void);
    int alike;
    struct check *next;
} check;

static check *first_check, **last_check = &first_check;
static const check *running;
static char said[200];

#define DECLARE(name_, alike_)                                   \
    static void name_(void);                                     \
    static check check_##name_ = {#name_, name_, alike_, NULL};  \
    __attribute__((constructor)) static void add_##name_(void) { \
        *last_check = &check_##name_;                            \
        last_check = &check_##name_.next;                        \
    }                                                            \
    static void name_(void)
#define CHECK(name) DECLARE(name, 0)
#define ALIKE(name) DECLARE(name, 1)

__attribute__((format(printf, 3, 4), noreturn)) static void fail(int line, const char *what,
                                                                 const char *format, ...) {
    va_list rest;
    printf("not ok %s: line %d: %s does not hold: ", running->name, line, what);
    va_start(rest, format);
    vprintf(format, rest);
    va_end(rest);
    printf("\n");
    fflush(stdout);
    _exit(1);
}
#define EXPECT(condition, ...) ((condition) ? (void)0 : fail(__LINE__, #condition, __VA_ARGS__))

__attribute__((format(printf, 1, 2), unused)) static void say(const char *format, ...) {
    va_list rest;
    size_t used = strlen(said);
    va_start(rest, format);
    vsnprintf(said + used, sizeof said - used, format, rest);
    va_end(rest);
}

/* The value, unknown to the compiler: no warning of sizes that are meant to be too large, no call
 * left out. */
__attribute__((unused)) static size_t opaque(size_t value) {
    __asm__ volatile("" : "+r"(value));
    return value;
}
__attribute__((unused)) static void *kept(void *block) {
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}

static int run_check(const check *one) {
    int status = 0;
    running = one;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        one->run();
        printf("ok %s%s%s\n", one->name, *said ? " " : "", said);
        fflush(stdout);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return 1;
    if (WIFSIGNALED(status)) printf("not ok %s: signal %d\n", one->name, WTERMSIG(status));
    return status != 0;
}

__attribute__((unused)) static int run_checks(int argc, char **argv) {
    int failed = 0, alike = argc > 1 && !strcmp(argv[1], "--alike");
    for (const check *one = first_check; one; one = one->next) {
        int wanted = argc == 1 || (alike && one->alike);
        for (int i = 1; i < argc; i++) wanted |= !strcmp(argv[i], one->name);
        if (wanted) failed |= run_check(one);
    }
    return failed;
}
#endif
