/* chunks.c: events in three columns, put together outside the lock; under it the chunk is copied
 * behind the last one. */
#define _GNU_SOURCE
#include "chunks.h"

#include <string.h>
#include <sys/mman.h>

#include "file.h"

enum { SEGMENT_FIRST = 1 << 18, SEGMENT = 1 << 22 };

static char *segment; /* the last one; the lock's */
static size_t segment_bytes, segment_used;

void record_chunks_forget(void) {
    segment = NULL;
    segment_bytes = segment_used = 0;
}

typedef struct columns {
    uint8_t *kind, *size, *object;
    uint64_t unknown_frees;
} columns;

static inline uint8_t *varint_put(uint8_t *at, uint64_t value) {
    for (; record_unlikely(value > 127); value >>= 7) *at++ = (uint8_t)(value | 128);
    *at++ = (uint8_t)value;
    return at;
}

/* Names an object: by how many this thread made since, or by thread and number; the kind's flag. */
static inline unsigned object_name(columns *to, uint64_t word, uint32_t thread, uint64_t makes) {
    uint64_t number = (word & (((uint64_t)1 << HAK_TRACE_NUMBER_BITS) - 1)) - 1;
    uint64_t maker = word >> HAK_TRACE_NUMBER_BITS & (((uint64_t)1 << HAK_TRACE_THREAD_BITS) - 1);
    if (maker == thread) {
        to->object = varint_put(to->object, makes - 1 - number);
        return 0;
    }
    to->object = varint_put(varint_put(to->object, maker), number);
    return HAK_TRACE_FAR;
}

static void journal_encode(const uint64_t *at, const uint64_t *end, uint32_t thread, uint64_t makes,
                           columns *columns_of) {
    columns to = *columns_of;
    while (at < end) {
        uint64_t word = *at++;
        unsigned kind = (unsigned)(word >> HAK_TRACE_KIND_SHIFT);
        if (kind >= HAK_TRACE_REALLOC) {
            uint64_t object = kind == HAK_TRACE_REALLOC ? *at++ : word;
            if (record_unlikely(!(object << (64 - HAK_TRACE_KIND_SHIFT)))) {
                to.unknown_frees++;
                if (kind == HAK_TRACE_FREE) continue;
                kind = HAK_TRACE_MALLOC;
            } else kind |= object_name(&to, object, thread, makes);
        }
        *to.kind++ = (uint8_t)kind;
        if ((kind & HAK_TRACE_KIND_MASK) == HAK_TRACE_FREE) continue;
        makes++;
        to.size = varint_put(to.size, word & (((uint64_t)1 << HAK_TRACE_SIZE_BITS) - 1));
        if (kind == HAK_TRACE_ALIGNED) *to.size++ = word >> HAK_TRACE_SIZE_BITS & 63;
    }
    *columns_of = to;
}

/* Room for a chunk, under the lock; NULL: the recording has stopped. */
static char *chunk_room(size_t bytes) {
    if (bytes > segment_bytes - segment_used) {
        if (segment) munmap(segment, segment_bytes);
        size_t wanted = segment ? SEGMENT : SEGMENT_FIRST;
        record_chunks_forget();
        uint32_t reason = record_file_segment(HAK_TRACE_CHUNKS, wanted, &segment);
        if (reason) {
            record_chunks_forget();
            record_stop(reason);
            return NULL;
        }
        segment_bytes = wanted;
        segment_used = HAK_TRACE_SEGMENT_HEAD_BYTES;
    }
    char *room = segment + segment_used;
    segment_used += bytes;
    return room;
}

/* checksum() of hakmem/traces/format.py: sums of the words, and of those sums. */
static uint64_t sum_of(const char *at, size_t bytes) {
    uint64_t first = 0, second = 0, word;
    for (const char *end = at + bytes; at < end; at += 8) {
        memcpy(&word, at, 8);
        first += word;
        second += first;
    }
    return first ^ (second << 32 | second >> 32);
}

/* Copied into zeros and summed there; the magic goes last: a chunk without it is not there, and its
 * journal still is. */
static bool chunk_append(const hak_trace_chunk *chunk, const uint8_t *scratch) {
    size_t head = sizeof *chunk, kinds = chunk->kinds_bytes, sizes = chunk->sizes_bytes;
    size_t bytes = (head + kinds + sizes + chunk->objects_bytes + 7) & ~(size_t)7;
    record_lock_take();
    char *room = chunk_room(bytes);
    if (room) {
        memcpy(room + 4, (const char *)chunk + 4, head - 4);
        memcpy(room + head, scratch, kinds);
        memcpy(room + head + kinds, scratch + SIZES_AT, sizes);
        memcpy(room + head + kinds + sizes, scratch + OBJECTS_AT, chunk->objects_bytes);
        /* the first word is summed without its magic, which is not there yet */
        ((hak_trace_chunk *)room)->sum = sum_of(room, bytes);
        __atomic_store_n((uint32_t *)room, chunk->magic, __ATOMIC_RELEASE);
    }
    record_lock_give();
    return room != NULL;
}

bool record_chunk_make(record_thread *me, const uint64_t *end, uint32_t flags) {
    hak_trace_journal *journal = me->journal;
    uint64_t *words = record_words(journal);
    columns to = {me->scratch, me->scratch + SIZES_AT, me->scratch + OBJECTS_AT, 0};
    journal_encode(words, end, me->number, journal->first_make, &to);
    hak_trace_chunk chunk = {
        .magic = HAK_TRACE_CHUNK_MAGIC,
        .thread = me->number,
        .first_make = journal->first_make,
        .begin_ns = journal->begin_ns,
        .end_ns = record_clock_ns(),
        .sequence = journal->sequence,
        .kinds_bytes = (uint32_t)(to.kind - me->scratch),
        .sizes_bytes = (uint32_t)(to.size - (me->scratch + SIZES_AT)),
        .objects_bytes = (uint32_t)(to.object - (me->scratch + OBJECTS_AT)),
        .flags = flags,
    };
    if (!chunk_append(&chunk, me->scratch)) return false;
    /* Relaxed: a counter that nothing hangs on. */
    if (to.unknown_frees)
        __atomic_fetch_add(&record_head->unknown_frees, to.unknown_frees, __ATOMIC_RELAXED);
    memset(words, 0, (size_t)((const char *)end - (const char *)words));
    me->sequence++;
    return true;
}
