/* objects.h: which object lies at an address: a word for every 8 bytes of memory, in windows of
 * 64 MiB that are mapped where a first block lies in them. A window's first half is for multiples
 * of 16, where nearly every block begins, the second for the others: so the words that are in use
 * stand close together, and as huge pages where the OS has them. A word that no cache holds is most
 * of what a recorded free costs.
 *
 * A word is the object's thread and its number among what that thread made, 0 where no block
 * begins. Only who holds the block touches it: he who got it from malloc writes, he who gives it to
 * free takes. The program's own hand-over of the block publishes it, so relaxed suffices.
 */
#ifndef HAK_RECORD_OBJECTS_H
#define HAK_RECORD_OBJECTS_H
#include "record.h"

enum {
    OBJECT_WINDOW_SHIFT = 26,
    OBJECT_ADDRESS_BITS = 47,
};

/* NULL or a window's words; set once by CAS (release), read by acquire: the words are zero. */
extern uint64_t *object_windows[1u << (OBJECT_ADDRESS_BITS - OBJECT_WINDOW_SHIFT)];

uint64_t *object_window_new(uintptr_t address);

/* A block's address has no more bits than the table knows: no OS gives such without being asked. */
static inline uint64_t *object_word(uintptr_t address, bool make) {
    uint64_t *window =
        __atomic_load_n(&object_windows[address >> OBJECT_WINDOW_SHIFT], __ATOMIC_ACQUIRE);
    if (record_unlikely(!window)) {
        if (!make || !(window = object_window_new(address))) return NULL;
    }
    size_t in_window = address & ((1u << OBJECT_WINDOW_SHIFT) - 1);
    if (record_unlikely(address & 8)) window += 1u << (OBJECT_WINDOW_SHIFT - 4);
    size_t index = in_window >> 4;
    return &window[index ^ index >> 6]; /* blocks 1 KiB apart would share few sets of a cache */
}

static inline void object_put(const void *block, uint64_t object) {
    uint64_t *word = object_word((uintptr_t)block, object != 0);
    if (word) __atomic_store_n(word, object, __ATOMIC_RELAXED);
}

/* The object at a block that is about to go; 0 where none is known. Often the word is in no cache:
 * nobody decides by it before the journal is full, so that the program need not wait. */
static inline uint64_t object_take(const void *block) {
    uint64_t *word = object_word((uintptr_t)block, false);
    if (!word) return 0;
    uint64_t object = __atomic_load_n(word, __ATOMIC_RELAXED);
    __atomic_store_n(word, 0, __ATOMIC_RELAXED);
    return object;
}
#endif
