/* syscall.h: system calls as os_calls.h makes them: straight to the kernel.
 *
 * A call by its libc name may end in somebody's wrapper (faketime's clock_gettime, torsocks'
 * syscall, a tool's mprotect), which may allocate, and inside malloc would then wait for itself.
 * Sanitizers must see what is mapped, so their builds do call libc. Results are the kernel's:
 * -errno on failure. errno itself stays untouched, and no call is a cancellation point.
 */
#ifndef HAK_SYSCALL_H
#define HAK_SYSCALL_H
#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAK_SYSTEM_BY_LIBC 1
#elif !defined(__x86_64__) && !defined(__aarch64__)
#define HAK_SYSTEM_BY_LIBC 1
#endif

#if defined(HAK_SYSTEM_BY_LIBC)
#include <unistd.h>
static inline long hak_system_call(long number, long a, long b, long c, long d, long e, long f) {
    int saved = errno;
    long result = syscall(number, a, b, c, d, e, f);
    if (result == -1) result = -errno;
    errno = saved;
    return result;
}
#elif defined(__x86_64__)
static inline long hak_system_call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#else
static inline long hak_system_call(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b,
                     x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e,
                     x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#endif

/* The number of the call that sets a thread's signal mask, for code that is no C (errand.c). */
#define HAK_SYSTEM_SIGNALS SYS_rt_sigprocmask

#define HAK_CALL_6(number, a, b, c, d, e, f, ...) \
    hak_system_call((number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
/* hak_system(number, arguments...): up to six arguments; missing ones are 0. */
#define hak_system(...) HAK_CALL_6(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

static inline int hak_system_failed(long result) { return result < 0 && result >= -4095; }

#endif
