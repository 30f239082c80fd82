/* operators.c: C++'s new and delete by way of malloc and free, so that an allocator's own operators
 * behind the recorder hide nothing. Out of memory the next operator takes over: it asks the new
 * handler and throws (hence -fexceptions). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

#include "record.h"

#pragma GCC visibility push(default)

typedef void *(*new_function)(size_t size, size_t align);

static RECORD_COLD void *new_failed(const char *name, size_t size, size_t align) {
    new_function next = (new_function)dlsym(RTLD_NEXT, name);
    if (!next) abort();
    return next(size, align);
}

void *_Znwm(size_t size) {
    void *block = malloc(size);
    return block ? block : new_failed("_Znwm", size, 0);
}
void *_ZnwmSt11align_val_t(size_t size, size_t align) {
    void *block = aligned_alloc(align, size);
    return block ? block : new_failed("_ZnwmSt11align_val_t", size, align);
}
void *_Znam(size_t size) { return _Znwm(size); }
void *_ZnamSt11align_val_t(size_t size, size_t align) { return _ZnwmSt11align_val_t(size, align); }

void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag) { return (void)tag, malloc(size); }
void *_ZnamRKSt9nothrow_t(size_t size, const void *tag) { return (void)tag, malloc(size); }
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const void *tag) {
    return (void)tag, aligned_alloc(align, size);
}
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const void *tag) {
    return (void)tag, aligned_alloc(align, size);
}

void _ZdlPv(void *block) { free(block); }
void _ZdaPv(void *block) { free(block); }
void _ZdlPvm(void *block, size_t size) { (void)size, free(block); }
void _ZdaPvm(void *block, size_t size) { (void)size, free(block); }
void _ZdlPvSt11align_val_t(void *block, size_t align) { (void)align, free(block); }
void _ZdaPvSt11align_val_t(void *block, size_t align) { (void)align, free(block); }
void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t align) {
    (void)size, (void)align, free(block);
}
void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t align) {
    (void)size, (void)align, free(block);
}
void _ZdlPvRKSt9nothrow_t(void *block, const void *tag) { (void)tag, free(block); }
void _ZdaPvRKSt9nothrow_t(void *block, const void *tag) { (void)tag, free(block); }
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t align, const void *tag) {
    (void)align, (void)tag, free(block);
}
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t align, const void *tag) {
    (void)align, (void)tag, free(block);
}
#pragma GCC visibility pop
