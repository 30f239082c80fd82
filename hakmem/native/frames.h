/* frames.h: the call stack of a sample; see frames.c. */
#ifndef HAK_FRAMES_H
#define HAK_FRAMES_H
#include "hak_internal.h"
#include "python_frames.h"

/* A call stack on its way into the sites: native frames, then, once the names are known, those of
 * CPython. */
typedef struct hak_frames {
    uint32_t native_count, python_count;
    uint64_t words[HAK_SITE_FRAMES_MAX + HAK_SITE_PYTHON_MAX];
    hak_python_frame python[HAK_SITE_PYTHON_MAX];
    char text[HAK_SITE_TEXT_BYTES]; /* names that are not in UTF-8 */
} hak_frames;
_Static_assert(sizeof(hak_frames) <= HAK_PROFILE_FRAMES_BYTES, "room in the profile");

HAK_HIDDEN hak_frames *hak_frames_take(hak_profile *p);
HAK_HIDDEN uint32_t hak_frames_name(hak_profile *p, hak_frames *frames);
HAK_HIDDEN void hak_frames_give(hak_profile *p, const hak_frames *frames);

#endif
