/* partial.c: which slabs have free blocks: a partial set for each class, and the mailboxes for
 * remote frees.
 *
 * A partial set is a bitmap: one word for 64 units, and a summary bit for each word. Insert and
 * remove are one atomic operation each; a slab that becomes empty leaves at once, wherever it
 * stands; and the lowest address is found first, which keeps the top of the heap free. A bit is
 * changed only under its slab's claim. A bit that is found promises nothing: claim the slab, then
 * check again. Summary bits are hints. A thread that clears one reads the word once more and sets
 * the bit again if need be; seq_cst on both sides makes sure that one of the two notices (insert:
 * word then summary; clear: summary then word).
 *
 * A mailbox is a list of slabs whose remote list got blocks while another thread held the claim:
 * first unit | tag << 32. A push is a CAS. Only the whole list is taken, so no link is read of a
 * list that others change. The tag moves at each change.
 */
#include "lists.h"

static uint64_t *set_word(hak_heap *h, uint32_t class_index, uint32_t unit) {
    return (uint64_t *)hak_at(h, h->partial_offset) + (uint64_t)(unit >> 6) * HAK_CLASS_LIMIT +
           class_index;
}
static uint64_t *summary_word(hak_heap *h, uint32_t class_index, uint32_t unit) {
    return (uint64_t *)hak_at(h, h->summary_offset) + (uint64_t)(unit >> 12) * HAK_CLASS_LIMIT +
           class_index;
}

/* Whether a slab has blocks to give, as each slab in a partial set must: a listed one, one on a
 * hole, or an uncarved one.
 */
HAK_PREDICATE bool can_give(hak_heap *h, const hak_slab *slab) {
    return hak_free_is_nonempty(slab) || slab->flags & HAK_SLAB_HOLES ||
           slab->carved_count < hak_policy_of(h)->sizes.classes[slab->class_index].block_count;
}

void hak_partial_insert(hak_heap *h, uint32_t unit) {
    hak_slab *slab = hak_slab_at(h, unit);
    hak_assert(hak_claim_is_mine(slab) && slab->kind == HAK_KIND_SLAB && can_give(h, slab));
    if (slab->flags & HAK_SLAB_LISTED) return;
    slab->flags |= HAK_SLAB_LISTED;
    uint64_t hint = UINT64_C(1) << ((unit >> 6) & 63),
             *summary = summary_word(h, slab->class_index, unit);
    hak_or_seq(set_word(h, slab->class_index, unit), UINT64_C(1) << (unit & 63));
    if (!(hak_load_seq(summary) & hint)) hak_or_seq(summary, hint);
}

void hak_partial_remove(hak_heap *h, uint32_t unit) {
    hak_slab *slab = hak_slab_at(h, unit);
    /* a fork's child removes slabs that threads that are gone had claimed */
    hak_assert(hak_claim_is_mine(slab) || hak_rank_is_held(HAK_RANK_FORK));
    if (!(slab->flags & HAK_SLAB_LISTED)) return;
    slab->flags &= (uint16_t)~HAK_SLAB_LISTED;
    hak_and_seq(set_word(h, slab->class_index, unit), ~(UINT64_C(1) << (unit & 63)));
}

/* The first unit at or behind `from` that is in the set, or 0. The first hint that leads to nothing
 * stays: the next insert is most likely there again, and would write the line once more. */
uint32_t hak_partial_find(hak_heap *h, uint32_t class_index, uint32_t from) {
    uint32_t top = hak_load_acquire(&h->unit_top), stale = 0;
    for (uint32_t block = from & ~4095u; block < top; block += 4096) {
        uint64_t *summary = summary_word(h, class_index, block);
        uint64_t words = hak_load_seq(summary);
        if (block < (from & ~63u)) words &= ~UINT64_C(0) << ((from >> 6) & 63);
        for (; words; words &= words - 1) {
            uint32_t base = block + ((uint32_t)__builtin_ctzll(words) << 6);
            uint64_t *word = set_word(h, class_index, base), bits = hak_load_seq(word);
            if (!bits) {
                if (!stale++) continue;
                uint64_t hint = UINT64_C(1) << ((base >> 6) & 63);
                hak_and_seq(summary, ~hint);
                if (!hak_load_seq(word)) continue;
                hak_or_seq(summary, hint);
                bits = hak_load_seq(word);
            }
            if (base < from) bits &= ~UINT64_C(0) << (from - base);
            if (bits) return base + (uint32_t)__builtin_ctzll(bits);
        }
    }
    return 0;
}

static void mail_push(hak_thread *t, uint64_t *box, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    uint64_t word = hak_load_relaxed(box);
    for (uint32_t n = 0;; n++) {
        hak_store_relaxed(&hak_slab_at(h, unit)->mail_next, (uint32_t)word);
        hak_count(t, cas_try_count, 1);
        if (hak_cas_acq_rel(box, &word, unit | ((word >> 32) + 1) << 32)) return;
        hak_count(t, cas_retry_count, 1);
        hak_backoff(n, hak_number(hak_policy_of(h)->acquire.backoff_spins));
    }
}

/* Puts a slab into its class's mailbox unless it is in it. Partner: hak_mail_take_all, and the
 * exchange that clears `mailed`: a thread that finds it set knows that the drain by whoever clears
 * it is still to come, and will see the push. */
void hak_mail(hak_thread *t, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    hak_slab *slab = hak_slab_at(h, unit);
    hak_assert(hak_units_are_arena(h, unit, 1) && !hak_claim_is_mine(slab));
    if (hak_exchange_acq_rel(&slab->mailed, 1)) return;
    mail_push(t, &h->mailbox[hak_load_relaxed(&slab->class_index)], unit);
}

/* Empties a mailbox: returns its first unit or 0; the others are linked by mail_next. */
uint32_t hak_mail_take_all(hak_thread *t, uint32_t class_index) {
    uint64_t *box = &hak_heap_of(t)->mailbox[class_index], word = hak_load_relaxed(box);
    while ((uint32_t)word) {
        hak_count(t, cas_try_count, 1);
        if (hak_cas_acq_rel(box, &word, ((word >> 32) + 1) << 32)) break;
        hak_count(t, cas_retry_count, 1);
    }
    return (uint32_t)word;
}

/* A unit that was a slab, and is to be one of another class, leaves the mailbox that it still is
 * in: else its frees by other threads would wait for somebody who needs the old class. Who took
 * that mailbox just now lets go of it himself. Needs its claim; no block of it is out. */
void hak_mail_leave(hak_thread *t, uint32_t unit) {
    hak_heap *h = hak_heap_of(t);
    uint32_t class_index = hak_load_relaxed(&hak_slab_at(h, unit)->class_index), next;
    for (uint32_t u = hak_mail_take_all(t, class_index); u; u = next) {
        next = hak_load_relaxed(&hak_slab_at(h, u)->mail_next);
        if (u != unit) mail_push(t, &h->mailbox[class_index], u);
        else hak_exchange_acq_rel(&hak_slab_at(h, u)->mailed, 0); /* partner: hak_mail */
    }
}
