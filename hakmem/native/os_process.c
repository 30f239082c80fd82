/* os_process.c: what else the OS is asked: limits, the clock, who a thread is, waits and wakes,
 * files that are read, a line for stderr.
 *
 * A call leaves errno as it was, allocates nothing, runs nobody's wrapper of a libc function, and
 * never acts on a pending cancel of the thread (syscall.h).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "os_calls.h"
#include "vdso.h"

static long ask_limit(int limit, struct rlimit *found) {
    return hak_call_fails(HAK_CALL_LIMIT) ? -EPERM
                                          : hak_system(SYS_prlimit64, 0, limit, NULL, found);
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
    if (hak_call_fails(HAK_CALL_RESIDENT)) return 0;
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

/* Lets other processes of the same user read this one, if HAKMEM_READABLE=1 asks for it: the Yama
 * security module else allows that to a process's ancestors alone. Runs when the library is loaded,
 * not at the first malloc, which may be the loader's, before there is an environment. */
__attribute__((constructor)) void hak_os_let_others_read(void) {
    const char *asked = secure_getenv("HAKMEM_READABLE");
    if (asked && asked[0] == '1' && !asked[1])
        (void)hak_system(SYS_prctl, PR_SET_PTRACER, PR_SET_PTRACER_ANY);
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
    if (!hak_call_fails(HAK_CALL_WAIT))
        (void)hak_system(SYS_futex, word, FUTEX_WAIT_PRIVATE, value);
}
void hak_os_wake(uint32_t *word) { (void)hak_system(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1); }
/* Whether the word at an address may be read: the kernel reads it for a wait that ends at once. Of
 * use where a fault would end the report of another one. */
bool hak_os_is_readable(uint64_t address) {
    struct timespec none = {0, 0};
    uint64_t word = address & ~UINT64_C(3);
    return hak_system(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, &none) != -EFAULT;
}
/* Copies memory of this process by the kernel's hand, so that what is not mapped, or is unmapped
 * meanwhile, is an answer and no fault. False: nothing, or a part only, was copied. */
bool hak_os_copy(uint64_t from, void *to, uint64_t bytes) {
    struct iovec there = {(void *)from, bytes}, here = {to, bytes};
    return hak_system(SYS_process_vm_readv, hak_os_process_id(), &here, 1, &there, 1, 0) ==
           (long)bytes;
}
/* Makes every thread of the process that runs pass a full barrier, and those that do not have done
 * so. Registered at the first call, which takes the kernel some ms; a fork's child may have to do
 * it anew. False: the OS refuses. */
bool hak_os_barrier(void) {
    if (hak_call_fails(HAK_CALL_BARRIER)) return false;
    long done = hak_system(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    if (done == -EPERM &&
        hak_system(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0)
        done = hak_system(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    return done == 0;
}
static struct timespec time_of(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / HAK_NS_PER_SECOND),
                             .tv_nsec = (long)(ns % HAK_NS_PER_SECOND)};
}
/* The same, for `most_ns` at most. */
void hak_os_wait_for(uint32_t *word, uint32_t value, uint64_t most_ns) {
    struct timespec most = time_of(most_ns);
    if (!hak_call_fails(HAK_CALL_WAIT))
        (void)hak_system(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &most);
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
    if (hak_call_fails(HAK_CALL_WAIT) || read_clock(CLOCK_REALTIME, &now) != 0) return false;
    now = time_of((uint64_t)now.tv_sec * HAK_NS_PER_SECOND + (uint64_t)now.tv_nsec + most_ns);
    return hak_system(SYS_futex, word, FUTEX_LOCK_PI_PRIVATE, 0, &now) == 0;
}
/* Hands it to who waits for it with the highest priority, or frees it. */
bool hak_os_unlock_inherit(uint32_t *word) {
    return hak_system(SYS_futex, word, FUTEX_UNLOCK_PI_PRIVATE) == 0;
}
