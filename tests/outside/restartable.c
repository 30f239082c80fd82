/* A thread in a restartable sequence (rseq), as libraries with data by CPU have them: it stays in
 * it until a line comes in. The kernel breaks the sequence off when anything comes between, and
 * the thread begins it anew; one that was left and entered again would go on with nobody told. At
 * its end it is said how often that was, and how often it began.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/rseq.h>

static volatile int is_over;
static long begun_count;

static void *wait_for_line(void *unused) {
    if (getchar() == EOF) abort();
    is_over = 1;
    return unused;
}

/* The signature before the place to begin anew is the C library's, as it told the kernel. */
static int was_left(volatile struct rseq *area) {
    uint64_t told;
    __asm__ volatile(".pushsection .data.sequence, \"aw\"\n"
                     ".balign 32\n"
                     "1: .long 0, 0\n"
                     ".quad 2f, 3f - 2f, 4f\n"
                     ".popsection\n"
                     "jmp 5f\n"
                     ".byte 0x0f, 0xb9, 0x3d\n"
                     ".long %c[signature]\n"
                     "4: nop\n"
                     "5: incq %[begun]\n"
                     "lea 1b(%%rip), %%rax\n"
                     "mov %%rax, %[told]\n"
                     "2: cmpl $0, %[over]\n"
                     "je 2b\n"
                     "3: mov %[told], %%rax\n"
                     "mov %%rax, %[at_end]\n"
                     "movq $0, %[told]\n"
                     : [begun] "+m"(begun_count), [told] "+m"(area->rseq_cs), [at_end] "=r"(told)
                     : [over] "m"(is_over), [signature] "i"(RSEQ_SIG)
                     : "rax", "memory", "cc");
    return told == 0;
}

int main(void) {
    pthread_t thread;
    void *blocks[100];
    if (!__rseq_size) return 2;
    if (pthread_create(&thread, NULL, wait_for_line, NULL)) return 3;
    for (int i = 0; i < 100; i++) blocks[i] = memset(malloc(1000), 1, 1000);
    for (int i = 0; i < 100; i++) free(blocks[i]);
    puts("ready");
    fflush(stdout);
    int left = was_left((struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset));
    pthread_join(thread, NULL);
    printf("%d left and entered again, begun %s\n", left, begun_count > 1 ? "anew" : "once");
    return left;
}
