/* conform_aligned.c: posix_memalign, memalign, aligned_alloc, valloc, pvalloc: each entry, each
 * edge. */
#include "conform.h"

#include <malloc.h>

static const size_t huge[] = {PTRDIFF_MAX,      (size_t)PTRDIFF_MAX + 1,
                              SIZE_MAX - 65536, SIZE_MAX - 4096,
                              SIZE_MAX - 8,     SIZE_MAX};
static const size_t sizes[] = {0,    1,    7,    8,    16,   17,    24,    48,     100,   256,
                               1000, 1024, 4096, 5000, 8192, 40000, 65536, 100000, 300000};
#define EACH(array, i) for (size_t i = 0; i < sizeof array / sizeof *array; i++)

ALIKE(posix_memalign_refuses_what_is_no_alignment) {
    /* clang-format off */
    static const size_t wrong[] = {0, 1, 2, 3, 4, 6, 7, 9, 12, 15, 24, 40, 4095, 4097, 65537,
                                   SIZE_MAX / 2, SIZE_MAX / 2 + 2, SIZE_MAX};
    /* clang-format on */
    EACH (wrong, i) {
        void *out = &out;
        errno = 77;
        int code = posix_memalign(&out, opaque(wrong[i]), 100);
        EXPECT(code == EINVAL, "%d for alignment %zu", code, wrong[i]);
        EXPECT(out == &out && errno == 77, "errno %d", errno);
    }
}

ALIKE(posix_memalign_takes_every_power_of_two) {
    for (size_t align = 8; align <= (size_t)1 << 24; align *= 2)
        EACH (sizes, i) {
            void *out = NULL;
            errno = 77;
            int code = posix_memalign(&out, align, sizes[i]);
            EXPECT(code == 0 && out && (uintptr_t)out % align == 0, "%d, %p for %zu at %zu", code,
                   out, sizes[i], align);
            EXPECT(errno == 77 && malloc_usable_size(out) >= sizes[i], "errno %d, usable %zu",
                   errno, malloc_usable_size(out));
            memset(out, 1, malloc_usable_size(out));
            free(out);
        }
}

ALIKE(posix_memalign_out_of_memory_sets_errno) {
    EACH (huge, i)
        for (size_t align = 8; align <= (size_t)1 << 20; align *= 4) {
            void *out = &out;
            errno = 77;
            int code = posix_memalign(&out, align, opaque(huge[i]));
            EXPECT(code == ENOMEM && out == &out && errno == ENOMEM, "%d, errno %d for %#zx", code,
                   errno, huge[i]);
        }
}

ALIKE(posix_memalign_past_the_address_space_is_enomem) {
    void *out = &out;
    EXPECT(posix_memalign(&out, opaque((size_t)1 << 62), 10) == ENOMEM, "2^62");
    EXPECT(posix_memalign(&out, opaque((size_t)1 << 63), 10) == ENOMEM, "2^63");
    EXPECT(out == &out, "it was written");
}

ALIKE(memalign_rounds_the_alignment_up) {
    static const size_t odd[] = {0,  1,  2,   3,    5,    7,    12,    15,    17,
                                 24, 33, 100, 1000, 4095, 4097, 65537, 100000};
    EACH (odd, i) {
        size_t up = 1;
        while (up < odd[i]) up *= 2;
        for (int n = 0; n < 20; n++) {
            errno = 77;
            char *block = kept(memalign(opaque(odd[i]), 10)),
                 *other = kept(aligned_alloc(opaque(odd[i]), 10));
            EXPECT(block && other && errno == 77, "errno %d for %zu", errno, odd[i]);
            EXPECT((uintptr_t)block % up == 0 && (uintptr_t)other % up == 0, "%p, %p for %zu",
                   (void *)block, (void *)other, odd[i]);
        }
    }
}

ALIKE(memalign_past_2_to_63_is_einval) {
    static const size_t wrong[] = {((size_t)1 << 63) + 1, SIZE_MAX - 1, SIZE_MAX};
    EACH (wrong, i) {
        errno = 0;
        EXPECT(kept(memalign(opaque(wrong[i]), 10)) == NULL && errno == EINVAL, "errno %d", errno);
        errno = 0;
        EXPECT(kept(aligned_alloc(opaque(wrong[i]), 10)) == NULL && errno == EINVAL, "errno %d",
               errno);
    }
}

ALIKE(memalign_past_the_address_space_is_enomem) {
    for (int log2 = 50; log2 < 64; log2++) {
        errno = 0;
        EXPECT(kept(memalign(opaque((size_t)1 << log2), 10)) == NULL && errno == ENOMEM,
               "2^%d: errno %d", log2, errno);
    }
}

ALIKE(memalign_from_ptrdiff_max_is_enomem) {
    EACH (huge, i)
        for (size_t align = 1; align <= (size_t)1 << 20; align *= 2) {
            errno = 0;
            EXPECT(kept(memalign(align, opaque(huge[i]))) == NULL && errno == ENOMEM,
                   "errno %d for %#zx at %zu", errno, huge[i], align);
            errno = 0;
            EXPECT(kept(aligned_alloc(align, opaque(huge[i]))) == NULL && errno == ENOMEM,
                   "errno %d for %#zx at %zu", errno, huge[i], align);
        }
}

ALIKE(aligned_alloc_takes_sizes_that_are_no_multiple) {
    for (size_t align = 8; align <= 65536; align *= 2)
        EACH (sizes, i)
            for (int n = 0; n < 3; n++) {
                void *block = kept(aligned_alloc(align, sizes[i]));
                EXPECT(block && (uintptr_t)block % align == 0 &&
                           malloc_usable_size(block) >= sizes[i],
                       "%p for %zu at %zu", block, sizes[i], align);
            }
}

/* Several at a time: the first block of a slab stands on a page whatever was asked for. */
ALIKE(valloc_starts_a_page) {
    EACH (sizes, i)
        for (int n = 0; n < 10; n++) {
            void *block = kept(valloc(sizes[i]));
            EXPECT(block && (uintptr_t)block % 4096 == 0 && malloc_usable_size(block) >= sizes[i],
                   "%p for %zu", block, sizes[i]);
        }
}

ALIKE(pvalloc_starts_a_page_and_fills_it) {
    EACH (sizes, i)
        for (int n = 0; n < 10; n++) {
            void *block = kept(pvalloc(sizes[i]));
            size_t up = (sizes[i] + 4095) / 4096 * 4096;
            EXPECT(block && (uintptr_t)block % 4096 == 0 && malloc_usable_size(block) >= up,
                   "%p for %zu", block, sizes[i]);
            memset(block, 1, up);
        }
}

ALIKE(valloc_and_pvalloc_from_ptrdiff_max_are_enomem) {
    EACH (huge, i) {
        errno = 0;
        EXPECT(kept(valloc(opaque(huge[i]))) == NULL && errno == ENOMEM,
               "errno %d for valloc(%#zx)", errno, huge[i]);
        errno = 0;
        EXPECT(kept(pvalloc(opaque(huge[i]))) == NULL && errno == ENOMEM,
               "errno %d for pvalloc(%#zx)", errno, huge[i]);
    }
}

CHECK(aligned_blocks_that_serve_keep_errno) {
    EACH (sizes, i)
        for (int n = 0; n < 30; n++) {
            errno = 77;
            (void)!kept(memalign(64 << n % 12, sizes[i]));
            (void)!kept(valloc(sizes[i]));
            (void)!kept(pvalloc(sizes[i]));
            EXPECT(errno == 77, "errno %d at %zu", errno, sizes[i]);
        }
}

ALIKE(aligned_blocks_do_not_overlap) {
    static unsigned char *blocks[14][sizeof sizes / sizeof *sizes];
    for (size_t a = 0; a < 14; a++)
        EACH (sizes, i)
            memset(blocks[a][i] = kept(memalign((size_t)8 << a, sizes[i])), (int)(a * 16 + i),
                   sizes[i]);
    for (size_t a = 0; a < 14; a++)
        EACH (sizes, i)
            for (size_t at = 0; at < sizes[i]; at++)
                EXPECT(blocks[a][i][at] == (unsigned char)(a * 16 + i), "%zu at %d", sizes[i],
                       8 << a);
}

ALIKE(aligned_blocks_are_resized_and_freed) {
    for (size_t align = 16; align <= (size_t)1 << 20; align *= 2)
        for (int n = 0; n < 5; n++) {
            char *block = kept(memalign(align, 1000));
            memset(block, n + 1, 1000);
            block = kept(realloc(block, 200000));
            EXPECT(block[0] == n + 1 && block[999] == n + 1, "contents at %zu", align);
            block = kept(realloc(block, 10));
            EXPECT(block[0] == n + 1 && block[9] == n + 1, "contents at %zu", align);
            free(block);
        }
}

int main(int argc, char **argv) { return run_checks(argc, argv); }
