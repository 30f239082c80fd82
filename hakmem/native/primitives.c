/* primitives.c: what the Python plane gets from C besides the OS calls: loads, stores and CAS of 32
 * and 64 bits, and TLS slots.
 *
 * All are sequentially consistent: the Python plane is the reference, not the fast one. An address
 * must be aligned to its width; the caller makes sure that it is mapped.
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
