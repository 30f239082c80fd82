/* frames.c: the call stack of a sample: native frames, then those of CPython, both innermost first.
 *
 * It is taken where the profile has room for it, under the profile's lock: a thread may have too
 * little stack for it. A reader puts the two parts together (hakmem/profiles/merging.py).
 */
#include "frames.h"

#include "python_frames.h"
#include "sites.h"
#include "stack.h"

typedef struct hak_frames {
    uint64_t words[HAK_SITE_FRAMES_MAX + HAK_SITE_PYTHON_MAX];
    hak_python_frame python[HAK_SITE_PYTHON_MAX];
    char text[HAK_SITE_TEXT_BYTES]; /* names that are not in UTF-8 */
} hak_frames;

_Static_assert(sizeof(hak_frames) <= HAK_PROFILE_FRAMES_BYTES, "room in the profile");

static uint64_t word_of(hak_profile *p, const hak_python_frame *frame) {
    uint64_t place = frame->code ? hak_site_name(p, frame->name, frame->name_bytes, frame->file,
                                                 frame->file_bytes, frame->first_line)
                                 : 0,
             line = frame->line < HAK_FRAME_LINE_MAX ? frame->line : 0;
    return HAK_FRAME_PYTHON | (frame->entry ? HAK_FRAME_ENTRY : 0) | line << HAK_FRAME_LINE_SHIFT |
           place;
}

/* The calling thread's frames, in *words. Needs the profile's lock. */
uint32_t hak_frames_take(hak_profile *p, const uint64_t **words) {
    hak_frames *frames = (hak_frames *)((char *)p + p->frames_offset);
    uint32_t most = p->frame_limit, count = hak_stack_take(frames->words, most),
             python = hak_python_frames(frames->python,
                                        most < HAK_SITE_PYTHON_MAX ? most : HAK_SITE_PYTHON_MAX,
                                        frames->text, sizeof frames->text);
    for (uint32_t i = 0; i < python; i++) frames->words[count + i] = word_of(p, &frames->python[i]);
    *words = frames->words;
    return count + python;
}
