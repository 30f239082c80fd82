/* probe.c: the library as a malloc that takes the Python frames of its caller where it is slow, for
 * tests: of blocks of sizes that a program names, or of all. Preloaded into an interpreter; what
 * was found is asked for by ctypes. Built of the library's own objects, linked so that its calls of
 * hak_alloc_slow come here first. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hak_internal.h"
#include "python_frames.h"
#include "python_layout.h"

#define FRAMES_MOST 96
#define EXPORT __attribute__((visibility("default")))

/* Written by the program while nobody else allocates, or by PROBE_ALL. */
EXPORT uint64_t probe_from = UINT64_MAX, probe_to; /* sizes in bytes */
EXPORT uint32_t probe_most = 64, probe_room_bytes = 4096;
static uint64_t samples, frames_found, strange;

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
    __atomic_fetch_add(&samples, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&frames_found, count, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < count; i++)
        if (is_strange(&frames[i])) __atomic_fetch_add(&strange, 1, __ATOMIC_RELAXED);
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

/* PROBE_ALL=1: all sizes, from the first malloc to the last; what came of it, on stderr. */
__attribute__((constructor)) static void begin(void) {
    if (getenv("PROBE_ALL")) probe_from = 0, probe_to = UINT64_MAX;
}
__attribute__((destructor)) static void end(void) {
    if (getenv("PROBE_ALL"))
        fprintf(stderr, "samples %lu frames %lu strange %lu\n", samples, frames_found, strange);
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

/* Allocates for some time without the GIL. */
EXPORT void probe_malloc_often(uint64_t size, uint64_t count) {
    while (count--) probe_malloc(size);
}

/* ---- layouts and states that are wrong ---------------------------------------------------------
 */

static hak_python_fields fields;

bool __real_hak_python_layout(uint64_t version, uint64_t runtime, hak_python_fields *found);
bool __wrap_hak_python_layout(uint64_t version, uint64_t runtime, hak_python_fields *found);
/* PROBE_SHIFT=n: the n-th offset is one word too high, as in a build that nobody knows. */
bool __wrap_hak_python_layout(uint64_t version, uint64_t runtime, hak_python_fields *found) {
    const char *shift = getenv("PROBE_SHIFT");
    bool known = __real_hak_python_layout(version, runtime, found);
    if (shift) ((uint16_t *)found)[atoi(shift)] += sizeof(uint64_t);
    fields = *found;
    return known;
}
EXPORT uint32_t probe_offset_count(void) {
    return offsetof(hak_python_fields, indirect) / sizeof(uint16_t);
}

/* Where the calling thread's state has its innermost frame. */
static uint64_t *frame_place(void) {
    void *(*own)(void) = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyGILState_GetThisThreadState");
    char *place = (char *)own() + fields.state_frame;
    if (fields.indirect) place = *(char **)place + fields.c_frame;
    return (uint64_t *)place;
}

/* Allocates without the GIL under a state whose innermost frame is not to be read, or has a wrong
 * word, as one has that was freed by an interpreter's end. Returns how many frames were found. */
EXPORT uint64_t probe_malloc_astray(uint64_t size, uint64_t rounds) {
    uint64_t *place = frame_place(), own = *place, before = frames_found, copy[64], seed = 1;
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    const uint64_t bad[] = {1,
                            8,
                            4096,
                            1 << 20,
                            UINT64_C(1) << 47,
                            UINT64_C(1) << 63,
                            UINT64_MAX,
                            (uint64_t)page + 4096,
                            (uint64_t)page + 4088,
                            own + 4};
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        *place = bad[i];
        probe_malloc(size);
    }
    before = frames_found - before;
    for (uint64_t round = 0; round < rounds; round++) {
        memcpy(copy, (void *)own, fields.frame_bytes);
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t word = bad[(seed >> 40) % (sizeof bad / sizeof *bad)];
        copy[(seed >> 50) % (fields.frame_bytes / sizeof *copy)] =
            seed >> 63 ? word : (uint64_t)page + (seed >> 33) % 4096;
        *(uint64_t *)(page + (seed >> 20) % 4088 / 8 * 8) = seed & 1 << 19 ? own : word;
        *place = (uint64_t)copy;
        probe_malloc(size);
    }
    for (uint32_t owner = 0; owner < 4; owner += 3) { /* a ring: of frames, of shims */
        memcpy(copy, (void *)own, fields.frame_bytes);
        *place = (uint64_t)copy;
        memcpy((char *)copy + fields.frame_previous, place, sizeof *place);
        ((char *)copy)[fields.frame_owner] = (char)owner;
        probe_malloc(size);
    }
    *place = own;
    munmap(page, 4096);
    return before;
}

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
