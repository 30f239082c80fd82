/* deepbind.c: plugins that are loaded with RTLD_DEEPBIND, as PHP loads its extensions.
 *
 * Such a plugin looks for names in its own libraries first, so that its malloc and free are the C
 * library's while all others' are the process's: what one side allocates, the other frees. The
 * flag is there to keep plugins' names apart, and is left as it is. Instead the C library's own
 * entries of the malloc family come to name what the process calls by those names, before the
 * first such plugin is bound: its constructors, its own libraries and what it binds late then find
 * the right ones, and so does a lookup in the C library's handle. To leave the flag out would bind
 * all its other names otherwise; to mend its entries after it was loaded comes too late for its
 * constructors.
 *
 * dlopen takes the loader's place only where malloc does too: preloaded, or linked. The loader's
 * own is called as the last act, without a frame in between, since it looks at who called:
 * for $ORIGIN and for the caller's namespace. HAKMEM_DEEPBIND=keep leaves the entries alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <stdlib.h>
#include <string.h>

#include "dynamic.h"
#include "locks.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(RTLD_DEEPBIND)

static const char *const family[] = {
    "malloc", "free", "calloc", "realloc", "reallocarray", "aligned_alloc", "posix_memalign",
    "memalign", "valloc", "pvalloc", "cfree", "malloc_usable_size", "malloc_trim", "mallinfo",
    "mallinfo2", "malloc_info", "malloc_stats", "mallopt",
    /* where a newer C library has them */
    "free_sized", "free_aligned_sized",
    /* by these, too, a program may know them */
    "__libc_malloc", "__libc_free", "__libc_calloc", "__libc_realloc", "__libc_memalign",
    "__libc_valloc", "__libc_pvalloc"};
#define FAMILY_COUNT (sizeof family / sizeof *family)

/* One entry of a name, whatever its version, and what it is to name. */
typedef struct entry {
    ElfW(Sym) * symbol;
    ElfW(Addr) value;
} entry;
#define ENTRIES_MOST (2 * FAMILY_COUNT)

static size_t find_entries(const hak_dynamic *d, entry *entries) {
    size_t count = 0;
    for (uint32_t i = 0; i < d->symbol_count; i++) {
        const ElfW(Sym) *symbol = &d->symbols[i];
        if (symbol->st_shndx == SHN_UNDEF || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) continue;
        const char *name = hak_dynamic_name(d, symbol);
        for (size_t k = 0; k < FAMILY_COUNT && count < ENTRIES_MOST; k++) {
            if (strcmp(family[k], name) != 0) continue;
            ElfW(Addr) value = (ElfW(Addr))(uintptr_t)dlsym(RTLD_DEFAULT, name) - d->shift;
            if (value != -d->shift && value != symbol->st_value)
                entries[count++] = (entry){(ElfW(Sym) *)symbol, value};
        }
    }
    return count;
}

/* Whoever binds meanwhile reads the old address or the new one. */
static void write_entries(const hak_dynamic *d, const entry *entries, size_t count) {
    static uint64_t writing; /* under hak_once_lock */
    uintptr_t first = (uintptr_t)entries[0].symbol & ~(uintptr_t)(HAK_OS_PAGE_BYTES - 1);
    uint64_t bytes = (uintptr_t)(entries[count - 1].symbol + 1) - first;
    hak_once_lock(&writing);
    if (hak_os_protect((void *)first, bytes, true, d->executable)) {
        /* Relaxed: the word alone says everything. Partner: the loader's plain read. */
        for (size_t i = 0; i < count; i++)
            hak_store_relaxed(&entries[i].symbol->st_value, entries[i].value);
        (void)hak_os_protect((void *)first, bytes, false, d->executable);
    }
    hak_once_unlock(&writing);
}

/* Again at each such plugin: the entries found then are those that do not stand yet, mostly none.
 */
HAK_COLD static void join_family(void) {
    const char *asked = secure_getenv("HAKMEM_DEEPBIND");
    if (asked && strcmp(asked, "keep") == 0) return;
    Dl_info libc;
    hak_dynamic d = {0};
    entry entries[ENTRIES_MOST];
    if (!dladdr((void *)(uintptr_t)gnu_get_libc_version, &libc) ||
        !hak_dynamic_find(libc.dli_fbase, &d))
        return;
    size_t count = find_entries(&d, entries);
    if (count) write_entries(&d, entries, count);
}

typedef void *(*dlopen_function)(const char *, int);

static dlopen_function loader_dlopen(void) {
    /* Relaxed: the word alone says everything. Partner: any thread's store of the same. */
    static dlopen_function found;
    dlopen_function call = hak_load_relaxed(&found);
    if (!call) {
        call = (dlopen_function)(uintptr_t)dlsym(RTLD_NEXT, "dlopen");
        hak_store_relaxed(&found, call);
    }
    return call;
}

/* A call in the last place becomes a jump: by the optimizer, in debug builds too. */
HAK_EXPORT void *dlopen(const char *file, int mode) {
    if (mode & RTLD_DEEPBIND) join_family();
    return loader_dlopen()(file, mode);
}
#else
typedef int deepbind_is_empty; /* a translation unit needs a declaration */
#endif
