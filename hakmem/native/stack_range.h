/* stack_range.h: which addresses of a stack may be read; see stack_range.c. */
#ifndef HAK_STACK_RANGE_H
#define HAK_STACK_RANGE_H
#include "hak_internal.h"

typedef struct hak_stack_range {
    uint64_t low, high; /* what is known to be readable: from the live stack pointer up */
    uint64_t most;      /* pages are asked for up to here */
} hak_stack_range;

/* The range above a stack pointer. `is_live`: of the calling code, so that its page is readable. */
HAK_HIDDEN void hak_stack_range_begin(hak_stack_range *range, uint64_t sp, bool is_live);
HAK_HIDDEN bool hak_stack_range_reach(hak_stack_range *range, uint64_t address);

/* Whether the 8 bytes at an address are aligned and readable. */
static inline bool hak_stack_has(hak_stack_range *range, uint64_t address) {
    if (address < range->low || address & (sizeof(uint64_t) - 1)) return false;
    if (hak_likely(address < range->high)) return true;
    return hak_stack_range_reach(range, address);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAK_READS_STACK __attribute__((noinline, no_sanitize("address", "thread"), unused))
#else
#define HAK_READS_STACK inline
#endif
/* Reads a word that may be read. Sanitizers would tell of red zones in a stack. */
HAK_READS_STACK static uint64_t hak_stack_load(uint64_t address) {
    return *(const uint64_t *)(uintptr_t)address;
}
/* Reads a word if it may be read. */
static inline bool hak_stack_word(hak_stack_range *range, uint64_t address, uint64_t *word) {
    if (!hak_stack_has(range, address)) return false;
    *word = hak_stack_load(address);
    return true;
}

#endif
