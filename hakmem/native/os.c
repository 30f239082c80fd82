/* os.c: the memory of the OS: mapped, unmapped, moved, purged, asked about. Every mmap, munmap,
 * mremap, mprotect and madvise of the library is made here, and is counted.
 *
 * Preconditions of every call: address and length are multiples of an OS page, and the range lies
 * in one mapping of the library. A call leaves errno as it was, allocates nothing, runs nobody's
 * wrapper of a libc function, and never acts on a pending cancel of the thread (syscall.h).
 * `counts` is the tally of one heap, or NULL; the tally of the whole library, in hak_root, counts
 * each call as well.
 */
#define _GNU_SOURCE
#include "os_calls.h"

/* Calls that a test makes fail, on both planes alike. */
hak_os_faults hak_os_faults_;

/* Reserves `bytes` of inaccessible addresses on an `align` boundary (a power of two). *map_base and
 * *map_bytes say what was mapped: the addresses before and behind the aligned part stay
 * reserved. */
void *hak_os_reserve_aligned(uint64_t bytes, uint64_t align, uint64_t *map_base,
                             uint64_t *map_bytes) {
    uint64_t whole = bytes + align;
    TALLY(NULL, reserve_count, 1);
    void *map = hak_memory_map(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (!map) return NULL;
    *map_base = (uintptr_t)map;
    *map_bytes = whole;
    return (void *)(((uintptr_t)map + align - 1) & ~(align - 1));
}

/* Maps zeroed memory of a heap exactly at `address`: over the heap's own reservation, or where
 * nothing is mapped. An OS before 4.17 takes the address for a mere hint, so the address it gives
 * is compared.
 */
uint32_t hak_os_map_range(hak_os_counts *counts, void *address, uint64_t bytes, bool reserved) {
    TALLY(counts, commit_count, 1);
    if (reserved)
        return hak_memory_protect(address, bytes, PROT_READ | PROT_WRITE) ? HAK_MAP_DONE
                                                                          : HAK_MAP_REFUSED;
    bool taken;
    void *map = hak_memory_map_exactly(address, bytes, &taken);
    if (map == address) return HAK_MAP_DONE;
    if (!map) return taken ? HAK_MAP_TAKEN : HAK_MAP_REFUSED;
    TALLY(counts, release_count, 1);
    (void)hak_memory_unmap(map, bytes);
    return HAK_MAP_TAKEN;
}

/* Unmaps memory of a heap. Addresses that were reserved stay reserved. False: the OS refused,
 * because the process has too many mappings. */
bool hak_os_unmap_range(hak_os_counts *counts, void *address, uint64_t bytes, bool reserved) {
    if (!reserved) {
        TALLY(counts, release_count, 1);
        return hak_memory_unmap(address, bytes);
    }
    TALLY(counts, reserve_count, 1);
    return hak_memory_map(address, bytes, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED) == address;
}

/* Purges a range. Not lazy: the OS pages read as zero afterwards. Lazy: they may keep their
 * contents until the OS wants the memory. OS pages that the program locked go too where the OS can
 * (Linux 5.18), and are locked again when they are touched, as the program asked. False: the OS
 * refused, and none or some of the range went. */
bool hak_os_purge_range(hak_os_counts *counts, void *address, uint64_t bytes, bool lazy) {
    TALLY(counts, purge_count, 1);
    if (!hak_memory_advise(address, bytes, lazy ? MADV_FREE : MADV_DONTNEED)) {
        TALLY(counts, purge_count, 1);
        if (!hak_memory_advise(address, bytes, MADV_DONTNEED_LOCKED)) return false;
    }
    TALLY(counts, purged_bytes, bytes);
    return true;
}

/* Whether memory that was mapped just now is locked, as after mlockall(MCL_FUTURE). The OS refuses
 * to purge locked memory; the question asks it to purge one OS page. `address` NULL: a page that is
 * mapped for the question. */
bool hak_os_is_locked(hak_os_counts *counts, void *address) {
    void *page = address ? address : hak_os_map_anywhere(HAK_OS_PAGE_BYTES);
    TALLY(counts, advise_count, 1);
    bool locked = page && !hak_memory_advise(page, HAK_OS_PAGE_BYTES, MADV_DONTNEED);
    if (page && !address) hak_os_release_range(page, HAK_OS_PAGE_BYTES);
    return locked;
}

/* Asks for huge pages, or for none. A kernel without them refuses, and nothing follows from it. */
void hak_os_advise_huge(hak_os_counts *counts, void *address, uint64_t bytes, bool huge) {
    TALLY(counts, advise_count, 1);
    (void)hak_memory_advise(address, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* Makes the OS pages resident, as if each had been written. Where the OS has no such call, they
 * fault one by one when they are written. */
void hak_os_populate_range(hak_os_counts *counts, void *address, uint64_t bytes) {
    TALLY(counts, advise_count, 1);
    (void)hak_memory_advise(address, bytes, MADV_POPULATE_WRITE);
}

/* Maps zeroed memory of a heap at `address` by growing the mapping that ends there: what the OS was
 * advised of that holds for all of it. False: it is as it was. */
bool hak_os_extend_range(hak_os_counts *counts, void *address, uint64_t bytes) {
    TALLY(counts, remap_count, 1);
    return hak_memory_extend((char *)address - HAK_OS_PAGE_BYTES, HAK_OS_PAGE_BYTES,
                             HAK_OS_PAGE_BYTES + bytes);
}

/* Moves the pages of [from, from + bytes) to `to`, a heap's own memory both; nothing is mapped at
 * `from` then. HAK_MAP_TAKEN: not moved, both are mapped. HAK_MAP_REFUSED: not moved, and nothing
 * is mapped at `to` now: a move that fails late has unmapped its target. */
uint32_t hak_os_remap_range(hak_os_counts *counts, void *from, void *to, uint64_t bytes) {
    TALLY(counts, remap_count, 1);
    if (hak_memory_move(from, to, bytes, MREMAP_MAYMOVE | MREMAP_FIXED)) return HAK_MAP_DONE;
    uint32_t code = hak_os_map_range(counts, to, bytes, false);
    return code == HAK_MAP_REFUSED ? code : HAK_MAP_TAKEN;
}

/* Maps a heap's own memory anew, zeroed: it joins its neighbours' mapping. HAK_MAP_TAKEN: it is as
 * it was. HAK_MAP_REFUSED: nothing is mapped there now. */
uint32_t hak_os_map_anew(hak_os_counts *counts, void *address, uint64_t bytes) {
    TALLY(counts, commit_count, 1);
    if (hak_memory_map(address, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) == address)
        return HAK_MAP_DONE;
    return hak_os_map_range(counts, address, bytes, false);
}

/* Maps a block of its own wherever the OS likes, zeroed, on an `align` boundary. What the boundary
 * leaves over goes back, on both sides always: the same calls wherever the OS put it. */
void *hak_os_map_block(hak_os_counts *counts, uint64_t bytes, uint64_t align) {
    uint64_t extra = align > HAK_OS_PAGE_BYTES ? align + HAK_OS_PAGE_BYTES : 0;
    if (bytes + extra < bytes) return NULL;
    TALLY(counts, commit_count, 1);
    char *map =
        hak_memory_map(NULL, bytes + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    if (!map || !extra) return map;
    uint64_t before = align - ((uintptr_t)map & (align - 1));
    TALLY(counts, release_count, 2);
    (void)hak_memory_unmap(map, before);
    (void)hak_memory_unmap(map + before + bytes, extra - before);
    return map + before;
}

/* Resizes a mapping, or a part of one, from `have` to `want` bytes, at its place or at another;
 * then nothing is mapped at its own. NULL: it is as it was. */
void *hak_os_resize_block(hak_os_counts *counts, void *block, uint64_t have, uint64_t want) {
    TALLY(counts, remap_count, 1);
    return hak_memory_resize(block, have, want);
}

bool hak_os_release_range(void *address, uint64_t bytes) {
    TALLY(NULL, release_count, 1);
    return hak_memory_unmap(address, bytes);
}

/* Sets pages[i] to 1 where OS page i of the range is resident, else to 0. An OS that does not tell
 * counts as: all are. */
void hak_os_resident(hak_os_counts *counts, void *address, uint64_t bytes, uint8_t *pages) {
    TALLY(counts, query_count, 1);
    bool known = !hak_call_fails(HAK_CALL_RESIDENT) &&
                 hak_system(SYS_mincore, address, bytes, pages) == 0;
    for (uint64_t i = 0; i < bytes / HAK_OS_PAGE_BYTES; i++) pages[i] = known ? pages[i] & 1 : 1;
}

/* How many of up to HAK_RESIDENT_SAMPLE_PAGES OS pages are resident. */
uint32_t hak_os_resident_count(hak_os_counts *counts, void *address, uint32_t page_count) {
    uint8_t pages[HAK_RESIDENT_SAMPLE_PAGES];
    uint32_t found = 0;
    hak_os_resident(counts, address, (uint64_t)page_count * HAK_OS_PAGE_BYTES, pages);
    for (uint32_t i = 0; i < page_count; i++) found += pages[i];
    return found;
}

/* How many bytes of a range are on resident OS pages. */
uint64_t hak_os_resident_bytes(hak_os_counts *counts, void *address, uint64_t bytes) {
    uint64_t sum = 0, step = (uint64_t)HAK_RESIDENT_SAMPLE_PAGES * HAK_OS_PAGE_BYTES;
    for (uint64_t at = 0; at < bytes; at += step) {
        uint64_t count = (bytes - at < step ? bytes - at : step) / HAK_OS_PAGE_BYTES;
        sum += hak_os_resident_count(counts, (char *)address + at, (uint32_t)count);
    }
    return sum * HAK_OS_PAGE_BYTES;
}

/* Zeroed memory that belongs to no heap, wherever the OS puts it. */
void *hak_os_map_anywhere(uint64_t bytes) {
    TALLY(NULL, reserve_count, 1);
    return hak_memory_map(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
}

/* One zeroed OS page. *wiped: whether a fork's child will find it zeroed again. */
void *hak_os_wiped_page(bool *wiped) {
    void *page = hak_os_map_anywhere(HAK_OS_PAGE_BYTES);
    if (!page) return NULL;
    TALLY(NULL, advise_count, 1);
    *wiped = hak_memory_advise(page, HAK_OS_PAGE_BYTES, MADV_WIPEONFORK);
    return page;
}

/* Of memory that is no heap's: the C library's own symbols, for deepbind.c. */
bool hak_os_protect(void *address, uint64_t bytes, bool write, bool execute) {
    hak_add_relaxed(&hak_root_.protect_count, 1);
    int access = PROT_READ | (write ? PROT_WRITE : 0) | (execute ? PROT_EXEC : 0);
    return hak_memory_protect(address, bytes, access);
}
