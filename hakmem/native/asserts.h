/* asserts.h: what debug builds check: hak_assert, the order of locks, and which claims each thread
 * holds. Other builds contain nothing of it. */
#ifndef HAK_ASSERTS_H
#define HAK_ASSERTS_H
#include <stdbool.h>
#include <stdint.h>

#include "hak_layout.h"

/* A predicate that only asserts ask; other builds drop it. */
#define HAK_PREDICATE static inline __attribute__((unused))

#ifdef HAK_DEBUG
/* Exported, because the test programs compile the accessors of lists.h into themselves. */
#define HAK_CHECKED __attribute__((visibility("default")))
HAK_CHECKED void hak_assert_failed(const char *what, const char *file, int line,
                                   const char *function) __attribute__((noreturn, cold));
/* Reports in one line, without malloc, what does not hold and where; then aborts. */
#define hak_assert(x) ((x) ? (void)0 : hak_assert_failed(#x, __FILE__, __LINE__, __func__))
/* Notes that the calling thread is about to take, or gives back, a lock of this rank (locks.h). */
HAK_CHECKED void hak_rank_take(uint32_t rank);
HAK_CHECKED void hak_rank_drop(uint32_t rank);
HAK_CHECKED bool hak_rank_is_held(uint32_t rank);
/* Whether the calling thread holds no lock of this rank and none of an inner one. */
HAK_CHECKED bool hak_rank_is_free(uint32_t rank);
/* Notes that the calling thread has got, or gives back, a claim. */
HAK_CHECKED void hak_claim_note(const hak_slab *slab);
HAK_CHECKED void hak_claim_drop(const hak_slab *slab);
HAK_CHECKED bool hak_claim_is_mine(const hak_slab *slab);
/* Notes that a claim is broken, whoever held it. */
HAK_CHECKED void hak_claim_forget(const hak_slab *slab);
#else
#define hak_assert(x) ((void)0)
/* Questions that only asserts and predicates ask. */
#define hak_rank_is_held(rank) ((void)(rank), true)
#define hak_rank_is_free(rank) ((void)(rank), true)
#define hak_claim_is_mine(slab) ((void)(slab), true)
#define hak_rank_take(rank) ((void)0)
#define hak_rank_drop(rank) ((void)0)
#define hak_claim_note(slab) ((void)0)
#define hak_claim_drop(slab) ((void)0)
#define hak_claim_forget(slab) ((void)0)
#endif

#endif
