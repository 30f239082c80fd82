/* fork.c: the child of a fork: noticed at its first slow path, and its heaps repaired there.
 *
 * A child is noticed by a word in an OS page that the OS zeroes for it (hak_fork_look), so that
 * _Fork and a bare clone are noticed as fork is. No lock is taken before a fork and no handler
 * runs. So there is no order to keep with stdio's locks or anybody's, and a child that goes
 * straight to exec pays nothing. A vfork's child shares its parent's memory, the word too, and runs
 * as its parent's thread: nothing to repair. Where the OS cannot zero the page, an atfork handler
 * clears the word.
 *
 * What the child finds. The OS stops each thread's writes at one point of its program order: until
 * then they reach the memory that parent and child still share, after that they wait for the fork
 * to end. So a thread that is gone was cut off between two of its stores; and what one thread
 * published to another is there, if the other acted on it. Hence:
 *
 *  - The forking thread was inside no call of the library: its records are whole, it holds no claim
 *    and no lock.
 *  - A slab whose claim is held is in an unknown state. It is lost (HAK_KIND_LOST): it takes blocks
 *    back and gives none. Each thread that is gone leaves at most one. Everything that changes by
 *    one CAS (list words, open word, mailboxes) is whole.
 *  - A slab that a thread had let go of, but had not yet put anywhere, is in no partial set, no
 *    mailbox and no hint: it is listed.
 *  - A unit that is in no record and no free run, and is not kept ready for a slab, was on its way
 *    somewhere: it becomes free. Of a span that was being cut or lengthened, the units remain that
 *    the registry says.
 *  - A record that was being reaped has its gate closed. If it is the forking thread's, its lists
 *    are counted as those of a thread that is gone, and it goes on; what the reaper had in hand is
 *    lost and counted.
 *  - In the cache of a thread that is gone, a pop or a push was cut between its stores. The list is
 *    whole from its head on, because a block's link stands before the head names it (fast.h keeps
 *    the order), and its count is one off at most. Of a list that was being moved to slabs (`busy`
 *    says which), the head is already past the blocks on their way (bins.c): that batch is counted
 *    as lost, however much of it has arrived, and the rest of the list is there. A carved range
 *    changes under its slab's claim only. Every link is checked before it is believed.
 *  - Where the lock of the samples is held, buckets, masks and tags are made anew from the samples.
 *  - Of a magazine, a push was cut before its top rose: the block is lost. Of one that was being
 *    moved to the list, the slots so far are empty; the block of the last may be lost. One whose
 *    cap had just fallen is moved again. A row that was being made has no name in its record.
 *
 * The caches of threads that are gone are flushed one at each slow path of the child, so that the
 * child of a process with many threads, which lives for a few calls, does not copy all their OS
 * pages. Only the forking thread can say which record is its own. Until it comes to a slow path (a
 * new thread may be faster), all live records are set aside.
 *
 * States of the word: HAK_FORK_WIPED in a new child; _LEFT while there are caches to flush; _WHOLE.
 * Locks: the thread that repairs holds the one behind the word, which the OS zeroes with it, and
 * takes hak_root.lock for the flushes; nobody looks at the word under a lock other than record 0's.
 */
#include <pthread.h>
#include <string.h>

#include "bins.h"
#include "events.h"
#include "gate.h"
#include "lists.h"
#include "locks.h"
#include "change.h"
#include "profile.h"
#include "region.h"

/* the word and its lock; used until the page is there, before the first heap */
static uint32_t unwatched[2] = {HAK_FORK_WHOLE, 0};
uint32_t *hak_fork_word = unwatched;
/* whether the forking thread has said which records are its own; under the lock */
static bool sorted;

static void clear_word(void) {
    hak_store_relaxed(&hak_fork_word[1], 0);
    hak_store_relaxed(hak_fork_word, HAK_FORK_WIPED);
}

/* Called before a heap is published. Of two threads at once, one page is used and the other given
 * back. */
void hak_fork_watch(void) {
    uint32_t *none = unwatched;
    if (hak_load_acquire(&hak_fork_word) != none) return;
    bool wiped;
    uint32_t *page = hak_os_wiped_page(&wiped);
    if (!page) return; /* no memory at all: the heap's own mapping will say so */
    *page = HAK_FORK_WHOLE;
    if (!hak_cas_acq_rel(&hak_fork_word, &none, page))
        hak_os_release_range(page, HAK_OS_PAGE_BYTES);
    else if (!wiped) pthread_atfork(NULL, NULL, clear_word);
}

/* ---- units ---- */

static bool is_ready(hak_heap *h, uint32_t unit) {
    uint64_t open = h->open_word, bit = unit - (uint32_t)open;
    if (open >> 32 && bit < HAK_SUPERSLAB_UNITS && open >> (32 + bit) & 1) return true;
    for (uint32_t units = 1; units <= HAK_SLAB_UNITS_MAX; units++) {
        uint64_t word = units == 1 ? h->empty_word : h->longer_word[units - 2];
        uint32_t at = (uint32_t)word;
        for (uint32_t n = (word >> 32) & 0xff; at && n; n--, at = hak_slab_at(h, at)->next)
            if (unit - at < units) return true;
    }
    return false;
}

/* Makes the registry and the record of the slab or span at `unit` agree. Returns its units, 0 if
 * there is no slab or span after all. */
static uint32_t settle_record(hak_heap *h, uint32_t unit) {
    hak_slab *slab = hak_slab_at(h, unit);
    bool span = slab->kind == HAK_KIND_SPAN || slab->kind == HAK_KIND_WAITING;
    if (!span && slab->kind != HAK_KIND_SLAB && slab->kind != HAK_KIND_LOST) return 0;
    uint32_t count = slab->unit_count, n = 0;
    uint64_t entry = hak_entry(span ? HAK_TAG_SPAN : slab->class_index, unit),
             sampled = span ? entry : hak_entry(HAK_TAG_SAMPLED, unit);
    if (!count || count > h->unit_top - unit) return 0;
    for (; n < count; n++) {
        uint64_t found = hak_entry_get(h, unit + n);
        if (found == entry || found == sampled) continue;
        if (found != HAK_TAG_NONE) break;
        hak_entry_fill(h, unit + n, 1, entry);
    }
    if (n && n < count) hak_store_relaxed(&slab->unit_count, n);
    return n;
}

/* Breaks the claims of threads that are gone; then puts every unit into a record, or among those
 * kept ready, or among the free. */
static void settle_units(hak_heap *h) {
    bool torn = hak_load_relaxed(&h->run_lock) || h->purging_units;
    if (hak_load_relaxed(&h->run_lock)) hak_region_mend(h);
    uint32_t top = h->unit_top;
    for (uint32_t u = h->meta_units; u < top; u++) {
        hak_slab *slab = hak_slab_at(h, u);
        if (slab->mailed) hak_store_relaxed(&slab->mailed, 0);
        if (!hak_claim_held(slab)) continue;
        if (slab->kind == HAK_KIND_SLAB) {
            slab->flags |= HAK_SLAB_LISTED; /* flag and bit may disagree: both are cleared */
            hak_partial_remove(h, u);
            hak_store_relaxed(&slab->kind, HAK_KIND_LOST);
            h->lost_count++;
        }
        hak_claim_break(slab);
    }
    for (uint32_t u = h->meta_units, units; u < top; u += units) {
        uint64_t entry = hak_entry_get(h, u);
        units = 1;
        if (hak_entry_tag(entry) == HAK_TAG_FREE || hak_entry_tag(entry) == HAK_TAG_UNMAPPED)
            continue;
        if ((units = settle_record(h, u))) continue;
        units = 1;
        if (entry == HAK_TAG_NONE && is_ready(h, u)) continue;
        hak_store_relaxed(&hak_slab_at(h, u)->kind, HAK_KIND_NONE);
        hak_entry_fill(h, u, 1, hak_entry(HAK_TAG_FREE, u));
        hak_unit_mark_dirty(h, u);
        torn = true;
    }
    if (torn) hak_runs_rebuild(h);
    hak_store_relaxed(&h->run_lock, 0);
}

/* Fills the mailboxes anew, since a thread may have been cut off between marking a slab and
 * mailing it. */
static void settle_mail(hak_heap *h, hak_thread *t) {
    for (uint32_t class_index = 0; class_index < HAK_CLASS_LIMIT; class_index++)
        hak_store_relaxed(&h->mailbox[class_index], 0);
    for (uint32_t u = h->meta_units; u < h->unit_top; u++)
        if (hak_slab_at(h, u)->kind == HAK_KIND_SLAB && hak_remote_is_nonempty(hak_slab_at(h, u)))
            hak_mail(t, u);
}

/* Lists each slab that has blocks to give. The thread that had it may have been cut off before it
 * left a hint or a mail; to be in a partial set as well does no harm. */
static void settle_reach(hak_heap *h, hak_thread *t) {
    const hak_policy *policy = hak_policy_of(h);
    for (uint32_t u = h->meta_units; u < h->unit_top; u++) {
        hak_slab *slab = hak_slab_at(h, u);
        if (slab->kind != HAK_KIND_SLAB || slab->flags & HAK_SLAB_LISTED) continue;
        bool room = slab->carved_count < policy->sizes.classes[slab->class_index].block_count;
        if (!room && hak_free_count(slab) < hak_list_count(t, slab->class_index)) continue;
        if (hak_slab_claim(t, slab)) hak_slab_let_go(t, u); /* nobody else is in */
    }
}

/* ---- caches ---- */

static bool is_block(hak_heap *h, uint32_t class_index, uint64_t address) {
    hak_block block;
    hak_fault fault;
    return hak_resolve(h, address, &block, &fault) == HAK_OK && block.class_index == class_index;
}

/* Cuts the cache of a class down to the blocks that are surely there. */
static void settle_bin(hak_heap *h, hak_thread *t, uint32_t class_index) {
    const hak_class *class = &hak_policy_of(h)->sizes.classes[class_index];
    hak_bin *bin = &t->bins[class_index];
    int64_t said = (int64_t)bin->cap_count - t->room_counts[class_index], found = 0;
    uint64_t at = t->heads[class_index], before = 0, range = bin->bump_end - bin->bump;
    bool moving = t->busy == class_index + 1;
    for (; at && found < HAK_CAP_LIMIT_COUNT && is_block(h, class_index, at); at = hak_next(at))
        before = at, found++;
    if (at && before) hak_set_next(before, 0);
    else if (at) t->heads[class_index] = 0;
    t->room_counts[class_index] = (int64_t)bin->cap_count - found;
    if ((at || moving) && said > found) h->lost_block_count += (uint64_t)(said - found);
    if (!range) return;
    bool whole = bin->bump < bin->bump_end &&
                 range <= (uint64_t)class->block_count * class->stride_bytes &&
                 range % class->stride_bytes == 0 && is_block(h, class_index, bin->bump) &&
                 is_block(h, class_index, bin->bump_end - class->stride_bytes);
    if (!whole) bin->bump = bin->bump_end = 0; /* its slab was claimed, and so is lost */
}

/* The same for its magazine, whose cap may just have fallen. The slots' bounds are as the record
 * was made. */
static void settle_magazine(hak_heap *h, hak_thread *t, uint32_t class_index) {
    hak_magazines *row = hak_magazines_of(t);
    hak_magazine *m = &row->classes[class_index];
    uint32_t kept = m->first;
    for (uint32_t slot = m->first + 1u; slot <= m->top && slot < HAK_MAGAZINE_SLOTS; slot++)
        if (is_block(h, class_index, row->slots[slot])) row->slots[++kept] = row->slots[slot];
    m->top = (uint16_t)kept;
    hak_magazine_fit(t, class_index);
}

static void settle_thread(hak_heap *h, hak_thread *t) {
    for (uint32_t class_index = 1; class_index <= hak_policy_of(h)->sizes.class_count;
         class_index++) {
        settle_bin(h, t, class_index);
        if (t->magazine_row) settle_magazine(h, t, class_index);
    }
    hak_waiting_settle(h, t);
    hak_store_relaxed(&t->busy, 0);
}

/* Sets aside the records that are in no list, and the live ones, until the forking thread says
 * which is its own. */
static void set_aside(hak_heap *h) {
    static uint64_t listed[HAK_THREADS_MAX / 64]; /* one bit for each record; under the lock */
    memset(listed, 0, (h->thread_top + 7) / 8);
    const uint64_t heads[] = {h->parked_word, h->unused_word};
    for (uint32_t list = 0; list < 2; list++)
        for (uint32_t at = (uint32_t)heads[list], n = 0; at && n < h->thread_top;
             at = hak_thread_at(h, at - 1)->next, n++)
            listed[(at - 1) >> 6] |= UINT64_C(1) << ((at - 1) & 63);
    for (uint32_t i = 1; i < h->thread_top; i++) {
        hak_thread *t = hak_thread_at(h, i);
        bool whole = listed[i >> 6] >> (i & 63) & 1 && t->state != HAK_THREAD_LIVE;
        if (whole) hak_gate_mend(t); /* a reaper looked at it that took it for a live one */
        if (!whole && t->state != HAK_THREAD_LEFT) hak_store_relaxed(&t->state, HAK_THREAD_LEFT);
    }
    hak_store_relaxed(&h->left_word, 0);
}

/* Called by the forking thread: its own record goes on, the other records that were set aside
 * belong to threads that are gone. */
static void sort_out(hak_heap *h) {
    hak_assert(hak_rank_is_held(HAK_RANK_FORK));
    hak_thread *mine = hak_thread_known(h);
    uint32_t live = 0;
    if (mine) {
        hak_store_relaxed(&mine->state, HAK_THREAD_LIVE);
        hak_store_relaxed(&mine->os_id, hak_lock_id());
        if (mine->gate) settle_thread(h, mine); /* by another thread, while it was reaped */
        hak_gate_mend(mine);
    }
    for (uint32_t i = 1; i < h->thread_top; i++) {
        hak_thread *t = hak_thread_at(h, i);
        if (t->index != i) t->index = i; /* a record that was being made has */
        if (t->state == HAK_THREAD_LEFT) hak_thread_list_push(&h->left_word, t);
        live += t->state == HAK_THREAD_LIVE;
    }
    hak_store_relaxed(&h->thread_live, live);
}

/* ---- the child ---- */

static hak_heap *first_heap(void) { return (hak_heap *)(uintptr_t)hak_root_.first_heap; }
static hak_heap *next_heap(hak_heap *h) { return (hak_heap *)(uintptr_t)h->next_heap; }

static void repair(hak_heap *h) {
    hak_assert(hak_rank_is_held(HAK_RANK_FORK));
    hak_thread *shared = hak_thread_at(h, 0), *mine = hak_thread_known(h);
    hak_store_relaxed(&h->inherited, 1);
    h->mapped_pending = 0; /* other threads' */
    hak_store_relaxed(&h->sweep_busy, 0);
    hak_store_relaxed(&h->trim_busy, 0);
    hak_store_relaxed(&h->purge_lock, 0);
    hak_policy_mend(h);
    hak_profile_mend(h);
    bool alone = h->thread_live <= (mine != NULL) && !h->run_lock && !h->purging_units &&
                 !h->record_lock;
    set_aside(h);
    if (alone) return;
    if (!shared->base) hak_thread_record_init(h, shared, 0);
    settle_thread(h, shared);
    hak_store_relaxed(&h->record_lock, 0);
    settle_units(h);
    settle_mail(h, shared); /* record 0 counts the mails: nobody else is in */
    settle_reach(h, shared);
    hak_event_of(h, 0, HAK_EVENT_FORK_REPAIR, 0, 0, h->lost_count);
    h->repair_count++;
}

/* Flushes the cache of one thread that is gone; false if there is none left. */
static bool give_one_back(void) {
    hak_root_lock_only();
    bool found = false;
    for (hak_heap *h = first_heap(); h && !found; h = next_heap(h)) {
        hak_thread *t = hak_thread_list_pop(h, &h->left_word);
        if (!t) continue;
        found = true;
        settle_thread(h, t);
        if (t->heap) hak_cache_flush(t, 0); /* else the record was being made */
        memset(t->heads, 0, sizeof t->heads);
        memset(t->room_counts, 0, sizeof t->room_counts);
        memset(t->bins, 0, sizeof t->bins);
        t->cap_bytes = 0;
        t->gate = t->in_slow = 0;
        t->reaped = 0;
        hak_thread_record_init(h, t, t->index);
        hak_store_release(&t->state, HAK_THREAD_UNUSED);
        hak_thread_list_push(&h->unused_word, t);
    }
    hak_root_unlock();
    return found;
}

/* Does what the word asks for, when it is not HAK_FORK_WHOLE. Called at the start of a slow path,
 * under no lock but record 0's and no claim. */
void hak_fork_slow(void) {
    bool forked = hak_lock_id_renew(); /* the forking thread has another number here */
    hak_fork_lock(&hak_fork_word[1]);
    uint32_t found = hak_load_relaxed(hak_fork_word);
    if (found == HAK_FORK_WIPED) {
        hak_store_relaxed(&hak_root_.lock, 0);
        /* the number of a process is its first thread's: no call that a sandbox may not allow */
        hak_background_forked(forked ? hak_lock_id() : hak_os_process_id());
        hak_os_let_others_read(); /* Yama was told about the parent only */
        sorted = false;
        for (hak_heap *h = first_heap(); h; h = next_heap(h)) repair(h);
    }
    if (found != HAK_FORK_WHOLE && !sorted && hak_os_is_first_thread()) {
        hak_root_lock_only();
        for (hak_heap *h = first_heap(); h; h = next_heap(h)) sort_out(h);
        hak_root_unlock();
        sorted = true;
    }
    bool left = found != HAK_FORK_WHOLE && (sorted ? give_one_back() : true);
    /* partner: hak_fork_look, which takes no lock */
    hak_store_release(hak_fork_word, left ? HAK_FORK_LEFT : HAK_FORK_WHOLE);
    hak_fork_unlock(&hak_fork_word[1]);
}

/* Does the whole repair at once, for callers that are about to look at their heaps. */
HAK_EXPORT void hak_fork_settle(void) {
    while (hak_load_acquire(hak_fork_word) != HAK_FORK_WHOLE) {
        hak_fork_slow();
        if (!sorted) return;
    }
}
