/* A recorded program's calls again, on as many threads: `driver --replay FILE`, of a file that
 * bench/replay.py made of a trace.
 *
 * A free of another thread's block waits until that block is there, and a thread begins a chunk of
 * its events when all chunks are done that had ended by then in the program: so that threads run
 * ahead of each other by no more than they did. The first thread is main's, so that a program of
 * one thread stays one; the others are begun when the program began them. Of each block its first
 * byte is written, and one in each OS page. */
#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MALLOC = 1, CALLOC, ALIGNED, REALLOC, FREE, FAR = 8, SIZE_BITS = 48, KIND_SHIFT = 60 };
enum { SAMPLES = 120, PATIENCE_S = 20 };

typedef struct replay_thread {
    uint64_t first_chunk, chunk_count, first_object;
} replay_thread;
typedef struct replay_chunk {
    uint64_t first_op, op_count; /* a part of its thread's */
    uint64_t need;               /* chunks that had ended before it began */
    uint64_t rank;               /* the how manieth it was to end */
} replay_chunk;
typedef struct replay_op {
    uint64_t taken; /* object */
    uint64_t word;  /* size, log2 of the alignment, kind */
} replay_op;

static const uint64_t *head; /* magic, threads, objects, chunks, ops */
static const replay_thread *threads;
static const replay_chunk *chunks;
static const replay_op *ops;
static char *
    *blocks; /* by object; written by its maker with release, read with acquire by others */
static uint8_t *is_done;
static uint64_t
    done_count; /* chunks that are done without a gap; release under the lock, acquire */
static uint64_t begun_count = 1;
static pthread_t *handles;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bench_series *resident;
static uint64_t table_kib;

static void *thread_run(void *at);

/* Under the lock. */
static void threads_begin(void) {
    for (; begun_count < head[1]; begun_count++) {
        const replay_thread *next = &threads[begun_count];
        if (chunks[next->first_chunk].need > done_count) return;
        if (pthread_create(&handles[begun_count], NULL, thread_run, (void *)next))
            bench_give_up("no more threads are to be had");
    }
}

static void chunk_end(const replay_chunk *chunk) {
    pthread_mutex_lock(&lock);
    is_done[chunk->rank] = 1;
    uint64_t count = done_count;
    while (count < head[3] && is_done[count]) {
        count++;
        if (count * SAMPLES / head[3] != (count - 1) * SAMPLES / head[3]) {
            uint64_t kib = bench_rss_kib();
            bench_series_add(resident, kib > table_kib ? (double)(kib - table_kib) : 0);
        }
    }
    __atomic_store_n(&done_count, count, __ATOMIC_RELEASE);
    threads_begin();
    pthread_mutex_unlock(&lock);
}

/* Waits, but not for ever: a trace may be no program's. */
static void wait_once(unsigned *spins, uint64_t *since_ns, uint64_t *seen) {
    bench_pause(spins);
    if (*spins) return;
    uint64_t now = bench_clock_ns(), count = __atomic_load_n(&done_count, __ATOMIC_ACQUIRE);
    if (!*since_ns || count != *seen) {
        *since_ns = now;
        *seen = count;
    } else if (now - *since_ns > PATIENCE_S * 1000000000ull)
        bench_give_up("the trace waits for what nobody does");
}

static char *block_take(uint64_t object, bool is_far) {
    unsigned spins = 0;
    uint64_t since = 0, seen = 0;
    char *block = __atomic_load_n(&blocks[object], __ATOMIC_ACQUIRE);
    while (!block && is_far) {
        wait_once(&spins, &since, &seen);
        block = __atomic_load_n(&blocks[object], __ATOMIC_ACQUIRE);
    }
    return block;
}

static char *block_make(unsigned kind, size_t size, unsigned align_log2, char *taken) {
    void *made = NULL;
    if (kind == MALLOC) made = malloc(size);
    else if (kind == CALLOC) made = calloc(1, size);
    else if (kind == REALLOC) made = realloc(taken, size);
    else if (posix_memalign(&made, (size_t)1 << (align_log2 < 3 ? 3 : align_log2), size))
        made = NULL;
    char *block = bench_block_check(made);
    for (size_t at = 0; at < size; at += BENCH_OS_PAGE_BYTES) block[at] = (char)size;
    bench_escape(block);
    return block;
}

static void *thread_run(void *at) {
    const replay_thread *me = at;
    uint64_t object = me->first_object;
    const replay_chunk *chunk = chunks + me->first_chunk, *last = chunk + me->chunk_count;
    for (; chunk < last; chunk++) {
        unsigned spins = 0;
        uint64_t since = 0, seen = 0;
        while (__atomic_load_n(&done_count, __ATOMIC_ACQUIRE) < chunk->need)
            wait_once(&spins, &since, &seen);
        const replay_op *op = ops + chunk->first_op, *end = op + chunk->op_count;
        for (; op < end; op++) {
            unsigned kind = (unsigned)(op->word >> KIND_SHIFT);
            char *taken = NULL;
            if ((kind & 7) >= REALLOC) taken = block_take(op->taken, kind & FAR);
            if ((kind & 7) == FREE) {
                free(taken);
                continue;
            }
            size_t size = op->word & (((uint64_t)1 << SIZE_BITS) - 1);
            char *block = block_make(kind & 7, size, op->word >> SIZE_BITS & 63, taken);
            __atomic_store_n(&blocks[object++], block, __ATOMIC_RELEASE);
        }
        chunk_end(chunk);
    }
    return NULL;
}

static void file_map(bench_run *run, const char *path) {
    struct stat about;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &about)) bench_give_up("the file to replay cannot be opened");
    void *mapped =
        mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    close(file);
    head = mapped;
    if (mapped == MAP_FAILED || head[0] != 0x3153504f4b4148u)
        bench_give_up("this is no file to replay");
    run->table_bytes += ((uint64_t)about.st_size + BENCH_OS_PAGE_BYTES - 1) &
                        ~(uint64_t)(BENCH_OS_PAGE_BYTES - 1);
    threads = (const replay_thread *)(head + 5);
    chunks = (const replay_chunk *)(threads + head[1]);
    ops = (const replay_op *)(chunks + head[3]);
}

void bench_replay(bench_run *run, const char *path) {
    file_map(run, path);
    blocks = bench_table_new(run, head[2] * sizeof *blocks + 1);
    is_done = bench_table_new(run, head[3] + 1);
    handles = bench_table_new(run, head[1] * sizeof *handles + 1);
    resident = bench_series_new(run, "rss_kib", SAMPLES + 1);
    table_kib = run->table_bytes >> 10;
    run->ops = head[4] ? head[4] : 1;
    run->checksum = head[4];
    bench_work_begin(run);
    if (head[1]) {
        pthread_mutex_lock(&lock);
        threads_begin();
        pthread_mutex_unlock(&lock);
        thread_run((void *)threads);
        for (uint64_t i = 1; i < head[1]; i++) {
            while (__atomic_load_n(&done_count, __ATOMIC_ACQUIRE) < head[3]) usleep(200);
            pthread_join(handles[i], NULL);
        }
    }
    bench_work_end(run);
}
