/* rows.c: a thread takes over the policy's rows: all of them with its record, then each at a refill
 * of its class after the policy changed. rows.h has the protocol and its orders.
 */
#include "rows.h"

#include "locks.h"

#ifdef HAK_SLOW_ROWS /* for tests: lets others run in the middle of a copy */
#include <sched.h>
#define rest_in_copy() ((void)sched_yield())
#else
#define rest_in_copy() ((void)0)
#endif

/* Copies a class's row of the policy in force; false: it changed meanwhile, *row is of no use. */
static bool copy(hak_heap *h, uint32_t class_index, hak_cache_class *row) {
    enum { WORDS = sizeof(hak_cache_class) / sizeof(uint64_t) };
    const uint64_t *from = (const uint64_t *)&hak_policy_of(h)->caches.classes[class_index];
    union {
        uint64_t words[WORDS];
        hak_cache_class row;
    } made;
    /* partner: the release of the even generation in change.c */
    uint32_t generation = hak_load_acquire(&h->policy_generation);
    for (uint32_t i = 0; i < WORDS; i++) {
        made.words[i] = hak_load_acquire(&from[i]); /* partner: the words' releases in change.c */
        if (i == WORDS / 2) rest_in_copy();
    }
    *row = made.row;
    row->generation = generation;
#ifdef HAK_BUG_ROW_NOT_CHECKED
    return true;
#else
    /* ordered behind the words by their acquires */
    return !(generation & 1) && hak_load_relaxed(&h->policy_generation) == generation;
#endif
}

/* The rows of a new record, each of the policy in force then. A row that is being changed is copied
 * under the run lock, under which nobody changes it: who waits lends the writer its priority. */
void hak_rows_init(hak_thread *t) {
    hak_heap *h = hak_heap_of(t);
    uint32_t class_count = hak_policy_of(h)->sizes.class_count;
    for (uint32_t class_index = 1; class_index <= class_count; class_index++) {
        if (hak_likely(copy(h, class_index, &t->rows[class_index]))) continue;
        hak_run_lock(h);
        (void)copy(h, class_index, &t->rows[class_index]);
        hak_run_unlock(h);
    }
}

/* How high the cap of the class may stay: as its row says, and within what the caps of a thread may
 * be together. */
static uint32_t cap_most(hak_thread *t, uint32_t class_index) {
    uint64_t bound = hak_number(hak_policy_of(hak_heap_of(t))->caches.thread_bytes),
             stride = t->bins[class_index].stride_bytes;
    uint32_t have = t->bins[class_index].cap_count, most = t->rows[class_index].cap_max_count;
    uint64_t above = t->cap_bytes > bound ? (t->cap_bytes - bound + stride - 1) / stride : 0;
    uint32_t rest = above < have ? have - (uint32_t)above : 0;
    return rest < most ? rest : most;
}

/* The sum of the first caps, by which shares are measured: with this row instead of that one. */
static void fit_first_caps(hak_thread *t, const hak_cache_class *old, const hak_cache_class *row,
                           uint64_t stride) {
    uint64_t bound = hak_number(hak_policy_of(hak_heap_of(t))->caches.thread_bytes),
             less = old->cap_init_count < old->cap_max_count ? old->cap_init_count
                                                             : old->cap_max_count,
             more = row->cap_init_count < row->cap_max_count ? row->cap_init_count
                                                             : row->cap_max_count;
    uint64_t sum = t->first_cap_bytes + more * stride;
    sum = sum > less * stride ? sum - less * stride : 0;
    t->first_cap_bytes = sum < bound ? sum : bound;
}

/* Takes over the row of the policy in force, and gives back what a lowered cap has no room for. The
 * caller holds no claim and no lock but record 0's. */
void hak_row_adopt(hak_thread *t, uint32_t class_index) {
    hak_cache_class row, *mine = &t->rows[class_index];
    if (!copy(hak_heap_of(t), class_index, &row)) return;
    fit_first_caps(t, mine, &row, t->bins[class_index].stride_bytes);
    *mine = row;
    hak_count(t, row_adopt_count, 1);
    uint32_t most = cap_most(t, class_index);
    if (t->bins[class_index].cap_count <= most) return;
    hak_cap_resize(t, class_index, most);
    if (t->room_counts[class_index] < 0)
        hak_bin_flush(t, class_index, (uint32_t)-t->room_counts[class_index]);
}
