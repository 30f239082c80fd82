/* lists.h: the accessors of a slab's claim, free list, remote list and used count. No other file
 * touches those fields.
 *
 * A list word is offset/8 of the first block | count << 16 | tag << 32. The blocks are linked by
 * address in their first word. The last link has no meaning: the count ends a list.
 *
 * ABA: a push links its chain to the head it read and swaps the whole word, count and tag included.
 * The tag moves at every change, so a word that comes back is never the same word (but for 2^32
 * changes between a read and its CAS). A take-all reads no link. There is no lock-free pop: a pop
 * is plain, under the claim.
 *
 * Claim: claim_seq is odd while the slab is claimed. The claiming CAS acquires what the last
 * release published. The release publishes the plain fields to the next claimer, and to readers
 * that compare the sequence before and after.
 */
#ifndef HAK_LISTS_H
#define HAK_LISTS_H
#include "locks.h"

static inline uint32_t hak_word_count(uint64_t word) { return (uint32_t)(word >> 16) & 0xffff; }
static inline uint64_t hak_word_first(uint64_t slab_base, uint64_t word) {
    return hak_word_count(word) ? slab_base + ((word & 0xffff) << 3) : 0;
}
/* The list word after `count` blocks, with `first` as the new head, were pushed on `before`. Tag
 * and count are added in place; neither carry matters, since the tag wraps around and a slab has
 * fewer than 2^16 blocks. */
static inline uint64_t hak_word_pushed(uint64_t before, uint64_t slab_base, uint64_t first,
                                       uint32_t count) {
    uint64_t word = before + (UINT64_C(1) << 32) + ((uint64_t)count << 16);
    return (word & ~UINT64_C(0xffff)) | (first - slab_base) >> 3;
}
/* The list word of an empty list that follows `before`. */
static inline uint64_t hak_word_emptied(uint64_t before) { return ((before >> 32) + 1) << 32; }

/* CLAIM, by CAS; partner of hak_claim_release. False when another thread holds it. While the
 * process has one thread it is a plain store: nobody can come between, and only this thread could
 * start a second one, later. */
static inline bool hak_claim_try(hak_slab *slab) {
    uint32_t seq = hak_load_relaxed(&slab->claim_seq);
    if (seq & 1) return false;
    if (hak_single_threaded()) {
        hak_store_relaxed(&slab->claim_seq, seq + 1);
    } else if (!hak_cas_acquire(&slab->claim_seq, &seq, seq + 1)) {
        return false;
    }
    hak_claim_note(slab);
    return true;
}
/* Whether a slab's carved blocks add up: those out or in a cache, those in its free list, those on
 * holes. */
HAK_PREDICATE bool hak_slab_adds_up(const hak_slab *slab) {
    uint64_t known = (uint64_t)hak_load_relaxed(&slab->used_count) +
                     hak_word_count(hak_load_relaxed(&slab->free_list));
    if (slab->kind != HAK_KIND_SLAB) return true;
    return slab->flags & HAK_SLAB_HOLES ? known < slab->carved_count : known == slab->carved_count;
}
/* RELEASE: publishes the plain fields to the next hak_claim_try. */
static inline void hak_claim_release(hak_slab *slab) {
    uint32_t seq = hak_load_relaxed(&slab->claim_seq);
    hak_assert(seq & 1);
    hak_assert(hak_slab_adds_up(slab));
    hak_claim_drop(slab);
    hak_store_release(&slab->claim_seq, seq + 1);
}
static inline bool hak_claim_held(const hak_slab *slab) {
    return hak_load_relaxed(&slab->claim_seq) & 1;
}
/* For readers that only ask whether the slab was claimed since, and for the sweep, which notes
 * it. */
static inline uint32_t hak_claim_seq_load(const hak_slab *slab) {
    return hak_load_relaxed(&slab->claim_seq);
}
/* FORK: breaks a claim whose holder does not exist in a fork's child. A slab in an unknown state
 * counts as full of used blocks, so that it never retires, however many of its blocks are
 * freed. */
static inline void hak_claim_break(hak_slab *slab) {
    hak_assert(hak_claim_held(slab));
    hak_claim_forget(slab);
    if (slab->kind == HAK_KIND_LOST) hak_store_relaxed(&slab->used_count, UINT32_MAX / 2);
    hak_store_relaxed(&slab->claim_seq, slab->claim_seq + 1);
}

HAK_PREDICATE bool hak_is_in_slab(const hak_slab *slab, uint64_t slab_base, uint64_t block) {
    return block - slab_base < (uint64_t)hak_load_relaxed(&slab->unit_count) << HAK_UNIT_SHIFT &&
           (block & 7) == 0;
}
/* PUSH_CHAIN, plain, under the claim. This links `last` to the old head. */
static inline void hak_free_push_chain(hak_slab *slab, uint64_t slab_base, uint64_t first,
                                       uint64_t last, uint32_t count) {
    hak_assert(hak_claim_is_mine(slab));
    uint64_t word = hak_load_relaxed(&slab->free_list);
    hak_assert(count &&
               (slab->kind == HAK_KIND_LOST || hak_word_count(word) + count <= slab->carved_count));
    hak_assert(hak_is_in_slab(slab, slab_base, first) && hak_is_in_slab(slab, slab_base, last));
    hak_set_next(last, hak_word_first(slab_base, word));
    hak_store_relaxed(&slab->free_list, hak_word_pushed(word, slab_base, first, count));
}
/* TAKE_ALL, plain, under the claim: returns the old word; the list is empty then. */
static inline uint64_t hak_free_take_all(hak_slab *slab) {
    hak_assert(hak_claim_is_mine(slab));
    uint64_t word = hak_load_relaxed(&slab->free_list);
    hak_store_relaxed(&slab->free_list, hak_word_emptied(word));
    return word;
}
/* POP of the first `count` blocks, plain, under the claim: returns the first and sets *last. Needs
 * 0 < count <= length. */
static inline uint64_t hak_free_pop_chain(hak_slab *slab, uint64_t slab_base, uint32_t count,
                                          uint64_t *last) {
    hak_assert(hak_claim_is_mine(slab));
    uint64_t word = hak_load_relaxed(&slab->free_list);
    hak_assert(count && count <= hak_word_count(word));
    uint64_t first = hak_word_first(slab_base, word), at = first;
    for (uint32_t i = 1; i < count; i++) at = hak_next(at);
    hak_assert(hak_is_in_slab(slab, slab_base, at));
    *last = at;
    uint32_t left = hak_word_count(word) - count;
    uint64_t rest = hak_word_emptied(word) - (UINT64_C(1) << 32);
    hak_store_relaxed(&slab->free_list, left ? hak_word_pushed(rest, slab_base, hak_next(at), left)
                                             : hak_word_emptied(word));
    return first;
}
static inline uint32_t hak_free_count(const hak_slab *slab) {
    return hak_word_count(hak_load_relaxed(&slab->free_list));
}
static inline bool hak_free_is_empty(const hak_slab *slab) { return hak_free_count(slab) == 0; }
static inline bool hak_free_is_nonempty(const hak_slab *slab) { return hak_free_count(slab) != 0; }
/* DEBUG: the address of the first free block, or 0. A caller that follows the list needs the
 * claim; asserts and dumps do not. */
static inline uint64_t hak_free_debug_pointer(const hak_slab *slab, uint64_t slab_base) {
    return hak_word_first(slab_base, hak_load_relaxed(&slab->free_list));
}

/* PUSH_CHAIN, lock-free, without the claim: one try. Its release publishes the blocks' links;
 * partner: hak_remote_take_all. */
static inline bool hak_remote_push_chain(hak_slab *slab, uint64_t slab_base, uint64_t first,
                                         uint64_t last, uint32_t count) {
    uint64_t word = hak_load_relaxed(&slab->remote_list);
    hak_assert(count && !hak_claim_is_mine(slab)); /* a claimer pushes on the free list */
    hak_set_next(last, hak_word_first(slab_base, word));
    return hak_cas_acq_rel(&slab->remote_list, &word,
                           hak_word_pushed(word, slab_base, first, count));
}
/* TAKE_ALL, lock-free: one try. Acquires what the pushes released. False: a push was faster. */
static inline bool hak_remote_take_all(hak_slab *slab, uint64_t *word) {
    *word = hak_load_relaxed(&slab->remote_list);
    return hak_cas_acq_rel(&slab->remote_list, word, hak_word_emptied(*word));
}
static inline uint32_t hak_remote_count(const hak_slab *slab) {
    return hak_word_count(hak_load_relaxed(&slab->remote_list));
}
static inline bool hak_remote_is_nonempty(const hak_slab *slab) {
    return hak_remote_count(slab) != 0;
}

/* ACTIVE COUNT: blocks out of the slab, with the program or in a cache. Plain under the claim;
 * relaxed for readers. */
static inline uint32_t hak_used_load(const hak_slab *slab) {
    return hak_load_relaxed(&slab->used_count);
}
static inline void hak_used_add(hak_slab *slab, uint32_t n) {
    hak_assert(hak_claim_is_mine(slab) && slab->used_count + n <= slab->carved_count);
    hak_store_relaxed(&slab->used_count, slab->used_count + n);
}
static inline void hak_used_sub(hak_slab *slab, uint32_t n) {
    hak_assert(hak_claim_is_mine(slab) && slab->used_count >= n);
    hak_store_relaxed(&slab->used_count, slab->used_count - n);
}
/* EMPTY: the state in which a slab is made and retires: nothing carved, nothing out. The tags go
 * on from where they were. */
static inline void hak_lists_reset(hak_slab *slab) {
    hak_assert(hak_claim_is_mine(slab));
    (void)hak_free_take_all(slab);
    hak_store_relaxed(&slab->used_count, 0);
    hak_store_relaxed(&slab->carved_count, 0);
}

#endif
