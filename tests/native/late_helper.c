/* late_helper.c: what a program with threads and a heap of 32 MiB does that a thread of the
 * library's own would be in the way of.
 *
 *   late_helper leave: main ends by pthread_exit; the process ends when the last thread returns.
 *   late_helper stay: the same, but that thread waits: for a signal that ends the process.
 *   late_helper unshare: a user namespace is made once the other threads are joined.
 *   late_helper child: a _Fork child makes a thread, which allocates.
 *   late_helper threads: the process's threads, by name, scheduling and CPUs, after main took
 *     SCHED_FIFO and one CPU.
 *
 * Linked without the library. Exit 2: not permitted here.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 32, PIECES = MIB * 4, PIECE_BYTES = 256 << 10, TICKS_US = 600000 };
enum { GROUP_TRIES = 200, GROUP_WAIT_US = 100 };
static int stays;

static void bye(void) {
    if (write(1, "atexit ran\n", 11) < 0) _exit(3);
}

static void *worker(void *unused) {
    static char *blocks[PIECES];
    for (size_t i = 0; i < PIECES; i++) memset(blocks[i] = malloc(PIECE_BYTES), 1, PIECE_BYTES);
    for (size_t i = 0; i < PIECES; i++) free(blocks[i]);
    usleep(TICKS_US);
    while (stays) pause();
    return unused;
}

/* A thread with a heap worth looking after, made and joined. */
static void have_threads(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, worker, NULL) || pthread_join(thread, NULL)) exit(3);
}

static int leave(void) {
    pthread_t thread;
    atexit(bye);
    if (pthread_create(&thread, NULL, worker, NULL)) return 3;
    if (stays) puts("ready"), fflush(stdout);
    pthread_exit(NULL);
}

/* The process's user may be refused a namespace: seen by a child of one thread. The kernel wakes
 * who joins a thread before it takes that out of the group, and refuses with EINVAL until then:
 * with the C library alone behind 144 of 100,000 joins, for 0.04 ms at most on a loaded machine. */
static int unshare_after_join(void) {
    int status;
    pid_t pid = fork();
    if (!pid) _exit(unshare(CLONE_NEWUSER) ? 2 : 0);
    if (waitpid(pid, &status, 0) != pid || status) return 2;
    have_threads();
    for (int tries = 0; unshare(CLONE_NEWUSER); tries++) {
        if (errno != EINVAL || tries == GROUP_TRIES) return perror("unshare"), 1;
        usleep(GROUP_WAIT_US);
    }
    return puts("done"), 0;
}

static int child(void) {
    int status;
    have_threads();
    pid_t pid = _Fork();
    if (!pid) {
        alarm(20);
        have_threads();
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status) return 1;
    return puts("done"), 0;
}

static int threads(void) {
    struct sched_param wish = {.sched_priority = 1};
    cpu_set_t one, found;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    if (sched_setscheduler(0, SCHED_FIFO, &wish) || sched_setaffinity(0, sizeof one, &one))
        return 2;
    pthread_t thread;
    stays = 1;
    pthread_create(&thread, NULL, worker, NULL);
    usleep(TICKS_US);
    free(malloc(PIECE_BYTES));
    usleep(TICKS_US);
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; (task = readdir(tasks));) {
        char path[300], name[32] = "";
        if (task->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *file = fopen(path, "r");
        if (!file || !fgets(name, sizeof name, file)) return 3;
        fclose(file);
        name[strcspn(name, "\n")] = 0;
        pid_t id = atoi(task->d_name);
        sched_getaffinity(id, sizeof found, &found);
        printf("%s: %s, %s\n", name, sched_getscheduler(id) == SCHED_FIFO ? "FIFO" : "ordinary",
               CPU_COUNT(&found) == 1 ? "one CPU" : "more CPUs");
    }
    return fflush(stdout), _exit(0), 0;
}

int main(int argc, char **argv) {
    const char *what = argc == 2 ? argv[1] : "";
    stays = !strcmp(what, "stay");
    if (!strcmp(what, "leave") || stays) return leave();
    if (!strcmp(what, "unshare")) return unshare_after_join();
    if (!strcmp(what, "child")) return child();
    if (!strcmp(what, "threads")) return threads();
    return fprintf(stderr, "usage: late_helper leave|stay|unshare|child|threads\n"), 1;
}
