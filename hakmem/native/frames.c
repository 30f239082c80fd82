/* frames.c: the call stack of a sample. */
#include "frames.h"

#include "sites.h"

void hak_frames_take(hak_frames *frames, uint32_t most) {
    (void)most;
    frames->native_count = 0;
}

uint32_t hak_frames_site(hak_profile *p, const hak_sample *sample, const hak_frames *frames) {
    return hak_site_find(p, sample, frames->words, frames->native_count);
}
