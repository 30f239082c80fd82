/* A program whose blocks are pointed at from a global, a stack, another thread's stack, a block, a
 * mapping and a freed block; prints the blocks' addresses, says "ready", and waits for the end of
 * its input. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *volatile global;
static void *volatile hidden; /* in .bss */
static pthread_barrier_t barrier;

static void *sleeper(void *argument) {
    void *volatile mine = argument;
    pthread_barrier_wait(&barrier);
    pause();
    return mine;
}

static unsigned long secret; /* of the lonely block, which nothing points at */

/* Leaves pointers below the stack pointer, which nobody may take for references. */
static void __attribute__((noinline)) leave_dead(void) {
    void *volatile dead[512];
    for (int i = 0; i < 512; i++) dead[i] = (void *)~secret;
}

/* Overwrites what the calls before have left there. */
static void __attribute__((noinline)) clear_dead(void) {
    char cleared[1 << 16];
    memset(cleared, 0, sizeof cleared);
    __asm__ volatile("" : : "r"(cleared) : "memory");
}

static void __attribute__((noinline)) make(void) {
    void *of_global = malloc(100), *of_thread = malloc(100), *of_block = malloc(100);
    void *of_mapping = malloc(100), *of_freed = malloc(100), *lonely = malloc(100);
    void **holder = malloc(400), *volatile *freed = malloc(700);
    void **mapping =
        mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    global = of_global;
    hidden = (char *)holder + 8;
    pthread_create(&thread, NULL, sleeper, of_thread);
    pthread_barrier_wait(&barrier);
    holder[3] = of_block;
    mapping[70000] = of_mapping;
    freed[40] = of_freed;
    free((void *)freed);
    printf("%p %p %p %p %p %p %p\n", of_global, of_thread, of_block, of_mapping, of_freed, lonely,
           (void *)holder);
    secret = ~(unsigned long)lonely;
}

int main(void) {
    char word;
    setvbuf(stdout, NULL, _IONBF, 0);
    pthread_barrier_init(&barrier, NULL, 2);
    make();
    puts("ready");
    clear_dead();
    leave_dead();
    return (int)read(0, &word, 1);
}
