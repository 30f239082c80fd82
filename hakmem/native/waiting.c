/* waiting.c: freed spans that wait in a thread's record for its next request of their length.
 *
 * A span that waits keeps its units, its registry entries and its record, whose kind alone changes:
 * neither its free nor its next use takes a lock, an atomic operation or a look at the clock. Spans
 * wait only with a thread that has asked for their length after it freed one of it, so that none is
 * kept by a thread which asks, frees and sleeps, or whose buffer grows; only as many as it has
 * asked for; and only up to a bound in bytes, which all threads share. Those that waited for a
 * whole epoch are freed at the next slow path of their thread. All else that empties a thread's
 * cache frees them too.
 *
 * `t` is the calling thread's own record, or that of an ended thread which the caller holds. A fork
 * may happen between any two stores: the place names a span before the span waits, and after it has
 * ceased to, so that a span which waits is always in a record (hak_waiting_settle).
 */
#include "events.h"

static uint64_t bytes_of(hak_heap *h, uint32_t unit) {
    return (uint64_t)hak_load_relaxed(&hak_slab_at(h, unit)->unit_count) << HAK_UNIT_SHIFT;
}

/* Whether as much may wait in the record of this thread. What waits in all threads together stays
 * below the free memory that is always kept, or an eighth of what is in use. */
static bool may_hold(hak_thread *t, uint64_t bytes) {
    hak_heap *h = hak_heap_of(t);
    const hak_policy *policy = hak_policy_of(h);
    uint64_t share = hak_load_relaxed(&h->in_use_units) << HAK_UNIT_SHIFT >> 3,
             floor = hak_number(policy->retain.floor_bytes);
    return bytes <= hak_number(policy->caches.wait_bytes) &&
           bytes * hak_load_relaxed(&h->thread_live) <= (share > floor ? share : floor);
}

/* Whether spans of a length that is freed now were freed lately and asked for again. If they were
 * not freed lately, the length is noted. */
static bool swings(hak_thread *t, uint32_t units) {
    for (uint32_t i = 0; i < HAK_WAITING_SPANS; i++)
        if (t->freed_units[i] == units) return t->span_swing >> i & 1;
    for (uint32_t i = HAK_WAITING_SPANS - 1; i; i--) t->freed_units[i] = t->freed_units[i - 1];
    t->freed_units[0] = (uint16_t)(units > UINT16_MAX ? 0 : units);
    t->span_swing = (uint8_t)((t->span_swing << 1) & ((1 << HAK_WAITING_SPANS) - 1));
    return false;
}

/* Lets a freed span wait; false: it is the run heap's. The caller has checked that it is a span. */
bool hak_waiting_put(hak_thread *t, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    uint32_t place = HAK_WAITING_SPANS;
    uint64_t bytes = bytes_of(h, unit);
    bool swung = swings(t, hak_slab_at(h, unit)->unit_count);
    if (!t->span_asked_count) return false;
    t->span_asked_count--;
    if (!swung) return false;
    for (uint32_t i = HAK_WAITING_SPANS; i--;) {
        if (t->waiting[i]) bytes += bytes_of(h, t->waiting[i]);
        else place = i;
    }
    if (place == HAK_WAITING_SPANS || !may_hold(t, bytes)) return false;
    t->waiting_epoch[place] = hak_load_relaxed(&h->epoch_count);
    hak_store_relaxed(&t->waiting[place], unit);
    hak_keep_order();
    hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_WAITING);
    return true;
}

/* Takes a span of so many units that waited, aligned to `align` bytes; 0: there is none. */
uint32_t hak_waiting_take(hak_thread *t, uint32_t units, uint64_t align) {
    hak_heap *h = hak_heap_of(t);
    for (uint32_t i = 0; i < HAK_WAITING_SPANS; i++)
        if (t->freed_units[i] == units) t->span_swing |= (uint8_t)(1 << i);
    if (t->span_asked_count < HAK_WAITING_SPANS) t->span_asked_count++;
    for (uint32_t i = 0; i < HAK_WAITING_SPANS; i++) {
        uint32_t unit = t->waiting[i];
        if (!unit || hak_slab_at(h, unit)->unit_count != units ||
            ((uintptr_t)hak_unit_address(h, unit) & (align - 1)))
            continue;
        hak_assert(hak_slab_at(h, unit)->kind == HAK_KIND_WAITING);
        hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_SPAN);
        hak_keep_order();
        hak_store_relaxed(&t->waiting[i], 0);
        hak_count(t, span_reuse_count, 1);
        return unit;
    }
    return 0;
}

static void give_back(hak_thread *t, uint32_t place) {
    hak_heap *h = hak_heap_of(t);
    uint32_t unit = t->waiting[place], units = hak_slab_at(h, unit)->unit_count;
    hak_assert(hak_slab_at(h, unit)->kind == HAK_KIND_WAITING);
    hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_NONE);
    hak_keep_order();
    hak_store_relaxed(&t->waiting[place], 0);
    hak_event(t, HAK_EVENT_SPAN_FREE, 0, unit, units);
    hak_run_free(h, unit, units, true);
    t->span_asked_count = t->span_swing = 0;
    for (uint32_t i = 0; i < HAK_WAITING_SPANS; i++) t->freed_units[i] = 0;
}

/* Frees all that wait. The thread holds no claim. */
void hak_waiting_flush(hak_thread *t) {
    for (uint32_t i = 0; i < HAK_WAITING_SPANS; i++)
        if (t->waiting[i]) give_back(t, i);
}

/* Frees those that have waited since before the last epoch. */
void hak_waiting_look(hak_thread *t) {
    uint32_t epoch = hak_load_relaxed(&hak_heap_of(t)->epoch_count);
    for (uint32_t i = 0; i < HAK_WAITING_SPANS; i++)
        if (t->waiting[i] && epoch - t->waiting_epoch[i] >= 2) give_back(t, i);
}

/* In a fork's child, for a thread that is gone: what its record names waits, or is forgotten where
 * it is no span. Its thread was freeing such a span, or about to hand it out. */
void hak_waiting_settle(hak_heap *h, hak_thread *t) {
    for (uint32_t i = 0; i < HAK_WAITING_SPANS; i++) {
        uint32_t unit = t->waiting[i];
        if (!unit) continue;
        uint8_t kind = unit < h->unit_top ? hak_slab_at(h, unit)->kind : HAK_KIND_NONE;
        if (kind == HAK_KIND_SPAN) hak_store_relaxed(&hak_slab_at(h, unit)->kind, HAK_KIND_WAITING);
        else if (kind != HAK_KIND_WAITING) t->waiting[i] = 0;
    }
}
