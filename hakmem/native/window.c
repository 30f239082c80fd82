/* window.c: which addresses belong to which heap. A heap of either plane takes a window: a range of
 * addresses that it alone may map, and that no other heap of the library grows into. Taking one
 * maps only its first part, which shows that nobody else is there. There is no lock: slots are
 * bits, taken by CAS.
 */
#include "hak_internal.h"

/* One bit for each slot that a heap has taken. The bits are the library's, so that heaps of both
 * planes keep apart. A fork's child inherits them with the heaps. */
static uint64_t slots_taken[(HAK_WINDOW_SLOTS + 63) / 64];

static bool slot_take(uint32_t slot) {
    uint64_t *word = &slots_taken[slot >> 6], bit = UINT64_C(1) << (slot & 63),
             now = hak_load_relaxed(word);
    do
        if (now & bit) return false;
    /* the thread that sets the bit owns the slot; there is nothing to acquire with it but
     * addresses */
    while (!hak_cas_acq_rel(word, &now, now | bit));
    return true;
}
static void slots_give(uint32_t slot, uint32_t count) {
    for (uint32_t i = slot; i < slot + count; i++) {
        uint64_t *word = &slots_taken[i >> 6], now = hak_load_relaxed(word);
        while (!hak_cas_acq_rel(word, &now, now & ~(UINT64_C(1) << (i & 63)))) {}
    }
}

/* A number that differs from process to process, as far as the kernel places programs at random:
 * it is made of two addresses that the kernel chose. The slots of the process are shifted by
 * it. */
static uint64_t chosen_place(void) {
    uint64_t word = (uintptr_t)&hak_root_ ^ (uintptr_t)__builtin_frame_address(0) << 21;
    word = (word ^ word >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return word ^ word >> 29;
}

static uint32_t slots_for(uint64_t bytes) {
    return (uint32_t)((bytes + (UINT64_C(1) << HAK_WINDOW_SLOT_SHIFT) - 1) >>
                      HAK_WINDOW_SLOT_SHIFT);
}

/* Takes `count` slots in a row, searching from `from` on and around the end. HAK_WINDOW_SLOTS:
 * there are none. */
static uint32_t slots_take(uint32_t from, uint32_t count) {
    for (uint32_t i = 0; i < HAK_WINDOW_SLOTS; i++) {
        uint32_t first = (from + i) % HAK_WINDOW_SLOTS, n = 0;
        if (first + count > HAK_WINDOW_SLOTS) continue;
        while (n < count && slot_take(first + n)) n++;
        if (n == count) return first;
        slots_give(first, n);
        i += n;
    }
    return HAK_WINDOW_SLOTS;
}

/* ThreadSanitizer uses these addresses itself, and ignores a wish to map them. */
#if defined(__SANITIZE_THREAD__)
static const bool no_windows = true;
#else
static const bool no_windows = false;
#endif

static uint64_t window_shift; /* set once; two threads at once set the same */

/* Takes a window of `bytes` addresses for a heap, on a superslab's boundary. Only its first
 * `first_bytes` are mapped; no other heap's window overlaps it. NULL: none can be had. */
void *hak_window_take(uint64_t bytes, uint64_t first_bytes) {
    uint64_t place = chosen_place(), superslab = (uint64_t)HAK_SUPERSLAB_UNITS << HAK_UNIT_SHIFT,
             slot_bytes = UINT64_C(1) << HAK_WINDOW_SLOT_SHIFT, shift = 0;
    uint32_t count = slots_for(bytes), slot = (uint32_t)(place >> 40) % HAK_WINDOW_SLOTS;
    if (no_windows) return NULL;
    hak_cas_acq_rel(&window_shift, &shift,
                    HAK_WINDOW_LOW + (place & (slot_bytes - 1) & ~(superslab - 1)));
    shift = hak_load_relaxed(&window_shift);
    for (uint32_t i = 0; i < HAK_WINDOW_TRIES; i++) {
        slot = slots_take(slot, count);
        if (slot == HAK_WINDOW_SLOTS) return NULL;
        void *base = (void *)(uintptr_t)(shift + slot * slot_bytes);
        uint32_t code = hak_os_map_range(NULL, base, first_bytes, false);
        if (code == HAK_MAP_DONE) return base;
        slots_give(slot, count);
        if (code == HAK_MAP_REFUSED) return NULL;
        slot = (slot + count) % HAK_WINDOW_SLOTS;
    }
    return NULL;
}

void hak_window_give(void *base, uint64_t bytes) {
    uint64_t inside = (uintptr_t)base - hak_load_relaxed(&window_shift);
    slots_give((uint32_t)(inside >> HAK_WINDOW_SLOT_SHIFT), slots_for(bytes));
}

/* The same for Python. */
HAK_EXPORT void *hak_os_window(uint64_t bytes, uint64_t first_bytes) {
    return hak_window_take(bytes, first_bytes);
}
HAK_EXPORT void hak_os_window_leave(void *base, uint64_t bytes) { hak_window_give(base, bytes); }
