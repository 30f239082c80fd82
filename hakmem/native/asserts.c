/* asserts.c: in debug builds, which locks and claims the calling thread holds, and how a failed
 * assert is reported. It uses no malloc and no stdio, because an assert may fail anywhere in the
 * allocator.
 */
#include "asserts.h"

#ifdef HAK_DEBUG
#include <stdlib.h>

#include "line.h"
#include "locks.h"

/* Both belong to the calling thread. A fork's child inherits those of the forking thread, which
 * holds nothing. */
static __thread uint32_t held_ranks;                     /* bit r: a lock of rank r */
static __thread const hak_slab *claims[HAK_CLAIMS_MOST]; /* slabs, NULL: none */

void hak_assert_failed(const char *what, const char *file, int line_number, const char *function) {
    hak_line line = {.used = 0};
    hak_line_text(&line, "hakmem: assert failed: ");
    hak_line_text(&line, what);
    hak_line_text(&line, ": ");
    hak_line_text(&line, function);
    hak_line_text(&line, ", ");
    hak_line_text(&line, file);
    hak_line_text(&line, ":");
    hak_line_number(&line, (uint64_t)line_number);
    hak_line_write(&line);
    abort();
}

/* Called before the wait, so that an order which may end in a deadlock is reported even when this
 * time it does not. Tries for a claim cannot wait: hak_claim_note notes them. */
void hak_rank_take(uint32_t rank) {
    hak_assert(hak_rank_is_free(rank));
    held_ranks |= 1u << rank;
}
void hak_rank_drop(uint32_t rank) {
    hak_assert(hak_rank_is_held(rank));
    held_ranks &= ~(1u << rank);
}
bool hak_rank_is_free(uint32_t rank) { return held_ranks >> rank == 0; }
bool hak_rank_is_held(uint32_t rank) { return held_ranks >> rank & 1; }

void hak_claim_note(const hak_slab *slab) {
    hak_assert(!hak_rank_is_held(HAK_RANK_RUN)); /* under run_lock nobody claims */
    hak_assert(!hak_claim_is_mine(slab));
    uint32_t i = 0;
    while (i < HAK_CLAIMS_MOST && claims[i]) i++;
    hak_assert(i < HAK_CLAIMS_MOST);
    claims[i] = slab;
    held_ranks |= 1u << HAK_RANK_CLAIM;
}
void hak_claim_drop(const hak_slab *slab) {
    hak_assert(hak_claim_is_mine(slab));
    hak_claim_forget(slab);
}
void hak_claim_forget(const hak_slab *slab) {
    bool left = false;
    for (uint32_t i = 0; i < HAK_CLAIMS_MOST; i++) {
        if (claims[i] == slab) claims[i] = NULL;
        left |= claims[i] != NULL;
    }
    if (!left) held_ranks &= ~(1u << HAK_RANK_CLAIM);
}
bool hak_claim_is_mine(const hak_slab *slab) {
    for (uint32_t i = 0; i < HAK_CLAIMS_MOST; i++)
        if (claims[i] == slab) return true;
    return false;
}
#endif
