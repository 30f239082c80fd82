/* vdso.c: the clock, without a system call and without libc's clock_gettime, which others may wrap.
 *
 * The kernel maps a small library into every process, the vDSO, and says where. Its clock is looked
 * up here once, by its symbols alone. Where there is no vDSO (valgrind hides it) the
 * system call serves: os_process.c.
 */
#include <string.h>
#include <sys/auxv.h>

#include "dynamic.h"
#include "vdso.h"

#if defined(__x86_64__)
#define CLOCK_NAME "__vdso_clock_gettime"
#else
#define CLOCK_NAME "__kernel_clock_gettime"
#endif

hak_clock_call hak_vdso_clock(void) {
    const void *image = (const void *)getauxval(AT_SYSINFO_EHDR);
    hak_dynamic d = {0};
    if (!image || !hak_dynamic_find(image, &d)) return NULL;
    for (uint32_t i = 0; i < d.symbol_count; i++) {
        const ElfW(Sym) *symbol = &d.symbols[i];
        if (symbol->st_shndx != SHN_UNDEF && strcmp(hak_dynamic_name(&d, symbol), CLOCK_NAME) == 0)
            return (hak_clock_call)(d.shift + symbol->st_value);
    }
    return NULL;
}
