/* hooks.h: calls to layers above: what slow paths look for on their way. Each is a load or two, and
 * a call upward only if there is something to do; the slow path knows nothing of the layer above.
 */
#ifndef HAK_HOOKS_H
#define HAK_HOOKS_H
#include "locks.h"

/* fork.c */
extern HAK_HIDDEN uint32_t *hak_fork_word;
HAK_HIDDEN HAK_COLD void hak_fork_slow(void);
/* requests.c */
HAK_HIDDEN HAK_COLD void hak_request_serve(hak_thread *t);
/* change.c */
HAK_HIDDEN HAK_COLD void hak_policy_serve(hak_heap *h);
/* background.c */
HAK_HIDDEN void hak_background_wake(void);
HAK_HIDDEN void hak_background_leave(hak_heap *h);

/* Asked at the start of every slow path that touches what threads share, under no claim and no
 * lock but record 0's: is this process a fork's child that was not repaired yet? */
static inline void hak_fork_look(void) {
    hak_assert(hak_rank_is_free(HAK_RANK_FORK));
    if (hak_unlikely(hak_load_acquire(hak_load_relaxed(&hak_fork_word)) != HAK_FORK_WHOLE))
        hak_fork_slow();
}

/* Asked at the start of a refill and at the end of each slow path: has another process brought a
 * policy? */
static inline void hak_policy_look(hak_heap *h) {
    if (hak_unlikely(hak_load_relaxed(&h->policy_request) != hak_load_relaxed(&h->policy_served)))
        hak_policy_serve(h);
}

/* Asked at the end of a slow path, under no claim and no lock but record 0's: has another process
 * asked for a drain or a trim? */
static inline void hak_request_look(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    hak_assert(hak_rank_is_free(HAK_RANK_FORK));
    hak_policy_look(h);
    if (hak_unlikely(
            (hak_load_relaxed(&h->drain_request) != t->drain_served) |
            (hak_load_relaxed(&h->trim_request) != hak_load_relaxed(&h->trim_served)) |
            (hak_load_relaxed(&h->profile_request) != hak_load_relaxed(&h->profile_served))))
        hak_request_serve(t);
}

/* Called by a thread that has given its record back and is about to end. */
static inline void hak_background_see_end(hak_heap *h) {
    if (hak_unlikely(hak_load_relaxed(&hak_root_.background) != HAK_BACKGROUND_REFUSED))
        hak_background_leave(h);
}

/* Whether the background thread serves this heap; wakes it if it waits. */
static inline bool hak_background_serves(hak_heap *h) {
    uint32_t state = hak_load_relaxed(&hak_root_.background);
    if (hak_unlikely(state == HAK_BACKGROUND_WAITING)) hak_background_wake();
    return (h->flags & HAK_HEAP_PROCESS) &&
           (state == HAK_BACKGROUND_LOOKING || state == HAK_BACKGROUND_WAITING);
}

#endif
