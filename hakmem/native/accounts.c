/* accounts.c: mallinfo, mallinfo2 and malloc_trim: what the process heap holds, and how much of it
 * is resident.
 *
 * No lock is taken: registry, records and caches are read as they are. If other threads allocate
 * meanwhile, the figures are of no single moment, but each stays within its bounds. Residency is
 * what the records say of each OS page: carved and no hole, asked for, or dirty. With os_calls wide
 * it is what the OS says. So arena + hblkhd is the region's Rss, as long as the program has touched
 * what it asked for.
 */
#include <malloc.h>

#include "accounts.h"
#include "hakmem.h"
#include "lists.h"
#include "marks.h"
#include "region.h"

#define PAGES_PER_UNIT (HAK_UNIT_BYTES / HAK_OS_PAGE_BYTES)
/* as many units as one OS page of the stack has room for, at a byte for each of their OS pages */
#define WINDOW_UNITS (HAK_OS_PAGE_BYTES / PAGES_PER_UNIT)

static uint32_t sum_pages(const uint8_t *pages, uint32_t count) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += pages[i];
    return sum;
}

static void add_slab(hak_heap *h, hak_accounts *sum, uint32_t unit, uint32_t class_index) {
    const hak_slab *slab = hak_slab_at(h, unit);
    const hak_class *class = &hak_policy_of(h)->sizes.classes[class_index];
    uint32_t used = hak_used_load(slab), remote = hak_remote_count(slab),
             listed = hak_free_count(slab);
    /* nobody knows the counts of a slab that was lost in a fork */
    if (used > class->block_count) used = class->block_count;
    if (remote > used) remote = used;
    sum->out_bytes += (uint64_t)(used - remote) * class->stride_bytes;
    sum->free_count[class_index] += listed + remote;
}

/* Adds one unit, given the residency of its OS pages. */
static void add_unit(hak_heap *h, hak_accounts *sum, uint32_t unit, const uint8_t *pages) {
    uint64_t entry = hak_entry_get(h, unit);
    uint32_t tag = hak_entry_tag(entry), head = hak_entry_head(entry);
    uint64_t resident = (uint64_t)sum_pages(pages, PAGES_PER_UNIT) * HAK_OS_PAGE_BYTES;
    sum->resident += resident;
    if (tag == HAK_TAG_NONE || tag == HAK_TAG_FREE) {
        sum->idle += resident;
        if (tag == HAK_TAG_NONE || hak_load_relaxed(&hak_slab_at(h, unit)->kind) != HAK_KIND_RUN)
            return;
        uint64_t bytes = (uint64_t)hak_load_relaxed(&hak_slab_at(h, unit)->unit_count)
                         << HAK_UNIT_SHIFT;
        if (bytes < sum->run_least || !sum->run_count) sum->run_least = bytes;
        if (bytes > sum->run_most) sum->run_most = bytes;
        sum->run_bytes += bytes;
        sum->run_count++;
    } else if (tag == HAK_TAG_SPAN &&
               hak_load_relaxed(&hak_slab_at(h, head)->kind) == HAK_KIND_WAITING) {
        sum->idle += resident;
    } else if (tag == HAK_TAG_SPAN) {
        uint64_t asked = hak_load_relaxed(&hak_slab_at(h, head)->span_page_count),
                 before = (uint64_t)(unit - head) * PAGES_PER_UNIT;
        uint32_t here = asked <= before                   ? 0
                        : asked - before < PAGES_PER_UNIT ? (uint32_t)(asked - before)
                                                          : PAGES_PER_UNIT;
        sum->span_count += unit == head;
        sum->span_bytes += (uint64_t)here * HAK_OS_PAGE_BYTES;
        sum->span_resident += (uint64_t)sum_pages(pages, here) * HAK_OS_PAGE_BYTES;
    } else if (unit == head) {
        add_slab(h, sum, unit, tag);
    }
}

/* Slabs count the blocks in thread caches as used, so they are taken out of what the program
 * holds. */
static void add_caches(hak_heap *h, hak_accounts *sum) {
    uint32_t top = hak_load_acquire(&h->thread_top);
    for (uint32_t i = 0; i < top; i++) {
        const hak_thread *t = hak_thread_at(h, i);
        if (!hak_load_relaxed(&t->base)) continue; /* record 0 before its first use */
        for (uint32_t class_index = 1; class_index <= hak_policy_of(h)->sizes.class_count;
             class_index++) {
            const hak_bin *bin = &t->bins[class_index];
            uint64_t stride = hak_policy_of(h)->sizes.classes[class_index].stride_bytes;
            int64_t listed = (int64_t)hak_load_relaxed(&bin->cap_count) -
                             hak_load_relaxed(&t->room_counts[class_index]);
            uint64_t bump = hak_load_relaxed(&bin->bump), end = hak_load_relaxed(&bin->bump_end);
            if (h->magazines_offset) {
                const hak_magazine *m = &hak_magazines_at(h, i)->classes[class_index];
                listed += hak_load_relaxed(&m->top) - hak_load_relaxed(&m->first);
            }
            uint64_t in_list = listed > 0 ? (uint64_t)listed : 0;
            uint64_t count = in_list + (end > bump ? (end - bump) / stride : 0);
            sum->cached_bytes += count * stride;
            sum->listed_count += in_list;
            sum->listed_bytes += in_list * stride;
            sum->free_count[class_index] += count;
        }
    }
    sum->out_bytes -= sum->cached_bytes < sum->out_bytes ? sum->cached_bytes : sum->out_bytes;
}

/* How many units from `unit` on are mapped, at most `most`. */
static uint32_t mapped_from(hak_heap *h, uint32_t unit, uint32_t most) {
    uint32_t count = 0;
    while (count < most && hak_tag_get(h, unit + count) != HAK_TAG_UNMAPPED) count++;
    return count;
}

/* pages[i] is 1 where OS page i of a unit holds something by the records. */
static void pages_by_records(hak_heap *h, uint32_t unit, uint8_t *pages) {
    uint64_t entry = hak_entry_get(h, unit);
    uint32_t tag = hak_entry_class(h, entry), head = hak_entry_head(entry);
    const hak_slab *record = hak_slab_at(h, head);
    uint64_t before = (uint64_t)(unit - head) * PAGES_PER_UNIT, end = 0;
    bool dirty = hak_mark_get(hak_dirty_map(h), unit), slab = false;
    if (tag == HAK_TAG_NONE) { /* dirty, or a slab's before: kept ready */
        if (dirty || hak_claim_seq_load(hak_slab_at(h, unit))) end = UINT64_MAX;
    } else if (tag == HAK_TAG_FREE) end = dirty ? UINT64_MAX : 0;
    else if (tag == HAK_TAG_SPAN)
        end = dirty ? UINT64_MAX : hak_load_relaxed(&record->span_page_count);
    else {
        uint64_t stride = hak_policy_of(h)->sizes.classes[tag].stride_bytes;
        slab = true;
        end = dirty ? UINT64_MAX
                    : (hak_load_relaxed(&record->carved_count) * stride + HAK_OS_PAGE_BYTES - 1) /
                          HAK_OS_PAGE_BYTES;
    }
    for (uint32_t i = 0; i < PAGES_PER_UNIT; i++)
        pages[i] = before + i < end && !(slab && hak_hole_get(hak_holes_of(h, unit), i));
}

/* The residency of the OS pages of mapped units. */
static void pages_of(hak_heap *h, uint32_t unit, uint32_t count, uint8_t *pages) {
    if (hak_number(hak_policy_of(h)->arenas.os_calls) == HAK_OS_CALLS_WIDE)
        hak_os_resident(&h->os, hak_unit_address(h, unit), (uint64_t)count << HAK_UNIT_SHIFT,
                        pages);
    else
        for (uint32_t i = 0; i < count; i++)
            pages_by_records(h, unit + i, pages + i * PAGES_PER_UNIT);
}

void hak_accounts_gather(hak_heap *h, hak_accounts *sum) {
    uint8_t pages[HAK_OS_PAGE_BYTES];
    uint32_t top = hak_load_acquire(&h->unit_top);
    uint64_t unmapped = hak_load_relaxed(&h->unmapped_units);
    *sum = (hak_accounts){.committed = (top - h->meta_units - unmapped) << HAK_UNIT_SHIFT,
                          .most = h->high_water_ever << HAK_UNIT_SHIFT,
                          .metadata = hak_region_metadata_bytes(h)};
    for (uint32_t unit = h->meta_units; unit < top;) {
        uint32_t count =
            mapped_from(h, unit, top - unit < WINDOW_UNITS ? top - unit : WINDOW_UNITS);
        pages_of(h, unit, count, pages);
        for (uint32_t i = 0; i < count; i++) add_unit(h, sum, unit + i, pages + i * PAGES_PER_UNIT);
        unit += count ? count : 1;
    }
    sum->resident += sum->metadata;
    sum->mapped_count = hak_load_relaxed(&h->mapped_count);
    sum->mapped_bytes = hak_load_relaxed(&h->mapped_bytes);
    add_caches(h, sum);
}

struct mallinfo2 hak_accounts_info(const hak_accounts *sum) {
    struct mallinfo2 info = {0};
    uint64_t taken = sum->metadata + sum->out_bytes;
    info.arena = sum->resident - sum->span_resident;   /* resident, without spans */
    info.hblks = sum->span_count + sum->mapped_count;  /* spans in use */
    info.hblkhd = sum->span_bytes + sum->mapped_bytes; /* asked for, in OS pages */
    /* blocks of slabs that the program holds, in strides */
    info.uordblks = sum->out_bytes;
    info.fordblks = info.arena > taken ? info.arena - taken : 0; /* resident, and nobody's */
    info.smblks = sum->listed_count;                             /* blocks in caches' lists */
    info.fsmblks = sum->listed_bytes;                            /* and their bytes */
    info.keepcost = sum->idle;                                   /* malloc_trim gives at least */
    for (uint32_t class_index = 1; class_index < HAK_CLASS_LIMIT; class_index++)
        info.ordblks += sum->free_count[class_index];
    info.ordblks += sum->run_count; /* free blocks and free runs */
    info.ordblks -= sum->listed_count < info.ordblks ? sum->listed_count : info.ordblks;
    return info;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#pragma GCC visibility push(default)

struct mallinfo2 mallinfo2(void) {
    hak_accounts sum = {0};
    hak_heap *h = hak_process_heap();
    if (h) hak_accounts_gather(h, &sum);
    return hak_accounts_info(&sum);
}

/* The fields are ints and wrap around, as they do in glibc. */
struct mallinfo mallinfo(void) {
    struct mallinfo2 in = mallinfo2();
    return (struct mallinfo){(int)in.arena,    (int)in.ordblks, (int)in.smblks,  (int)in.hblks,
                             (int)in.hblkhd,   (int)in.usmblks, (int)in.fsmblks, (int)in.uordblks,
                             (int)in.fordblks, (int)in.keepcost};
}

/* Returns 1 only if less is resident than before: a unit that its record calls dirty may never
 * have been touched. `keep`, glibc's bytes to keep at the top of the heap, means nothing here. */
int malloc_trim(size_t keep) {
    (void)keep;
    hak_heap *h = hak_process_heap();
    if (!h) return 0;
    hak_accounts before, after;
    hak_accounts_gather(h, &before);
    if (!hak_heap_trim(h)) return 0;
    hak_accounts_gather(h, &after);
    return after.resident - after.metadata < before.resident - before.metadata;
}
#pragma GCC visibility pop
#endif
