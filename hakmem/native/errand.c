/* errand.c: what a thread does that a tool of another process has stopped for it: it serves what
 * was asked of malloc's heap (requests.c), as it would at a slow path, and goes on where it was.
 *
 * The tool (hakmem/outside/errands.py) holds one thread by ptrace, sees that it is not in the
 * middle of a malloc or free, writes what the thread goes on with into hak_errand_, sets its
 * instruction to hak_errand_enter and lets it run. Every other thread runs on, so whatever lock the
 * errand waits for, its holder can run. What must hold:
 *
 * 1. From the moment that its registers are set the thread needs no tool: killed at any moment
 *    after that, the tool leaves a thread that serves, restores itself and goes on. Nothing here
 *    traps, and nothing waits for the tool but HAK_ERRAND_SPINS pauses.
 * 2. Nothing of the thread is touched: not its stack, which may have no room (a goroutine's) and
 *    has a red zone; its registers, the extended ones too, its flags, its signal mask and its errno
 *    are as they were. An interrupted system call is made again, as the kernel would do it. So the
 *    errand makes no call that takes the place of the one to be restarted (an interrupted sleep):
 *    with all signals blocked nobody but the tool interrupts, and the tool only in the pauses.
 * 3. All signals are blocked while it serves: a handler may not return (longjmp), and would leave
 *    locks and claims behind. Its mask comes back when its flags and its stack have, by the last
 *    call, behind which only registers are loaded: a handler finds the thread's own stack, and the
 *    kernel its own frame there.
 * 4. One thread of a process at a time is on an errand. A tool takes a lock of the library's file
 *    before it writes hak_errand_; a thread that an earlier tool left here is its `owner`, and as
 *    long as that thread stands in this code, on this stack, or in a handler above either, no tool
 *    writes. A fork's child finds an owner that is no thread of its own: nobody.
 * 5. The last jump is no return, and calls balance: a shadow stack would not mind. Tools refuse
 *    threads with one all the same, and those with more extended state than there is room for.
 *
 * In the pauses at the end the tool fetches the thread: it sets the registers that it found at
 * first, so that the kernel itself goes on with the interrupted call, and a signal that came
 * meanwhile finds the call interrupted, not begun anew.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "gate.h"
#include "hooks.h"
#include "syscall.h"

#if defined(__x86_64__) && !defined(HAK_SYSTEM_BY_LIBC)

/* Words of user_regs_struct. */
enum {
    R15,
    R14,
    R13,
    R12,
    BP,
    BX,
    R11,
    R10,
    R9,
    R8,
    AX,
    CX,
    DX,
    SI,
    DI,
    ORIGINAL_AX,
    IP,
    CS,
    FLAGS,
    SP,
    WORDS
};
_Static_assert(WORDS == HAK_ERRAND_WORDS, "the words of user_regs_struct that are restored");
#define WORD(name) "hak_errand_own+%c[registers]+8*%c[" #name "]"
#define NUMBER(name) [name] "i"(name)

HAK_HIDDEN void hak_errand_enter(void);
extern HAK_HIDDEN const char hak_errand_end[];
_Alignas(HAK_CACHE_LINE_BYTES) HAK_HIDDEN uint8_t hak_errand_stack[HAK_ERRAND_STACK_BYTES];
_Alignas(HAK_CACHE_LINE_BYTES) HAK_HIDDEN uint8_t hak_errand_state[HAK_ERRAND_STATE_BYTES];
HAK_HIDDEN uint64_t hak_errand_all_signals = UINT64_MAX;
/* code here finds it without the loader's help, tools by its exported name */
HAK_HIDDEN hak_errand hak_errand_own = {.entry = (uintptr_t)hak_errand_enter,
                                        .end = (uintptr_t)hak_errand_end,
                                        .stack = (uintptr_t)hak_errand_stack};

/* Serves, as a slow path does, for a thread that has no record too. */
__attribute__((used)) HAK_HIDDEN void hak_errand_serve(void) {
    int saved = errno;
    hak_heap *h = hak_heap_of_process();
    hak_fork_look();
    hak_thread *t = hak_thread_known(h);
    if (t) hak_slow_enter(t);
    else t = hak_thread_enter_shared(h);
    hak_request_look(t);
    hak_thread_leave(t);
    errno = saved;
}

/* Between two sets of the signal mask r12 and r13 hold which extended states were kept, rbx where:
 * the call keeps all three. The stores are seen in their order by whoever stops the thread. */
__attribute__((naked, used)) void hak_errand_enter(void) {
    __asm__("lea    hak_errand_stack+%c[stack_bytes](%%rip), %%rsp\n"
            "mov    %[procmask], %%eax\n"
            "mov    %[set], %%edi\n"
            "lea    hak_errand_all_signals(%%rip), %%rsi\n"
            "xor    %%edx, %%edx\n"
            "mov    %[signals_bytes], %%r10d\n"
            "syscall\n"
            "xor    %%ecx, %%ecx\n"
            "xgetbv\n"
            "and    %[states], %%eax\n"
            "mov    %%eax, %%r12d\n"
            "mov    %%edx, %%r13d\n"
            "lea    hak_errand_state(%%rip), %%rbx\n"
            "xsave64 (%%rbx)\n"
            "call   hak_errand_serve\n"
            "mov    %%r12d, %%eax\n"
            "mov    %%r13d, %%edx\n"
            "xrstor64 (%%rbx)\n"
            "movl   %[done], hak_errand_own+%c[state](%%rip)\n"
            "mov    %[spins], %%ecx\n"
            "1: pause\n"
            "dec    %%ecx\n"
            "jnz    1b\n" ::[stack_bytes] "i"(HAK_ERRAND_STACK_BYTES),
            [procmask] "i"(HAK_SYSTEM_SIGNALS), [set] "i"(SIG_SETMASK),
            [signals_bytes] "i"(HAK_SIGNALS_BYTES), [states] "i"((int)HAK_ERRAND_STATES),
            [done] "i"(HAK_ERRAND_DONE), [state] "i"(offsetof(hak_errand, state)),
            [spins] "i"(HAK_ERRAND_SPINS));
    /* clang-format off */
    /* from here on no instruction changes flags */
    __asm__("lea    " WORD(FLAGS) "(%%rip), %%rsp\n"
            "popfq\n"
            "mov    " WORD(SP) "(%%rip), %%rsp\n"
            "mov    %[procmask], %%eax\n"
            "mov    %[set], %%edi\n"
            "lea    hak_errand_own+%c[signals](%%rip), %%rsi\n"
            "mov    $0, %%edx\n"
            "mov    %[signals_bytes], %%r10d\n"
            "syscall\n" ::
            [procmask] "i"(HAK_SYSTEM_SIGNALS), [set] "i"(SIG_SETMASK),
            [signals_bytes] "i"(HAK_SIGNALS_BYTES),
            [signals] "i"(offsetof(hak_errand, signals)),
            [registers] "i"(offsetof(hak_errand, registers)), NUMBER(FLAGS), NUMBER(SP));
    __asm__("mov    " WORD(R15) "(%%rip), %%r15\n"
            "mov    " WORD(R14) "(%%rip), %%r14\n"
            "mov    " WORD(R13) "(%%rip), %%r13\n"
            "mov    " WORD(R12) "(%%rip), %%r12\n"
            "mov    " WORD(BP) "(%%rip), %%rbp\n"
            "mov    " WORD(BX) "(%%rip), %%rbx\n"
            "mov    " WORD(R11) "(%%rip), %%r11\n"
            "mov    " WORD(R10) "(%%rip), %%r10\n"
            "mov    " WORD(R9) "(%%rip), %%r9\n"
            "mov    " WORD(R8) "(%%rip), %%r8\n"
            "mov    " WORD(AX) "(%%rip), %%rax\n"
            "mov    " WORD(CX) "(%%rip), %%rcx\n"
            "mov    " WORD(DX) "(%%rip), %%rdx\n"
            "mov    " WORD(SI) "(%%rip), %%rsi\n"
            "mov    " WORD(DI) "(%%rip), %%rdi\n"
            "jmp    *" WORD(IP) "(%%rip)\n"
            ".globl hak_errand_end\n"
            ".hidden hak_errand_end\n"
            "hak_errand_end:\n" ::
            [registers] "i"(offsetof(hak_errand, registers)),
            NUMBER(R15), NUMBER(R14), NUMBER(R13), NUMBER(R12), NUMBER(BP), NUMBER(BX),
            NUMBER(R11), NUMBER(R10), NUMBER(R9), NUMBER(R8), NUMBER(AX), NUMBER(CX),
            NUMBER(DX), NUMBER(SI), NUMBER(DI), NUMBER(IP));
    /* clang-format on */
}

#else
HAK_HIDDEN hak_errand hak_errand_own; /* entry 0: tools ask and wait */
#endif

extern HAK_EXPORT hak_errand hak_errand_ __attribute__((alias("hak_errand_own")));
