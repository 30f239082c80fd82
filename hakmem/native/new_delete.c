/* new_delete.c: C++'s new and delete under their mangled names, so that the library needs no C++
 * runtime.
 *
 * Forms that the standard defines by another form call that one by its name, since a program may
 * have replaced it and then gets its own. CMakeLists.txt compiles this file with -fsemantic-
 * interposition, so that no compiler sees through the names. What the fast path misses goes to
 * malloc and free by name too: a program with a malloc of its own keeps it. Out of memory, the
 * runtime's own operator takes over: it asks malloc again, then the new handler as long as there is
 * one, then throws through this file (hence -fexceptions). The nothrow forms of new are the
 * runtime's: they call these and catch.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

#include "fast.h"
#include "hak_internal.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#pragma GCC visibility push(default)

typedef void *(*new_function)(size_t size, size_t align);

/* The C++ runtime's operator of this name: the next definition behind ours in the order of lookup,
 * or one in a runtime that came by dlopen. */
static new_function runtime_operator(const char *name) {
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1", "libc++abi.so.1"};
    void *found = dlsym(RTLD_NEXT, name);
    for (size_t i = 0; !found && i < sizeof runtimes / sizeof *runtimes; i++) {
        void *runtime = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        if (!runtime) continue;
        found = dlsym(runtime, name);
        dlclose(runtime); /* the caller is C++ and keeps it loaded */
    }
    if (found) return (new_function)(uintptr_t)found;
    static const char line[] = "hakmem: operator new: out of memory, and there is no C++ runtime "
                               "to throw std::bad_alloc\n";
    hak_os_say(line, sizeof line - 1);
    abort();
}

HAK_COLD static void *new_failed(size_t size) { return runtime_operator("_Znwm")(size, 0); }
HAK_COLD static void *new_aligned_failed(size_t size, size_t align) {
    return runtime_operator("_ZnwmSt11align_val_t")(size, align);
}

void *_Znwm(size_t size) {
    void *block = hak_fast_alloc(hak_tls_thread, size);
    if (hak_likely(block != NULL)) return block;
    block = malloc(size);
    return hak_likely(block != NULL) ? block : new_failed(size);
}

void *_ZnwmSt11align_val_t(size_t size, size_t align) {
    void *block = align & (align - 1) ? NULL : aligned_alloc(align, size);
    return hak_likely(block != NULL) ? block : new_aligned_failed(size, align);
}

void _ZdlPv(void *block) {
    if (hak_unlikely(!hak_fast_free(hak_tls_thread, (uintptr_t)block, false))) free(block);
}
void _ZdlPvSt11align_val_t(void *block, size_t align) {
    (void)align;
    if (hak_unlikely(!hak_fast_free(hak_tls_thread, (uintptr_t)block, false))) free(block);
}

/* Arrays. */
void *_Znam(size_t size) { return _Znwm(size); }
void *_ZnamSt11align_val_t(size_t size, size_t align) { return _ZnwmSt11align_val_t(size, align); }
void _ZdaPv(void *block) { _ZdlPv(block); }
void _ZdaPvSt11align_val_t(void *block, size_t align) { _ZdlPvSt11align_val_t(block, align); }

/* Sized: the caller states the size, which the registry knows anyway. */
void _ZdlPvm(void *block, size_t size) { (void)size, _ZdlPv(block); }
void _ZdaPvm(void *block, size_t size) { (void)size, _ZdaPv(block); }
void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t align) {
    (void)size, _ZdlPvSt11align_val_t(block, align);
}
void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t align) {
    (void)size, _ZdaPvSt11align_val_t(block, align);
}

/* Nothrow: called when a constructor throws inside a nothrow new. */
void _ZdlPvRKSt9nothrow_t(void *block, const void *tag) { (void)tag, _ZdlPv(block); }
void _ZdaPvRKSt9nothrow_t(void *block, const void *tag) { (void)tag, _ZdaPv(block); }
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t align, const void *tag) {
    (void)tag, _ZdlPvSt11align_val_t(block, align);
}
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t align, const void *tag) {
    (void)tag, _ZdaPvSt11align_val_t(block, align);
}
#pragma GCC visibility pop
#endif
