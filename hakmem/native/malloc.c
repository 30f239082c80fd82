/* malloc.c: malloc and its family, over the process heap. Sanitizer builds bring their own and
 * leave this file out. C++'s operators stand in new_delete.c; mallinfo and the like in accounts.c
 * and reports.c.
 *
 * The first call finds the early record, misses every fast path, and comes to make_process_heap. It
 * depends on no order of constructors and needs no dlsym.
 */
#include <errno.h>
#include <string.h>

#include "fast.h"
#include "gate.h"
#include "hak_internal.h"
#include "hakmem.h"
#include "line.h"
#include "locks.h"
#include "magazine.h"
#include "policy.h"
#include "profile.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#pragma GCC visibility push(default)

static uint64_t making; /* under hak_once_lock */
/* this thread is making the heap: a malloc from inside that is refused, since it would wait for
 * itself */
static __thread bool makes_heap __attribute__((tls_model("initial-exec")));

#define STATUS_REFUSED 127 /* the loader's own, for a program that cannot start */

/* Page sizes are one number of the layout: on any other nothing works. */
HAK_COLD static void refuse_pages(uint64_t bytes) {
    hak_line line = {.used = 0};
    hak_line_text(&line, "hakmem: OS pages of ");
    hak_line_number(&line, bytes);
    hak_line_text(&line, " bytes: expected ");
    hak_line_number(&line, HAK_OS_PAGE_BYTES);
    hak_line_text(&line, "; run the program without the library");
    hak_line_write(&line);
    hak_os_end(STATUS_REFUSED);
}

/* Makes the process heap once; other threads wait for it. NULL when the OS gives no region at all,
 * and for a call from inside the making. */
static hak_heap *make_process_heap(void) {
    if (makes_heap) return NULL;
    hak_once_lock(&making);
    makes_heap = true;
    uint64_t page_bytes = hak_os_page_bytes();
    if (hak_unlikely(page_bytes != HAK_OS_PAGE_BYTES)) refuse_pages(page_bytes);
    hak_fault fault;
    hak_heap *h = hak_heap_of_process(); /* another may have made it meanwhile */
    const hak_policy *policy = h ? NULL : hak_policy_of_process();
    if (!h) h = hak_heap_create(policy, 0, HAK_HEAP_PROCESS, &fault);
    hak_store_release(&hak_root_.process_heap, (uintptr_t)h);
    makes_heap = false;
    hak_once_unlock(&making);
    return h;
}

/* The calling thread's record, or record 0 locked. NULL: there is no memory at all. */
static hak_thread *enter(void) {
    hak_thread *t = hak_tls_thread;
    if (hak_likely(t->heap != 0)) {
        hak_slow_enter(t);
        return t;
    }
    hak_heap *h = hak_heap_of_process();
    if (!h) h = make_process_heap();
    return h ? hak_thread_enter(h) : NULL;
}

/* The record for a free. A thread that has no record yet uses record 0 for its first frees: libc
 * frees what it kept for a thread after the thread's last destructor has run, and a record made
 * then would never be given back. */
static hak_thread *enter_to_free(void) {
    static __thread uint32_t shared_frees __attribute__((tls_model("initial-exec")));
    hak_thread *t = hak_tls_thread;
    if (hak_likely(t->heap != 0)) {
        hak_slow_enter(t);
        return t;
    }
    hak_heap *h = hak_heap_of_process();
    if (!h) return NULL;
    if (shared_frees == HAK_SHARED_FREES) return hak_thread_enter(h);
    shared_frees++;
    return hak_thread_enter_shared(h);
}

static void *no_memory(void) {
    errno = ENOMEM;
    return NULL;
}

/* On success errno stays as it was, whatever calls were made. */
static void *aligned(size_t size, size_t align, bool zero) {
    if (size > PTRDIFF_MAX) return no_memory();
    int saved = errno;
    hak_thread *t = enter();
    void *block = t ? hak_alloc_slow(t, size, align, zero) : NULL;
    if (t) hak_thread_leave(t);
    /* last, holding nothing; not at a free: libc frees under a lock that pthread_create takes */
    if (block && hak_load_relaxed(&hak_root_.background) == HAK_BACKGROUND_NONE)
        hak_background_start(hak_heap_of_process());
    errno = saved;
    return block ? block : no_memory();
}

__attribute__((noinline)) static void *malloc_slow(uint64_t size) {
    hak_thread *t = hak_tls_thread;
    void *block;
    if (hak_unlikely(t->sample_rate != 0)) block = hak_counted_alloc(t, size);
    else if (!(block = hak_magazine_alloc(t, size))) block = hak_big_alloc(t, size);
    return block ? block : aligned(size, 1, false);
}

HAK_COLD static void fatal(void *block, uint32_t code, hak_fault *fault, const char *caller) {
    fault->code = code;
    fault->address = (uintptr_t)block;
    hak_fault_fatal(hak_heap_of_process(), fault, caller);
}

__attribute__((noinline)) static void free_slow(void *block) {
    if (!block) return;
    int saved = errno;
    hak_fault fault = {0};
    hak_thread *t = enter_to_free();
    uint32_t code = t ? hak_free_slow(t, (uintptr_t)block, &fault) : HAK_FAULT_FOREIGN;
    if (code) fatal(block, code, &fault, "free");
    hak_thread_leave(t);
    errno = saved;
}

/* a function of its own, so that a magazine's free has no frame to make */
__attribute__((noinline)) static void free_missed(void *block) {
    if (!hak_magazine_free(hak_tls_thread, (uintptr_t)block) &&
        !hak_tagged_free(hak_tls_thread, (uintptr_t)block))
        free_slow(block);
}

/* starts a cache line of its own, which saves 1-4 % of a malloc and free */
__attribute__((aligned(HAK_CACHE_LINE_BYTES))) void *malloc(size_t size) {
    void *block = hak_fast_alloc(hak_tls_thread, size);
    return hak_likely(block != NULL) ? block : malloc_slow(size);
}

__attribute__((aligned(HAK_CACHE_LINE_BYTES))) void free(void *block) {
    if (hak_likely(hak_fast_free(hak_tls_thread, (uintptr_t)block, false))) return;
    free_missed(block);
}

void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return no_memory();
    void *block = hak_fast_alloc(hak_tls_thread, bytes);
    if (!block) block = hak_counted_alloc(hak_tls_thread, bytes);
    return block ? memset(block, 0, bytes) : aligned(bytes, 1, true);
}

static size_t usable(void *block) {
    hak_fault fault = {0};
    hak_block found;
    hak_heap *h = hak_heap_of_process();
    uint32_t code = h ? hak_check_live(h, (uintptr_t)block, &found, &fault) : HAK_FAULT_FOREIGN;
    if (!code) code = hak_check_own(hak_tls_thread, h, (uintptr_t)block, &found, &fault);
    if (code) fatal(block, code, &fault, "malloc_usable_size");
    return found.bytes;
}

size_t malloc_usable_size(void *block) { return block ? usable(block) : 0; }

void *realloc(void *block, size_t size) {
    if (!block) return malloc(size);
    if (!size) {
        free(block);
        return NULL;
    }
    if (size > PTRDIFF_MAX) return no_memory();
    hak_fault fault = {0};
    void *out = NULL;
    int saved = errno;
    hak_thread *t = enter();
    uint32_t code = t ? hak_realloc_block(t, (uintptr_t)block, size, &out, &fault)
                      : HAK_FAULT_FOREIGN;
    errno = saved;
    if (code == HAK_FAULT_NOMEM) {
        hak_thread_leave(t);
        return no_memory();
    }
    if (code) fatal(block, code, &fault, "realloc");
    hak_thread_leave(t);
    return out;
}

void *reallocarray(void *block, size_t count, size_t size) {
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? no_memory() : realloc(block, bytes);
}

static bool is_power_of_two(size_t n) { return n && !(n & (n - 1)); }

/* Returns the error. Out of memory sets errno too, as glibc and every peer do. */
int posix_memalign(void **out, size_t align, size_t size) {
    if (!is_power_of_two(align) || align % sizeof(void *)) return EINVAL;
    void *block = aligned(size, align, false);
    if (!block) return ENOMEM;
    *out = block;
    return 0;
}

/* As in glibc 2.36, an alignment that is no power of two is rounded up to one; EINVAL where there
 * is none. Later versions refuse it in aligned_alloc; refusing would break programs that run
 * today, rounding breaks none. */
void *memalign(size_t align, size_t size) {
    if (align > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    if (!is_power_of_two(align)) align = align ? (size_t)2 << (63 - __builtin_clzl(align)) : 1;
    return aligned(size, align, false);
}
void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
void *valloc(size_t size) { return aligned(size, HAK_OS_PAGE_BYTES, false); }
void *pvalloc(size_t size) {
    size_t up = (size + HAK_OS_PAGE_BYTES - 1) & ~(size_t)(HAK_OS_PAGE_BYTES - 1);
    return up < size ? no_memory() : aligned(up ? up : HAK_OS_PAGE_BYTES, HAK_OS_PAGE_BYTES, false);
}
void cfree(void *block) { free(block); }

/* C23: the caller states the size, which the registry knows anyway. */
void free_sized(void *block, size_t size) {
    (void)size;
    free(block);
}
void free_aligned_sized(void *block, size_t align, size_t size) {
    (void)align, (void)size;
    free(block);
}

/* glibc's other names, which programs with wrappers of their own call. One heap serves all
 * names. */
void *__libc_malloc(size_t size) { return malloc(size); }
void __libc_free(void *block) { free(block); }
void *__libc_calloc(size_t count, size_t size) { return calloc(count, size); }
void *__libc_realloc(void *block, size_t size) { return realloc(block, size); }
void *__libc_memalign(size_t align, size_t size) { return memalign(align, size); }
void *__libc_valloc(size_t size) { return valloc(size); }
void *__libc_pvalloc(size_t size) { return pvalloc(size); }
#pragma GCC visibility pop
#endif
