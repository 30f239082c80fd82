/* linked.c: the symbols of loaded objects, for who stands in malloc.
 *
 * dlsym and dl_iterate_phdr take the loader's locks, which a thread that allocates in dlopen holds
 * already, and may allocate. So the list that the loader keeps for debuggers is read instead, while
 * another thread may change it: the kernel copies each piece (hak_os_copy), and what has been
 * unmapped meanwhile is a copy that fails. What has been freed and used again is a wrong word,
 * whose copy fails or whose name is not the one that was asked for. While the loader says that it
 * changes the list, nobody reads it.
 */
#include "linked.h"

#include <elf.h>
#include <link.h>
#include <string.h>

/* Longer names are asked for by nobody. */
#define NAME_MOST 64

/* False where the loader changes its list just now, or keeps none. */
bool hak_linked_begin(hak_linked_walk *walk) {
    /* Plain: the loader's stores have no order that would help; see above. */
    if (_r_debug.r_state != RT_CONSISTENT) return false;
    *walk = (hak_linked_walk){.node = (uintptr_t)_r_debug.r_map};
    return walk->node != 0;
}

/* The next object: what its addresses are shifted by, and its dynamic section. */
bool hak_linked_next(hak_linked_walk *walk, uintptr_t *shift, uintptr_t *dynamic) {
    struct link_map node;
    if (!walk->node || walk->count > UINT16_MAX || !hak_os_copy(walk->node, &node, sizeof node))
        return false;
    *walk = (hak_linked_walk){.node = (uintptr_t)node.l_next, .count = walk->count + 1};
    *shift = node.l_addr;
    *dynamic = (uintptr_t)node.l_ld;
    return true;
}

/* What the loader has moved is an address already, what nobody has (the vDSO) is none yet. */
static uintptr_t place_of(uintptr_t shift, uintptr_t at) { return at < shift ? shift + at : at; }

/* False for an object without a GNU hash table. */
bool hak_linked_open(uintptr_t shift, uintptr_t dynamic, hak_linked *found) {
    *found = (hak_linked){.shift = shift};
    for (uint32_t i = 0; i < UINT8_MAX; i++) {
        ElfW(Dyn) entry;
        if (!hak_os_copy(dynamic + i * sizeof entry, &entry, sizeof entry)) return false;
        if (entry.d_tag == DT_NULL) break;
        uintptr_t at = place_of(shift, entry.d_un.d_ptr);
        if (entry.d_tag == DT_SYMTAB) found->symbols = at;
        else if (entry.d_tag == DT_STRTAB) found->strings = at;
        else if (entry.d_tag == DT_GNU_HASH) found->hash = at;
    }
    uint32_t head[4];
    if (!found->symbols || !found->strings || !found->hash) return false;
    if (!hak_os_copy(found->hash, head, sizeof head) || !head[0] || !head[2]) return false;
    found->buckets = head[0];
    found->first = head[1];
    found->bloom_words = head[2];
    found->bloom_shift = head[3];
    found->hash += sizeof head;
    return true;
}

static uint32_t hash_of(const char *name) {
    uint32_t hash = 5381;
    for (; *name; name++) hash = hash * 33 + (unsigned char)*name;
    return hash;
}

/* Whether the table may have the hash at all: two bits of one word say. */
static bool may_have(const hak_linked *object, uint32_t hash) {
    uint64_t word, at = hash / 64 % object->bloom_words;
    return hak_os_copy(object->hash + at * sizeof word, &word, sizeof word) &&
           word >> (hash & 63) & word >> (hash >> (object->bloom_shift & 31) & 63) & 1;
}

/* The address of a symbol that the object defines; 0: it does not. */
uintptr_t hak_linked_symbol(const hak_linked *object, const char *name) {
    uint32_t hash = hash_of(name), index, link;
    uintptr_t buckets = object->hash + object->bloom_words * sizeof(uint64_t),
              chains = buckets + object->buckets * sizeof index;
    size_t bytes = strlen(name) + 1;
    if (bytes > NAME_MOST || !may_have(object, hash) ||
        !hak_os_copy(buckets + hash % object->buckets * sizeof index, &index, sizeof index) ||
        index < object->first)
        return 0;
    for (;; index++) {
        if (!hak_os_copy(chains + (index - object->first) * sizeof link, &link, sizeof link))
            return 0;
        ElfW(Sym) symbol;
        char found[NAME_MOST];
        if ((link | 1) == (hash | 1) &&
            hak_os_copy(object->symbols + index * sizeof symbol, &symbol, sizeof symbol) &&
            hak_os_copy(object->strings + symbol.st_name, found, bytes) &&
            memcmp(found, name, bytes) == 0)
            return symbol.st_shndx == SHN_UNDEF ? 0 : object->shift + symbol.st_value;
        if (link & 1) return 0;
    }
}
