/* vdso.c: the clock, without a system call and without libc's clock_gettime, which others may wrap.
 *
 * The kernel maps a small library into every process, the vDSO, and says where. Its clock is looked
 * up here once, through its dynamic section alone. Where there is no vDSO (valgrind hides it) the
 * system call serves: os.c.
 */
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include "hak_internal.h"
#include "vdso.h"

#if defined(__x86_64__)
#define CLOCK_NAME "__vdso_clock_gettime"
#else
#define CLOCK_NAME "__kernel_clock_gettime"
#endif

typedef struct dynamic {
    uintptr_t shift; /* an address minus what the file says it is */
    const ElfW(Sym) * symbols;
    const char *strings;
    const uint32_t *hash; /* the old hash table: its second word is the number of symbols */
    const uint32_t *gnu_hash;
} dynamic;

static bool find_dynamic(const char *image, dynamic *found) {
    const ElfW(Ehdr) *head = (const void *)image;
    const ElfW(Phdr) *part = (const void *)(image + head->e_phoff);
    const ElfW(Dyn) *entry = NULL;
    bool loaded = false;
    for (int i = 0; i < head->e_phnum; i++, part++)
        if (part->p_type == PT_LOAD && !loaded)
            found->shift = (uintptr_t)image + part->p_offset - part->p_vaddr, loaded = true;
        else if (part->p_type == PT_DYNAMIC) entry = (const void *)(image + part->p_offset);
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        const void *at = (const void *)(found->shift + entry->d_un.d_ptr);
        if (entry->d_tag == DT_SYMTAB) found->symbols = at;
        else if (entry->d_tag == DT_STRTAB) found->strings = at;
        else if (entry->d_tag == DT_HASH) found->hash = at;
        else if (entry->d_tag == DT_GNU_HASH) found->gnu_hash = at;
    }
    return loaded && found->symbols && found->strings && (found->hash || found->gnu_hash);
}

/* The vDSO of a new kernel has only the GNU hash table; there the end of the last chain tells the
 * number of symbols. */
static uint32_t symbol_count(const dynamic *d) {
    if (d->hash) return d->hash[1];
    const uint32_t *table = d->gnu_hash, *buckets = table + 4 + table[2] * sizeof(ElfW(Addr)) / 4,
                   *chains = buckets + table[0];
    uint32_t last = 0;
    for (uint32_t i = 0; i < table[0]; i++)
        if (buckets[i] > last) last = buckets[i];
    if (!last) return 0;
    while (!(chains[last - table[1]] & 1)) last++;
    return last + 1;
}

hak_clock_call hak_vdso_clock(void) {
    const char *image = (const char *)getauxval(AT_SYSINFO_EHDR);
    dynamic d = {0};
    if (!image || memcmp(image, ELFMAG, SELFMAG) != 0 || !find_dynamic(image, &d)) return NULL;
    for (uint32_t i = 0, count = symbol_count(&d); i < count; i++) {
        const ElfW(Sym) *symbol = &d.symbols[i];
        if (symbol->st_shndx != SHN_UNDEF && strcmp(d.strings + symbol->st_name, CLOCK_NAME) == 0)
            return (hak_clock_call)(d.shift + symbol->st_value);
    }
    return NULL;
}
