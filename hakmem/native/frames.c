/* frames.c: the call stack of a sample: native frames, then those of CPython, both innermost first.
 * A reader puts the two parts together (hakmem/profiles/merging.py).
 *
 * It is taken under no lock: the loader may allocate meanwhile, and malloc comes here again. It is
 * written where the profile has room for a few, since a thread may have too little stack for it;
 * frames_busy says which of the rooms are taken. Nobody waits for one: where all are, a sample goes
 * without a call stack.
 */
#include "frames.h"

#include "locks.h"
#include "sites.h"
#include "stack.h"

static hak_frames *room_at(hak_profile *p, uint32_t index) {
    return (hak_frames *)((char *)p + p->frames_offset + index * HAK_PROFILE_FRAMES_BYTES);
}

/* A room of one's own; NULL: there is none. Acquire and release: one who had it before is done. */
static hak_frames *take_room(hak_profile *p) {
    uint32_t busy = hak_load_relaxed(&p->frames_busy), idle;
    do {
        idle = ~busy & ((1u << HAK_PROFILE_ROOMS) - 1);
        if (!idle) return NULL;
    } while (!hak_cas_acq_rel(&p->frames_busy, &busy, busy | (idle & -idle)));
    return room_at(p, (uint32_t)__builtin_ctz(idle));
}

void hak_frames_give(hak_profile *p, const hak_frames *frames) {
    uint64_t offset = (uint64_t)((const char *)frames - (const char *)p) - p->frames_offset;
    /* partner: the CAS in take_room */
    (void)hak_and_seq(&p->frames_busy, ~(1u << offset / HAK_PROFILE_FRAMES_BYTES));
}

/* The calling thread's frames, until hak_frames_give. NULL: there is no room for them. */
hak_frames *hak_frames_take(hak_profile *p) {
    hak_assert(hak_rank_is_free(HAK_RANK_FORK));
    uint32_t most = p->frame_limit;
    hak_frames *frames = take_room(p);
    if (!frames) return NULL;
    frames->native_count = hak_stack_take(frames->words, most);
    if (most > HAK_SITE_PYTHON_MAX) most = HAK_SITE_PYTHON_MAX;
    frames->python_count =
        hak_python_frames(frames->python, most, frames->text, sizeof frames->text);
    return frames;
}

static uint64_t word_of(hak_profile *p, const hak_python_frame *frame) {
    uint64_t place = frame->code ? hak_site_name(p, frame->name, frame->name_bytes, frame->file,
                                                 frame->file_bytes, frame->first_line)
                                 : 0,
             line = frame->line < HAK_FRAME_LINE_MAX ? frame->line : 0;
    return HAK_FRAME_PYTHON | (frame->entry ? HAK_FRAME_ENTRY : 0) | line << HAK_FRAME_LINE_SHIFT |
           place;
}

/* Puts the frames of CPython behind the native ones, by name. Returns how many words there are.
 * Needs the profile's lock. */
uint32_t hak_frames_name(hak_profile *p, hak_frames *frames) {
    for (uint32_t i = 0; i < frames->python_count; i++)
        frames->words[frames->native_count + i] = word_of(p, &frames->python[i]);
    return frames->native_count + frames->python_count;
}
