/* reap.c: the cached blocks of a thread that sleeps or runs, taken by another one without its help.
 *
 * The gate (gate.h) is closed: the owner begins nothing, and at most one fast path of it is in
 * flight: interrupted between any two of its instructions, or going on meanwhile. It ends whenever
 * it likes; then the program owns the block that it took. What it may touch, and what is taken:
 *
 *  - A pop reads the list's head and the link of the first block, then stores that link as the
 *    head. A push stores the head as the link of its own block, then that block as the head. So the
 *    second block and all behind it stay what they are, as long as the head does. The reaper reads
 *    the head, the first block's link, and the head again. If it has moved, the link may be what
 *    the program wrote: the list is left alone. Else the second block is known; it gets the link 0
 *    and stays, since a pop in flight may have read its address; those behind it are taken.
 *  - While the link is read the first block's slab is claimed, so that nobody can purge or unmap
 *    its memory, were the block freed elsewhere meanwhile. The head is looked at before, too: as
 *    long as it names the block, its slab is in use.
 *  - A carve reads bump and stores the next address. So it takes one block at most: the first of
 *    the range stays, the others go back under their slab's claim.
 *  - All else of the record belongs to slow paths, and so to the reaper: spans that wait, hints,
 *    caps, counters. room_counts is the fast paths'. So the cap falls by what is taken: the list's
 *    length, which is the cap less the room, is right at once, and nothing is left to be merged.
 *
 * Orders. heads and bump are read by acquire; partner: hak_store_fast of fast.h, which is a plain
 * store. What the program wrote into a block before it freed it is behind that store, and the
 * barrier has made all of it visible but for the call in flight. For that one the processor's
 * order serves: x86 keeps stores in order, and loads; others need a second barrier between the link
 * and the second look at the head (look_behind).
 *
 * Fork. A child finds the list whole at each point. `busy` says which class was being taken: its
 * batch is counted as lost, as in bins.c, and the rest is there (fork.c, hak_gate_mend).
 */
#include <string.h>

#include "caps.h"
#include "gate.h"
#include "hakmem.h"
#include "hooks.h"
#include "lists.h"

/* a mistake on purpose, in no shipped build: the storm must find each of the two */
#ifdef HAK_BUG_REAP_ONE_LOOK
#define LOOKS_AGAIN false
#else
#define LOOKS_AGAIN true
#endif
#ifdef HAK_BUG_REAP_ONE_LEFT
#define LEAVES_SECOND false
#else
#define LEAVES_SECOND true
#endif
/* where the storm lets the owner go on: between two of the reaper's loads */
#ifdef HAK_REAP_PAUSES
HAK_EXPORT void (*hak_reap_pause_)(uint32_t point, uint32_t class_index);
#define PAUSE(point, class_index)                                     \
    do {                                                              \
        if (hak_reap_pause_) hak_reap_pause_((point), (class_index)); \
    } while (0)
#else
#define PAUSE(point, class_index) ((void)0)
#endif
enum { PAUSE_CLOSED, PAUSE_HEAD, PAUSE_AGAIN, PAUSE_LINK, PAUSE_LOOKED, PAUSE_CUT, PAUSE_RANGE };

/* Between the link and the second look at the head. */
static bool look_behind(void) {
#if defined(__x86_64__)
    hak_compiler_fence();
    return true;
#else
    return hak_os_barrier();
#endif
}

/* Finds the block of a class's list behind which it may be cut; 0: there is none. False: the head
 * moved, or another thread has the claim of its slab. */
static bool find_cut(hak_thread *t, uint32_t class_index, uint64_t *cut) {
    hak_heap *h = hak_heap_of(t);
    uint64_t first = hak_load_acquire(&t->heads[class_index]), link = 0;
    *cut = 0;
    if (!first) return true;
    hak_slab *slab = hak_slab_at(h, hak_head_of(h, first));
    PAUSE(PAUSE_HEAD, class_index);
    if (!hak_slab_claim(t, slab)) return false;
    bool same = hak_load_acquire(&t->heads[class_index]) == first || !LOOKS_AGAIN;
    if (same) {
        PAUSE(PAUSE_AGAIN, class_index);
        link = hak_peek((uint64_t *)(uintptr_t)first);
        PAUSE(PAUSE_LINK, class_index);
        if (LOOKS_AGAIN) same = look_behind() && hak_load_acquire(&t->heads[class_index]) == first;
    }
    hak_claim_release(slab);
    PAUSE(PAUSE_LOOKED, class_index);
    if (same) *cut = LEAVES_SECOND ? link : first;
    return same;
}

static void reap_list(hak_thread *t, uint32_t class_index, hak_reaped *out) {
    hak_bin *bin = &t->bins[class_index];
    uint64_t cut, rest;
    if (!find_cut(t, class_index, &cut)) {
        out->left_count++;
        return;
    }
    if (!cut || !(rest = hak_next(cut))) return;
    uint32_t n = 0;
    for (uint64_t at = rest; at; at = hak_next(at)) n++;
    hak_store_relaxed(&t->busy, class_index + 1);
    hak_keep_order();
    hak_set_next(cut, 0);
    hak_keep_order();
    PAUSE(PAUSE_CUT, class_index);
    hak_bin_give(t, class_index, &rest, n);
    hak_store_relaxed(&bin->cap_count, bin->cap_count - n);
    t->cap_bytes -= n * bin->stride_bytes;
    hak_store_relaxed(&t->reaped, 1);
    hak_keep_order();
    hak_store_relaxed(&t->busy, 0);
    out->block_count += n;
    out->bytes += n * bin->stride_bytes;
}

/* Gives the carved range but for its first block back to its slab, as hak_bin_return_range does. */
static void reap_range(hak_thread *t, uint32_t class_index, hak_reaped *out) {
    hak_heap *h = hak_heap_of(t);
    hak_bin *bin = &t->bins[class_index];
    uint64_t stride = bin->stride_bytes, end = bin->bump_end,
             next = hak_load_acquire(&bin->bump); /* partner: hak_store_fast */
    if (end - next <= stride) return;
    uint32_t unit = hak_head_of(h, end - stride); /* the last block stays in the range */
    hak_slab *slab = hak_slab_at(h, unit);
    if (!hak_slab_claim(t, slab)) {
        out->left_count++;
        return;
    }
    uint64_t keep = next + stride;
    PAUSE(PAUSE_RANGE, class_index);
    /* the fast path that is in flight reads either end, and takes the first block by both */
    hak_store_relaxed(&bin->bump_end, keep);
    hak_keep_order();
    uint32_t n = hak_bin_uncarve(t, class_index, unit, keep, end);
    hak_slab_let_go(t, unit);
    out->block_count += n;
    out->bytes += end - keep;
}

static void reap(hak_thread *t, hak_reaped *out) {
    hak_heap *h = hak_heap_of(t);
    PAUSE(PAUSE_CLOSED, 0);
    for (uint32_t i = 0; i < HAK_WAITING_SPANS; i++) {
        if (!t->waiting[i]) continue;
        out->span_count++;
        out->bytes += (uint64_t)hak_slab_at(h, t->waiting[i])->unit_count << HAK_UNIT_SHIFT;
    }
    hak_waiting_flush(t);
    for (uint32_t class_index = 1; class_index <= hak_policy_of(h)->sizes.class_count;
         class_index++) {
        /* in this order, as in hak_cache_flush */
        reap_range(t, class_index, out);
        reap_list(t, class_index, out);
        hak_bin_forget_hot(t, class_index);
    }
}

/* The calling thread counts as live meanwhile: a fork looks at that. */
HAK_EXPORT uint32_t hak_heap_reap(hak_heap *h, uint32_t index, hak_reaped *out) {
    memset(out, 0, sizeof *out);
    if (!index || index >= hak_load_acquire(&h->thread_top)) return HAK_REAP_UNKNOWN;
    if (h->magazines_offset) return HAK_REAP_MAGAZINES;
    if (hak_number(hak_policy_of(h)->arenas.os_calls) != HAK_OS_CALLS_WIDE)
        return HAK_REAP_FORBIDDEN;
    hak_fork_look();
    hak_thread *mine = hak_thread_enter(h), *t = hak_thread_at(h, index);
    uint32_t code = t == mine ? HAK_REAP_OWN : hak_gate_close(t);
    if (!code) {
        reap(t, out);
        hak_gate_open(t);
    }
    hak_thread_leave(mine);
    return code;
}
