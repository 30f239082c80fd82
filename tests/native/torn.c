/* torn.c: the child of a fork finds a heap as a thread left it that was cut off between two stores.
 *
 *   torn [CASE]...   prints a line a case; exit 1 with a line on stderr where the child's heap is
 *                    not whole
 *
 * Which two stores a fork meets is luck; here each such state is written into a quiet heap by hand,
 * by the parent, as the thread that is gone would have left it. The child settles, walks the whole
 * heap, works, and walks again.
 */
#define _GNU_SOURCE
#pragma GCC diagnostic ignored "-Wunused-function" /* the driver's other scenarios */
#include "bins.h"
#include "stress_alone.h"
#include "stress_named.h"

/* One thread's work of all bands, then it stands still, alive: its caches are full of blocks. */
typedef struct still {
    worker worker;
    hak_thread *record;
    uint32_t ready;
} still;

static stage quiet;
static still other;

static void *stand_still(void *unused) {
    (void)unused;
    for (uint32_t i = 0; i < 6000; i++) step(&other.worker);
    hak_store_release(&other.ready, 1); /* partner: make_heap */
    for (;;) pause();
    return NULL;
}

static hak_thread *record_of(hak_heap *h, bool others) {
    for (uint32_t i = 1; i < h->thread_top; i++)
        if ((hak_thread_at(h, i)->os_id == (uint32_t)gettid()) != others &&
            hak_thread_at(h, i)->state == HAK_THREAD_LIVE)
            return hak_thread_at(h, i);
    die("no record of the %s thread", others ? "other" : "forking");
}

static uint32_t longest_list(hak_thread *t) {
    uint32_t best = 0, most = 0;
    for (uint32_t c = 1; c < HAK_CLASS_LIMIT; c++) {
        uint32_t have = (uint32_t)(t->bins[c].cap_count - t->room_counts[c]);
        if (have > most) most = have, best = c;
    }
    if (!best) die("the other thread caches nothing");
    return best;
}

static hak_slab *some_slab(hak_heap *h, uint32_t *unit) {
    for (*unit = h->meta_units; *unit < h->unit_top; (*unit)++) {
        hak_slab *slab = hak_slab_at(h, *unit);
        if (slab->kind == HAK_KIND_SLAB && hak_used_load(slab)) return slab;
    }
    die("no slab");
}

/* What a case expects of the child: lost slabs, lost blocks (-1: any); an offset from the heap at
 * which nothing may be mapped once the child has settled (0: none). */
typedef struct expected {
    int64_t slabs, blocks;
    uint64_t unmapped;
} expected;

static expected nothing(hak_heap *h, hak_thread *t) {
    return (void)h, (void)t, (expected){0, 0, 0};
}
/* hak_bin_flush, in the middle of a batch: the head is past it, one block is with its slab,
 * another's link is changed. */
static expected moving(hak_heap *h, hak_thread *t) {
    uint32_t c = longest_list(t), have = (uint32_t)(t->bins[c].cap_count - t->room_counts[c]),
             batch = have / 2;
    uint64_t block = t->heads[c], second = hak_next(block);
    uint32_t unit = hak_head_of(h, block);
    if (batch < 2) die("a list of %u", have);
    hak_store_relaxed(&t->busy, c + 1);
    for (uint32_t i = 0; i < batch; i++) t->heads[c] = hak_next(t->heads[c]);
    if (!hak_claim_try(hak_slab_at(h, unit))) die("claim");
    hak_free_push_chain(hak_slab_at(h, unit), (uintptr_t)hak_unit_address(h, unit), block, block,
                        1);
    hak_used_sub(hak_slab_at(h, unit), 1);
    hak_claim_release(hak_slab_at(h, unit));
    hak_set_next(second, 0);
    return (expected){0, batch, 0};
}
/* malloc, between its two stores: the block is out, the count says it is not. */
static expected popped(hak_heap *h, hak_thread *t) {
    (void)h;
    uint32_t c = longest_list(t);
    t->heads[c] = hak_next(t->heads[c]);
    return (expected){0, 0, 0};
}
/* reap, by the other thread, of the forking one: the gate is closed, a list is cut behind its
 * second block, the others are in hand. The child goes on with the record, and its gate is open. */
static expected reaping(hak_heap *h, hak_thread *t) {
    static uint8_t no_classes[HAK_FAST_MAP_BYTES];
    hak_thread *mine = record_of(h, false);
    uint32_t c = longest_list(mine),
             have = (uint32_t)(mine->bins[c].cap_count - mine->room_counts[c]);
    if (have < 3) die("a list of %u", have);
    mine->gate = t->os_id;
    mine->fast_map = (uintptr_t)no_classes;
    mine->unit_limit = 0;
    mine->busy = c + 1;
    hak_set_next(hak_next(mine->heads[c]), 0);
    return (expected){0, have - 2, 0};
}
/* The same, but the list is done: its cap has fallen, the sum of caps has not. */
static expected reaped(hak_heap *h, hak_thread *t) {
    hak_thread *mine = record_of(h, false);
    expected e = reaping(h, t);
    uint32_t c = mine->busy - 1;
    mine->bins[c].cap_count -= (uint32_t)e.blocks;
    mine->reaped = 1;
    mine->busy = 0;
    return (expected){0, -1, 0}; /* what came of the blocks is not told: they are lost here */
}
/* free, before its last store: room is taken, the block is not linked. */
static expected pushing(hak_heap *h, hak_thread *t) {
    (void)h;
    t->room_counts[longest_list(t)]--;
    return (expected){0, 0, 0};
}
/* A list whose link was overwritten, as no order of stores leaves it: cut there. */
static expected broken(hak_heap *h, hak_thread *t) {
    (void)h;
    uint32_t c = longest_list(t), have = (uint32_t)(t->bins[c].cap_count - t->room_counts[c]);
    hak_set_next(t->heads[c], t->heads[c] + 4);
    return (expected){0, have - 1, 0};
}
/* carve, between begin and end of the range. */
static expected ranged(hak_heap *h, hak_thread *t) {
    (void)h;
    uint32_t c = longest_list(t);
    t->bins[c].bump = t->bins[c].bump_end + t->bins[c].stride_bytes;
    return (expected){0, 0, 0};
}
static expected claimed(hak_heap *h, hak_thread *t) {
    uint32_t unit;
    (void)t;
    hak_slab *slab = some_slab(h, &unit);
    if (!hak_claim_try(slab)) die("claim");
    hak_claim_forget(slab); /* it is the other thread's */
    return (expected){1, -1, 0};
}
/* retire, the registry cleared already. */
static expected retiring(hak_heap *h, hak_thread *t) {
    uint32_t unit;
    (void)t;
    hak_slab *slab = some_slab(h, &unit);
    if (!hak_claim_try(slab)) die("claim");
    hak_claim_forget(slab);
    hak_entry_fill(h, unit, slab->unit_count, HAK_TAG_NONE);
    return (expected){1, -1, 0};
}
static expected locked(hak_heap *h, hak_thread *t) {
    (void)t;
    h->run_lock = 1;
    return (expected){0, 0, 0};
}
/* The run lock is held, and a bin lost its runs. */
static expected unbinned(hak_heap *h, hak_thread *t) {
    (void)t;
    h->run_lock = 1;
    memset(h->run_dirty, 0, sizeof h->run_dirty);
    h->in_use_units += 3;
    return (expected){0, 0, 0};
}
/* Units out of the run heap and not yet in a record: hak_run_alloc before span_note. */
static expected in_transit(hak_heap *h, hak_thread *t) {
    (void)t;
    for (uint32_t u = h->meta_units; u < h->unit_top; u++) {
        hak_slab *run = hak_slab_at(h, u);
        if (run->kind != HAK_KIND_RUN) continue;
        hak_entry_fill(h, u, run->unit_count, HAK_TAG_NONE);
        run->kind = HAK_KIND_NONE;
        h->run_lock = 1; /* its links are gone, which only its holder may leave behind */
        return (expected){0, 0, 0};
    }
    die("no free run");
}
/* Units that hold nothing, as those of a slab that has retired: a span's. */
static uint32_t empty_slab(hak_heap *h, uint32_t units) {
    uint64_t at = (uint64_t)(uintptr_t)hak_heap_alloc(h, (uint64_t)units << HAK_UNIT_SHIFT);
    uint32_t unit = (uint32_t)((at - (uintptr_t)h) >> HAK_UNIT_SHIFT);
    hak_slab *slab = hak_slab_at(h, unit);
    if (slab->kind != HAK_KIND_SPAN || slab->unit_count != units) die("no span of %u", units);
    hak_entry_fill(h, unit, units, HAK_TAG_NONE);
    slab->kind = HAK_KIND_NONE;
    return unit;
}
/* A policy that is judged is written over the one in force: its first numbers are there. */
static uint32_t wished;
static expected changing(hak_heap *h, hak_thread *t) {
    hak_policy *draft = hak_at(h, HAK_DRAFT_OFFSET);
    *draft = *hak_policy_of(h);
    draft->caches.idle_events = wished = draft->caches.idle_events + 1;
    h->policy_lock = t->os_id;
    h->policy_generation |= 1;
    return (expected){0, 0, 0};
}
/* An empty slab of eight units waits ready for the next class of that length. */
static expected readied(hak_heap *h, hak_thread *t) {
    uint32_t unit = empty_slab(h, 8);
    (void)t;
    hak_slab_at(h, unit)->next = (uint32_t)h->longer_word[6];
    uint64_t count = (h->longer_word[6] >> 32 & 0xff) + 1;
    h->longer_word[6] = unit | count << 32 | ((h->longer_word[6] >> 40) + 1) << 40;
    return (expected){0, 0, 0};
}
/* hak_empty_pop has taken it, no slab is made of it. */
static expected unreadied(hak_heap *h, hak_thread *t) {
    (void)t;
    empty_slab(h, 8);
    return (expected){0, 0, 0};
}
/* A unit popped from the open superslab, no slab made of it. */
static expected opened(hak_heap *h, hak_thread *t) {
    (void)t;
    if (!(h->open_word >> 32)) return (expected){0, 0, 0};
    h->open_word &= h->open_word - (UINT64_C(1) << 32);
    return (expected){0, 0, 0};
}
static expected purging(hak_heap *h, hak_thread *t) {
    expected e = in_transit(h, t);
    h->run_lock = 0;
    h->purging_units = 1;
    return e;
}
/* grow_top, the chunk and a step of each table mapped, nothing of it published. */
static expected mapping(hak_heap *h, hak_thread *t) {
    (void)t;
    uint32_t top = h->unit_top;
    h->run_lock = 1;
    h->intent_unit = top, h->intent_units = 32;
    h->intent_table_units = h->unit_limit;
    if (hak_os_map(NULL, hak_unit_address(h, top), 32 << HAK_UNIT_SHIFT,
                   h->flags & HAK_HEAP_RESERVED))
        die("map");
    h->intent_records = h->thread_mapped + HAK_THREAD_STEP_RECORDS;
    h->arena_units[h->arena_count] += 32;
    return (expected){0, 0, (uint64_t)top << HAK_UNIT_SHIFT};
}
/* The same when the top is raised and the run half filled in. */
static expected raising(hak_heap *h, hak_thread *t) {
    uint32_t top = h->unit_top;
    expected e = mapping(h, t);
    h->intent_table_units = h->intent_records = 0;
    h->arena_count++;
    h->unit_top = top + 32;
    hak_entry_fill(h, top, 7, hak_entry(HAK_TAG_FREE, top));
    e.unmapped = (uint64_t)(top + 3) << HAK_UNIT_SHIFT;
    return e;
}
/* unmap_run, the units named unmapped and mapped still: they must not come into use so. */
static expected unmapping(hak_heap *h, hak_thread *t) {
    uint32_t unit = 0;
    expected e = in_transit(h, t);
    while (hak_entry_get(h, unit) != HAK_TAG_NONE || unit < h->meta_units) unit++;
    uint32_t units = hak_slab_at(h, unit)->unit_count;
    memset(hak_unit_address(h, unit), 0x5a, (size_t)units << HAK_UNIT_SHIFT);
    hak_entry_fill(h, unit, units, hak_entry(HAK_TAG_UNMAPPED, unit));
    return e;
}
/* grow_run, an unmapped run out of its bin, mapped, half of its units free. */
static expected mapping_again(hak_heap *h, hak_thread *t) {
    (void)t;
    uint32_t unit = 0;
    h->map_limit_units = 1;
    if (hak_heap_alloc(h, 32 << 20) || !h->unmapped_units) die("nothing was unmapped");
    h->map_limit_units = h->refused_epoch = 0;
    h->run_lock = 1;
    for (uint32_t u = h->meta_units; u < h->unit_top && !unit; u++)
        if (hak_slab_at(h, u)->kind == HAK_KIND_UNMAPPED) unit = u;
    uint32_t units = hak_slab_at(h, unit)->unit_count;
    h->intent_unit = unit, h->intent_units = units;
    if (hak_os_map(NULL, hak_unit_address(h, unit), (uint64_t)units << HAK_UNIT_SHIFT,
                   h->flags & HAK_HEAP_RESERVED))
        die("map");
    hak_slab_at(h, unit)->kind = HAK_KIND_NONE;
    hak_entry_fill(h, unit, units / 2, hak_entry(HAK_TAG_FREE, unit));
    return (expected){0, 0, (uint64_t)(unit + units / 4) << HAK_UNIT_SHIFT};
}
/* Three mapped blocks of different sizes, the lock held. */
static hak_mapped *three_mapped(hak_heap *h) {
    for (uint64_t i = 0; i < 3; i++)
        if (!hak_heap_alloc(h, (i + 1) << 30)) die("no memory");
    h->run_lock = 1;
    return hak_at(h, h->mapped_offset);
}
/* hak_mapped_insert, two rows moved up, the second by its address only. */
static expected inserting(hak_heap *h, hak_thread *t) {
    hak_mapped *rows = three_mapped(h);
    (void)t;
    h->mapped_pending = 1, h->mapped_change = 1;
    rows[3] = rows[2];
    rows[2].address = rows[1].address;
    return (expected){0, 0, 0};
}
/* The same, the new row written but for its address. */
static expected inserting_last(hak_heap *h, hak_thread *t) {
    hak_mapped *rows = three_mapped(h);
    (void)t;
    h->mapped_pending = 1, h->mapped_change = 1;
    rows[3] = rows[2], rows[2] = rows[1];
    rows[1] = (hak_mapped){0, 1 << 20};
    return (expected){0, 0, 0};
}
/* hak_mapped_take, the first row overwritten by the second's address. */
static expected removing(hak_heap *h, hak_thread *t) {
    hak_mapped *rows = three_mapped(h);
    (void)t;
    h->mapped_change = 2;
    rows[0].address = rows[1].address;
    return (expected){0, 0, 0};
}
/* Rows of the table being mapped, not published. */
static expected mapping_rows(hak_heap *h, hak_thread *t) {
    (void)t;
    h->run_lock = 1;
    h->intent_rows = HAK_MAPPED_STEP_ROWS;
    if (hak_os_map(NULL, hak_at(h, h->mapped_offset), HAK_OS_PAGE_BYTES,
                   h->flags & HAK_HEAP_RESERVED))
        die("map");
    return (expected){0, 0, h->mapped_offset};
}
static expected mailed(hak_heap *h, hak_thread *t) {
    uint32_t unit;
    (void)t;
    some_slab(h, &unit)->mailed = 1;
    return (expected){0, 0, 0};
}
/* refill, after it released the claim and before the hint stands; stage_hot, after it dropped the
 * hint. */
static expected unremembered(hak_heap *h, hak_thread *t) {
    for (uint32_t c = 1; c < HAK_CLASS_LIMIT; c++) {
        uint32_t unit = t->bins[c].hot;
        if (!unit || hak_slab_at(h, unit)->flags & HAK_SLAB_LISTED ||
            hak_slab_at(h, unit)->carved_count == class_at(h, c)->block_count)
            continue;
        t->bins[c].hot = 0;
        /* what it took is the program's: no flush will list the slab */
        t->heads[c] = 0, t->room_counts[c] = t->bins[c].cap_count;
        t->bins[c].bump = t->bins[c].bump_end;
        return (expected){0, 0, 0};
    }
    die("no slab that only a hint remembers");
}
/* A span of `t` that nobody holds any more: its kind and the place that names it. */
static void waiting_span(hak_heap *h, hak_thread *t, uint8_t kind) {
    if (!t->waiting[0]) {
        char *block = hak_heap_alloc(h, 10 * HAK_UNIT_BYTES);
        if (!block) die("no span");
        t->waiting[0] = (uint32_t)((uint64_t)(block - (char *)h) >> HAK_UNIT_SHIFT);
    }
    hak_slab_at(h, t->waiting[0])->kind = kind;
}
/* hak_waiting_put, the place filled, before the kind says so; hak_waiting_take, before the place is
 * emptied. */
static expected naming(hak_heap *h, hak_thread *t) {
    waiting_span(h, t, HAK_KIND_SPAN);
    return (expected){0, 0, 0};
}
/* A span that waits for a thread that is gone. */
static expected waiting(hak_heap *h, hak_thread *t) {
    waiting_span(h, t, HAK_KIND_WAITING);
    return (expected){0, 0, 0};
}
/* The same, about to be freed: its place is not empty yet. */
static expected unwaiting(hak_heap *h, hak_thread *t) {
    waiting_span(h, t, HAK_KIND_NONE);
    return (expected){0, 0, 0};
}
/* The class whose magazine has the most blocks. */
static hak_magazine *fullest(hak_thread *t, uint32_t *class_index) {
    hak_magazine *best = NULL;
    for (uint32_t c = 1; c < HAK_CLASS_LIMIT; c++) {
        hak_magazine *m = &hak_magazines_of(t)->classes[c];
        if (!best || m->top - m->first > best->top - best->first) best = m, *class_index = c;
    }
    if (best->top - best->first < 2) die("no magazine of two blocks");
    return best;
}
/* hak_magazine_push, the slot written and the top as before: the block is on its way. */
static expected magazine_pushing(hak_heap *h, hak_thread *t) {
    uint32_t c;
    (void)h;
    fullest(t, &c)->top--;
    return (expected){0, 0, 0};
}
/* hak_bin_list_magazine, one block in the list, the next in neither. */
static expected magazine_listing(hak_heap *h, hak_thread *t) {
    uint32_t c;
    uint64_t *slots = hak_magazines_of(t)->slots, first = fullest(t, &c)->first;
    (void)h;
    hak_set_next(slots[first + 1], t->heads[c]);
    t->heads[c] = slots[first + 1], t->room_counts[c]--;
    slots[first + 1] = slots[first + 2] = 0;
    return (expected){0, 0, 0};
}
/* The same, the block's link written, the head as before. */
static expected magazine_linking(hak_heap *h, hak_thread *t) {
    uint32_t c;
    uint64_t *slots = hak_magazines_of(t)->slots, first = fullest(t, &c)->first;
    (void)h;
    hak_set_next(slots[first + 1], t->heads[c]);
    slots[first + 1] = 0;
    return (expected){0, 0, 0};
}
/* The same at its end: all slots are empty, the top as before. */
static expected magazine_listed(hak_heap *h, hak_thread *t) {
    uint32_t c;
    hak_magazine *m = fullest(t, &c);
    (void)h;
    for (uint32_t slot = m->first + 1u; slot <= m->top; slot++) {
        hak_bin_push(t, c, hak_magazines_of(t)->slots[slot]);
        hak_magazines_of(t)->slots[slot] = 0;
    }
    return (expected){0, 0, 0};
}
/* A thread's end comes before this destructor: the thread works on with record 0. */
static void use_some(void *heap) {
    void *blocks[8];
    hak_fault fault;
    for (uint32_t i = 0; i < 8; i++)
        if (!(blocks[i] = hak_heap_alloc(heap, 100))) die("no memory");
    for (uint32_t i = 0; i < 8; i++)
        if (hak_heap_free(heap, blocks[i], &fault)) die("free: fault %u", fault.code);
}
/* Record 0 caches what is freed only where there are no records left. */
static void use_record_0(void *heap) {
    hak_heap *h = heap;
    uint32_t limit = h->thread_limit;
    h->thread_limit = h->thread_top;
    use_some(heap);
    h->thread_limit = limit;
}
static pthread_key_t at_end;
static void *end_late(void *heap) {
    use_some(heap);
    if (pthread_setspecific(at_end, heap)) die("pthread_setspecific");
    return NULL;
}
/* hak_magazine_fit in record 0, which no flush renews: the cap fell, the blocks are there. */
static expected magazine_capped(hak_heap *h, hak_thread *t) {
    pthread_t thread;
    (void)t;
    if (pthread_key_create(&at_end, use_record_0) || pthread_create(&thread, NULL, end_late, h) ||
        pthread_join(thread, NULL))
        die("no thread that ends late");
    uint32_t c;
    hak_thread *shared = hak_thread_at(h, 0);
    if (!shared->base) die("record 0 is not in use");
    hak_magazine *m = fullest(shared, &c);
    shared->cap_bytes -= shared->bins[c].cap_count * shared->bins[c].stride_bytes;
    shared->room_counts[c] -= shared->bins[c].cap_count;
    shared->bins[c].cap_count = 0;
    m->last = m->first;
    h->record_lock = 1;
    return (expected){0, 0, 0};
}
/* hak_magazines_init, the row half filled in and not named. */
static expected magazine_making(hak_heap *h, hak_thread *t) {
    hak_magazines *row = hak_magazines_at(h, h->thread_top);
    (void)t;
    row->classes[1] = (hak_magazine){1, 1, 1, 17};
    row->classes[2].end = 34;
    hak_thread_at(h, h->thread_top)->index = h->thread_top;
    h->thread_top++;
    return (expected){0, 0, 0};
}
/* hak_region_map_record, records and rows mapped, not published. */
static expected magazine_mapping(hak_heap *h, hak_thread *t) {
    uint64_t bytes = h->thread_mapped * sizeof(hak_magazines),
             from = h->magazines_offset + ((bytes + 4095) & ~UINT64_C(4095));
    (void)t;
    h->run_lock = 1;
    h->intent_records = h->thread_mapped + HAK_THREAD_STEP_RECORDS;
    if (hak_os_map(NULL, hak_at(h, from), HAK_OS_PAGE_BYTES, h->flags & HAK_HEAP_RESERVED))
        die("map");
    return (expected){0, 0, from};
}
/* attach: popped from the list of unused records, not live yet; and one being made. */
static expected attaching(hak_heap *h, hak_thread *t) {
    (void)t;
    h->thread_top++;
    return (expected){0, 0, 0};
}
static expected leaving(hak_heap *h, hak_thread *t) {
    (void)h;
    t->state = HAK_THREAD_PARKED;
    return (expected){0, 0, 0};
}
static expected shared(hak_heap *h, hak_thread *t) {
    (void)t;
    h->record_lock = 1;
    return (expected){0, 0, 0};
}
static expected root(hak_heap *h, hak_thread *t) {
    (void)h, (void)t;
    hak_root_.lock = 1;
    return (expected){0, 0, 0};
}

static const struct {
    const char *name;
    expected (*tear)(hak_heap *, hak_thread *);
    const char *policy; /* NULL: the default */
} cases[] = {
    {"nothing", nothing, NULL},
    {"moving", moving, NULL},
    {"popped", popped, NULL},
    {"pushing", pushing, NULL},
    {"broken", broken, NULL},
    {"ranged", ranged, NULL},
    {"claimed", claimed, NULL},
    {"retiring", retiring, NULL},
    {"locked", locked, NULL},
    {"unbinned", unbinned, NULL},
    {"in_transit", in_transit, NULL},
    {"changing", changing, NULL},
    {"readied", readied, NULL},
    {"unreadied", unreadied, NULL},
    {"opened", opened, NULL},
    {"purging", purging, NULL},
    {"mailed", mailed, NULL},
    {"unremembered", unremembered, NULL},
    {"attaching", attaching, NULL},
    {"leaving", leaving, NULL},
    {"shared", shared, NULL},
    {"root", root, NULL},
    {"mapping", mapping, NULL},
    {"raising", raising, NULL},
    {"unmapping", unmapping, NULL},
    {"mapping_again", mapping_again, NULL},
    {"inserting", inserting, NULL},
    {"inserting_last", inserting_last, NULL},
    {"removing", removing, NULL},
    {"mapping_rows", mapping_rows, NULL},
    {"naming", naming, NULL},
    {"reaping", reaping, NULL},
    {"reaped", reaped, NULL},
    {"waiting", waiting, NULL},
    {"unwaiting", unwaiting, NULL},
    {"magazine_pushing", magazine_pushing, "magazines"},
    {"magazine_listing", magazine_listing, "magazines"},
    {"magazine_linking", magazine_linking, "magazines"},
    {"magazine_listed", magazine_listed, "magazines"},
    {"magazine_capped", magazine_capped, "magazines"},
    {"magazine_making", magazine_making, "magazines"},
    {"magazine_mapping", magazine_mapping, "magazines"},
};

static void look(expected e) {
    hak_heap *h = quiet.heap;
    hak_fork_settle();
    if (e.unmapped && is_mapped(hak_at(h, e.unmapped))) die("what was being mapped is there");
    heap_walk_child(&quiet, 1);
    if (h->policy_generation & 1 || h->policy_lock) die("a policy is half written");
    if (wished && hak_policy_of(h)->caches.idle_events != wished) die("another policy is obeyed");
    if (h->lost_count != e.slabs)
        die("%u slabs are lost, expected %d", h->lost_count, (int)e.slabs);
    if (e.blocks >= 0 && h->lost_block_count != (uint64_t)e.blocks)
        die("%llu blocks are lost, expected %d", (unsigned long long)h->lost_block_count,
            (int)e.blocks);
    for (uint32_t i = 0; i < 4000; i++) step(&quiet.workers[0]);
    heap_walk_child(&quiet, 1);
    /* grows into what may have been mapped halfway */
    hak_fault fault;
    if (hak_heap_free(h, hak_heap_alloc(h, 16 << 20), &fault)) die("free: fault %u", fault.code);
    heap_walk_child(&quiet, 1);
    hak_heap_trim(h);
    heap_walk_child(&quiet, 1);
    if (hak_root_.lock) die("the root lock is held");
}

static void one(const char *name, const char *policy, expected (*tear)(hak_heap *, hak_thread *)) {
    hak_fault fault;
    pthread_t thread;
    current_name = name;
    quiet = (stage){.name = name, .mix = {96, 0, 6, 64, 0, 8, 0, 0, 19}, .threads = 1, .seed = 7};
    quiet.heap = hak_heap_create(policy_named(policy), 64 << 20, 0, &fault);
    if (!quiet.heap) die("create: fault %u", fault.code);
    quiet.slots = get(SLOT_COUNT * sizeof(slot));
    worker mine = {&quiet, 0, 11, 0, get(96 * sizeof(item)), 96};
    quiet.workers = &mine;
    other.worker = (worker){&quiet, 1, 13, 0, get(96 * sizeof(item)), 96};
    for (uint32_t i = 0; i < 3000; i++) step(&mine);
    if (pthread_create(&thread, NULL, stand_still, NULL)) die("pthread_create");
    while (!hak_load_acquire(&other.ready)) sched_yield();
    expected e = tear(quiet.heap, record_of(quiet.heap, true));
    pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        look(e);
        _exit(0);
    }
    child_wait(pid);
}

int main(int count, char **words) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool chosen = count == 1;
        for (int k = 1; k < count; k++) chosen |= !strcmp(words[k], cases[i].name);
        if (!chosen) continue;
        pid_t pid = fork(); /* a process a case: what is torn stays torn */
        if (pid == 0) {
            const char *policy = cases[i].policy ? cases[i].policy : "default";
            one(cases[i].name, policy, cases[i].tear);
            _exit(0);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status) return 1;
        printf("%s\n", cases[i].name);
        fflush(stdout);
    }
    return 0;
}
