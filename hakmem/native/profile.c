/* profile.c: samples of who allocates, from their draw until the block is freed. profile.h says how
 * they are counted and found.
 *
 * The table of samples is a mapping of its own, made with the first sample: hak_profile, then the
 * places, the buckets by unit, the sites (sites.c). Each sample is in the bucket of its slab's or
 * span's head unit, that of a mapped block in one by its address. All of it, the slabs' masks and
 * the tags of their registry entries change under the profile's lock, the innermost of all. It is
 * taken for a sample and for its free only.
 *
 * Fork: the child's copy is its own. Where the lock is held there, its holder is gone, cut off
 * between two stores: hak_profile_mend makes buckets, masks and tags anew from the places. A place
 * counts as used by its address, written last and cleared first.
 *
 * Orders. profile_rate: changed by an exchange, looked at again by a read-modify-write of the
 * owner's after it has set its maps: of the two one comes first. Either the owner sees the new
 * rate, or its maps stood before those of who changed it. profile: its CAS publishes the mapping.
 */
#include "profile.h"

#include <string.h>

#include "draw.h"
#include "events.h"
#include "frames.h"
#include "gate.h"
#include "hooks.h"
#include "locks.h"
#include "sites.h"

static hak_sample *sample_at(hak_profile *p, uint32_t index) {
    return (hak_sample *)((char *)p + p->samples_offset) + index;
}
static uint32_t *bucket_of(hak_profile *p, uint32_t unit, uint64_t address) {
    uint64_t key = unit ? unit : address >> HAK_UNIT_SHIFT;
    return (uint32_t *)((char *)p + p->buckets_offset) + (key & p->bucket_mask);
}

/* ---- the mapping ---- */

static uint32_t power_below(uint64_t n) { return 1u << (63 - __builtin_clzll(n | 1)); }

/* Half of it is places, which are used from the first on, so that it is resident as far as it is
 * used. */
static void lay_out(hak_profile *p, hak_heap *h, uint64_t bytes) {
    uint64_t places = bytes / 2 / sizeof(hak_sample), at = sizeof *p;
    p->map_bytes = bytes;
    p->sample_limit = (uint32_t)places;
    p->bucket_mask = power_below(places / 8) - 1;
    p->site_bucket_mask = power_below(places / 16) - 1;
    p->frame_limit = hak_policy_of(h)->profile.frame_count;
    p->frames_offset = at;
    p->samples_offset = at += HAK_PROFILE_ROOMS * HAK_PROFILE_FRAMES_BYTES;
    p->buckets_offset = at += places * sizeof(hak_sample);
    p->site_buckets_offset = at += (p->bucket_mask + 1ull) * sizeof(uint32_t);
    p->sites_offset = at += ((p->site_bucket_mask + 1ull) * sizeof(uint32_t) + 7) & ~7ull;
    p->sites_limit = (uint32_t)((bytes - at) / sizeof(uint64_t));
    p->sites_used = 1;
    p->started_ns = hak_clock_of(h);
    p->magic = HAK_PROFILE_MAGIC;
}

/* The heap's profile, made if there is none; NULL: the OS refuses even the least. Where the process
 * locks what it maps, all of it would be resident at once: the least serves. */
static hak_profile *make(hak_heap *h) {
    hak_profile *p = hak_profile_of(h);
    uint64_t bytes = hak_policy_of(h)->profile.table_bytes & ~(uint64_t)(HAK_OS_PAGE_BYTES - 1);
    if (h->locked) bytes = HAK_PROFILE_LEAST_BYTES;
    while (!p && bytes >= HAK_PROFILE_LEAST_BYTES) {
        p = hak_os_map_block(&h->os, bytes, 1);
        if (!p) bytes /= 2;
    }
    if (!p || p == hak_profile_of(h)) return p;
    lay_out(p, h, bytes);
    uint64_t none = 0;
    if (hak_cas_acq_rel(&h->profile, &none, (uintptr_t)p)) return p;
    (void)hak_os_unmap_range(&h->os, p, bytes, false); /* another thread was faster */
    return (hak_profile *)(uintptr_t)none;
}

void hak_profile_release(hak_heap *h) {
    hak_profile *p = hak_profile_of(h);
    if (p) (void)hak_os_unmap_range(&h->os, p, p->map_bytes, false);
}

/* ---- the rate ---- */

/* Sets the rate, and has each thread look at it in its next malloc. HAK_OK, HAK_FAULT_SIZE for a
 * rate out of range, HAK_FAULT_NOMEM where the OS gives no memory for samples. */
uint32_t hak_profile_set(hak_heap *h, uint64_t rate) {
    if (rate > HAK_PROFILE_RATE_MAX) return HAK_FAULT_SIZE;
    if (rate && !make(h)) return HAK_FAULT_NOMEM;
    (void)hak_exchange_acq_rel(&h->profile_rate, rate);
    uint32_t count = hak_load_acquire(&h->thread_top), mapped = hak_load_acquire(&h->thread_mapped);
    for (uint32_t i = 0; i < count && i < mapped; i++) {
        hak_thread *t = hak_thread_at(h, i);
        if (!hak_load_relaxed(&t->heap)) continue; /* not made yet: it will look itself */
        hak_store_relaxed(&t->fast_map, (uintptr_t)hak_no_classes);
        hak_store_relaxed(&t->counted_map, (uintptr_t)hak_no_classes);
    }
    return HAK_OK;
}

/* The owner obeys the rate in force. */
void hak_profile_adopt(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint64_t rate = hak_load_relaxed(&h->profile_rate);
    if (rate != t->sample_rate) {
        if (!t->sample_seed)
            t->sample_seed =
                hak_draw_mix((uint64_t)hak_policy_of(h)->profile.seed << 32 | t->index);
        hak_store_relaxed(&t->sample_rate, rate);
        memset(t->sample_lefts, ~0, sizeof t->sample_lefts); /* none is drawn */
    }
    hak_maps_set(t);
}

/* Draws how many blocks of a class, or bytes of class 0, come before the next sample. */
void hak_profile_draw(hak_thread *t, uint32_t class_index, uint64_t stride) {
    uint64_t bytes = (uint64_t)hak_draw_distance(&t->sample_seed, t->sample_rate);
    t->sample_lefts[class_index] = (int64_t)(class_index ? bytes / stride : bytes);
}

/* ---- tags ---- */

/* Makes the registry entries of a slab say whether it holds samples, and the mask which blocks may
 * be. Of a span the mask alone tells. */
static void set_mask(hak_heap *h, uint32_t unit, uint32_t mask) {
    hak_slab *slab = hak_slab_at(h, unit);
    hak_assert(hak_rank_is_held(HAK_RANK_PROFILE));
    if (hak_load_relaxed(&slab->sampled_mask) == mask) return;
    bool tagged = hak_load_relaxed(&slab->sampled_mask) != 0;
    hak_store_relaxed(&slab->sampled_mask, mask);
    if (slab->kind == HAK_KIND_SPAN || tagged == (mask != 0)) return;
    hak_entry_fill(h, unit, slab->unit_count,
                   hak_entry(mask ? HAK_TAG_SAMPLED : slab->class_index, unit));
}

static uint32_t bit_of(hak_heap *h, const hak_sample *sample) {
    if (!sample->class_index) return 1;
    const hak_class *class = &hak_policy_of(h)->sizes.classes[sample->class_index];
    uint64_t base = (uintptr_t)hak_unit_address(h, sample->unit) + class->start_bytes;
    return 1u << ((sample->address - base) / class->stride_bytes % HAK_SAMPLED_BITS);
}

/* ---- samples come and go ---- */

static void link_in(hak_heap *h, hak_profile *p, uint32_t index) {
    hak_sample *sample = sample_at(p, index);
    uint32_t *bucket = bucket_of(p, sample->unit, sample->address);
    hak_store_relaxed(&sample->next, *bucket);
    hak_keep_order();
    hak_store_relaxed(bucket, index + 1);
    if (sample->unit)
        set_mask(h, sample->unit, hak_slab_at(h, sample->unit)->sampled_mask | bit_of(h, sample));
}

/* Takes the sample of a block out of its bucket; 0: the block is none, else its index + 1. */
static uint32_t unlink_from(hak_heap *h, hak_profile *p, uint32_t unit, uint64_t address) {
    uint32_t *link = bucket_of(p, unit, address), mask = 0, found = 0;
    for (uint32_t at = *link; at; at = *link) {
        hak_sample *sample = sample_at(p, at - 1);
        if (sample->address == address) {
            found = at;
            hak_store_relaxed(link, sample->next);
            continue;
        }
        if (sample->unit == unit && unit) mask |= bit_of(h, sample);
        link = &sample->next;
    }
    if (found && unit) set_mask(h, unit, mask);
    return found;
}

static uint32_t take_place(hak_profile *p) {
    uint32_t index = p->unused;
    if (index) {
        hak_store_relaxed(&p->unused, sample_at(p, index - 1)->next);
        return index;
    }
    if (p->sample_top == p->sample_limit) return 0;
    hak_store_relaxed(&p->sample_top, p->sample_top + 1);
    return p->sample_top;
}

static void give_place(hak_profile *p, uint32_t index) {
    hak_sample *sample = sample_at(p, index - 1);
    hak_store_relaxed(&sample->address, 0);
    hak_keep_order();
    hak_store_relaxed(&sample->next, p->unused);
    hak_store_relaxed(&p->unused, index);
}

static void keep(hak_heap *h, hak_profile *p, const hak_sample *made, hak_frames *frames) {
    hak_profile_lock(p);
    hak_count(p, taken_count, 1);
    uint32_t index = take_place(p);
    if (index) {
        hak_sample *sample = sample_at(p, index - 1);
        uint64_t address = made->address;
        *sample = *made;
        hak_store_relaxed(&sample->address, 0);
        if (frames)
            sample->site = hak_site_find(p, sample, frames->words, hak_frames_name(p, frames));
        if (sample->site) hak_site_count(p, sample);
        else hak_count(p, stackless_count, 1);
        hak_keep_order();
        hak_store_relaxed(&sample->address, address);
        hak_store_relaxed(&p->live_count, p->live_count + 1);
        link_in(h, p, index - 1);
    } else hak_count(p, lost_count, 1);
    hak_profile_unlock(p);
}

/* Takes a sample of the block that the thread is about to hand out. The thread holds no lock but
 * record 0's, and no claim. */
void hak_profile_sample(hak_thread *t, uint64_t address, uint64_t size, uint64_t stride) {
    hak_heap *h = hak_heap_of(t);
    hak_fork_look();
    hak_profile *p = make(h);
    hak_block block;
    hak_fault fault;
    if (!p || hak_resolve(h, address, &block, &fault) == HAK_FAULT_DOUBLE) return;
    hak_sample made = {.address = address,
                       .size_bytes = size,
                       .stride_bytes = stride,
                       .rate_bytes = t->sample_rate,
                       .time_ns = hak_clock_of(h),
                       .unit = block.unit,
                       .thread = t->index,
                       .class_index = block.class_index,
                       .os_id = t->os_id};
    HAK_PROBE("sample", t->index, address, size, stride);
    hak_frames *frames = hak_frames_take(p);
    keep(h, p, &made, frames);
    if (frames) hak_frames_give(p, frames);
}

static void forget(hak_heap *h, hak_profile *p, uint32_t index) {
    hak_site_uncount(p, sample_at(p, index - 1), hak_clock_of(h));
    give_place(p, index);
    hak_count(p, freed_count, 1);
    hak_store_relaxed(&p->live_count, p->live_count - 1);
}

/* Forgets the sample of a block that is being freed, if it is one. Called while the block is still
 * in use. */
void hak_profile_free(hak_thread *t, uint64_t address, const hak_block *block) {
    hak_heap *h = hak_heap_of(t);
    hak_profile *p = hak_profile_of(h);
    if (!p) return;
    hak_fork_look();
    hak_profile_lock(p);
    uint32_t index = unlink_from(h, p, block->unit, address);
    if (index) forget(h, p, index);
    hak_profile_unlock(p);
}

/* A span or mapped block was resized, at its place or at another: its sample goes with it. What it
 * grew by counts as allocated; if a sample falls into that, it is the whole block's. */
void hak_profile_moved(hak_thread *t, uint64_t from, const hak_block *block, uint64_t to,
                       uint64_t size) {
    hak_heap *h = hak_heap_of(t);
    hak_profile *p = hak_profile_of(h);
    hak_block now;
    hak_fault fault;
    if (hak_check_live(h, to, &now, &fault)) return;
    uint32_t index = 0;
    if (p) {
        hak_fork_look();
        hak_profile_lock(p);
        index = unlink_from(h, p, block->unit, from);
        if (index) {
            hak_sample *sample = sample_at(p, index - 1);
            hak_site_resize(p, sample, now.bytes);
            sample->size_bytes = size;
            sample->stride_bytes = now.bytes;
            sample->unit = now.unit;
            hak_store_relaxed(&sample->address, to);
            link_in(h, p, index - 1);
        }
        hak_profile_unlock(p);
    }
    if (!t->sample_rate || now.bytes <= block->bytes) return;
    if (hak_profile_is_due(t, 0, now.bytes - block->bytes) && !index)
        hak_profile_sample(t, to, size, now.bytes);
}

/* In a fork's child: buckets, masks and tags anew, where their changer may be gone. */
void hak_profile_mend(hak_heap *h) {
    hak_profile *p = hak_profile_of(h);
    if (!p) return;
    if (hak_load_relaxed(&p->frames_busy)) hak_store_relaxed(&p->frames_busy, 0);
    if (!hak_load_relaxed(&p->lock)) return;
    hak_store_relaxed(&p->lock, 0);
    hak_profile_lock(p);
    memset((char *)p + p->buckets_offset, 0, (p->bucket_mask + 1ull) * sizeof(uint32_t));
    p->unused = p->live_count = 0;
    for (uint32_t i = 0; i < p->sample_top; i++) {
        const hak_sample *sample = sample_at(p, i);
        if (sample->address && sample->unit) set_mask(h, sample->unit, 0);
    }
    for (uint32_t i = p->sample_top; i--;) {
        if (!sample_at(p, i)->address) {
            give_place(p, i + 1);
            continue;
        }
        p->live_count++;
        link_in(h, p, i);
    }
    hak_profile_unlock(p);
}
