/* stress_walk.h: the consistency walk over a heap that no thread is inside.
 *
 * heap_walk marks every block where it is found: with the program (the driver's tables), in a
 * thread's cache, in its slab's free list or remote list. A block in two places, or in none, ends
 * the run; so does a slab with blocks to give that no set, mailbox or hint remembers, a held claim,
 * or a unit that the registry and the records tell apart. heap_walk_empty is for the end: nothing
 * is out, caches are flushed, and every unit is free. heap_walk_child is for a fork's child, which
 * cannot know what the threads that are gone held: no block in two places, no unit in none.
 */
#ifndef STRESS_WALK_H
#define STRESS_WALK_H
#include <sys/mman.h>

#include "lists.h"
#include "stress.h"

enum { NOWHERE, PROGRAM, CACHE, CARVED, FREE_LIST, REMOTE_LIST, HOLE };
static const char *const place_names[] = {"nowhere",        "the program", "a cache",
                                          "a carved range", "a free list", "a remote list",
                                          "a hole"};

typedef struct walk {
    hak_heap *heap;
    uint8_t *marks; /* one for 8 bytes */
    uint32_t *held; /* blocks found, by unit of the slab */
    uint8_t *hinted;
    uint32_t top;
    bool child;
    uint32_t ready, lost, unmapped;
} walk;

extern uint32_t hak_os_map(hak_os_counts *counts, void *address, uint64_t bytes, int reserved);
extern int hak_os_unmap(hak_os_counts *counts, void *address, uint64_t bytes, int reserved);

static const hak_class *class_at(hak_heap *h, uint32_t c) {
    return &hak_policy_of(h)->sizes.classes[c];
}

static void mark(walk *k, uint64_t address, uint32_t place) {
    uint64_t offset = address - (uintptr_t)k->heap, unit = offset >> HAK_UNIT_SHIFT;
    if (unit < k->heap->meta_units || unit >= k->top)
        die("walk: %p in %s is outside the heap", (void *)(uintptr_t)address, place_names[place]);
    uint64_t entry = hak_entry_get(k->heap, (uint32_t)unit);
    uint32_t tag = hak_entry_tag(entry), head = hak_entry_head(entry);
    hak_slab *slab = hak_slab_at(k->heap, head);
    uint64_t inside = address - (uintptr_t)hak_unit_address(k->heap, head);
    if (tag == HAK_TAG_SPAN) {
        if (inside || place != (slab->kind == HAK_KIND_WAITING ? CACHE : PROGRAM))
            die("walk: span address %p in %s", (void *)(uintptr_t)address, place_names[place]);
    } else {
        if (tag == HAK_TAG_NONE || tag > HAK_CLASS_COUNT_MAX)
            die("walk: %p in %s is in no slab (tag %u)", (void *)(uintptr_t)address,
                place_names[place], tag);
        const hak_class *class = class_at(k->heap, tag);
        uint64_t index = (inside - class->start_bytes) / class->stride_bytes;
        if (inside < class->start_bytes || (inside - class->start_bytes) % class->stride_bytes ||
            index >= slab->carved_count)
            die("walk: %p in %s is no carved block of class %u", (void *)(uintptr_t)address,
                place_names[place], tag);
    }
    uint8_t *at = &k->marks[offset >> 3];
    if (*at)
        die("walk: block %p is in %s and in %s", (void *)(uintptr_t)address, place_names[*at],
            place_names[place]);
    *at = (uint8_t)place;
    k->held[head]++;
}

static void mark_word(walk *k, uint32_t unit, uint64_t word, uint32_t place) {
    uint64_t base = (uintptr_t)hak_unit_address(k->heap, unit), at = hak_word_first(base, word);
    for (uint32_t i = 0; i < hak_word_count(word); i++, at = hak_next(at)) mark(k, at, place);
}

static void walk_magazine(walk *k, hak_thread *t, uint32_t c) {
    const hak_magazines *row = (const hak_magazines *)(uintptr_t)t->magazine_row;
    hak_magazine m = row->classes[c];
    if (m.first > m.top || m.top > m.last || m.last > m.end || row->slots[m.first])
        die("walk: thread %u class %u: magazine %u..%u of %u..%u", t->index, c, m.first, m.top,
            m.last, m.end);
    for (uint32_t slot = m.first + 1u; slot <= m.top; slot++) mark(k, row->slots[slot], CACHE);
}

static void walk_caches(walk *k) {
    hak_heap *h = k->heap;
    for (uint32_t i = 0; i < h->thread_top; i++) {
        hak_thread *t = hak_thread_at(h, i);
        if (!t->base) continue;
        for (uint32_t c = 1; c <= hak_policy_of(h)->sizes.class_count; c++) {
            hak_bin *bin = &t->bins[c];
            uint32_t count = 0, want = (uint32_t)(bin->cap_count - t->room_counts[c]);
            for (uint64_t at = t->heads[c]; at; at = hak_next(at), count++) mark(k, at, CACHE);
            if (count != want)
                die("walk: thread %u class %u caches %u blocks, its counts say %u", i, c, count,
                    want);
            if (t->magazine_row) walk_magazine(k, t, c);
            for (uint64_t at = bin->bump; at < bin->bump_end; at += class_at(h, c)->stride_bytes)
                mark(k, at, CARVED);
            if (bin->hot) k->hinted[bin->hot] = 1;
        }
        for (uint32_t place = 0; place < HAK_WAITING_SPANS; place++)
            if (t->waiting[place])
                mark(k, (uintptr_t)hak_unit_address(h, t->waiting[place]), CACHE);
    }
}

static void walk_mailboxes(walk *k) {
    for (uint32_t c = 0; c < HAK_CLASS_LIMIT; c++) {
        uint32_t n = 0;
        for (uint32_t unit = (uint32_t)k->heap->mailbox[c]; unit;
             unit = hak_slab_at(k->heap, unit)->mail_next) {
            if (!hak_slab_at(k->heap, unit)->mailed)
                die("walk: unit %u is in mailbox %u but not marked", unit, c);
            if (k->hinted[unit] & 2) die("walk: unit %u is in two mailboxes", unit);
            if (++n > k->top) die("walk: mailbox %u goes in a circle", c);
            k->hinted[unit] |= 2;
        }
    }
}

static bool is_listed(hak_heap *h, uint32_t c, uint32_t unit) {
    const uint64_t *sets = hak_at(h, h->partial_offset);
    return sets[(uint64_t)(unit >> 6) * HAK_CLASS_LIMIT + c] >> (unit & 63) & 1;
}

/* Marks the blocks that reach onto a purged page; returns how many. */
static uint32_t mark_holed(walk *k, uint32_t unit, uint32_t c) {
    const uint16_t *holes = (const uint16_t *)hak_at(k->heap, k->heap->holes_offset) + unit;
    const hak_class *class = class_at(k->heap, c);
    uint64_t base = (uintptr_t)hak_unit_address(k->heap, unit);
    uint32_t count = 0;
    for (uint64_t b = 0; b < class->block_count; b++) {
        bool holed = false;
        for (uint64_t page = b * class->stride_bytes / 4096;
             page <= ((b + 1) * class->stride_bytes - 1) / 4096; page++)
            holed |= holes[page / 16] >> (page % 16) & 1;
        if (!holed) continue;
        mark(k, base + class->start_bytes + b * class->stride_bytes, HOLE);
        count++;
    }
    return count;
}

static void walk_slab(walk *k, uint32_t unit) {
    hak_heap *h = k->heap;
    hak_slab *slab = hak_slab_at(h, unit);
    uint32_t c = slab->class_index, listed = hak_free_count(slab), remote = hak_remote_count(slab);
    mark_word(k, unit, hak_load_relaxed(&slab->free_list), FREE_LIST);
    mark_word(k, unit, hak_load_relaxed(&slab->remote_list), REMOTE_LIST);
    uint32_t holed = mark_holed(k, unit, c);
    if ((holed != 0) != !!(slab->flags & HAK_SLAB_HOLES))
        die("walk: slab %u of class %u: %u blocks on holes, flags %u", unit, c, holed, slab->flags);
    for (uint32_t i = 0; i < slab->unit_count; i++)
        if (hak_entry_get(h, unit + i) != hak_entry(c, unit))
            die("walk: unit %u of a slab of class %u has entry %llx", unit + i, c,
                (unsigned long long)hak_entry_get(h, unit + i));
    if (hak_used_load(slab) + listed + holed != slab->carved_count)
        die("walk: slab %u of class %u: used %u + free %u + on holes %u is not carved %u", unit, c,
            hak_used_load(slab), listed, holed, slab->carved_count);
    if (!hak_used_load(slab))
        die("walk: slab %u of class %u is empty but was not retired", unit, c);
    if (k->child ? k->held[unit] > slab->carved_count : k->held[unit] != slab->carved_count)
        die("walk: slab %u of class %u: %u of %u carved blocks found", unit, c, k->held[unit],
            slab->carved_count);
    if (remote && !(k->hinted[unit] & 2))
        die("walk: slab %u of class %u: %u remote blocks, in no mailbox", unit, c, remote);
    bool gives = holed || listed >= hak_policy_of(h)->caches.classes[c].list_count ||
                 slab->carved_count < class_at(h, c)->block_count;
    if (gives && !k->hinted[unit] && !is_listed(h, c, unit))
        die("walk: lost slab %u of class %u: %u free, %u of %u carved, nothing remembers it", unit,
            c, listed, slab->carved_count, class_at(h, c)->block_count);
}

/* Units of what stands at `unit`: a slab, a span, a free run, or one unit in transit. */
static uint32_t walk_unit(walk *k, uint32_t unit, uint64_t *free_units) {
    hak_heap *h = k->heap;
    hak_slab *record = hak_slab_at(h, unit);
    uint64_t entry = hak_entry_get(h, unit);
    uint32_t tag = hak_entry_tag(entry);
    if (hak_claim_held(record)) die("walk: the claim of unit %u is held", unit);
    if (record->mailed != (k->hinted[unit] >> 1))
        die("walk: unit %u is marked as mailed but in no mailbox", unit);
    if (tag == HAK_TAG_NONE) { /* empty slab kept ready, or unit of the open superslab */
        k->ready++;
        return 1;
    }
    if (hak_entry_head(entry) != unit)
        die("walk: unit %u (tag %u) belongs to %u, which ends before it", unit, tag,
            hak_entry_head(entry));
    if (tag == HAK_TAG_UNMAPPED) {
        if (record->kind != HAK_KIND_UNMAPPED)
            die("walk: unmapped unit %u is of kind %u", unit, record->kind);
        if (!hak_os_map(NULL, hak_unit_address(h, unit), HAK_UNIT_BYTES, 0))
            hak_os_unmap(NULL, hak_unit_address(h, unit), HAK_UNIT_BYTES, 0);
        else if (!(h->flags & HAK_HEAP_RESERVED)) die("walk: unit %u is mapped", unit);
        k->unmapped += record->unit_count;
    } else if (tag == HAK_TAG_FREE) {
        if (record->kind != HAK_KIND_RUN)
            die("walk: free unit %u is of kind %u", unit, record->kind);
        if (hak_entry_get(h, unit + record->unit_count - 1) != entry)
            die("walk: both ends of run %u disagree", unit);
        *free_units += record->unit_count;
    } else if (tag == HAK_TAG_SPAN) {
        bool waits = record->kind == HAK_KIND_WAITING;
        if ((record->kind != HAK_KIND_SPAN && !waits) ||
            (k->held[unit] != 1 && !(k->child && !waits)))
            die("walk: span %u is of kind %u, held %u times", unit, record->kind, k->held[unit]);
    } else if (k->child && record->kind == HAK_KIND_LOST) {
        k->lost++;
    } else {
        if (record->kind != HAK_KIND_SLAB || record->class_index != tag)
            die("walk: unit %u: tag %u, kind %u, class %u", unit, tag, record->kind,
                record->class_index);
        walk_slab(k, unit);
    }
    return record->unit_count;
}

/* The whole heap; the program's blocks are those of `s`. */
static bool is_mapped(const void *at) {
    return msync((void *)((uintptr_t)at & ~(uintptr_t)(HAK_OS_PAGE_BYTES - 1)), HAK_OS_PAGE_BYTES,
                 MS_ASYNC) == 0;
}

/* The table of mapped blocks: by address, apart, mapped from end to end, summed up. */
static void walk_mapped(hak_heap *h) {
    const hak_mapped *row = hak_at(h, h->mapped_offset);
    uint64_t sum = 0, end = 1;
    if (h->mapped_pending || h->mapped_change) die("walk: the table of mapped blocks is torn");
    for (uint32_t i = 0; i < h->mapped_count; i++, row++) {
        if (row->address < end || !row->bytes) die("walk: mapped block %u is out of order", i);
        end = row->address + row->bytes, sum += row->bytes;
        if (!is_mapped((void *)row->address) || !is_mapped((void *)(end - 1)))
            die("walk: mapped block %u is not mapped", i);
    }
    if (sum != h->mapped_bytes)
        die("walk: mapped blocks of %llu bytes, counted %llu", (unsigned long long)sum,
            (unsigned long long)h->mapped_bytes);
}

static walk heap_walk_as(stage *s, bool child) {
    hak_heap *h = s->heap;
    walk k = {h, NULL, NULL, NULL, h->unit_top, child, 0, 0, 0};
    k.marks = get((uint64_t)k.top << (HAK_UNIT_SHIFT - 3));
    k.held = get((uint64_t)k.top * 4);
    k.hinted = get(k.top);
    for (uint32_t i = 0; i < s->threads; i++)
        for (uint32_t j = 0; j < s->workers[i].table_count; j++)
            if (s->workers[i].table[j].at) mark(&k, (uintptr_t)s->workers[i].table[j].at, PROGRAM);
    for (uint32_t i = 0; i < SLOT_COUNT; i++)
        if (s->slots[i].held.at) mark(&k, (uintptr_t)s->slots[i].held.at, PROGRAM);
    for (uint32_t i = 0; i < s->threads / 2; i++)
        for (uint64_t at = s->rings[i].head; at < s->rings[i].tail; at++)
            mark(&k, (uintptr_t)s->rings[i].items[at % RING_COUNT].at, PROGRAM);
    walk_caches(&k);
    walk_mailboxes(&k);
    uint64_t free_units = 0;
    for (uint32_t unit = h->meta_units; unit < k.top;) unit += walk_unit(&k, unit, &free_units);
    if (k.unmapped != h->unmapped_units)
        die("walk: %u units are not mapped, counted %llu", k.unmapped,
            (unsigned long long)h->unmapped_units);
    if (h->in_use_units + free_units + k.unmapped != k.top - h->meta_units)
        die("walk: %llu units live + %llu free + %u unmapped are not the %u below the top",
            (unsigned long long)h->in_use_units, (unsigned long long)free_units, k.unmapped,
            k.top - h->meta_units);
    if (h->run_lock) die("walk: the run lock is held");
    walk_mapped(h);
    uint32_t ready = (uint32_t)__builtin_popcountll(h->open_word >> 32) +
                     (uint32_t)(h->empty_word >> 32 & 0xff);
    for (uint32_t units = 2; units <= HAK_SLAB_UNITS_MAX; units++)
        ready += units * (uint32_t)(h->longer_word[units - 2] >> 32 & 0xff);
    if (k.ready != ready) die("walk: %u units in no record, %u ready for slabs", k.ready, ready);
    free(k.marks);
    free(k.held);
    free(k.hinted);
    return k;
}

static void heap_walk(stage *s) { (void)heap_walk_as(s, false); }

/* Every claim of a thread that is gone is broken, and its cache is given back: `dead` threads lost
 * as many slabs at most. */
static void heap_walk_child(stage *s, uint32_t dead) {
    hak_heap *h = s->heap;
    walk k = heap_walk_as(s, true);
    if (k.lost != h->lost_count || k.lost > dead)
        die("walk: %u lost slabs, %u counted, of %u threads", k.lost, h->lost_count, dead);
    for (uint32_t i = 0; i < h->thread_top; i++)
        if (hak_thread_at(h, i)->state == HAK_THREAD_LEFT || hak_thread_at(h, i)->busy)
            die("walk: thread record %u was left as it was", i);
    if ((uint32_t)h->left_word || h->thread_live > 1)
        die("walk: %u threads live, left list %x", h->thread_live, (uint32_t)h->left_word);
}

/* After everything was freed: every thread gave its caches back, units are one free run, no list
 * holds a thing. */
static void heap_walk_empty(stage *s) {
    hak_heap *h = s->heap;
    hak_heap_trim(h);
    heap_walk(s);
    uint32_t units = h->unit_top - h->meta_units;
    if (h->in_use_units) die("end: %llu units are still out", (unsigned long long)h->in_use_units);
    if (units && (hak_slab_at(h, h->meta_units)->kind != HAK_KIND_RUN ||
                  hak_slab_at(h, h->meta_units)->unit_count != units))
        die("end: the free units are not one run");
    for (uint32_t unit = h->meta_units; unit < h->unit_top; unit++) {
        hak_slab *slab = hak_slab_at(h, unit);
        if (slab->kind == HAK_KIND_SLAB || hak_used_load(slab) || hak_free_count(slab) ||
            hak_remote_count(slab) || slab->mailed)
            die("end: unit %u is not clean: kind %u, used %u, free %u, remote %u, mailed %u", unit,
                slab->kind, hak_used_load(slab), hak_free_count(slab), hak_remote_count(slab),
                slab->mailed);
    }
    for (uint32_t c = 1; c <= hak_policy_of(h)->sizes.class_count; c++) {
        if ((uint32_t)h->mailbox[c]) die("end: mailbox %u is not empty", c);
        for (uint32_t unit = 0; unit < h->unit_top; unit++)
            if (is_listed(h, c, unit))
                die("end: unit %u is still in the partial set of class %u", unit, c);
    }
    uint32_t waiting = (uint32_t)h->empty_word;
    for (uint32_t i = 0; i < HAK_SLAB_UNITS_MAX - 1; i++) waiting |= (uint32_t)h->longer_word[i];
    if (h->open_word >> 32 || waiting) die("end: units wait outside the run heap");
    if (h->dirty_units && !hak_policy_of(h)->retain.lazy_free)
        die("end: %llu dirty units after a trim", (unsigned long long)h->dirty_units);
    for (uint32_t i = 0; i < h->thread_top; i++)
        for (uint32_t c = 1; c < HAK_CLASS_LIMIT; c++) {
            const hak_thread *t = hak_thread_at(h, i);
            const hak_bin *bin = &t->bins[c];
            if (t->heads[c] || bin->bump != bin->bump_end || bin->hot)
                die("end: thread record %u still caches blocks of class %u", i, c);
        }
}

#endif
