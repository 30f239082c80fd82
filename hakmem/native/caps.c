/* caps.c: when a bin's cap changes: it rises while the list swings between empty and full, and
 * shrinks when the class is idle or the thread only frees. Blocks above the cap go back to their
 * slabs.
 */
#include "caps.h"

/* Whether cap_bytes is the sum of the record's caps. */
HAK_PREDICATE bool caps_add_up(hak_thread *t) {
    uint64_t sum = 0;
    for (uint32_t class_index = 1; class_index <= hak_policy_of(hak_heap_of(t))->sizes.class_count;
         class_index++)
        sum += (uint64_t)t->bins[class_index].cap_count *
               hak_class_of(t, class_index)->stride_bytes;
    return sum == t->cap_bytes;
}

static void hold_nothing(hak_thread *t) {
    for (uint32_t class_index = 1; class_index <= hak_policy_of(hak_heap_of(t))->sizes.class_count;
         class_index++)
        hak_cap_resize(t, class_index, 0);
}

/* Fits the caps of empty bins to how many threads there are. Where a thread has only a share, no
 * class has a cap before it is used. */
void hak_caps_fit(hak_thread *t) {
    if (hak_caps_are_shared(t)) hold_nothing(t);
}

/* The caps of a new record, whose bins are empty. */
void hak_caps_init(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    const hak_policy *policy = hak_policy_of(h);
    for (uint32_t class_index = 1; class_index <= policy->sizes.class_count; class_index++) {
        uint32_t most = hak_cap_limit(t, class_index),
                 init = hak_cache_of(t, class_index)->cap_init_count;
        t->reciprocals[class_index] =
            hak_class_is_fast(h, class_index) ? policy->sizes.classes[class_index].reciprocal : 0;
        t->bins[class_index].stride_bytes = policy->sizes.classes[class_index].stride_bytes;
        hak_cap_resize(t, class_index, init < most ? init : most);
    }
    t->first_cap_bytes = t->cap_bytes;
    hak_assert(caps_add_up(t));
}

/* Halves a cap, but not below `floor`, and gives back the blocks above it. */
static void shrink(hak_thread *t, uint32_t class_index, uint32_t floor) {
    hak_bin *bin = &t->bins[class_index];
    uint32_t half = bin->cap_count / 2, cap = half > floor             ? half
                                              : floor < bin->cap_count ? floor
                                                                       : bin->cap_count;
    hak_cap_resize(t, class_index, cap);
    if (t->room_counts[class_index] < 0)
        hak_bin_flush(t, class_index, (uint32_t)-t->room_counts[class_index]);
    hak_count(t, cache_shrink_count, 1);
}

/* Whether what the program holds of the blocks that this thread took is no more than what its lists
 * hold, and the `returned` bytes that just went back. A thread that frees what others took is soon
 * below that, and keeps its caches. The lists are not counted while the caps show that it is more.
 */
static bool has_freed_its_own(hak_thread *t, uint64_t returned) {
    /* the sum of the caps is at hand: what the lists have room for is summed up, and taken off */
    uint64_t room = 0, ranges = 0, held = (uint64_t)t->held_bytes;
    uint32_t class_count = hak_policy_of(hak_heap_of(t))->sizes.class_count;
    if (t->held_bytes < 0 || held > 2 * t->cap_bytes + t->first_cap_bytes + returned) return false;
    for (uint32_t class_index = 1; class_index <= class_count; class_index++) {
        const hak_bin *bin = &t->bins[class_index];
        room += (uint64_t)t->room_counts[class_index] * bin->stride_bytes;
        ranges += bin->bump_end - bin->bump;
    }
    uint64_t listed = t->cap_bytes - room;
    if (t->magazine_row)
        for (uint32_t class_index = 1; class_index <= class_count; class_index++)
            listed += hak_magazine_length(t, class_index) * t->bins[class_index].stride_bytes;
    return held <= ranges + 2 * listed + returned;
}

/* Whether the thread overflowed much without a refill: as much as the policy says, or as its share
 * of the first caps, or half of its part of a heap that is worth the trouble, since many threads
 * may each have little. */
static bool has_freed_much(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    const hak_policy *policy = hak_policy_of(h);
    uint64_t in_use = hak_in_use_units(h) << HAK_UNIT_SHIFT;
    return t->free_only_bytes >= hak_number(policy->caches.free_only_bytes) ||
           (hak_caps_are_shared(t) && t->free_only_bytes >= hak_cap_first_bytes(t)) ||
           (in_use > hak_number(policy->retain.floor_bytes) &&
            2 * t->free_only_bytes * hak_load_relaxed(&h->thread_live) >= in_use);
}

/* Lets empty caches hold nothing until the next refill. */
void hak_caps_drop(hak_thread *t) {
    hold_nothing(t);
    hak_count(t, cache_shrink_count, 1);
}

/* The first cap of a class now, in blocks. Where the thread has a share, that is a part of what is
 * left of the share at most, but what it would be if all classes had as much at least. */
static uint32_t first_cap(hak_thread *t, uint32_t class_index) {
    const hak_policy *policy = hak_policy_of(hak_heap_of(t));
    uint64_t stride = t->bins[class_index].stride_bytes, first = hak_cap_first_bytes(t), most;
    if (hak_caps_are_shared(t)) {
        uint64_t left = first > t->cap_bytes ? first - t->cap_bytes : 0,
                 part = left * hak_number(policy->caches.first_caps_part_per_256) >> 8,
                 least = first / policy->sizes.class_count;
        most = (part > least ? part : least) / stride;
    } else most = hak_cap_limit(t, class_index);
    uint64_t init = hak_cache_of(t, class_index)->cap_init_count;
    return (uint32_t)(init < most ? init : most);
}

/* Gives a class that has no cap its first one. */
void hak_cap_restore(hak_thread *t, uint32_t class_index) {
    hak_cap_resize(t, class_index, first_cap(t, class_index));
}

/* Called by the owner after its caches were reaped: a class whose cap fell below its first one has
 * that again. A thread that frees what others took would else give back two at a time. */
void hak_caps_regain(hak_thread *t) {
    hak_assert(caps_add_up(t));
    for (uint32_t class_index = 1; class_index <= hak_policy_of(hak_heap_of(t))->sizes.class_count;
         class_index++) {
        uint32_t have = t->bins[class_index].cap_count;
        if (!have || have >= hak_cache_of(t, class_index)->cap_init_count) continue;
        uint32_t cap = first_cap(t, class_index);
        if (cap > have) hak_cap_resize(t, class_index, cap);
    }
}

/* Called after an overflow of n blocks: where the thread's caps are more than its share the cap
 * falls by as many, but for the block that comes in. */
void hak_cap_give_way(hak_thread *t, uint32_t class_index, uint32_t n) {
    if (hak_caps_are_shared(t) && t->cap_bytes > hak_cap_bound(t))
        hak_cap_resize(t, class_index, t->bins[class_index].cap_count - (n - 1));
}

/* Called at each event of a thread that has a share: looks at one class, in turn, if the share is
 * used up. A class without an event since the looks at it began gives its room back, or half of it
 * if its list has blocks. A big class keeps one. */
void hak_caps_look_around(hak_thread *t) {
    uint32_t class_count = hak_policy_of(hak_heap_of(t))->sizes.class_count,
             class_index = 1 + t->event_count % class_count;
    hak_bin *bin = &t->bins[class_index];
    uint32_t have = hak_bin_cached_count(t, class_index),
             floor = have && hak_class_is_big(t, class_index);
    if (t->cap_bytes + t->first_cap_bytes / class_count < hak_cap_bound(t)) return;
    if (bin->event_count) bin->event_count /= 2;
    else if (!have) hak_cap_resize(t, class_index, 0);
    else if (bin->cap_count > floor) shrink(t, class_index, floor);
}

/* Called after an overflow of n blocks: a thread that only frees shrinks its caches. True: it has
 * freed its own and shall cache nothing. The program may be about to let it sleep, and a cached
 * block keeps its slab. */
bool hak_cap_free_only(hak_thread *t, uint32_t class_index, uint32_t n) {
    const hak_cache_policy *caches = &hak_policy_of(hak_heap_of(t))->caches;
    hak_bin *bin = &t->bins[class_index];
    uint64_t floor = (uint64_t)hak_cache_of(t, class_index)->batch_count *
                         hak_number(caches->free_only_per_256) >>
                     8;
    uint64_t returned = n * bin->stride_bytes;
    t->free_only_bytes += returned;
    if (has_freed_much(t) && has_freed_its_own(t, returned)) return true;
    if (++bin->free_only_count < hak_number(caches->free_only_count) &&
        t->free_only_bytes < hak_number(caches->free_only_bytes))
        return false;
    bin->free_only_count = 0;
    if (!floor) floor = 1;
    if (hak_class_is_big(t, class_index)) floor = 0;
    if (bin->cap_count > floor) shrink(t, class_index, (uint32_t)floor);
    return false;
}

/* Shrinks idle classes: one that had none of the last idle_events slow-path events gives half its
 * blocks back. */
void hak_caps_shrink_idle(hak_thread *t) {
    const hak_policy *policy = hak_policy_of(hak_heap_of(t));
    t->event_count = 0;
    hak_assert(caps_add_up(t));
    for (uint32_t class_index = 1; class_index <= policy->sizes.class_count; class_index++) {
        hak_bin *bin = &t->bins[class_index];
        uint32_t have = hak_bin_cached_count(t, class_index);
        if (bin->event_count == 0 && have) {
            hak_bin_list_magazine(t, class_index);
            hak_bin_flush(t, class_index, have - have / 2);
            shrink(t, class_index, hak_cache_of(t, class_index)->cap_init_count);
        }
        bin->event_count = 0;
        bin->lend_carve_count -= bin->lend_carve_count != 0;
    }
}

/* By how much to raise the cap of a list that swings between empty and full: by a part of itself,
 * so that it is large enough after a few swings rather than hundreds. */
uint32_t hak_cap_swing_raise(hak_thread *t, uint32_t class_index) {
    const hak_cache_class *cache = hak_cache_of(t, class_index);
    uint32_t part =
        (uint32_t)((uint64_t)t->bins[class_index].cap_count * cache->raise_per_256 >> 8);
    uint64_t bound = hak_cap_bound(t);
    uint64_t spare =
        bound > t->cap_bytes ? (bound - t->cap_bytes) / t->bins[class_index].stride_bytes : 0;
    if (!cache->raise_per_256) return 0;
    if (part < cache->batch_count) part = cache->batch_count;
    return part < spare ? part : (uint32_t)spare;
}

/* Raises the cap at an overflow that comes after a refill, which shows that the list needs more
 * room. A big class keeps its first block only if it has overflowed before that refill, and where
 * the thread has a share each class gains only then: a thread that asks for much, frees it all and
 * sleeps keeps none. False: the cap stays. */
bool hak_cap_overflow_raises(hak_thread *t, uint32_t class_index) {
    hak_bin *bin = &t->bins[class_index];
    uint32_t swing = bin->swing;
    if (!(swing & HAK_SWING_REFILLED)) return false;
    bin->swing = HAK_SWING_OVERFLOWED;
    bool first = !(swing & HAK_SWING_OVERFLOWED);
    if (first && hak_class_is_big(t, class_index) && !bin->cap_count) return false;
    if (first && hak_caps_are_shared(t)) return false;
    uint64_t cap = (uint64_t)bin->cap_count + hak_cap_swing_raise(t, class_index),
             limit = hak_cap_limit(t, class_index);
    if (cap > limit) cap = limit;
    if (cap <= bin->cap_count) return false;
    hak_cap_resize(t, class_index, (uint32_t)cap);
    bin->free_only_count++;
    hak_count(t, cap_raise_count, 1);
    return true;
}
