/* primitives.c: what the Python plane gets from C: loads, stores and CAS of 32 and 64 bits, TLS
 * slots, and the OS calls of os.c under public names.
 *
 * Loads, stores and CAS are sequentially consistent: the Python plane is the reference, not the
 * fast one. An address must be aligned to its width; the caller makes sure that it is mapped.
 */
#include <pthread.h>

#include "hak_internal.h"

HAK_EXPORT uint32_t hak_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
HAK_EXPORT uint64_t hak_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
HAK_EXPORT void hak_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
HAK_EXPORT void hak_store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
/* 1 when *p was `expected` and is `v` now. */
HAK_EXPORT int hak_cas32(uint32_t *p, uint32_t expected, uint32_t v) {
    return __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
HAK_EXPORT int hak_cas64(uint64_t *p, uint64_t expected, uint64_t v) {
    return __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* TLS slots: a key, and a 64-bit value for each thread, 0 at first. -1 when the OS has no key
 * left. */
HAK_EXPORT int64_t hak_tls_make(void) {
    pthread_key_t key;
    return pthread_key_create(&key, NULL) == 0 ? (int64_t)key : -1;
}
HAK_EXPORT uint64_t hak_tls_get(int64_t key) {
    return (uintptr_t)pthread_getspecific((pthread_key_t)key);
}
HAK_EXPORT int hak_tls_set(int64_t key, uint64_t value) {
    return pthread_setspecific((pthread_key_t)key, (void *)(uintptr_t)value) == 0;
}
HAK_EXPORT int hak_tls_drop(int64_t key) { return pthread_key_delete((pthread_key_t)key) == 0; }

/* The OS calls, with ints for truth values. */
HAK_EXPORT void *hak_os_reserve(uint64_t bytes, uint64_t align, uint64_t *map_base,
                                uint64_t *map_bytes) {
    return hak_os_reserve_aligned(bytes, align, map_base, map_bytes);
}
HAK_EXPORT uint32_t hak_os_map(hak_os_counts *counts, void *address, uint64_t bytes, int reserved) {
    return hak_os_map_range(counts, address, bytes, reserved != 0);
}
HAK_EXPORT int hak_os_unmap(hak_os_counts *counts, void *address, uint64_t bytes, int reserved) {
    return hak_os_unmap_range(counts, address, bytes, reserved != 0);
}
HAK_EXPORT int hak_os_locked(hak_os_counts *counts, void *address) {
    return hak_os_is_locked(counts, address);
}
HAK_EXPORT int hak_os_commit(hak_os_counts *counts, void *address, uint64_t bytes) {
    return hak_os_map_range(counts, address, bytes, true) == HAK_MAP_DONE;
}
HAK_EXPORT int hak_os_purge(hak_os_counts *counts, void *address, uint64_t bytes, int lazy) {
    return hak_os_purge_range(counts, address, bytes, lazy != 0);
}
HAK_EXPORT uint32_t hak_os_remap(hak_os_counts *counts, void *from, void *to, uint64_t bytes) {
    return hak_os_remap_range(counts, from, to, bytes);
}
HAK_EXPORT int hak_os_extend(hak_os_counts *counts, void *address, uint64_t bytes) {
    return hak_os_extend_range(counts, address, bytes);
}
HAK_EXPORT uint32_t hak_os_renew(hak_os_counts *counts, void *address, uint64_t bytes) {
    return hak_os_map_anew(counts, address, bytes);
}
HAK_EXPORT void *hak_os_block(hak_os_counts *counts, uint64_t bytes, uint64_t align) {
    return hak_os_map_block(counts, bytes, align);
}
HAK_EXPORT void *hak_os_resize(hak_os_counts *counts, void *block, uint64_t have, uint64_t want) {
    return hak_os_resize_block(counts, block, have, want);
}
HAK_EXPORT uint32_t hak_os_residents(hak_os_counts *counts, void *address, uint32_t page_count) {
    return hak_os_resident_count(counts, address, page_count);
}
HAK_EXPORT uint32_t hak_os_slow_reads(const void *address, uint64_t apart, uint32_t count,
                                      uint64_t slow_ns) {
    return hak_os_slow_count(address, apart, count, slow_ns);
}
HAK_EXPORT uint64_t hak_os_limit(void) { return hak_os_mapping_limit(); }
HAK_EXPORT int hak_os_membarrier(void) { return hak_os_barrier(); }
HAK_EXPORT int hak_os_release(void *address, uint64_t bytes) {
    return hak_os_release_range(address, bytes);
}
HAK_EXPORT void hak_os_populate(hak_os_counts *counts, void *address, uint64_t bytes) {
    hak_os_populate_range(counts, address, bytes);
}
HAK_EXPORT void hak_os_advise(hak_os_counts *counts, void *address, uint64_t bytes, int huge) {
    hak_os_advise_huge(counts, address, bytes, huge != 0);
}
