/* linked.h: symbols of what the loader has loaded, read without its lock; see linked.c. */
#ifndef HAK_LINKED_H
#define HAK_LINKED_H
#include "hak_internal.h"

/* One object of the link map, as much of it as a lookup of a symbol needs. */
typedef struct hak_linked {
    uintptr_t shift; /* an address minus what the file says it is */
    uintptr_t symbols, strings, hash;
    uint32_t buckets, first, bloom_words, bloom_shift; /* the head of the hash table */
} hak_linked;

/* A walk over the link map, the program itself first. */
typedef struct hak_linked_walk {
    uintptr_t node; /* the next one; 0: the end */
    uint32_t count; /* of those seen so far */
} hak_linked_walk;

HAK_HIDDEN bool hak_linked_begin(hak_linked_walk *walk);
HAK_HIDDEN bool hak_linked_next(hak_linked_walk *walk, uintptr_t *shift, uintptr_t *dynamic);
HAK_HIDDEN bool hak_linked_open(uintptr_t shift, uintptr_t dynamic, hak_linked *found);
HAK_HIDDEN uintptr_t hak_linked_symbol(const hak_linked *object, const char *name);

#endif
