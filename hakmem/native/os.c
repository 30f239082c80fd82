/* os.c: the OS boundary. Every mmap, munmap, mremap, mprotect and madvise of the library stands
 * here, and is counted.
 *
 * Preconditions of every call: address and length are multiples of an OS page, and the range lies
 * in one mapping of the library. A call leaves errno as it was, allocates nothing, runs nobody's
 * wrapper of a libc function, and never acts on a pending cancel of the thread (syscall.h).
 * `counts` is the tally of one heap, or NULL; the tally of the whole library, in hak_root, counts
 * each call as well.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "hak_internal.h"
#include "syscall.h"
#include "vdso.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static void tally(hak_os_counts *counts, size_t place, uint64_t n) {
    hak_add_relaxed((uint64_t *)((char *)&hak_root_.os + place), n);
    if (counts) hak_add_relaxed((uint64_t *)((char *)counts + place), n);
}
#define TALLY(counts, field, n) tally((counts), offsetof(hak_os_counts, field), (n))

/* Calls that a test makes fail, on both planes alike. */
hak_os_faults hak_os_faults_;

static bool fails(uint32_t kind) {
    hak_os_faults *faults = &hak_os_faults_; /* partner of all: the test, which is alone */
    if (!(hak_load_relaxed(&faults->kinds) & kind)) return false;
    uint64_t call = hak_add_relaxed(&faults->calls, 1), first = hak_load_relaxed(&faults->first);
    return call >= first && call - first < hak_load_relaxed(&faults->count);
}

/* A move that fails may have unmapped its target before. */
static bool move_fails(void *to, uint64_t bytes) {
    if (fails(HAK_CALL_REMAP)) return true;
    if (!fails(HAK_CALL_REMAP_LATE)) return false;
    (void)hak_system(SYS_munmap, to, bytes);
    return true;
}

static uint32_t kind_of_advice(int advice) {
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED: return HAK_CALL_PURGE;
    case MADV_FREE: return HAK_CALL_LAZY;
    case MADV_POPULATE_WRITE: return HAK_CALL_POPULATE;
    default: return HAK_CALL_ADVISE;
    }
}

/* The five system calls about memory. Builds for sanitizers make them through libc, where the
 * sanitizer sees them; all others ask the kernel directly. */
#if defined(HAK_SYSTEM_BY_LIBC)
static void *map_memory(void *at, uint64_t bytes, int access, int flags) {
    if (fails(HAK_CALL_RESERVE)) return NULL;
    void *map = mmap(at, bytes, access, flags, -1, 0);
    return map == MAP_FAILED ? NULL : map;
}
/* Maps exactly at this address or nowhere. *taken: something is mapped there already. */
static void *map_exactly(void *at, uint64_t bytes, bool *taken) {
    int saved = errno;
    if ((*taken = fails(HAK_CALL_TAKEN)) || fails(HAK_CALL_MAP)) return NULL;
    void *map = mmap(at, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (map == MAP_FAILED) map = NULL;
    *taken = !map && errno == EEXIST;
    errno = saved;
    return map;
}
static bool unmap_memory(void *at, uint64_t bytes) {
    return !fails(HAK_CALL_UNMAP) && munmap(at, bytes) == 0;
}
static bool protect_memory(void *at, uint64_t bytes, int access) {
    return !fails(HAK_CALL_PROTECT) && mprotect(at, bytes, access) == 0;
}
static bool advise_memory(void *at, uint64_t bytes, int advice) {
    return !fails(kind_of_advice(advice)) && madvise(at, bytes, advice) == 0;
}
static bool move_memory(void *from, void *to, uint64_t bytes, int flags) {
    return !move_fails(to, bytes) && mremap(from, bytes, bytes, flags, to) == to;
}
static void *resize_memory(void *at, uint64_t have, uint64_t want) {
    if (fails(HAK_CALL_REMAP)) return NULL;
    void *map = mremap(at, have, want, MREMAP_MAYMOVE);
    return map == MAP_FAILED ? NULL : map;
}
#else
static void *map_memory(void *at, uint64_t bytes, int access, int flags) {
    if (fails(HAK_CALL_RESERVE)) return NULL;
    long map = hak_system(SYS_mmap, at, bytes, access, flags, -1, 0);
    return hak_system_failed(map) ? NULL : (void *)map;
}
static void *map_exactly(void *at, uint64_t bytes, bool *taken) {
    if ((*taken = fails(HAK_CALL_TAKEN)) || fails(HAK_CALL_MAP)) return NULL;
    long map = hak_system(SYS_mmap, at, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    *taken = map == -EEXIST;
    return hak_system_failed(map) ? NULL : (void *)map;
}
static bool unmap_memory(void *at, uint64_t bytes) {
    return !fails(HAK_CALL_UNMAP) && hak_system(SYS_munmap, at, bytes) == 0;
}
static bool protect_memory(void *at, uint64_t bytes, int access) {
    return !fails(HAK_CALL_PROTECT) && hak_system(SYS_mprotect, at, bytes, access) == 0;
}
static bool advise_memory(void *at, uint64_t bytes, int advice) {
    return !fails(kind_of_advice(advice)) && hak_system(SYS_madvise, at, bytes, advice) == 0;
}
static bool move_memory(void *from, void *to, uint64_t bytes, int flags) {
    return !move_fails(to, bytes) &&
           hak_system(SYS_mremap, from, bytes, bytes, flags, to) == (long)to;
}
static void *resize_memory(void *at, uint64_t have, uint64_t want) {
    if (fails(HAK_CALL_REMAP)) return NULL;
    long map = hak_system(SYS_mremap, at, have, want, MREMAP_MAYMOVE);
    return hak_system_failed(map) ? NULL : (void *)map;
}
#endif

/* Reserves `bytes` of inaccessible addresses on an `align` boundary (a power of two). *map_base and
 * *map_bytes say what was mapped: the addresses before and behind the aligned part stay
 * reserved. */
void *hak_os_reserve_aligned(uint64_t bytes, uint64_t align, uint64_t *map_base,
                             uint64_t *map_bytes) {
    uint64_t whole = bytes + align;
    TALLY(NULL, reserve_count, 1);
    void *map = map_memory(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (!map) return NULL;
    *map_base = (uintptr_t)map;
    *map_bytes = whole;
    return (void *)(((uintptr_t)map + align - 1) & ~(align - 1));
}

/* Maps zeroed memory of a heap exactly at `address`: over the heap's own reservation, or where
 * nothing is mapped. An OS before 4.17 takes the address for a mere hint, so the address it gives
 * is compared.
 */
uint32_t hak_os_map_range(hak_os_counts *counts, void *address, uint64_t bytes, bool reserved) {
    TALLY(counts, commit_count, 1);
    if (reserved)
        return protect_memory(address, bytes, PROT_READ | PROT_WRITE) ? HAK_MAP_DONE
                                                                      : HAK_MAP_REFUSED;
    bool taken;
    void *map = map_exactly(address, bytes, &taken);
    if (map == address) return HAK_MAP_DONE;
    if (!map) return taken ? HAK_MAP_TAKEN : HAK_MAP_REFUSED;
    TALLY(counts, release_count, 1);
    (void)unmap_memory(map, bytes);
    return HAK_MAP_TAKEN;
}

/* Unmaps memory of a heap. Addresses that were reserved stay reserved. False: the OS refused,
 * because the process has too many mappings. */
bool hak_os_unmap_range(hak_os_counts *counts, void *address, uint64_t bytes, bool reserved) {
    if (!reserved) {
        TALLY(counts, release_count, 1);
        return unmap_memory(address, bytes);
    }
    TALLY(counts, reserve_count, 1);
    return map_memory(address, bytes, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED) == address;
}

/* Purges a range. Not lazy: the OS pages read as zero afterwards. Lazy: they may keep their
 * contents until the OS wants the memory. OS pages that the program locked go too where the OS can
 * (Linux 5.18), and are locked again when they are touched, as the program asked. False: the OS
 * refused, and none or some of the range went. */
bool hak_os_purge_range(hak_os_counts *counts, void *address, uint64_t bytes, bool lazy) {
    TALLY(counts, purge_count, 1);
    if (!advise_memory(address, bytes, lazy ? MADV_FREE : MADV_DONTNEED)) {
        TALLY(counts, purge_count, 1);
        if (!advise_memory(address, bytes, MADV_DONTNEED_LOCKED)) return false;
    }
    TALLY(counts, purged_bytes, bytes);
    return true;
}

/* Whether memory that was mapped just now is locked, as after mlockall(MCL_FUTURE). The OS refuses
 * to purge locked memory; the question asks it to purge one OS page. `address` NULL: a page that is
 * mapped for the question. */
bool hak_os_is_locked(hak_os_counts *counts, void *address) {
    void *page = address ? address : hak_os_map_anywhere(HAK_OS_PAGE_BYTES);
    TALLY(counts, advise_count, 1);
    bool locked = page && !advise_memory(page, HAK_OS_PAGE_BYTES, MADV_DONTNEED);
    if (page && !address) hak_os_release_range(page, HAK_OS_PAGE_BYTES);
    return locked;
}

void hak_os_advise_huge(hak_os_counts *counts, void *address, uint64_t bytes) {
    TALLY(counts, advise_count, 1);
    (void)advise_memory(address, bytes, MADV_HUGEPAGE);
}

/* Makes the OS pages resident, as if each had been written. Where the OS has no such call, they
 * fault one by one when they are written. */
void hak_os_populate_range(hak_os_counts *counts, void *address, uint64_t bytes) {
    TALLY(counts, advise_count, 1);
    (void)advise_memory(address, bytes, MADV_POPULATE_WRITE);
}

/* Moves the pages of [from, from + bytes) to `to`, a heap's own memory both; nothing is mapped at
 * `from` then. HAK_MAP_TAKEN: not moved, both are mapped. HAK_MAP_REFUSED: not moved, and nothing
 * is mapped at `to` now: a move that fails late has unmapped its target. */
uint32_t hak_os_remap_range(hak_os_counts *counts, void *from, void *to, uint64_t bytes) {
    TALLY(counts, remap_count, 1);
    if (move_memory(from, to, bytes, MREMAP_MAYMOVE | MREMAP_FIXED)) return HAK_MAP_DONE;
    uint32_t code = hak_os_map_range(counts, to, bytes, false);
    return code == HAK_MAP_REFUSED ? code : HAK_MAP_TAKEN;
}

/* Maps a heap's own memory anew, zeroed: it joins its neighbours' mapping. HAK_MAP_TAKEN: it is as
 * it was. HAK_MAP_REFUSED: nothing is mapped there now. */
uint32_t hak_os_map_anew(hak_os_counts *counts, void *address, uint64_t bytes) {
    TALLY(counts, commit_count, 1);
    if (map_memory(address, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) == address)
        return HAK_MAP_DONE;
    return hak_os_map_range(counts, address, bytes, false);
}

/* Maps a block of its own wherever the OS likes, zeroed, on an `align` boundary. What the boundary
 * leaves over goes back, on both sides always: the same calls wherever the OS put it. */
void *hak_os_map_block(hak_os_counts *counts, uint64_t bytes, uint64_t align) {
    uint64_t extra = align > HAK_OS_PAGE_BYTES ? align + HAK_OS_PAGE_BYTES : 0;
    if (bytes + extra < bytes) return NULL;
    TALLY(counts, commit_count, 1);
    char *map =
        map_memory(NULL, bytes + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    if (!map || !extra) return map;
    uint64_t before = align - ((uintptr_t)map & (align - 1));
    TALLY(counts, release_count, 2);
    (void)unmap_memory(map, before);
    (void)unmap_memory(map + before + bytes, extra - before);
    return map + before;
}

/* Resizes a mapping, or a part of one, from `have` to `want` bytes, at its place or at another;
 * then nothing is mapped at its own. NULL: it is as it was. */
void *hak_os_resize_block(hak_os_counts *counts, void *block, uint64_t have, uint64_t want) {
    TALLY(counts, remap_count, 1);
    return resize_memory(block, have, want);
}

bool hak_os_release_range(void *address, uint64_t bytes) {
    TALLY(NULL, release_count, 1);
    return unmap_memory(address, bytes);
}

/* Sets pages[i] to 1 where OS page i of the range is resident, else to 0. An OS that does not tell
 * counts as: all are. */
void hak_os_resident(hak_os_counts *counts, void *address, uint64_t bytes, uint8_t *pages) {
    TALLY(counts, query_count, 1);
    bool known = !fails(HAK_CALL_RESIDENT) && hak_system(SYS_mincore, address, bytes, pages) == 0;
    for (uint64_t i = 0; i < bytes / HAK_OS_PAGE_BYTES; i++) pages[i] = known ? pages[i] & 1 : 1;
}

/* How many of up to HAK_RESIDENT_SAMPLE_PAGES OS pages are resident. */
uint32_t hak_os_resident_count(hak_os_counts *counts, void *address, uint32_t page_count) {
    uint8_t pages[HAK_RESIDENT_SAMPLE_PAGES];
    uint32_t found = 0;
    hak_os_resident(counts, address, (uint64_t)page_count * HAK_OS_PAGE_BYTES, pages);
    for (uint32_t i = 0; i < page_count; i++) found += pages[i];
    return found;
}

/* How many bytes of a range are on resident OS pages. */
uint64_t hak_os_resident_bytes(hak_os_counts *counts, void *address, uint64_t bytes) {
    uint64_t sum = 0, step = (uint64_t)HAK_RESIDENT_SAMPLE_PAGES * HAK_OS_PAGE_BYTES;
    for (uint64_t at = 0; at < bytes; at += step) {
        uint64_t count = (bytes - at < step ? bytes - at : step) / HAK_OS_PAGE_BYTES;
        sum += hak_os_resident_count(counts, (char *)address + at, (uint32_t)count);
    }
    return sum * HAK_OS_PAGE_BYTES;
}

static long ask_limit(int limit, struct rlimit *found) {
    return fails(HAK_CALL_LIMIT) ? -EPERM : hak_system(SYS_prlimit64, 0, limit, NULL, found);
}

/* How much to reserve for a heap whose size nobody asked for: `wish_bytes`, but where the address
 * space is limited, at most a share of the limit. */
uint64_t hak_os_region_wish(uint64_t wish_bytes) {
    struct rlimit limit;
    if (ask_limit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return wish_bytes;
    uint64_t most = limit.rlim_cur / 256 * HAK_REGION_LIMIT_PER_256;
    return wish_bytes < most ? wish_bytes : most;
}

/* The lower of the two limits that count mappings: RLIMIT_AS, and RLIMIT_DATA, which since Linux
 * 4.7 counts private mappings. UINT64_MAX: there is no limit. */
uint64_t hak_os_mapping_limit(void) {
    struct rlimit addresses, data;
    uint64_t limit = UINT64_MAX;
    if (ask_limit(RLIMIT_AS, &addresses) == 0 && addresses.rlim_cur < limit)
        limit = addresses.rlim_cur;
    if (ask_limit(RLIMIT_DATA, &data) == 0 && data.rlim_cur < limit) limit = data.rlim_cur;
    return limit;
}

static int clock_by_call(clockid_t clock, struct timespec *now) {
    return (int)hak_system(SYS_clock_gettime, clock, now);
}

/* The function is looked for at the first call. Two threads that look at once find the same one. */
static int read_clock(clockid_t clock, struct timespec *now) {
    static hak_clock_call found; /* partner: any thread's store below; relaxed: the word alone says
                                  * everything */
    hak_clock_call call = hak_load_relaxed(&found);
    if (!call) {
        call = hak_vdso_clock();
        if (!call) call = clock_by_call;
        hak_store_relaxed(&found, call);
    }
    return call(clock, now);
}

uint64_t hak_os_clock_ns(void) {
    struct timespec now;
    if (read_clock(CLOCK_MONOTONIC_COARSE, &now) != 0) (void)clock_by_call(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t fine_clock_ns(void) {
    struct timespec now;
    if (read_clock(CLOCK_MONOTONIC, &now) != 0) return 0;
    return (uint64_t)now.tv_sec * HAK_NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* How many of `count` reads, in the middles of parts of `apart` bytes, took longer than `slow_ns`:
 * they were faults. A read makes nothing resident, the OS shows its page of zeros. What reading the
 * clock takes is left out, since without a vDSO it takes as long as a fault. */
uint32_t hak_os_slow_count(const void *address, uint64_t apart, uint32_t count, uint64_t slow_ns) {
    if (fails(HAK_CALL_RESIDENT)) return 0;
    uint64_t start = fine_clock_ns(), last = fine_clock_ns(), clock_cost = last - start;
    uint32_t slow = 0;
    for (uint32_t i = 0; i < count; i++) {
        /* no partner: the value is of no use, the order keeps the clock behind it */
        char read = hak_load_acquire((const char *)address + i * apart + apart / 2);
        __asm__ volatile("" : : "r"(read));
        uint64_t now = fine_clock_ns();
        slow += now - last > slow_ns + clock_cost;
        last = now;
    }
    return slow;
}

/* A lock with priority inheritance that nobody holds: the kernel writes the caller's id into its
 * word, and remembers nothing. So no other call than those that waits make is needed. */
uint32_t hak_os_thread_id(void) {
    uint32_t word = 0;
    if (hak_system(SYS_futex, &word, FUTEX_LOCK_PI_PRIVATE) == 0) return word & FUTEX_TID_MASK;
    return (uint32_t)hak_system(SYS_gettid);
}
uint32_t hak_os_process_id(void) { return (uint32_t)hak_system(SYS_getpid); }
/* True in the thread that main runs in; in a fork's child, in the thread that forked, once the
 * child is known as one. */
bool hak_os_is_first_thread(void) {
    uint32_t process = hak_root_.process_id;
    return hak_os_thread_id() == (process ? process : hak_os_process_id());
}

/* Zeroed memory that belongs to no heap, wherever the OS puts it. */
void *hak_os_map_anywhere(uint64_t bytes) {
    TALLY(NULL, reserve_count, 1);
    return map_memory(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
}

/* One zeroed OS page. *wiped: whether a fork's child will find it zeroed again. */
void *hak_os_wiped_page(bool *wiped) {
    void *page = hak_os_map_anywhere(HAK_OS_PAGE_BYTES);
    if (!page) return NULL;
    TALLY(NULL, advise_count, 1);
    *wiped = advise_memory(page, HAK_OS_PAGE_BYTES, MADV_WIPEONFORK);
    return page;
}

/* Lets other processes of the same user read this one, if HAKMEM_READABLE=1 asks for it: the Yama
 * security module else allows that to a process's ancestors alone. Runs when the library is loaded,
 * not at the first malloc, which may be the loader's, before there is an environment. */
__attribute__((constructor)) void hak_os_let_others_read(void) {
    const char *asked = secure_getenv("HAKMEM_READABLE");
    if (asked && asked[0] == '1' && !asked[1])
        (void)hak_system(SYS_prctl, PR_SET_PTRACER, PR_SET_PTRACER_ANY);
}

/* Of memory that is no heap's: the C library's own symbols, for deepbind.c. */
bool hak_os_protect(void *address, uint64_t bytes, bool write, bool execute) {
    hak_add_relaxed(&hak_root_.protect_count, 1);
    int access = PROT_READ | (write ? PROT_WRITE : 0) | (execute ? PROT_EXEC : 0);
    return protect_memory(address, bytes, access);
}

void hak_os_sleep_ms(uint32_t ms) {
    struct timespec time = {.tv_sec = ms / HAK_MS_PER_SECOND,
                            .tv_nsec = (long)(ms % HAK_MS_PER_SECOND) * HAK_NS_PER_MS};
    while (hak_system(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, &time) == -EINTR) {}
}

/* Writes to stderr. What cannot be written is lost. Unlike write(2), the call is no cancellation
 * point. */
void hak_os_say(const char *text, uint64_t bytes) { (void)hak_system(SYS_write, 2, text, bytes); }

/* Bytes of an OS page here, as the kernel told the process. */
uint64_t hak_os_page_bytes(void) { return getauxval(AT_PAGESZ); }

/* Ends the process at once, as the loader does where it cannot start a program. */
void hak_os_end(int status) {
    for (;;) (void)hak_system(SYS_exit_group, status);
}

/* Opens a file for reading; returns the descriptor or -errno. O_NONBLOCK: opening a FIFO that has
 * no writer would else wait for one. */
int hak_os_open(const char *path) {
    return (int)hak_system(SYS_openat, AT_FDCWD, path,
                           O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}
/* Returns 0 or an errno. The kernel's struct stat is libc's on 64-bit machines. */
int hak_os_stat(int file, struct stat *about) { return (int)-hak_system(SYS_fstat, file, about); }
/* Returns the bytes read, 0 at the end of the file, or -errno. */
int64_t hak_os_read(int file, void *at, uint64_t bytes) {
    return hak_system(SYS_read, file, at, bytes);
}
void hak_os_close(int file) { (void)hak_system(SYS_close, file); }

/* Sleeps while *word is `value`, until a wake; may return early. */
void hak_os_wait(uint32_t *word, uint32_t value) {
    if (!fails(HAK_CALL_WAIT)) (void)hak_system(SYS_futex, word, FUTEX_WAIT_PRIVATE, value);
}
void hak_os_wake(uint32_t *word) { (void)hak_system(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1); }
/* Whether the word at an address may be read: the kernel reads it for a wait that ends at once. Of
 * use where a fault would end the report of another one. */
bool hak_os_is_readable(uint64_t address) {
    struct timespec none = {0, 0};
    uint64_t word = address & ~UINT64_C(3);
    return hak_system(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, &none) != -EFAULT;
}
static struct timespec time_of(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / HAK_NS_PER_SECOND),
                             .tv_nsec = (long)(ns % HAK_NS_PER_SECOND)};
}
/* The same, for `most_ns` at most. */
void hak_os_wait_for(uint32_t *word, uint32_t value, uint64_t most_ns) {
    struct timespec most = time_of(most_ns);
    if (!fails(HAK_CALL_WAIT)) (void)hak_system(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &most);
}
/* A sleep, by the call that waits use anyhow: on a word that nobody wakes. Not on the word of a
 * lock: the kernel lends no priority through one that others wait for in this way. */
void hak_os_nap(uint64_t ns) {
    uint32_t nobody = 0;
    hak_os_wait_for(&nobody, 0, ns);
}

/* Takes a lock whose word holds its holder's thread id, and lends the holder the caller's priority
 * until then. False after most_ns, and where the OS refuses or knows no such holder. The call wants
 * a time of the calendar's clock. */
bool hak_os_lock_inherit(uint32_t *word, uint64_t most_ns) {
    struct timespec now;
    if (fails(HAK_CALL_WAIT) || read_clock(CLOCK_REALTIME, &now) != 0) return false;
    now = time_of((uint64_t)now.tv_sec * HAK_NS_PER_SECOND + (uint64_t)now.tv_nsec + most_ns);
    return hak_system(SYS_futex, word, FUTEX_LOCK_PI_PRIVATE, 0, &now) == 0;
}
/* Hands it to who waits for it with the highest priority, or frees it. */
bool hak_os_unlock_inherit(uint32_t *word) {
    return hak_system(SYS_futex, word, FUTEX_UNLOCK_PI_PRIVATE) == 0;
}

/* The same calls for the Python plane, under their public names. */
HAK_EXPORT void *hak_os_reserve(uint64_t bytes, uint64_t align, uint64_t *map_base,
                                uint64_t *map_bytes) {
    return hak_os_reserve_aligned(bytes, align, map_base, map_bytes);
}
HAK_EXPORT uint32_t hak_os_map(hak_os_counts *counts, void *address, uint64_t bytes, int reserved) {
    return hak_os_map_range(counts, address, bytes, reserved != 0);
}
HAK_EXPORT int hak_os_unmap(hak_os_counts *counts, void *address, uint64_t bytes, int reserved) {
    return hak_os_unmap_range(counts, address, bytes, reserved != 0);
}
HAK_EXPORT int hak_os_locked(hak_os_counts *counts, void *address) {
    return hak_os_is_locked(counts, address);
}
HAK_EXPORT int hak_os_commit(hak_os_counts *counts, void *address, uint64_t bytes) {
    return hak_os_map_range(counts, address, bytes, true) == HAK_MAP_DONE;
}
HAK_EXPORT int hak_os_purge(hak_os_counts *counts, void *address, uint64_t bytes, int lazy) {
    return hak_os_purge_range(counts, address, bytes, lazy != 0);
}
HAK_EXPORT uint32_t hak_os_remap(hak_os_counts *counts, void *from, void *to, uint64_t bytes) {
    return hak_os_remap_range(counts, from, to, bytes);
}
HAK_EXPORT uint32_t hak_os_renew(hak_os_counts *counts, void *address, uint64_t bytes) {
    return hak_os_map_anew(counts, address, bytes);
}
HAK_EXPORT void *hak_os_block(hak_os_counts *counts, uint64_t bytes, uint64_t align) {
    return hak_os_map_block(counts, bytes, align);
}
HAK_EXPORT void *hak_os_resize(hak_os_counts *counts, void *block, uint64_t have, uint64_t want) {
    return hak_os_resize_block(counts, block, have, want);
}
HAK_EXPORT uint32_t hak_os_residents(hak_os_counts *counts, void *address, uint32_t page_count) {
    return hak_os_resident_count(counts, address, page_count);
}
HAK_EXPORT uint32_t hak_os_slow_reads(const void *address, uint64_t apart, uint32_t count,
                                      uint64_t slow_ns) {
    return hak_os_slow_count(address, apart, count, slow_ns);
}
HAK_EXPORT uint64_t hak_os_limit(void) { return hak_os_mapping_limit(); }
HAK_EXPORT int hak_os_release(void *address, uint64_t bytes) {
    return hak_os_release_range(address, bytes);
}
HAK_EXPORT void hak_os_populate(hak_os_counts *counts, void *address, uint64_t bytes) {
    hak_os_populate_range(counts, address, bytes);
}
HAK_EXPORT void hak_os_advise(hak_os_counts *counts, void *address, uint64_t bytes) {
    hak_os_advise_huge(counts, address, bytes);
}
