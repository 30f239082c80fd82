/* rows.h: the rows of the policy that a thread obeys, one a class, in its record.
 *
 * A policy may change while the heap runs (change.c). A thread takes over a class's row at its next
 * refill of that class, and all that it decides about the class until the one after comes from that
 * row. So no refill mixes two policies, and the fast paths, which read no row, know nothing of it.
 *
 * A row is copied under policy_generation, which is odd while the policy in force is written over.
 * A copy during which it was odd, or moved, is thrown away: the thread keeps the row that it has,
 * and tries again at its next refill. It never waits.
 *
 * Orders. The writer stores an odd generation, then each word of the policy by release, then an
 * even generation by release. The reader loads the generation by acquire, the row's words by
 * acquire, then the generation again. Who has read a word of the new policy sees the odd generation
 * too, or a later one: the word's release and acquire order the two stores for the second look.
 */
#ifndef HAK_ROWS_H
#define HAK_ROWS_H
#include "caps.h"

/* rows.c */
HAK_HIDDEN void hak_rows_init(hak_thread *t);
HAK_HIDDEN HAK_COLD void hak_row_adopt(hak_thread *t, uint32_t class_index);

/* Asked at the start of a refill: is the row that of the policy in force? */
static inline void hak_row_look(hak_thread *t, uint32_t class_index) {
    /* a relaxed look: who takes a row over looks again */
    if (hak_unlikely(hak_load_relaxed(&hak_heap_of(t)->policy_generation) !=
                     t->rows[class_index].generation))
        hak_row_adopt(t, class_index);
}

#endif
