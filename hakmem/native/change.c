/* change.c: the policy of a heap is changed while the heap runs.
 *
 * Four policies stand in a heap. The one *in force* is read by all. The *draft* is what is judged,
 * under policy_lock. The *inbox* belongs to other processes, which write it and then a fresh number
 * into policy_request. The *first* is what the heap began with, kept at the first change.
 *
 * Whoever changes the policy copies what is wished into the draft and judges that: an inbox that is
 * written over meanwhile changes nothing that was judged. A policy that cannot be obeyed, or whose
 * classes, headers or other fixed numbers differ from those in force, is refused, and all stays as
 * it was. Else the numbers are written over the policy in force, under the run lock: what belongs
 * to the heap as a whole holds from its next event on. Of that, each number is read as one word and
 * is good alone; numbers that must fit each other are read under the run lock. Rows of classes are
 * copied by threads (rows.h, with the orders).
 *
 * Two writers: policy_lock puts them in order, and the last wins. A writer from outside that finds
 * its number written over, or another policy in force than its own, knows that another came later.
 *
 * Fork: a child that finds an odd generation has a policy in force that is written over in part,
 * and a whole draft that was judged: it writes the rest (hak_policy_mend).
 */
#include "change.h"

#include <string.h>

#include "hooks.h"
#include "locks.h"
#include "policy.h"
#include "profile.h"

enum { WORD = sizeof(uint64_t) };

static hak_policy *draft_of(hak_heap *h) { return hak_at(h, HAK_DRAFT_OFFSET); }

/* Whether the draft keeps what a running heap must keep. */
static bool keeps_fixed(const hak_policy *p, const hak_policy *draft) {
    if (memcmp(&p->headers, &draft->headers, sizeof p->headers) != 0 ||
        memcmp(&p->sizes, &draft->sizes, sizeof p->sizes) != 0)
        return false;
    for (uint32_t i = 0; i < hak_bound_count; i++) {
        const hak_bound *b = &hak_bounds[i];
        uint32_t last = b->stride && b->fixed ? p->sizes.class_count : 0;
        for (uint32_t class_index = b->stride ? 1 : 0; b->fixed && class_index <= last;
             class_index++) {
            uint32_t place = b->offset + class_index * b->stride;
            if (hak_field_get(p, place, b->width) != hak_field_get(draft, place, b->width))
                return false;
        }
    }
    return true;
}

/* Writes the draft's numbers over the policy in force. Needs run_lock. */
static void write_over(hak_heap *h) {
    const hak_policy *draft = draft_of(h);
    hak_policy *p = hak_policy_of(h);
    const uint64_t *from = (const uint64_t *)draft;
    uint64_t *to = (uint64_t *)p;
    uint32_t generation = h->policy_generation | 1; /* odd already: a fork cut it off */
    hak_store_relaxed(&h->policy_generation, generation);
    for (uint32_t class_index = 1; class_index <= p->sizes.class_count; class_index++) {
        uint32_t count = draft->caches.classes[class_index].list_count;
        if (count > h->list_most_counts[class_index])
            hak_store_relaxed(&h->list_most_counts[class_index], (uint16_t)count);
    }
    /* partner: the acquires of rows.c; these keep the odd generation before the words, too */
    for (size_t i = offsetof(hak_policy, arenas) / WORD; i < offsetof(hak_policy, headers) / WORD;
         i++)
        if (to[i] != from[i]) hak_store_release(&to[i], from[i]);
    hak_store_release(&p->checksum, draft->checksum);
    /* partner: the acquire of the generation in rows.c */
    hak_store_release(&h->policy_generation, generation + 1);
}

/* Judges the draft, and has it obeyed; HAK_CHANGE. Needs policy_lock. */
static uint32_t obey_draft(hak_heap *h) {
    const hak_policy *draft = draft_of(h), *p = hak_policy_of(h);
    hak_refusal why;
    if (!hak_policy_judge(draft, &why)) return HAK_CHANGE_REFUSED;
    if (!keeps_fixed(p, draft)) return HAK_CHANGE_FIXED;
    /* who asked for another rate meanwhile keeps it, unless this changes it too */
    uint64_t rate = draft->profile.rate_bytes;
    if (rate != p->profile.rate_bytes && hak_profile_set(h, rate) != HAK_OK)
        return HAK_CHANGE_NOMEM;
    hak_policy *first = hak_at(h, HAK_FIRST_POLICY_OFFSET);
    if (!first->magic) *first = *p;
    hak_run_lock(h);
    write_over(h);
    hak_run_unlock(h);
    return HAK_CHANGE_DONE;
}

/* Changes the policy to the one wished; HAK_CHANGE. Waits for others who change it. */
uint32_t hak_policy_change(hak_heap *h, const hak_policy *wished) {
    hak_policy_lock(h);
    *draft_of(h) = *wished;
    uint32_t code = obey_draft(h);
    hak_policy_unlock(h);
    return code;
}

/* Copies the policy in force. */
void hak_policy_copy(hak_heap *h, hak_policy *out) {
    hak_policy_lock(h);
    *out = *hak_policy_of(h); /* its writers hold the lock */
    hak_policy_unlock(h);
}

/* Another process has put a policy into the inbox. Who does not get the lock goes on: its holder,
 * or the next slow path, serves it. */
void hak_policy_serve(hak_heap *h) {
    if (!hak_policy_try(h)) return;
    uint64_t ticket = hak_load_relaxed(&h->policy_request);
    if (ticket != hak_load_relaxed(&h->policy_served)) {
        /* whatever is written there meanwhile: what is judged is the copy */
        const uint64_t *inbox = hak_at(h, HAK_INBOX_OFFSET);
        uint64_t *draft = (uint64_t *)draft_of(h);
        for (size_t i = 0; i < sizeof(hak_policy) / WORD; i++)
            draft[i] = hak_load_relaxed(&inbox[i]);
        hak_store_relaxed(&h->policy_answer, obey_draft(h));
        /* partner: the reader in the other process */
        hak_store_release(&h->policy_served, ticket);
    }
    hak_policy_unlock(h);
}

/* In a fork's child, whose other threads are gone. */
void hak_policy_mend(hak_heap *h) {
    hak_store_relaxed(&h->policy_lock, 0);
    if (h->policy_generation & 1) write_over(h);
}
