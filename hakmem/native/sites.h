/* sites.h: call stacks that allocated samples, and the names in them; see sites.c. */
#ifndef HAK_SITES_H
#define HAK_SITES_H
#include "hak_internal.h"

static inline uint64_t *hak_site_words(hak_profile *p) {
    return (uint64_t *)((char *)p + p->sites_offset);
}
static inline hak_site *hak_site_at(hak_profile *p, uint32_t place) {
    return (hak_site *)(hak_site_words(p) + place);
}

HAK_HIDDEN uint32_t hak_site_find(hak_profile *p, const hak_sample *sample, const uint64_t *frames,
                                  uint32_t count);
HAK_HIDDEN uint32_t hak_site_name(hak_profile *p, const char *name, uint32_t name_bytes,
                                  const char *file, uint32_t file_bytes, uint32_t first_line);
HAK_HIDDEN void hak_site_count(hak_profile *p, const hak_sample *sample);
HAK_HIDDEN void hak_site_resize(hak_profile *p, const hak_sample *sample, uint64_t stride);
HAK_HIDDEN void hak_site_uncount(hak_profile *p, const hak_sample *sample, uint64_t now_ns);

#endif
