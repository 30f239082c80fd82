/* crash.c: the crash report, on request (HAKMEM_CRASH_REPORT=1, hak_crash_report). At SIGSEGV,
 * SIGBUS and SIGABRT it prints one line that names the signal and what the library knows about the
 * address; then whatever handled the signal before goes on.
 *
 * Everything in the handler is async-signal-safe: reads, a buffer on the stack, write(2). It runs
 * on an alternate stack in the thread that asked for it, so that a stack overflow can be reported
 * there; other threads need an alternate stack of their own for that. A second crash inside the
 * report ends the process by the signal's default action.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "describe.h"
#include "hak_internal.h"
#include "hakmem.h"
#include "line.h"
#include "locks.h"

static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT};
static const char *const names[] = {"SIGSEGV", "SIGBUS", "SIGABRT"};
#define SIGNAL_COUNT (sizeof signals / sizeof *signals)

static struct sigaction before[SIGNAL_COUNT]; /* the handlers before ours; under `changing` */
static uint64_t changing;                     /* under hak_once_lock */
static uint32_t installed, inside;
static char alternate[HAK_CRASH_STACK_BYTES] __attribute__((aligned(HAK_BLOCK_ALIGN_BYTES)));

static uint64_t stack_of(const ucontext_t *context) {
#if defined(__x86_64__)
    return (uint64_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return context->uc_mcontext.sp;
#else
    return 0;
#endif
}

static void report(size_t which, const siginfo_t *info, const ucontext_t *context) {
    hak_line line = {.used = 0};
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, names[which]);
    hak_line_text(&line, " in thread ");
    hak_line_number(&line, hak_os_thread_id());
    /* sent by the kernel: there is */
    if (info->si_code > 0 && signals[which] != SIGABRT) {
        hak_line_text(&line, " at ");
        hak_describe(&line, (uintptr_t)info->si_addr, stack_of(context));
    } else hak_line_text(&line, ", sent by a process, no address");
    hak_line_write(&line);
}

static void chain(size_t which, int number, siginfo_t *info, void *context) {
    const struct sigaction *old = &before[which];
    if (old->sa_flags & SA_SIGINFO) {
        old->sa_sigaction(number, info, context);
        return;
    }
    if (old->sa_handler == SIG_IGN && info->si_code <= 0) return;
    if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
        old->sa_handler(number);
        return;
    }
    struct sigaction plain = {.sa_handler = SIG_DFL};
    (void)sigaction(number, &plain, NULL);
    (void)raise(number); /* the signal is blocked here, so it comes when */
}

static void on_crash(int number, siginfo_t *info, void *context) {
    int saved = errno;
    size_t which = 0;
    while (which < SIGNAL_COUNT - 1 && signals[which] != number) which++;
    /* the report itself crashed, or another thread is still reporting */
    if (hak_exchange_acq_rel(&inside, 1)) {
        struct sigaction plain = {.sa_handler = SIG_DFL};
        (void)sigaction(number, &plain, NULL);
        (void)raise(number);
    } else {
        if (!(number == SIGABRT && hak_fault_told)) report(which, info, context);
        hak_store_release(&inside, 0);
        chain(which, number, info, context);
    }
    errno = saved;
}

static bool is_ours(const struct sigaction *action) {
    return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_crash;
}

/* Returns 0, or the errno of the call that was refused. When switched off, a signal gets its old
 * handler back only if ours is still in place. */
HAK_EXPORT int hak_crash_report(int on) {
    int failed = 0;
    hak_once_lock(&changing);
    stack_t stack;
    if (on && sigaltstack(NULL, &stack) == 0 && stack.ss_flags & SS_DISABLE) {
        stack = (stack_t){.ss_sp = alternate, .ss_size = sizeof alternate};
        if (sigaltstack(&stack, NULL) != 0) failed = errno;
    }
    for (size_t i = 0; i < SIGNAL_COUNT && !failed && (uint32_t)(on != 0) != installed; i++) {
        struct sigaction ours = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK},
                         now;
        sigemptyset(&ours.sa_mask);
        if (sigaction(signals[i], NULL, &now) != 0) failed = errno;
        else if (on && !is_ours(&now))
            before[i] = now, failed = sigaction(signals[i], &ours, NULL) ? errno : 0;
        else if (!on && is_ours(&now)) failed = sigaction(signals[i], &before[i], NULL) ? errno : 0;
    }
    if (!failed) installed = on != 0;
    hak_once_unlock(&changing);
    return failed;
}

__attribute__((constructor)) static void crash_report_asked_for(void) {
    const char *asked = secure_getenv("HAKMEM_CRASH_REPORT");
    if (!asked || !*asked || !strcmp(asked, "0")) return;
    if (!strcmp(asked, "1")) {
        (void)hak_crash_report(1);
        return;
    }
    hak_line line = {.used = 0};
    hak_line_text(&line, "hakmem: HAKMEM_CRASH_REPORT=");
    hak_line_quote(&line, asked);
    hak_line_text(&line, ": expected 0 or 1; ignored");
    hak_line_write(&line);
}
