/* observer.c: preloaded beside an allocator, it has a process say at its end what it ran on.
 *
 * One line is appended to the file that HAKMEM_OBSERVER_FILE names, from a destructor or from
 * _exit, once a process:
 *
 *   pid  flags  executable  object that serves malloc  peak RSS in KiB  hak_root at fork
 *        before the marker  behind it
 *
 * tab-separated; hak_root is its bytes in hex, "-" where there is none. The marker is
 * access("/hakmem-observer/end"), a system call that does nothing and stands out in a trace: what
 * the library counts up to there lies between the two pictures of hak_root. flags: "f" a child of
 * fork, whose counters begin with its parent's; "u" a child that no fork handler saw (vfork,
 * clone), whose counters' beginning is unknown; "-" else. Nothing here allocates.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROOT_BYTES = 128, LINE_BYTES = 3 * 4096 };

static char file_name[1024];
static const unsigned char *root; /* the library's hak_root_, if there is one */
static unsigned char root_at_fork[ROOT_BYTES];
static const char *malloc_object = "-";
static pid_t home_pid;     /* the process that the fields above speak of */
static pid_t recorded_pid; /* the process that has had its say */
static int is_forked;

static size_t put_text(char *line, size_t at, const char *text) {
    size_t n = strlen(text);
    if (at + n + 2 >= LINE_BYTES) return at;
    memcpy(line + at, text, n);
    line[at + n] = '\t';
    return at + n + 1;
}

static size_t put_number(char *line, size_t at, unsigned long value) {
    char digits[24];
    size_t i = sizeof digits;
    digits[--i] = 0;
    do digits[--i] = (char)('0' + value % 10);
    while (value /= 10);
    return put_text(line, at, digits + i);
}

static size_t put_bytes(char *line, size_t at, const unsigned char *bytes) {
    char text[2 * ROOT_BYTES + 1];
    if (!bytes) return put_text(line, at, "-");
    for (size_t i = 0; i < ROOT_BYTES; i++) {
        text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    text[2 * ROOT_BYTES] = 0;
    return put_text(line, at, text);
}

static unsigned long peak_kib(void) {
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    const char *found = strstr(text, "VmHWM:");
    unsigned long value = 0;
    for (found = found ? found + 6 : ""; *found == ' ' || *found == '\t'; found++) {}
    for (; *found >= '0' && *found <= '9'; found++)
        value = value * 10 + (unsigned long)(*found - '0');
    return value;
}

static void record(void) {
    pid_t pid = getpid();
    if (!file_name[0] || recorded_pid == pid) return;
    recorded_pid = pid;
    static char line[LINE_BYTES];
    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = 0;
    size_t at = put_number(line, 0, (unsigned long)pid);
    at = put_text(line, at, pid != home_pid ? "u" : is_forked ? "f" : "-");
    at = put_text(line, at, program);
    at = put_text(line, at, malloc_object);
    at = put_number(line, at, peak_kib());
    at = put_bytes(line, at, root && is_forked ? root_at_fork : NULL);
    at = put_bytes(line, at, root);
    (void)!access("/hakmem-observer/end", F_OK);
    at = put_bytes(line, at, root);
    line[at - 1] = '\n';
    int fd = open(file_name, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) return;
    (void)!write(fd, line, at);
    close(fd);
}

static void in_child(void) {
    home_pid = getpid();
    is_forked = 1;
    if (root) memcpy(root_at_fork, root, ROOT_BYTES);
}

/* The first definition in the order of lookup. An executable at a fixed address that takes malloc's
 * address is found first without defining it: then it is the next one behind the observer, which
 * stands before the allocator. */
static const char *object_that_serves_malloc(void) {
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    void *served = dlsym(RTLD_DEFAULT, "malloc");
    if (served && dladdr1(served, &info, (void **)&symbol, RTLD_DL_SYMENT) && symbol &&
        symbol->st_shndx == SHN_UNDEF)
        served = dlsym(RTLD_NEXT, "malloc");
    return served && dladdr(served, &info) && info.dli_fname ? info.dli_fname : "-";
}

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("HAKMEM_OBSERVER_FILE");
    if (!name || strlen(name) >= sizeof file_name) return;
    strcpy(file_name, name);
    home_pid = getpid();
    root = dlsym(RTLD_DEFAULT, "hak_root_");
    malloc_object = object_that_serves_malloc();
    pthread_atfork(NULL, NULL, in_child);
}

__attribute__((destructor)) static void end(void) { record(); }

__attribute__((noreturn)) void _exit(int status) {
    record();
    for (;;) syscall(SYS_exit_group, status);
}

__attribute__((noreturn)) void _Exit(int status) { _exit(status); }
