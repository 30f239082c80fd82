/* stacks.h: what the programs that compare stacks share. */
#ifndef STACKS_H
#define STACKS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <execinfo.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 128
#define NOINLINE __attribute__((noinline))
#define KEEP(x) __asm__ volatile("" : : "r"(x) : "memory")

uint32_t stack_take(uint64_t *frames, uint32_t most);

typedef struct taken {
    uint64_t frames[MOST];
    void *others[MOST]; /* what glibc's backtrace says */
    uint32_t count;
    int other_count; /* negative: it is not asked */
} taken;

typedef void chain(void (*visit)(void *), void *with, int words);
typedef struct library {
    void *handle;
    chain *first, *second, *third;
} library;

extern const char *case_name;

/* Ends the program with a line that names the case. */
void wrong(const char *what, uint64_t found) __attribute__((noreturn));
/* Visitor of a `taken`: takes the stack, and glibc's if it is to. */
void look(void *with);
/* Whether a frame is in a function. */
bool is_in(uint64_t frame, const void *function);
/* The first frames are in these functions, NULL ends them. */
void expect(const taken *t, const void *const *functions);
/* All but the first frame, from which each was called at its own line, are what glibc found. */
void expect_same(const taken *t);
/* A library from the program's folder. */
library open_library(const char *name);
/* Calls the library's chain, which then looks. Its frames are checked against those of the chain,
 * this function's, and `caller`. */
void check_chain(const library *lib, const void *caller);

/* The cases that other files hold. */
void threads_case(void);
void coroutines_case(void);
void handler_case(void);
void children_case(void);
void damaged_case(void);
void endless_case(void);
void random_case(void);
void stepped_case(void);
void quiet_case(void);
void reloaded_case(void);
void storm_case(void);
void cost_case(void);

#endif
