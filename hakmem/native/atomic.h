/* atomic.h: atomic operations by name and order; the builtins appear nowhere else but in
 * primitives.c.
 *
 * Structs are mirrored in Python and therefore plain; a field is atomic because every access to it
 * goes through here. Callers name the partner of each operation where they use it.
 */
#ifndef HAK_ATOMIC_H
#define HAK_ATOMIC_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/single_threaded.h>

/* True until the process makes its first thread; libc keeps the flag. */
#define hak_single_threaded() __builtin_expect(__libc_single_threaded != 0, 0)

#define hak_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define hak_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define hak_load_seq(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define hak_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define hak_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define hak_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define hak_sub_relaxed(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define hak_add_acq_rel(p, v) __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
#define hak_or_release(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELEASE)
#define hak_or_seq(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define hak_and_seq(p, v) __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define hak_exchange_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
/* On failure *expected holds what was found, read with acquire where the order says so. */
#define hak_cas_acq_rel(p, expected, v) \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
#define hak_cas_acquire(p, expected, v) \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
#define hak_cas_release(p, expected, v) \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)

/* Keeps the stores before it before the stores behind it. The compiler obeys; on x86 the processor
 * keeps stores in order anyway. */
#if defined(__x86_64__)
#define hak_keep_order() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#else
#define hak_keep_order() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif

/* Keeps the compiler from moving any access past it. The processor's part is played by another
 * thread, by hak_os_barrier. */
#define hak_compiler_fence() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* The fast paths' accesses to words that a reaper reads or writes meanwhile (gate.h). Plain, since
 * a processor loads and stores an aligned word in one piece, and an atomic access would cost an
 * instruction: the compiler merges it into no other. ThreadSanitizer, which knows no membarrier, is
 * told the order that the reaper's barrier makes. */
#if defined(__SANITIZE_THREAD__)
#define hak_load_fast(p) hak_load_acquire(p)
#define hak_store_fast(p, v) hak_store_release((p), (v))
#else
#define hak_load_fast(p) (*(p))
#define hak_store_fast(p, v) ((void)(*(p) = (v)))
#endif

/* A word that another thread may write at the same time with a plain store. The caller finds out
 * whether it did, and then does not use the value: there is no order, by design, so ThreadSanitizer
 * is not told of the load. */
__attribute__((noinline, no_sanitize("thread"), unused)) static uint64_t hak_peek(
    const uint64_t *word) {
    return *(const volatile uint64_t *)word;
}

static inline void hak_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Backs off after the n-th lost CAS: 1, 2, 4 ... spins, at most `most`. */
static inline void hak_backoff(uint32_t n, uint32_t most) {
    uint32_t spins = n < 16 ? 1u << n : most;
    for (uint32_t i = 0; i < (spins < most ? spins : most); i++) hak_pause();
}

#endif
