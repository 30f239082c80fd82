/* frames.h: the call stack of a sample: native frames, then those of CPython; see frames.c. */
#ifndef HAK_FRAMES_H
#define HAK_FRAMES_H
#include "hak_internal.h"

/* As it was taken, on its way into the sites. */
typedef struct hak_frames {
    uint32_t native_count;
    uint64_t words[HAK_SITE_FRAMES_MAX];
} hak_frames;

HAK_HIDDEN void hak_frames_take(hak_frames *frames, uint32_t most);
HAK_HIDDEN uint32_t hak_frames_site(hak_profile *p, const hak_sample *sample,
                                    const hak_frames *frames);

#endif
