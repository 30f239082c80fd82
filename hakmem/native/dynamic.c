/* dynamic.c: a loaded library's dynamic section, read from where it is mapped: the vDSO's, whose
 * clock is found by it, and the C library's, for deepbind.c. No call of anybody, no lock.
 */
#include "dynamic.h"

#include <string.h>

/* Beside the symbols there is one of two hash tables. The old one's second word is the number of
 * symbols; of the GNU one, the end of the last chain tells it. */
static uint32_t symbol_count(const uint32_t *old, const uint32_t *gnu) {
    if (old) return old[1];
    const uint32_t *buckets = gnu + 4 + gnu[2] * sizeof(ElfW(Addr)) / 4, *chains = buckets + gnu[0];
    uint32_t last = 0;
    for (uint32_t i = 0; i < gnu[0]; i++)
        if (buckets[i] > last) last = buckets[i];
    if (!last) return 0;
    while (!(chains[last - gnu[1]] & 1)) last++;
    return last + 1;
}

/* What the loader has moved is an address already, what nobody has (the vDSO) is none yet. */
static const void *place_of(uintptr_t shift, const ElfW(Dyn) * entry) {
    uintptr_t at = entry->d_un.d_ptr;
    return (const void *)(at < shift ? shift + at : at);
}

bool hak_dynamic_find(const void *image, hak_dynamic *found) {
    const ElfW(Ehdr) *head = image;
    if (memcmp(head, ELFMAG, SELFMAG) != 0) return false;
    const ElfW(Phdr) *parts = (const void *)((const char *)image + head->e_phoff), *dynamic = NULL,
                     *first = NULL;
    for (int i = 0; i < head->e_phnum; i++)
        if (parts[i].p_type == PT_DYNAMIC) dynamic = &parts[i];
        else if (parts[i].p_type == PT_LOAD && !first) first = &parts[i];
    if (!dynamic || !first) return false;
    found->shift = (uintptr_t)image + first->p_offset - first->p_vaddr;
    const uint32_t *old = NULL, *gnu = NULL;
    const ElfW(Dyn) *entry = (const void *)(found->shift + dynamic->p_vaddr);
    for (; entry->d_tag != DT_NULL; entry++) {
        const void *at = place_of(found->shift, entry);
        if (entry->d_tag == DT_SYMTAB) found->symbols = at;
        else if (entry->d_tag == DT_STRTAB) found->strings = at;
        else if (entry->d_tag == DT_HASH) old = at;
        else if (entry->d_tag == DT_GNU_HASH) gnu = at;
    }
    if (!found->symbols || !found->strings || !(old || gnu)) return false;
    found->symbol_count = symbol_count(old, gnu);
    uintptr_t symbols = (uintptr_t)found->symbols - found->shift;
    for (int i = 0; i < head->e_phnum; i++)
        if (parts[i].p_type == PT_LOAD && symbols - parts[i].p_vaddr < parts[i].p_filesz)
            found->executable = parts[i].p_flags & PF_X;
    return true;
}
