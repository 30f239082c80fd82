/* stack_range.c: how far up from the stack pointer a walk may read.
 *
 * A walk reads words above the live stack pointer only, and only OS pages that follow without a gap
 * on the page of the stack pointer: those of an intact stack do. So a damaged chain of frames, a
 * stack pointer in a coroutine's stack or on an alternate signal stack, or one that nobody ever
 * heard of, ends a walk where the mapping ends, at the latest.
 *
 * 1. The thread's own stack. Of threads made by the C library it ends at the thread pointer, of the
 *    first one at __libc_stack_end. Whether the stack pointer is in it at all is asked of the OS,
 *    page by page, once: every page from the stack pointer to that end is readable, so no guard
 *    lies between. `own` remembers how far down that is known, and is extended in the same way. The
 *    pages of an own stack stay as long as the thread, hence no OS call at later walks.
 * 2. Any other stack comes and goes, so nothing of it is remembered but that it is not the thread's
 *    own: its pages are asked for at each walk as the walk comes to them, HAK_STACK_PAGES at most.
 *
 * What nobody can tell: a stack without a guard that adjoins the own one and is unmapped later, in
 * a thread whose next such stack begins lower, with a damaged chain. Both words are the thread's,
 * but handlers, and a vfork's child, write them between any two instructions: each is right alone.
 */
#include "stack_range.h"

extern void *__libc_stack_end __attribute__((weak));

#define PAGE_MASK ((uint64_t)HAK_OS_PAGE_BYTES - 1)
#define ENDS_AT_THREAD 1u /* beside the address of a page in `own` */
#define ENDS_AT_START 2u
#define ENDS_MASK (ENDS_AT_THREAD | ENDS_AT_START)

/* Lowest page of the own stack that is known, and where it ends; 0: not known yet. */
static __thread uint64_t own;
/* A range of pages known not to be of the own stack: the first one's number above, the count below.
 */
static __thread uint64_t strange;

static uint64_t thread_pointer(void) {
    uint64_t pointer = 0;
#if defined(__x86_64__)
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
#elif defined(__aarch64__)
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#endif
    return pointer;
}

static uint64_t end_of(uint64_t ends) {
    if (ends & ENDS_AT_THREAD) return thread_pointer();
    if (ends & ENDS_AT_START) return &__libc_stack_end ? (uintptr_t)__libc_stack_end : 0;
    return 0;
}

/* The end that the own stack would have, were this stack pointer in it. */
static uint64_t guess_end(uint64_t sp) {
    for (uint64_t ends = ENDS_AT_THREAD; ends <= ENDS_AT_START; ends++)
        if (end_of(ends) - sp < HAK_STACK_NEAR_BYTES) return ends;
    return 0;
}

/* The first page from one on that is not readable, at most `end`. */
static uint64_t first_gap(uint64_t page, uint64_t end) {
    while (page < end && hak_os_is_readable(page)) page += HAK_OS_PAGE_BYTES;
    return page;
}

static bool is_strange(uint64_t page) {
    uint64_t first = strange >> HAK_STACK_COUNT_BITS,
             count = strange & ((UINT64_C(1) << HAK_STACK_COUNT_BITS) - 1);
    return page / HAK_OS_PAGE_BYTES - first < count;
}
static void note_strange(uint64_t page, uint64_t end) {
    strange = page / HAK_OS_PAGE_BYTES << HAK_STACK_COUNT_BITS | (end - page) / HAK_OS_PAGE_BYTES;
}

/* The end of the own stack, if this stack pointer is in it, else 0. `page`: the first one that is
 * not known to be readable. */
HAK_COLD static uint64_t find_own(uint64_t sp, uint64_t page) {
    uint64_t known = own, ends = known ? known & ENDS_MASK : guess_end(sp), end = end_of(ends);
    uint64_t first = sp & ~PAGE_MASK, last = known ? known & ~PAGE_MASK : end;
    if (!end || last - first >= HAK_STACK_NEAR_BYTES || is_strange(first)) return 0;
    uint64_t gap = first_gap(page, last);
    if (gap < last) {
        note_strange(first, gap > first ? gap : first + HAK_OS_PAGE_BYTES);
        return 0;
    }
    own = first | ends;
    return end;
}

void hak_stack_range_begin(hak_stack_range *range, uint64_t sp, bool is_live) {
    uint64_t known = own, end = end_of(known & ENDS_MASK), first = sp & ~PAGE_MASK;
    uint64_t page = is_live ? first + HAK_OS_PAGE_BYTES : first;
    if (!known || sp < (known & ~PAGE_MASK) || sp >= end) end = find_own(sp, page);
    range->low = sp;
    range->high = end ? end & ~(uint64_t)(sizeof(uint64_t) - 1) : page;
    range->most = end ? range->high : page + (uint64_t)HAK_STACK_PAGES * HAK_OS_PAGE_BYTES;
}

/* Extends the range, so that it holds the word at an aligned address. */
HAK_COLD bool hak_stack_range_reach(hak_stack_range *range, uint64_t address) {
    if (address >= range->most) return false;
    range->high = first_gap(range->high, (address | PAGE_MASK) + 1);
    return address < range->high;
}
