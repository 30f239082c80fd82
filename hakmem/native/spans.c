/* spans.c: spans, the blocks of whole units: allocated and freed, straight from the run heap, or
 * from those that wait in the thread's record.
 *
 * A span's record belongs to the program, which owns the block. The registry entries of all its
 * units name it. While a span is in use, the dirty marks of its units stay as they were when it was
 * made, so that a span that must read as zero clears only the units that may be dirty.
 */
#include <string.h>

#include "events.h"
#include "hooks.h"

static void note_size(hak_heap *h, uint32_t unit, uint64_t size) {
    hak_store_relaxed(&hak_slab_at(h, unit)->span_page_count,
                      (uint32_t)((size + HAK_OS_PAGE_BYTES - 1) / HAK_OS_PAGE_BYTES));
}

void hak_span_note(hak_heap *h, uint32_t unit, uint32_t units, uint64_t size) {
    hak_slab *span = hak_slab_at(h, unit);
    hak_store_relaxed(&span->unit_count, units);
    note_size(h, unit, size);
    hak_store_relaxed(&span->sampled_mask, 0);
    hak_store_relaxed(&span->kind, HAK_KIND_SPAN);
    hak_entry_fill(h, unit, units, hak_entry(HAK_TAG_SPAN, unit));
}

/* Whether little of a range is resident, by a sample: what the OS says of its middle, or, where it
 * is not to be asked, how long the first reads of some of its pages take. Under a held clock
 * nothing takes any time. */
static bool is_sparse(hak_heap *h, const char *address, uint64_t bytes) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    uint64_t pages = bytes / HAK_OS_PAGE_BYTES;
    uint32_t most = HAK_READ_SAMPLE_PAGES, absent = 0;
    if (hak_number(hak_policy_of(h)->arenas.os_calls) == HAK_OS_CALLS_WIDE)
        most = HAK_RESIDENT_SAMPLE_PAGES;
    uint32_t asked = pages < most ? (uint32_t)pages : most;
    if (most == HAK_RESIDENT_SAMPLE_PAGES) {
        const char *middle = address + (pages - asked) / 2 * HAK_OS_PAGE_BYTES;
        absent = asked - hak_os_resident_count(&h->os, (void *)middle, asked);
    } else if (!hak_load_relaxed(&h->clock_held))
        absent =
            hak_os_slow_count(address, bytes / asked, asked, hak_number(retain->read_fault_ns));
    return absent << 8 >= asked * hak_number(retain->clear_absent_per_256);
}

/* Whether so much memory that must read as zero is better purged, if little of it is resident. */
static bool asks_before_clearing(hak_heap *h, uint64_t bytes) {
    uint64_t least = hak_number(hak_policy_of(h)->retain.clear_ask_bytes);
    return least && bytes >= least;
}

/* Purges memory that must read as zero instead of clearing it, if little of it is resident:
 * clearing would make all of it resident. After an answer of no, the next few clears do not ask.
 * Threads may overwrite each other's counts of those: that costs one question more or less. */
static bool clear_by_purge(hak_heap *h, void *address, uint64_t bytes) {
    const hak_retain_policy *retain = &hak_policy_of(h)->retain;
    if (!asks_before_clearing(h, bytes)) return false;
    uint32_t skip = hak_load_relaxed(&h->clear_skip), wait = hak_load_relaxed(&h->clear_wait);
    if (skip) {
        hak_store_relaxed(&h->clear_skip, skip - 1);
        return false;
    }
    bool done = is_sparse(h, address, bytes) && hak_os_purge_range(&h->os, address, bytes, false);
    wait = done ? 0
           : wait * 2 + 1 < hak_number(retain->clear_wait_count)
               ? wait * 2 + 1
               : hak_number(retain->clear_wait_count);
    hak_store_relaxed(&h->clear_wait, wait);
    hak_store_relaxed(&h->clear_skip, wait);
    return done;
}

/* Clears the dirty units of a span; one that has waited is dirty in all, whatever its marks say. */
static void span_clear(hak_heap *h, uint32_t unit, uint32_t units, bool waited) {
    for (uint32_t u = unit, end = unit + units; u < end; u++) {
        uint32_t from = u;
        while (u < end && (waited || hak_unit_is_dirty(h, u))) u++;
        uint64_t bytes = (uint64_t)(u - from) << HAK_UNIT_SHIFT;
        if (bytes && !clear_by_purge(h, hak_unit_address(h, from), bytes))
            memset(hak_unit_address(h, from), 0, bytes);
    }
}

/* Hands out a span that has waited. Others who wait for time to pass are served now and then. */
static void *span_reuse(hak_thread *t, uint32_t unit, uint64_t size, bool zero) {
    hak_heap *h = hak_heap_of(t);
    uint32_t units = hak_slab_at(h, unit)->unit_count;
    note_size(h, unit, size);
    hak_assert(hak_is_span(h, unit));
    hak_event(t, HAK_EVENT_SPAN_ALLOC, 0, unit, units);
    hak_count(t, span_alloc_count, 1);
    if (zero) span_clear(h, unit, units, true);
    if (t->span_reuse_count % hak_number(hak_policy_of(h)->caches.wait_reuse_count) == 0)
        hak_tick(h, 0);
    hak_request_look(t);
    return hak_unit_address(h, unit);
}

void *hak_span_alloc(hak_thread *t, uint64_t size, uint64_t align, bool zero) {
    hak_fork_look();
    hak_heap *h = hak_heap_of(t);
    uint64_t units = size ? hak_units_for(size) : 1,
             align_units = align > HAK_UNIT_BYTES ? align >> HAK_UNIT_SHIFT : 1;
    if (size > (uint64_t)HAK_REGION_UNITS_MAX << HAK_UNIT_SHIFT ||
        units + align_units > h->unit_limit)
        return NULL;
    /* the run heap's marks know what is clean already, of what has waited nobody does */
    bool may_wait = !zero || !asks_before_clearing(h, units << HAK_UNIT_SHIFT);
    uint32_t waited = may_wait ? hak_waiting_take(t, (uint32_t)units, align) : 0;
    if (waited) return span_reuse(t, waited, size, zero);
    hak_run run = hak_run_alloc(h, (uint32_t)units, (uint32_t)align_units);
    if (!run.unit) {
        hak_count(t, locked_fallback_count, 1);
        hak_waiting_flush(t);
        hak_acquire_collect(t);
        hak_acquire_flush_ready(t);
        run = hak_run_alloc(h, (uint32_t)units, (uint32_t)align_units);
        if (!run.unit) return NULL;
    }
    hak_span_note(h, run.unit, (uint32_t)units, size);
    hak_assert(((uintptr_t)hak_unit_address(h, run.unit) & (align - 1)) == 0);
    hak_event(t, HAK_EVENT_SPAN_ALLOC, 0, run.unit, units);
    hak_count(t, span_alloc_count, 1);
    char *address = hak_unit_address(h, run.unit);
    if (zero && run.dirty) span_clear(h, run.unit, (uint32_t)units, false);
    hak_tick(h, units);
    hak_waiting_look(t);
    hak_request_look(t);
    return address;
}

void hak_span_free(hak_thread *t, uint32_t unit) {
    hak_fork_look();
    hak_heap *h = hak_heap_of(t);
    hak_slab *span = hak_slab_at(h, unit);
    hak_assert(hak_is_span(h, unit));
    hak_count(t, span_free_count, 1);
    if (hak_waiting_put(t, unit)) {
        hak_request_look(t);
        return;
    }
    hak_store_relaxed(&span->kind, HAK_KIND_NONE);
    hak_event(t, HAK_EVENT_SPAN_FREE, 0, unit, span->unit_count);
    hak_run_free(h, unit, span->unit_count, true);
    hak_tick(h, 0);
    hak_waiting_look(t);
    hak_request_look(t);
}
