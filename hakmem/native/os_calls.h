/* os_calls.h: system calls about memory as they are, each counted by its caller, and each one that
 * a test makes fail; what os.c and os_process.c are built from, and nobody else.
 *
 * Builds for sanitizers make them through libc, where the sanitizer sees them; all others ask the
 * kernel directly.
 */
#ifndef HAK_OS_CALLS_H
#define HAK_OS_CALLS_H
#include <sys/mman.h>

#include "hak_internal.h"
#include "syscall.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static inline void hak_call_tally(hak_os_counts *counts, size_t place, uint64_t n) {
    hak_add_relaxed((uint64_t *)((char *)&hak_root_.os + place), n);
    if (counts) hak_add_relaxed((uint64_t *)((char *)counts + place), n);
}
#define TALLY(counts, field, n) hak_call_tally((counts), offsetof(hak_os_counts, field), (n))

/* Whether a test makes this call fail, on both planes alike. */
static inline bool hak_call_fails(uint32_t kind) {
    hak_os_faults *faults = &hak_os_faults_; /* partner of all: the test, which is alone */
    if (!(hak_load_relaxed(&faults->kinds) & kind)) return false;
    uint64_t call = hak_add_relaxed(&faults->calls, 1), first = hak_load_relaxed(&faults->first);
    return call >= first && call - first < hak_load_relaxed(&faults->count);
}

/* A move that fails may have unmapped its target before. */
static inline bool move_fails(void *to, uint64_t bytes) {
    if (hak_call_fails(HAK_CALL_REMAP)) return true;
    if (!hak_call_fails(HAK_CALL_REMAP_LATE)) return false;
    (void)hak_system(SYS_munmap, to, bytes);
    return true;
}

static inline uint32_t kind_of_advice(int advice) {
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED: return HAK_CALL_PURGE;
    case MADV_FREE: return HAK_CALL_LAZY;
    case MADV_POPULATE_WRITE: return HAK_CALL_POPULATE;
    default: return HAK_CALL_ADVISE;
    }
}

#if defined(HAK_SYSTEM_BY_LIBC)
static inline void *hak_memory_map(void *at, uint64_t bytes, int access, int flags) {
    if (hak_call_fails(HAK_CALL_RESERVE)) return NULL;
    void *map = mmap(at, bytes, access, flags, -1, 0);
    return map == MAP_FAILED ? NULL : map;
}
/* Maps exactly at this address or nowhere. *taken: something is mapped there already. */
static inline void *hak_memory_map_exactly(void *at, uint64_t bytes, bool *taken) {
    int saved = errno;
    if ((*taken = hak_call_fails(HAK_CALL_TAKEN)) || hak_call_fails(HAK_CALL_MAP)) return NULL;
    void *map = mmap(at, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (map == MAP_FAILED) map = NULL;
    *taken = !map && errno == EEXIST;
    errno = saved;
    return map;
}
static inline bool hak_memory_unmap(void *at, uint64_t bytes) {
    return !hak_call_fails(HAK_CALL_UNMAP) && munmap(at, bytes) == 0;
}
static inline bool hak_memory_protect(void *at, uint64_t bytes, int access) {
    return !hak_call_fails(HAK_CALL_PROTECT) && mprotect(at, bytes, access) == 0;
}
static inline bool hak_memory_advise(void *at, uint64_t bytes, int advice) {
    return !hak_call_fails(kind_of_advice(advice)) && madvise(at, bytes, advice) == 0;
}
static inline bool hak_memory_move(void *from, void *to, uint64_t bytes, int flags) {
    return !move_fails(to, bytes) && mremap(from, bytes, bytes, flags, to) == to;
}
static inline bool hak_memory_extend(void *at, uint64_t have, uint64_t want) {
    return !hak_call_fails(HAK_CALL_REMAP) && mremap(at, have, want, 0) == at;
}
static inline void *hak_memory_resize(void *at, uint64_t have, uint64_t want) {
    if (hak_call_fails(HAK_CALL_REMAP)) return NULL;
    void *map = mremap(at, have, want, MREMAP_MAYMOVE);
    return map == MAP_FAILED ? NULL : map;
}
#else
static inline void *hak_memory_map(void *at, uint64_t bytes, int access, int flags) {
    if (hak_call_fails(HAK_CALL_RESERVE)) return NULL;
    long map = hak_system(SYS_mmap, at, bytes, access, flags, -1, 0);
    return hak_system_failed(map) ? NULL : (void *)map;
}
static inline void *hak_memory_map_exactly(void *at, uint64_t bytes, bool *taken) {
    if ((*taken = hak_call_fails(HAK_CALL_TAKEN)) || hak_call_fails(HAK_CALL_MAP)) return NULL;
    long map = hak_system(SYS_mmap, at, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    *taken = map == -EEXIST;
    return hak_system_failed(map) ? NULL : (void *)map;
}
static inline bool hak_memory_unmap(void *at, uint64_t bytes) {
    return !hak_call_fails(HAK_CALL_UNMAP) && hak_system(SYS_munmap, at, bytes) == 0;
}
static inline bool hak_memory_protect(void *at, uint64_t bytes, int access) {
    return !hak_call_fails(HAK_CALL_PROTECT) && hak_system(SYS_mprotect, at, bytes, access) == 0;
}
static inline bool hak_memory_advise(void *at, uint64_t bytes, int advice) {
    return !hak_call_fails(kind_of_advice(advice)) &&
           hak_system(SYS_madvise, at, bytes, advice) == 0;
}
static inline bool hak_memory_move(void *from, void *to, uint64_t bytes, int flags) {
    return !move_fails(to, bytes) &&
           hak_system(SYS_mremap, from, bytes, bytes, flags, to) == (long)to;
}
static inline bool hak_memory_extend(void *at, uint64_t have, uint64_t want) {
    return !hak_call_fails(HAK_CALL_REMAP) && hak_system(SYS_mremap, at, have, want, 0) == (long)at;
}
static inline void *hak_memory_resize(void *at, uint64_t have, uint64_t want) {
    if (hak_call_fails(HAK_CALL_REMAP)) return NULL;
    long map = hak_system(SYS_mremap, at, have, want, MREMAP_MAYMOVE);
    return hak_system_failed(map) ? NULL : (void *)map;
}
#endif

#endif
