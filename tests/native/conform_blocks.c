/* conform_blocks.c: malloc, calloc, realloc, reallocarray, free and its kin, malloc_usable_size:
 * each entry, each edge. */
#include "conform.h"

#include <dlfcn.h>
#include <malloc.h>

/* A size of every band and of every kind of step between them, up to spans that are moved by
 * remapping. */
static const size_t sizes[] = {
    1,     2,     7,      8,      9,      15,      16,      17,      24,      31,    33,
    64,    100,   128,    500,    1000,   1023,    1024,    1025,    2000,    4095,  4096,
    4097,  8192,  10000,  16384,  20000,  32768,   40000,   49152,   53248,   53249, 65535,
    65536, 65537, 100000, 131072, 262145, 1000000, 2097152, 5000000, 20000000};
#define SIZES (sizeof sizes / sizeof *sizes)
static const size_t huge[] = {PTRDIFF_MAX,
                              (size_t)PTRDIFF_MAX + 1,
                              (size_t)PTRDIFF_MAX + 100000,
                              SIZE_MAX - 4096,
                              SIZE_MAX - 8,
                              SIZE_MAX};
#define HUGE_COUNT (sizeof huge / sizeof *huge)

static unsigned char pattern(size_t seed, size_t at) {
    return (unsigned char)(seed * 31 + at * 7 + (at >> 8));
}
static void fill(void *block, size_t seed, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) ((unsigned char *)block)[i] = pattern(seed, i);
}
static void expect_filled(const void *block, size_t seed, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        EXPECT(((const unsigned char *)block)[i] == pattern(seed, i),
               "byte %zu of %zu of block %zu changed", i, bytes, seed);
}

/* ---- whose malloc this is ---- */

CHECK(every_entry_is_the_librarys) {
    /* clang-format off */
    static const char *const entries[] = {
        "malloc", "free", "calloc", "realloc", "reallocarray", "aligned_alloc", "posix_memalign",
        "memalign", "valloc", "pvalloc", "malloc_usable_size", "free_sized", "free_aligned_sized",
        "malloc_trim", "mallinfo", "mallinfo2", "malloc_info", "malloc_stats", "mallopt", "cfree",
        "__libc_malloc", "__libc_free", "__libc_calloc", "__libc_realloc", "__libc_memalign",
        "__libc_valloc", "__libc_pvalloc"
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        void *entry = dlsym(RTLD_DEFAULT, entries[i]);
        Dl_info info;
        EXPECT(entry && dladdr(entry, &info) && strstr(info.dli_fname, "libhakmem"),
               "%s is not libhakmem's", entries[i]);
    }
}

/* A program's own malloc may be made of them, beside entries that it does not replace. */
ALIKE(glibcs_other_names_serve_the_same_heap) {
    void *(*get)(size_t) = (void *(*)(size_t))(uintptr_t)dlsym(RTLD_DEFAULT, "__libc_malloc");
    void *(*clear)(size_t, size_t) =
        (void *(*)(size_t, size_t))(uintptr_t)dlsym(RTLD_DEFAULT, "__libc_calloc");
    void *(*resize)(void *, size_t) =
        (void *(*)(void *, size_t))(uintptr_t)dlsym(RTLD_DEFAULT, "__libc_realloc");
    void *(*align)(size_t, size_t) =
        (void *(*)(size_t, size_t))(uintptr_t)dlsym(RTLD_DEFAULT, "__libc_memalign");
    void (*give)(void *) = (void (*)(void *))(uintptr_t)dlsym(RTLD_DEFAULT, "__libc_free");
    for (size_t size = 1; size < 300000; size = size * 2 + 1) {
        free(get(size)), free(clear(1, size)), free(resize(NULL, size)), free(align(64, size));
        give(kept(malloc(size))), give(kept(calloc(1, size))), give(kept(aligned_alloc(64, size)));
        free(resize(kept(malloc(size)), size * 3));
    }
}

/* ---- malloc ---- */

ALIKE(malloc_of_0_is_a_block_of_its_own) {
    char *blocks[100];
    for (int i = 0; i < 100; i++) {
        EXPECT((blocks[i] = kept(malloc(0))) != NULL, "%d", i);
        for (int j = 0; j < i; j++) EXPECT(blocks[i] != blocks[j], "%d and %d", i, j);
    }
    for (int i = 0; i < 100; i++) free(blocks[i]);
}

ALIKE(malloc_aligns_to_16_from_16_bytes_up) {
    for (size_t size = 16; size < 70000; size += size < 3000 ? 1 : 61) {
        char *first = kept(malloc(size)), *second = kept(malloc(size));
        EXPECT((uintptr_t)first % 16 == 0 && (uintptr_t)second % 16 == 0, "%p and %p of %zu bytes",
               (void *)first, (void *)second, size);
        if (size % 2) free(first), free(second);
        else free(second), free(first);
    }
}

ALIKE(malloc_aligns_small_blocks_for_what_fits_them) {
    for (size_t size = 1; size < 16; size++)
        for (int i = 0; i < 600; i++) {
            uintptr_t block = (uintptr_t)kept(malloc(size));
            size_t align = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
            EXPECT(block % align == 0, "%#lx of %zu bytes", (unsigned long)block, size);
        }
}

ALIKE(malloc_from_ptrdiff_max_is_enomem) {
    for (size_t i = 0; i < HUGE_COUNT; i++) {
        errno = 0;
        EXPECT(kept(malloc(opaque(huge[i]))) == NULL, "%#zx", huge[i]);
        EXPECT(errno == ENOMEM, "errno %d", errno);
    }
}

CHECK(malloc_of_more_than_there_is_is_enomem) {
    for (size_t size = (size_t)1 << 41; size < PTRDIFF_MAX / 2; size *= 2) {
        errno = 0;
        EXPECT(kept(malloc(opaque(size))) == NULL && errno == ENOMEM, "%#zx: errno %d", size,
               errno);
    }
}

CHECK(malloc_that_serves_keeps_errno) {
    for (size_t i = 0; i < SIZES; i++)
        for (int n = 0; n < 40; n++) {
            errno = 77;
            EXPECT(kept(malloc(sizes[i])) != NULL, "%zu", sizes[i]);
            EXPECT(errno == 77, "errno %d at %zu bytes", errno, sizes[i]);
        }
}

CHECK(blocks_do_not_overlap) {
    static char *blocks[SIZES][4];
    for (size_t i = 0; i < SIZES; i++)
        for (size_t n = 0; n < 4; n++) {
            blocks[i][n] = kept(malloc(sizes[i]));
            fill(blocks[i][n], i * 4 + n, malloc_usable_size(blocks[i][n]));
        }
    for (size_t i = 0; i < SIZES; i++)
        for (size_t n = 0; n < 4; n++)
            expect_filled(blocks[i][n], i * 4 + n, malloc_usable_size(blocks[i][n]));
}

/* ---- malloc_usable_size ---- */

ALIKE(usable_size_of_null_is_0) { EXPECT(malloc_usable_size(kept(NULL)) == 0, "it is not"); }

ALIKE(usable_size_is_the_size_or_more) {
    for (size_t i = 0; i < SIZES; i++) {
        void *block = kept(malloc(sizes[i]));
        EXPECT(malloc_usable_size(block) >= sizes[i], "%zu of %zu", malloc_usable_size(block),
               sizes[i]);
        free(block);
    }
}

CHECK(usable_bytes_survive_a_realloc) {
    for (size_t i = 0; i < SIZES; i++) {
        void *block = kept(malloc(sizes[i]));
        size_t usable = malloc_usable_size(block);
        fill(block, i, usable);
        expect_filled(block = kept(realloc(block, usable * 2 + 1)), i, usable);
        free(block);
    }
}

/* ---- calloc ---- */

ALIKE(calloc_of_a_product_that_overflows_is_enomem) {
    static const size_t pairs[][2] = {
        {SIZE_MAX, 2},        {SIZE_MAX / 2, 3},     {(size_t)1 << 32, (size_t)1 << 32},
        {SIZE_MAX, SIZE_MAX}, {SIZE_MAX / 4 + 2, 4}, {1, SIZE_MAX},
        {PTRDIFF_MAX, 1},     {(size_t)1 << 62, 2}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        errno = 0;
        EXPECT(kept(calloc(opaque(pairs[i][0]), opaque(pairs[i][1]))) == NULL, "%#zx * %#zx",
               pairs[i][0], pairs[i][1]);
        EXPECT(errno == ENOMEM, "errno %d", errno);
    }
}

ALIKE(calloc_of_0_is_a_block_of_its_own) {
    void *first = kept(calloc(opaque(0), 8)), *second = kept(calloc(8, opaque(0)));
    EXPECT(first && second && first != second, "%p and %p", first, second);
    free(first), free(second);
}

ALIKE(calloc_clears_what_was_dirty) {
    for (size_t i = 0; i < SIZES; i++)
        for (int round = 0; round < 3; round++) {
            void *dirty[20];
            size_t count = sizes[i] > 1000000 ? 2 : 20;
            for (size_t n = 0; n < count; n++) {
                dirty[n] = kept(malloc(sizes[i]));
                memset(dirty[n], 0xa5, malloc_usable_size(dirty[n]));
            }
            for (size_t n = 0; n < count; n++) free(dirty[n]);
            for (size_t n = 0; n < count; n++) {
                const unsigned char *clear = dirty[n] = kept(calloc(1, sizes[i]));
                for (size_t at = 0; at < sizes[i]; at++)
                    EXPECT(!clear[at], "byte %zu of %zu is %#x", at, sizes[i], clear[at]);
            }
            for (size_t n = 0; n < count; n++) free(dirty[n]);
        }
}

CHECK(calloc_clears_what_a_shrunk_span_left) {
    unsigned char *span = kept(malloc(3000000));
    memset(span, 0xa5, 3000000);
    span = kept(realloc(span, 100000));
    const unsigned char *clear = kept(calloc(1, 2700000));
    for (size_t at = 0; at < 2700000; at++) EXPECT(!clear[at], "byte %zu", at);
}

/* ---- free ---- */

ALIKE(free_of_null_does_nothing) {
    free(kept(NULL));
    free(NULL);
}

ALIKE(free_keeps_errno) {
    static void *blocks[300];
    for (size_t i = 0; i < SIZES; i++) {
        size_t count = sizes[i] > 100000 ? 4 : 300;
        for (size_t n = 0; n < count; n++) memset(blocks[n] = kept(malloc(sizes[i])), 1, sizes[i]);
        for (size_t n = 0; n < count; n++) {
            errno = 77;
            free(blocks[n]);
            EXPECT(errno == 77, "errno %d after %zu bytes", errno, sizes[i]);
        }
    }
}

CHECK(cfree_frees) {
    void (*cfree_)(void *) = (void (*)(void *))(uintptr_t)dlsym(RTLD_DEFAULT, "cfree");
    void *block = kept(malloc(100));
    cfree_(NULL);
    cfree_(block);
    EXPECT(kept(malloc(100)) == block, "the block freed last is the next one out");
}

CHECK(free_sized_frees) {
    void (*free_sized_)(void *, size_t) =
        (void (*)(void *, size_t))(uintptr_t)dlsym(RTLD_DEFAULT, "free_sized");
    free_sized_(NULL, 0);
    free_sized_(NULL, 100);
    for (size_t i = 0; i < SIZES; i++) {
        void *block = kept(malloc(sizes[i]));
        errno = 77;
        free_sized_(block, sizes[i]);
        EXPECT(errno == 77, "errno %d", errno);
        if (sizes[i] <= 1024) EXPECT(kept(malloc(sizes[i])) == block, "%zu", sizes[i]);
    }
}

CHECK(free_aligned_sized_frees) {
    void (*free_aligned_sized_)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))(uintptr_t)dlsym(RTLD_DEFAULT, "free_aligned_sized");
    free_aligned_sized_(NULL, 64, 0);
    for (size_t align = 16; align <= 65536; align *= 2) {
        void *block = kept(aligned_alloc(align, 4 * align));
        free_aligned_sized_(block, align, 4 * align);
        if (align <= 256) EXPECT(kept(aligned_alloc(align, 4 * align)) == block, "%zu", align);
    }
}

/* ---- realloc, reallocarray ---- */

ALIKE(realloc_of_null_is_malloc) {
    void *block = kept(realloc(NULL, 100)), *empty = kept(realloc(NULL, opaque(0)));
    EXPECT(block && empty && malloc_usable_size(block) >= 100, "%p, %p", block, empty);
    free(block), free(empty);
}

ALIKE(realloc_to_0_frees_and_gives_null) {
    for (size_t i = 0; i < SIZES; i++) {
        void *block = kept(malloc(sizes[i]));
        errno = 77;
        EXPECT(kept(realloc(block, opaque(0))) == NULL, "%zu", sizes[i]);
        EXPECT(errno == 77, "errno %d", errno);
    }
}

CHECK(realloc_to_0_gives_the_block_out_again) {
    void *block = kept(malloc(100));
    (void)!kept(realloc(block, opaque(0)));
    EXPECT(kept(malloc(100)) == block, "it was not freed");
}

ALIKE(realloc_keeps_the_contents) {
    for (size_t i = 0; i < SIZES; i++)
        for (size_t j = 0; j < SIZES; j++) {
            size_t both = sizes[i] < sizes[j] ? sizes[i] : sizes[j],
                   look = both < 70000 ? both : 70000;
            unsigned char *block = kept(malloc(sizes[i]));
            fill(block, i, look);
            block[both - 1] = 99;
            block = kept(realloc(block, sizes[j]));
            EXPECT(block && malloc_usable_size(block) >= sizes[j], "%zu to %zu", sizes[i],
                   sizes[j]);
            EXPECT(block[both - 1] == 99, "last byte of %zu to %zu", sizes[i], sizes[j]);
            expect_filled(block, i, look - 1);
            block[sizes[j] - 1] = 1;
            free(block);
        }
}

ALIKE(realloc_that_fails_leaves_the_block) {
    for (size_t i = 0; i < SIZES; i++)
        for (size_t n = 0; n < HUGE_COUNT; n++) {
            void *block = kept(malloc(sizes[i]));
            size_t look = sizes[i] < 70000 ? sizes[i] : 70000;
            fill(block, i, look);
            errno = 0;
            EXPECT(kept(realloc(kept(block), opaque(huge[n]))) == NULL && errno == ENOMEM,
                   "errno %d at %#zx", errno, huge[n]);
            expect_filled(block, i, look);
            free(block);
        }
}

CHECK(realloc_that_serves_keeps_errno) {
    for (size_t i = 0; i < SIZES; i++)
        for (size_t j = 0; j < SIZES; j++) {
            void *block = kept(malloc(sizes[i]));
            errno = 77;
            block = kept(realloc(block, sizes[j]));
            EXPECT(errno == 77, "errno %d at %zu to %zu", errno, sizes[i], sizes[j]);
            free(block);
        }
}

ALIKE(reallocarray_of_a_product_that_overflows_leaves_the_block) {
    char *block = kept(malloc(100));
    fill(block, 1, 100);
    errno = 0;
    EXPECT(kept(reallocarray(kept(block), opaque(SIZE_MAX / 2), 3)) == NULL && errno == ENOMEM,
           "errno %d", errno);
    errno = 0;
    /* 4, but for the carry */
    EXPECT(kept(reallocarray(kept(block), opaque(SIZE_MAX / 4 + 2), 4)) == NULL && errno == ENOMEM,
           "errno %d", errno);
    expect_filled(block, 1, 100);
}

ALIKE(reallocarray_resizes_and_frees) {
    char *block = kept(reallocarray(NULL, 10, 10));
    fill(block, 1, 100);
    block = kept(reallocarray(block, 100, 1000));
    expect_filled(block, 1, 100);
    EXPECT(malloc_usable_size(block) >= 100000, "%zu", malloc_usable_size(block));
    EXPECT(kept(reallocarray(kept(block), opaque(0), 1000)) == NULL, "count 0");
    EXPECT(kept(reallocarray(kept(malloc(5)), 5, opaque(0))) == NULL, "size 0");
}

int main(int argc, char **argv) { return run_checks(argc, argv); }
