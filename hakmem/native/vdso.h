/* vdso.h: the vDSO's clock_gettime; see vdso.c. */
#ifndef HAK_VDSO_H
#define HAK_VDSO_H
#include <time.h>

#include "hak_internal.h"

typedef int (*hak_clock_call)(clockid_t, struct timespec *);

/* NULL where the kernel maps no vDSO, or one without a clock. */
HAK_HIDDEN hak_clock_call hak_vdso_clock(void);

#endif
