/* runs.h: what tests and runs.c share. */
#ifndef HAK_RUNS_H
#define HAK_RUNS_H
#include <stdint.h>
uint32_t hak_run_bin(uint32_t units) __attribute__((visibility("hidden")));
#endif
