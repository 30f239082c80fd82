// A program whose first thread has ended: two others go on, and come to a slow path now and then.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <unistd.h>

static const int kCount = 2000;
static pthread_barrier_t filled;

static void *work(void *) {
    static thread_local char *blocks[kCount];
    for (int i = 0; i < kCount; i++) {
        blocks[i] = static_cast<char *>(malloc(1000));
        memset(blocks[i], 1, 1000);
    }
    for (int i = 0; i < kCount; i++)
        if (i % 8) free(blocks[i]);
    pthread_barrier_wait(&filled);
    for (;;) {
        void *volatile span = malloc(100000);
        free(span);
        usleep(20000);
    }
}

int main() {
    pthread_t threads[2];
    pthread_barrier_init(&filled, nullptr, 3);
    for (pthread_t &thread : threads) pthread_create(&thread, nullptr, work, nullptr);
    pthread_barrier_wait(&filled);
    puts("ready");
    fflush(stdout);
    pthread_exit(nullptr);
}
