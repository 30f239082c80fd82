/* chain.c: three functions that call each other and then a visitor; built several times, each time
 * with other options, as libraries that are loaded late. Their frames differ in size and kind. */
#include <stdint.h>
#include <string.h>

#ifndef CHAIN_WORDS
#define CHAIN_WORDS 7
#endif

void chain_third(void (*visit)(void *), void *with, int words);
void chain_second(void (*visit)(void *), void *with, int words);
void chain_first(void (*visit)(void *), void *with, int words);

#define KEEP(x) __asm__ volatile("" : : "r"(x) : "memory")

/* A frame of a fixed size. */
void chain_third(void (*visit)(void *), void *with, int words) {
    uint64_t room[CHAIN_WORDS];
    room[0] = (uint64_t)words; /* no more: the code is as long with another size */
    KEEP(room);
    visit(with);
    KEEP(room);
}

/* One whose size is known when it runs: its CFA is the frame pointer's. */
void chain_second(void (*visit)(void *), void *with, int words) {
    uint64_t room[words + 1];
    memset(room, words, sizeof room);
    KEEP(room);
    chain_third(visit, with, words);
    KEEP(room);
}

/* One that aligns its stack: its CFA is an expression. */
void chain_first(void (*visit)(void *), void *with, int words) {
    _Alignas(64) uint64_t room[CHAIN_WORDS + 9];
    memset(room, words, sizeof room);
    KEEP(room);
    chain_second(visit, with, words + 3);
    KEEP(room);
}
