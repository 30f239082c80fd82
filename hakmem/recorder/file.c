/* file.c: the file is mapped, and grows by segments whose blocks are allocated before they are
 * mapped, so that a full disk is an answer here and no SIGBUS later. It is opened anew for each
 * segment and closed again: a program that closes every descriptor, or gives ours to another file,
 * does no harm. Callers hold the lock of chunks.c. */
#define _GNU_SOURCE
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OS_PAGE = 4096 };

hak_trace_head *record_head;
static char file_path[PATH_MAX];
static dev_t file_device;
static ino_t file_inode;
static uint64_t file_bytes;

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
uint64_t record_clock_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* The file again, or -1 where the path leads elsewhere now. */
static int file_open(void) {
    struct stat about;
    int file = open(file_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) return -1;
    if (fstat(file, &about) || about.st_dev != file_device || about.st_ino != file_inode) {
        close(file);
        return -1;
    }
    return file;
}

/* Blocks for bytes of the file, which read as zero; 0 or why there are none. */
static uint32_t file_allocate(int file, uint64_t offset, size_t bytes) {
    static const char zeros[OS_PAGE];
    struct rlimit limit;
    if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur != RLIM_INFINITY &&
        offset + bytes > limit.rlim_cur)
        return HAK_TRACE_FILE_LIMIT; /* asking the kernel would send SIGXFSZ */
    if (!fallocate(file, 0, (off_t)offset, (off_t)bytes)) return 0;
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
        size_t done = 0;
        while (done < bytes) {
            ssize_t now = pwrite(file, zeros, sizeof zeros, (off_t)(offset + done));
            if (now != sizeof zeros) break;
            done += sizeof zeros;
        }
        if (done == bytes) return 0;
    }
    return errno == ENOSPC || errno == EDQUOT ? HAK_TRACE_DISK_FULL : HAK_TRACE_NOT_WRITABLE;
}

/* More of the file, mapped; 0 or why not. */
static uint32_t file_map(int file, size_t bytes, char **place) {
    uint32_t reason = file_allocate(file, file_bytes, bytes);
    if (reason) return reason;
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)file_bytes);
    if (mapped == MAP_FAILED) return HAK_TRACE_NO_MEMORY;
    file_bytes += bytes;
    *place = mapped;
    return 0;
}

uint32_t record_file_segment(uint32_t holds, size_t bytes, char **place) {
    int file = file_open();
    if (file < 0) return HAK_TRACE_FILE_GONE;
    uint32_t reason = file_map(file, bytes, place);
    close(file);
    if (reason) return reason;
    hak_trace_segment *segment = (hak_trace_segment *)*place;
    segment->holds = holds;
    segment->bytes = bytes;
    segment->check = ~(bytes ^ (uint64_t)holds << 32);
    segment->magic = HAK_TRACE_SEGMENT_MAGIC;
    return 0;
}

/* name.ext, then name.PID.ext, name.PID-2.ext: the first that is not there yet. */
static int file_create(const char *wanted) {
    const char *slash = strrchr(wanted, '/'), *dot = strrchr(wanted, '.');
    if (!dot || (slash && dot < slash)) dot = wanted + strlen(wanted);
    for (int i = 0; i < 1000; i++) {
        char number[32] = "";
        if (i == 1) snprintf(number, sizeof number, ".%d", (int)getpid());
        if (i > 1) snprintf(number, sizeof number, ".%d-%d", (int)getpid(), i);
        if (snprintf(file_path, sizeof file_path, "%.*s%s%s", (int)(dot - wanted), wanted, number,
                     dot) >= (int)sizeof file_path)
            return -1;
        int file = open(file_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file >= 0 || errno != EEXIST) return file;
    }
    return -1;
}

static void command_read(char *to, size_t room) {
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    ssize_t length = read(file, to, room - 1);
    close(file);
    for (ssize_t i = 0; i + 1 < length; i++)
        if (!to[i]) to[i] = ' ';
    to[length > 0 ? length : 0] = 0;
}

bool record_file_begin(const char *wanted, uint32_t parent, uint32_t first_thread) {
    struct stat about;
    char *place = NULL;
    record_head = NULL;
    file_bytes = 0;
    int file = file_create(wanted);
    if (file < 0) return false;
    bool good = !fstat(file, &about) && !file_map(file, HAK_TRACE_HEAD_BYTES, &place);
    close(file);
    if (!good) {
        unlink(file_path);
        return false;
    }
    file_device = about.st_dev;
    file_inode = about.st_ino;
    hak_trace_head *head = (hak_trace_head *)place;
    head->version = HAK_TRACE_VERSION;
    head->pid = (uint32_t)getpid();
    head->parent = parent;
    head->first_thread = first_thread;
    head->begin_ns = record_clock_ns();
    head->begin_unix_ns = clock_ns(CLOCK_REALTIME);
    command_read(place + HAK_TRACE_COMMAND_OFFSET, HAK_TRACE_COMMAND_BYTES);
    memcpy(head->magic, HAK_TRACE_MAGIC, sizeof head->magic);
    record_head = head;
    return true;
}
