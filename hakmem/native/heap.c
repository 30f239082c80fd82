/* heap.c: a heap made and destroyed, and the C API over one. */
#include <errno.h>
#include <string.h>

#define HAK_API
#include "change.h"
#include "fast.h"
#include "hakmem.h"
#include "hooks.h"
#include "lists.h"
#include "locks.h"
#include "magazine.h"
#include "policy.h"
#include "profile.h"
#include "region.h"

#pragma GCC visibility push(default)

hak_root hak_root_ = {
    .magic = HAK_ROOT_MAGIC, .layout_hash = HAK_LAYOUT_HASH, .version = HAK_LAYOUT_VERSION};

uint64_t hak_layout_hash(void) { return HAK_LAYOUT_HASH; }
#ifndef HAK_BUILD_KIND
#define HAK_BUILD_KIND "release"
#endif
const char *hak_build_kind(void) { return HAK_BUILD_KIND; }
hak_root *hak_root_address(void) { return &hak_root_; }
hak_os_faults *hak_os_faults_address(void) { return &hak_os_faults_; }
hak_heap *hak_process_heap(void) { return hak_heap_of_process(); }

static void join_root(hak_heap *h) {
    hak_root_lock();
    uint32_t slot = 0;
    for (bool taken = true; taken; slot += taken) {
        taken = false;
        for (hak_heap *o = (hak_heap *)(uintptr_t)hak_root_.first_heap; o;
             o = (hak_heap *)(uintptr_t)o->next_heap)
            taken |= o->slot == slot;
    }
    h->slot = slot;
    h->generation = ++hak_root_.generation;
    h->next_heap = hak_root_.first_heap;
    hak_root_.first_heap = (uintptr_t)h;
    hak_root_unlock();
}

static void fill_fast_map(hak_heap *h) {
    const hak_policy *policy = hak_policy_of(h);
    if (hak_fast_map(h) == policy->sizes.size_map) return;
    uint8_t *fast_map = hak_at(h, h->fast_map_offset);
    /* both parts of the map, which stand one behind the other */
    const uint8_t *map = (const uint8_t *)policy + offsetof(hak_policy, sizes.size_map);
    for (uint32_t i = 0; i < HAK_FAST_MAP_BYTES; i++) {
        uint8_t class_index = map[i];
        fast_map[i] = class_index && hak_class_is_fast(h, class_index) ? class_index : 0;
    }
}

/* Whether a heap has magazines: by policy, and where no block needs anything checked or written
 * when it comes and goes. */
static bool has_magazines(const hak_policy *policy, bool checked) {
    if (!policy->caches.magazines || checked) return false;
    for (uint32_t class_index = 1; class_index <= policy->sizes.class_count; class_index++)
        if (policy->sizes.classes[class_index].header) return false;
    return true;
}

/* Makes a region in a window, or else by a reservation. If the caller leaves the size open (0
 * bytes), it is as much as the OS gives. */
static hak_heap *find_region(const hak_policy *policy, uint64_t region_bytes, uint32_t flags) {
    bool checked = flags & HAK_HEAP_CHECKED, magazines = has_magazines(policy, checked);
    uint64_t wish = flags & HAK_HEAP_PROCESS ? HAK_PROCESS_WISH_BYTES : HAK_REGION_WISH_BYTES;
    hak_heap *h = hak_region_make(region_bytes ? region_bytes : wish, checked, magazines, false);
    if (!h && region_bytes) h = hak_region_make(region_bytes, checked, magazines, true);
    if (!region_bytes)
        for (wish = hak_os_region_wish(wish); !h && wish >= HAK_REGION_LEAST_BYTES; wish /= 2)
            h = hak_region_make(wish, checked, magazines, true);
    return h;
}

hak_heap *hak_heap_create(const hak_policy *policy, uint64_t region_bytes, uint32_t flags,
                          hak_fault *fault) {
    memset(fault, 0, sizeof *fault);
    fault->address = region_bytes;
    fault->code = HAK_FAULT_POLICY;
    hak_refusal why;
    if (policy && !hak_policy_judge(policy, &why)) return NULL;
    if (!policy) policy = (const hak_policy *)hak_builtin_policy_words;
    fault->code = HAK_FAULT_NOMEM;
    hak_heap *h = find_region(policy, region_bytes, flags);
    if (!h) return NULL;
    fault->code = HAK_OK;
    h->layout_hash = HAK_LAYOUT_HASH;
    h->flags |= flags & (HAK_HEAP_CHECKED | HAK_HEAP_PROCESS);
    h->unit_top = h->meta_units;
    h->thread_top = 1; /* record 0 is shared */
    *hak_policy_of(h) = *policy;
    for (uint32_t class_index = 1; class_index <= policy->sizes.class_count; class_index++)
        h->list_most_counts[class_index] = (uint16_t)policy->caches.classes[class_index].list_count;
    h->profile_rate = policy->profile.rate_bytes;
    fill_fast_map(h);
    h->epoch_start_ns = h->earned_at_ns = hak_os_clock_ns();
    h->earned_ns = policy->retain.work_first_ns;
    h->start_limit_bytes = hak_os_mapping_limit();
    if (flags & HAK_HEAP_PROCESS) hak_root_.process_id = hak_os_process_id();
    hak_fork_watch();
    join_root(h);
    /* partner: readers in other processes, who look at the magic first */
    hak_store_release(&h->magic, HAK_HEAP_MAGIC);
    return h;
}

void hak_heap_destroy(hak_heap *h) {
    hak_root_lock();
    uint64_t *link = &hak_root_.first_heap;
    while (*link && *link != (uintptr_t)h) link = &((hak_heap *)(uintptr_t)*link)->next_heap;
    if (*link) *link = h->next_heap;
    hak_root_unlock();
    h->magic = 0;
    hak_mapping_release(h);
    hak_profile_release(h);
    hak_region_release(h);
}

static void *alloc(hak_thread *t, uint64_t size) {
    void *block = hak_fast_alloc(t, size);
    /* as in malloc: no magazine serves a thread that has to look at the rate of samples */
    if (!block && hak_load_relaxed(&t->fast_map) == (uintptr_t)hak_no_classes)
        block = hak_counted_alloc(t, size);
    else if (!block) block = hak_magazine_alloc(t, size);
    return block ? block : hak_alloc_slow(t, size, 1, false);
}

void *hak_heap_alloc(hak_heap *h, uint64_t size) {
    hak_thread *t = hak_thread_enter(h);
    void *block = alloc(t, size);
    hak_thread_leave(t);
    return block;
}

void *hak_heap_alloc_aligned(hak_heap *h, uint64_t size, uint64_t align, int zero) {
    if (!align || align & (align - 1)) return NULL;
    hak_thread *t = hak_thread_enter(h);
    void *block = hak_alloc_slow(t, size, align, zero != 0);
    hak_thread_leave(t);
    return block;
}

uint32_t hak_heap_free(hak_heap *h, void *block, hak_fault *fault) {
    if (!block) return HAK_OK;
    hak_thread *t = hak_thread_enter(h);
    uint32_t code = hak_free_slow(t, (uintptr_t)block, fault);
    hak_thread_leave(t);
    return code;
}

uint32_t hak_heap_realloc(hak_heap *h, void *block, uint64_t size, void **out, hak_fault *fault) {
    uint32_t code = HAK_OK;
    hak_thread *t = hak_thread_enter(h);
    if (block) code = hak_realloc_block(t, (uintptr_t)block, size, out, fault);
    else if (!(*out = hak_alloc_slow(t, size, 1, false))) fault->code = code = HAK_FAULT_NOMEM;
    hak_thread_leave(t);
    return code;
}

uint32_t hak_heap_usable(hak_heap *h, const void *block, uint64_t *out, hak_fault *fault) {
    hak_block found;
    uint32_t code = hak_check_live(h, (uintptr_t)block, &found, fault);
    *out = code ? 0 : found.bytes;
    return code;
}

uint64_t hak_heap_alloc_many(hak_heap *h, const uint64_t *sizes, uint64_t count, uint64_t *out) {
    hak_thread *t = hak_thread_enter(h);
    uint64_t done = 0;
    for (; done < count; done++) {
        void *block = alloc(t, sizes[done]);
        if (!block) break;
        out[done] = (uintptr_t)block;
    }
    hak_thread_leave(t);
    return done;
}

uint64_t hak_heap_free_many(hak_heap *h, const uint64_t *blocks, uint64_t count, hak_fault *fault) {
    hak_thread *t = hak_thread_enter(h);
    uint64_t done = 0;
    for (; done < count; done++) {
        if (!blocks[done] || hak_fast_free(t, blocks[done], true)) continue;
        if (hak_free_slow(t, blocks[done], fault)) break;
    }
    hak_thread_leave(t);
    return done;
}

void hak_heap_flush(hak_heap *h) {
    hak_fork_look();
    hak_thread *t = hak_thread_enter(h);
    hak_cache_flush(t, 0);
    hak_thread_leave(t);
}

void hak_heap_prewarm(hak_heap *h) {
    hak_thread *t = hak_thread_enter(h);
    hak_cache_prewarm(t);
    hak_thread_leave(t);
}

uint64_t hak_heap_trim(hak_heap *h) {
    hak_fork_look();
    (void)hak_thread_get(h); /* live, if it can be: a fork looks at that */
    hak_thread *t = hak_thread_enter(h);
    uint64_t bytes = hak_trim(t);
    hak_thread_leave(t);
    return bytes;
}

uint32_t hak_heap_profile(hak_heap *h, uint64_t rate) {
    hak_fork_look();
    return hak_profile_set(h, rate);
}

uint32_t hak_heap_policy_set(hak_heap *h, const hak_policy *policy) {
    hak_fork_look();
    return hak_policy_change(h, policy);
}

void hak_heap_policy_get(hak_heap *h, hak_policy *out) {
    hak_fork_look();
    hak_policy_copy(h, out);
}

void hak_heap_tick(hak_heap *h) {
    hak_fork_look();
    hak_tick(h, 0);
}

#pragma GCC visibility pop
