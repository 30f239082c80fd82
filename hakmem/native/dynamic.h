/* dynamic.h: the symbols of a library that is loaded; see dynamic.c. */
#ifndef HAK_DYNAMIC_H
#define HAK_DYNAMIC_H
#include <elf.h>
#include <link.h>

#include "hak_internal.h"

typedef struct hak_dynamic {
    uintptr_t shift; /* an address minus what the file says it is */
    const ElfW(Sym) * symbols;
    uint32_t symbol_count;
    bool executable; /* the segment they stand in: a C library may be linked so */
    const char *strings;
} hak_dynamic;

/* False where `image` is no library with a symbol table. */
HAK_HIDDEN bool hak_dynamic_find(const void *image, hak_dynamic *found);
static inline const char *hak_dynamic_name(const hak_dynamic *d, const ElfW(Sym) * symbol) {
    return d->strings + symbol->st_name;
}

#endif
