/* events.h: hak_event(t, HAK_EVENT_..., class, unit, count) notes what a slow path did. In all but
 * debug builds it does nothing. */
#ifndef HAK_EVENTS_H
#define HAK_EVENTS_H
#include "hak_internal.h"
#include "probe.h"

#ifdef HAK_DEBUG
HAK_HIDDEN void hak_event_note(hak_heap *h, uint32_t thread, uint32_t kind, uint32_t class_index,
                               uint32_t unit, uint64_t count);
#define hak_event_of(h, thread, kind, class_index, unit, count) \
    hak_event_note((h), (thread), (kind), (class_index), (unit), (count))
#else
#define hak_event_of(h, thread, kind, class_index, unit, count) ((void)0)
#endif
#define hak_event(t, kind, class_index, unit, count) \
    hak_event_of(hak_heap_of(t), (t)->index, (kind), (class_index), (unit), (count))

#endif
