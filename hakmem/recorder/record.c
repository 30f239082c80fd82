/* record.c: malloc and its family. Each call goes on to the next definition in the order of lookup,
 * and is noted: a block before the program gets it, a free before the block goes, so that each
 * free finds its block's object and nobody finds another's. Calls that come before the next malloc
 * is found (the loader's, while it looks) get blocks of a small store that are never given back. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "events.h"

#define RECORD_EXPORT __attribute__((visibility("default")))

static void *first_malloc(size_t size);
static void *first_calloc(size_t count, size_t size);
static void *first_realloc(void *block, size_t size);
static void *first_memalign(size_t align, size_t size);
static void first_free(void *block);

static void *(*next_malloc)(size_t size) = first_malloc;
static void *(*next_calloc)(size_t count, size_t size) = first_calloc;
static void *(*next_realloc)(void *block, size_t size) = first_realloc;
static void *(*next_memalign)(size_t align, size_t size) = first_memalign;
static void (*next_free)(void *block) = first_free;

static _Alignas(16) char store[1 << 16];
static size_t store_used;
static bool looking;

static void *store_take(size_t size) {
    size_t room = (size + 15) & ~(size_t)15;
    if (size > sizeof store || room > sizeof store - store_used) return NULL;
    void *block = store + store_used;
    store_used += room;
    return block;
}
static bool in_store(const void *block) {
    return (const char *)block >= store && (const char *)block < store + sizeof store;
}

/* False while it is being looked for. Before there are threads: the loader calls malloc itself. */
static RECORD_COLD bool find_next(void) {
    if (looking) return false;
    looking = true;
    void *found[] = {dlsym(RTLD_NEXT, "malloc"), dlsym(RTLD_NEXT, "calloc"),
                     dlsym(RTLD_NEXT, "realloc"), dlsym(RTLD_NEXT, "memalign"),
                     dlsym(RTLD_NEXT, "free")};
    looking = false;
    for (int i = 0; i < 5; i++) {
        static const char line[] = "hakmem record: there is no malloc behind the recorder\n";
        if (!found[i] && write(2, line, sizeof line - 1) < (ssize_t)sizeof line) _exit(127);
    }
    next_calloc = (void *(*)(size_t, size_t))found[1];
    next_realloc = (void *(*)(void *, size_t))found[2];
    next_memalign = (void *(*)(size_t, size_t))found[3];
    next_free = (void (*)(void *))found[4];
    next_malloc = (void *(*)(size_t))found[0];
    return true;
}

static void *first_malloc(size_t size) { return find_next() ? next_malloc(size) : NULL; }
static void *first_calloc(size_t count, size_t size) {
    return find_next() ? next_calloc(count, size) : NULL;
}
static void *first_realloc(void *block, size_t size) {
    return find_next() ? next_realloc(block, size) : NULL;
}
static void *first_memalign(size_t align, size_t size) {
    return find_next() ? next_memalign(align, size) : NULL;
}
static void first_free(void *block) {
    if (find_next()) next_free(block);
}

static RECORD_COLD void *failed(size_t size) {
    if (looking) return store_take(size);
    record_count_failed();
    return NULL;
}

static inline void *made(void *block, uint64_t kind, size_t size, uint64_t align_log2) {
    if (record_unlikely(!block)) return failed(size);
    note_make(block, made_word(kind, size, align_log2));
    return block;
}

RECORD_EXPORT void *malloc(size_t size) {
    return made(next_malloc(size), HAK_TRACE_MALLOC, size, 0);
}

RECORD_EXPORT void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        record_count_failed();
        errno = ENOMEM;
        return NULL;
    }
    return made(next_calloc(count, size), HAK_TRACE_CALLOC, bytes, 0);
}

RECORD_EXPORT void free(void *block) {
    if (!block || record_unlikely(in_store(block))) return;
    note_free(object_take(block));
    next_free(block);
}

static void *realloc_of_store(void *block, size_t size) {
    void *fresh = malloc(size);
    size_t room = (size_t)(store + sizeof store - (char *)block);
    if (fresh) memcpy(fresh, block, size < room ? size : room);
    return fresh;
}

RECORD_EXPORT void *realloc(void *block, size_t size) {
    if (!block) return malloc(size);
    if (record_unlikely(in_store(block))) return realloc_of_store(block, size);
    uint64_t object = object_take(block);
    void *moved = next_realloc(block, size);
    if (record_unlikely(!moved)) {
        if (size) {
            object_put(block, object); /* it stays */
            record_count_failed();
        } else note_free(object);
        return NULL;
    }
    note_realloc(moved, size, object);
    return moved;
}

RECORD_EXPORT void *reallocarray(void *block, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        record_count_failed();
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

/* An alignment that is no power of two is the next malloc's to refuse or to round. */
RECORD_EXPORT void *memalign(size_t align, size_t size) {
    uint64_t log2 = align > 1 ? (uint64_t)(63 - __builtin_clzl(align)) : 0;
    return made(next_memalign(align, size), HAK_TRACE_ALIGNED, size, log2);
}

RECORD_EXPORT void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }

RECORD_EXPORT int posix_memalign(void **place, size_t align, size_t size) {
    if (align % sizeof(void *) || !align || align & (align - 1)) return EINVAL;
    int before = errno;
    void *block = memalign(align, size);
    errno = before;
    if (!block) return ENOMEM;
    *place = block;
    return 0;
}

RECORD_EXPORT void *valloc(size_t size) { return memalign((size_t)getpagesize(), size); }
RECORD_EXPORT void *pvalloc(size_t size) {
    size_t page = (size_t)getpagesize();
    if (size > SIZE_MAX - page) return errno = ENOMEM, NULL;
    return memalign(page, (size + page - 1) & ~(page - 1));
}
RECORD_EXPORT void cfree(void *block) { free(block); }
RECORD_EXPORT void free_sized(void *block, size_t size) { (void)size, free(block); }
RECORD_EXPORT void free_aligned_sized(void *block, size_t align, size_t size) {
    (void)align, (void)size, free(block);
}
