/* events.c: the event ring of debug builds: what the slow paths of all threads did lately, in the
 * order they began.
 *
 * The library has one ring of HAK_EVENT_COUNT events, in memory of its own. A writer takes a ticket
 * by an add and writes the event at the place that the ticket names, over the oldest one; nobody
 * waits. The `ticket` of a place is 0 while it is being written, and is stored last (release;
 * partner: a reader, who loads it before and after copying and drops an event whose tickets
 * differ). Two writers of one place are a whole ring apart; an event that they mixed has a ticket
 * that does not belong to its place, or two that differ.
 */
#include "events.h"

#ifdef HAK_DEBUG
static hak_event ring[HAK_EVENT_COUNT];
static uint64_t tickets;

void hak_event_note(hak_heap *h, uint32_t thread, uint32_t kind, uint32_t class_index,
                    uint32_t unit, uint64_t count) {
    uint64_t ticket = hak_add_relaxed(&tickets, 1) + 1;
    hak_event *event = &ring[ticket % HAK_EVENT_COUNT];
    hak_store_relaxed(&event->ticket, 0);
    hak_keep_order();
    event->clock_ns = hak_os_clock_ns();
    event->count = count;
    event->heap = h->generation;
    event->thread = thread;
    event->os_id = hak_os_thread_id();
    event->kind = kind;
    event->class_index = class_index;
    event->unit = unit;
    hak_store_release(&event->ticket, ticket);
}
HAK_EXPORT const hak_event *hak_events(void) { return ring; }
#else
HAK_EXPORT const hak_event *hak_events(void) { return NULL; }
#endif
