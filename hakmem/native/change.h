/* change.h: the policy of a heap, changed while it runs (change.c). */
#ifndef HAK_CHANGE_H
#define HAK_CHANGE_H
#include "hak_internal.h"

HAK_HIDDEN HAK_COLD uint32_t hak_policy_change(hak_heap *h, const hak_policy *wished);
HAK_HIDDEN HAK_COLD void hak_policy_copy(hak_heap *h, hak_policy *out);
HAK_HIDDEN void hak_policy_mend(hak_heap *h);

#endif
