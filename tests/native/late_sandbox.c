/* late_sandbox.c: a program that shuts itself into a list of system calls after its first malloc:
 * those that glibc's malloc and threads make, and plain input and output. Any other ends it by
 * SIGSYS, whose number it prints. `late_sandbox WORK`: one of small, spans, zeroed, resized,
 * threads, forks, accounts, epochs.
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static const int malloc_calls[] = {SYS_brk,      SYS_mmap,  SYS_munmap,       SYS_mremap,
                                   SYS_mprotect, SYS_futex, SYS_clock_gettime};
static const int program_calls[] = {SYS_read,         SYS_write,           SYS_close,
                                    SYS_fstat,        SYS_newfstatat,      SYS_lseek,
                                    SYS_rt_sigaction, SYS_rt_sigprocmask,  SYS_rt_sigreturn,
                                    SYS_exit,         SYS_exit_group,      SYS_getrandom,
                                    SYS_nanosleep,    SYS_clock_nanosleep, SYS_clone,
                                    SYS_clone3,       SYS_set_robust_list, SYS_rseq,
                                    SYS_wait4,        SYS_set_tid_address, SYS_sched_getaffinity};
static const int advices[] = {MADV_DONTNEED};

static struct sock_filter code[128];
static unsigned short length;

static void add(unsigned short what, unsigned k, unsigned char yes, unsigned char no) {
    code[length++] = (struct sock_filter)BPF_JUMP(what, k, yes, no);
}
static void allow_where(unsigned value) {
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

static void tell(int number, siginfo_t *info, void *context) {
    char text[64];
    (void)number, (void)context;
    int size = snprintf(text, sizeof text, "system call %d\n", info->si_syscall);
    if (write(1, text, (size_t)size) < 0) _exit(32);
    _exit(31);
}

static void shut_in(void) {
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO};
    add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    for (size_t i = 0; i < LENGTH(malloc_calls); i++) allow_where((unsigned)malloc_calls[i]);
    for (size_t i = 0; i < LENGTH(program_calls); i++) allow_where((unsigned)program_calls[i]);
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 1, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_TRAP, 0, 0);
    add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2]), 0, 0);
    for (size_t i = 0; i < LENGTH(advices); i++) allow_where((unsigned)advices[i]);
    add(BPF_RET | BPF_K, SECCOMP_RET_TRAP, 0, 0);
    struct sock_fprog program = {length, code};
    if (sigaction(SIGSYS, &action, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("late_sandbox");
        _exit(9);
    }
}

static void *blocks[60000];

static void some(size_t count, size_t least, size_t most) {
    for (size_t i = 0; i < count; i++) {
        size_t size = least + i * 7919 % (most - least + 1);
        memset(blocks[i] = malloc(size), 1, size);
    }
    for (size_t i = 0; i < count; i++) free(blocks[i]);
}

static void small(void) {
    for (int i = 0; i < 5; i++) some(60000, 16, 916);
}
static void spans(void) {
    for (int i = 0; i < 3; i++) some(100, 100 << 10, 3 << 20);
    free(aligned_alloc(1 << 20, 40 << 20));
}
static void zeroed(void) {
    for (size_t i = 0; i < 40; i++) {
        char *block = calloc(1, 600000 + i * 70000);
        for (size_t at = 0; at < 600000; at += 4096)
            if (block[at]) _exit(8);
        memset(block, 1, 600000);
        free(block);
    }
}
static void resized(void) {
    char *block = NULL;
    for (size_t size = 1000; size < 200u << 20; size = size * 3 / 2) {
        block = realloc(block, size);
        block[size - 1] = 1;
    }
    free(block);
}
static void *mine(void *unused) {
    for (size_t i = 0; i < 3000; i++) free(memset(malloc(16 + i % 900), 1, 16));
    return unused;
}
static void threads(void) {
    pthread_t made[8];
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < LENGTH(made); i++)
            if (pthread_create(&made[i], NULL, mine, NULL)) _exit(7);
        some(1000, 16, 900);
        for (size_t i = 0; i < LENGTH(made); i++) pthread_join(made[i], NULL);
    }
}
static void child_of_child(int depth) {
    int status = 0;
    some(20000, 16, 916);
    pid_t child = depth ? fork() : 0;
    if (child) waitpid(child, &status, 0);
    else if (depth) child_of_child(depth - 1), _exit(0);
    if (status) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 9);
}
static void forks(void) { child_of_child(2); }
static void accounts(void) {
    some(60000, 16, 916);
    struct mallinfo2 info = mallinfo2();
    if (!info.arena || !malloc_trim(0) || malloc_info(0, stdout)) _exit(6);
    malloc_stats();
}
/* longer than epochs last: what is done once an epoch is done */
static void epochs(void) {
    struct timespec tenth = {0, 100000000};
    for (int i = 0; i < 20; i++) {
        some(2000, 16, 9000);
        some(20, 100 << 10, 3 << 20);
        nanosleep(&tenth, NULL);
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} works[] = {{"small", small},     {"spans", spans}, {"zeroed", zeroed},     {"resized", resized},
             {"threads", threads}, {"forks", forks}, {"accounts", accounts}, {"epochs", epochs}};

int main(int count, char **words) {
    void *volatile first = malloc(10);
    for (size_t i = 0; count > 1 && i < LENGTH(works); i++)
        if (!strcmp(words[1], works[i].name)) {
            if (count == 2) shut_in();
            works[i].run();
            free(first);
            puts("done");
            return 0;
        }
    return 2;
}
