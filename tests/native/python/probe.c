/* probe.c: the library as a malloc that takes the Python frames of its caller where it is slow, for
 * tests: of blocks of sizes that a program names, or of all. Preloaded into an interpreter; what
 * was found is asked for by ctypes. Built of the library's own objects, linked so that its calls of
 * hak_alloc_slow come here first. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hak_internal.h"
#include "python_frames.h"

#define FRAMES_MOST 96
#define EXPORT __attribute__((visibility("default")))

/* Written by the program while nobody else allocates. */
EXPORT uint64_t probe_from = UINT64_MAX, probe_to; /* sizes in bytes */
EXPORT uint32_t probe_most = 64, probe_room_bytes = 4096;
EXPORT uint64_t probe_samples, probe_frames, probe_strange;

static __thread bool busy;
static __thread char record[1 << 15];
static __thread uint32_t record_bytes;

/* A name that no frame of a test has: cut, or not text at all. */
static bool is_strange(const hak_python_frame *frame) {
    if (!frame->code) return frame->name_bytes || frame->file_bytes || !frame->entry;
    bool source =
        (frame->file_bytes > 3 && !memcmp(frame->file + frame->file_bytes - 3, ".py", 3)) ||
        (frame->file_bytes > 1 && frame->file[0] == '<');
    return !source || !frame->name_bytes || memchr(frame->name, 0, frame->name_bytes) ||
           frame->line > 100000 || (frame->line && frame->line < frame->first_line);
}

static void note(const hak_python_frame *frames, uint32_t count) {
    record_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const hak_python_frame *f = &frames[i];
        int bytes = snprintf(record + record_bytes, sizeof record - record_bytes,
                             "%.*s\t%.*s\t%u\t%u\t%d\n", (int)f->name_bytes, f->name,
                             (int)f->file_bytes, f->file, f->first_line, f->line, f->entry);
        if (bytes < 0 || record_bytes + (uint32_t)bytes >= sizeof record) return;
        record_bytes += (uint32_t)bytes;
    }
}

static void sample(void) {
    hak_python_frame frames[FRAMES_MOST];
    char room[4096];
    uint32_t count = hak_python_frames(frames, probe_most, room, probe_room_bytes);
    __atomic_fetch_add(&probe_samples, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&probe_frames, count, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < count; i++)
        if (is_strange(&frames[i])) __atomic_fetch_add(&probe_strange, 1, __ATOMIC_RELAXED);
    note(frames, count);
}

void *__real_hak_alloc_slow(hak_thread *t, uint64_t size, uint64_t align, bool zero);
void *__wrap_hak_alloc_slow(hak_thread *t, uint64_t size, uint64_t align, bool zero);
void *__wrap_hak_alloc_slow(hak_thread *t, uint64_t size, uint64_t align, bool zero) {
    if (!busy && size >= probe_from && size <= probe_to) {
        busy = true;
        sample();
        busy = false;
    }
    return __real_hak_alloc_slow(t, size, align, zero);
}

/* The frames of the calling thread's last sample, a line each; and forgets them. */
EXPORT uint32_t probe_take(char *to, uint32_t most) {
    uint32_t bytes = record_bytes < most ? record_bytes : most;
    memcpy(to, record, bytes);
    record_bytes = 0;
    return bytes;
}

/* A malloc by who has let go of the GIL, or never had it. */
EXPORT void probe_malloc(uint64_t size) { free(malloc(size)); }

static void *stranger(void *size) {
    probe_malloc(*(uint64_t *)size);
    return (void *)(uintptr_t)record_bytes;
}
/* Bytes that are known of the frames of a thread without a Python state. */
EXPORT uint64_t probe_malloc_of_stranger(uint64_t size) {
    pthread_t thread;
    void *bytes = (void *)1;
    pthread_create(&thread, NULL, stranger, &size);
    pthread_join(thread, &bytes);
    return (uintptr_t)bytes;
}
