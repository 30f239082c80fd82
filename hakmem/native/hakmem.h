/* hakmem.h: the C API. Heaps of their own beside malloc; every function is thread-safe but create
 * and destroy.
 *
 *   hak_fault fault;
 *   hak_heap *heap = hak_heap_create(NULL, 0, 0, &fault);
 *   void *block = hak_heap_alloc(heap, 100);
 *   if (hak_heap_free(heap, block, &fault) != HAK_OK) ... fault.code says what was wrong
 *   hak_heap_destroy(heap);
 *
 * Preloaded or linked first, the library is also the process's malloc.
 */
#ifndef HAKMEM_H
#define HAKMEM_H
#include <stddef.h>
#include <stdint.h>

#include "hak_layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes a heap under `policy` (NULL: the built-in one) of `region_bytes` of user memory (0: 64
 * GiB, halved until the OS agrees). flags: HAK_HEAP_CHECKED or 0. NULL on failure, with
 * HAK_FAULT_POLICY or HAK_FAULT_NOMEM in fault->code. */
hak_heap *hak_heap_create(const hak_policy *policy, uint64_t region_bytes, uint32_t flags,
                          hak_fault *fault);
/* Unmaps the whole region. No thread may be inside a call, or make one later. */
void hak_heap_destroy(hak_heap *heap);

/* A block of at least `size` bytes (0 counts as 1), aligned to 16, or 8 up to 8 bytes. NULL when
 * out of memory. */
void *hak_heap_alloc(hak_heap *heap, uint64_t size);
/* The same, aligned to `align` (a power of two), zeroed if `zero`. */
void *hak_heap_alloc_aligned(hak_heap *heap, uint64_t size, uint64_t align, int zero);
/* Returns HAK_OK, or the fault, which is also in *fault; then the heap is unchanged. NULL is fine.
 * Any thread may free. */
uint32_t hak_heap_free(hak_heap *heap, void *block, hak_fault *fault);
/* *out is the resized block with its contents. On HAK_FAULT_NOMEM the old block stays as it was. A
 * NULL block allocates. */
uint32_t hak_heap_realloc(hak_heap *heap, void *block, uint64_t size, void **out, hak_fault *fault);
/* *out is how many bytes of a live block the caller may use. */
uint32_t hak_heap_usable(hak_heap *heap, const void *block, uint64_t *out, hak_fault *fault);
/* Allocates `count` blocks into `out`; returns how many there was memory for. */
uint64_t hak_heap_alloc_many(hak_heap *heap, const uint64_t *sizes, uint64_t count, uint64_t *out);
/* Frees `count` blocks; stops at the first fault and returns how many were freed. */
uint64_t hak_heap_free_many(hak_heap *heap, const uint64_t *blocks, uint64_t count,
                            hak_fault *fault);
/* Gives the calling thread's caches back to the slabs. */
void hak_heap_flush(hak_heap *heap);
/* Fills the calling thread's caches to the policy's prewarm counts. */
void hak_heap_prewarm(hak_heap *heap);
/* Flushes the thread caches it can reach and purges every free OS page; returns the bytes given
 * back. */
uint64_t hak_heap_trim(hak_heap *heap);
/* Takes what thread record `index` caches, without its thread's help; *out says what was given
 * back. Returns HAK_REAP_DONE, or why nothing was taken. */
uint32_t hak_heap_reap(hak_heap *heap, uint32_t index, hak_reaped *out);
/* Changes the policy of a heap that runs. Threads obey it from their next refills on, class by
 * class; what belongs to the heap as a whole holds from the next event on. Returns HAK_CHANGE_DONE,
 * or why nothing was changed: HAK_CHANGE_REFUSED (no policy that can be obeyed), HAK_CHANGE_FIXED
 * (classes, headers, magazines and a few more are kept), HAK_CHANGE_NOMEM. */
uint32_t hak_heap_policy_set(hak_heap *heap, const hak_policy *policy);
/* Copies the policy in force. */
void hak_heap_policy_get(hak_heap *heap, hak_policy *out);
/* Samples who allocates, on average each `rate` bytes; 0: no more. */
uint32_t hak_heap_profile(hak_heap *heap, uint64_t rate);
/* Ends an epoch whose time is over, and purges what the policy no longer keeps. */
void hak_heap_tick(hak_heap *heap);
/* Switches the crash report on or off: one line at SIGSEGV, SIGBUS and SIGABRT, before whatever
 * handled the signal earlier. Returns 0 or an errno. HAKMEM_CRASH_REPORT=1 in the environment does
 * the same. */
int hak_crash_report(int on);
/* The heap behind malloc, or NULL while there is none. */
hak_heap *hak_process_heap(void);
/* The hash of the layout the library was built from, its version, and its kind: release, debug,
 * asan, tsan, ubsan. */
uint64_t hak_layout_hash(void);
const char *hak_build_kind(void);

#ifdef __cplusplus
}
#endif
#endif
