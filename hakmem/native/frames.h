/* frames.h: the call stack of a sample; see frames.c. */
#ifndef HAK_FRAMES_H
#define HAK_FRAMES_H
#include "hak_internal.h"

HAK_HIDDEN uint32_t hak_frames_take(hak_profile *p, const uint64_t **words);

#endif
