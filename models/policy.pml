/* policy.pml: a policy is changed while a thread refills; hakmem/native/change.c and rows.c, small.
 *
 * A policy is a row of two words here. The writer changes it twice: an odd generation, the words,
 * an even generation. The thread refills: where its row's generation is not the heap's it copies
 * the words and looks at the generation again; the copy is its row if that was even and has not
 * moved. Asserted: the words of the row that it obeys are of one policy, the one of the row's
 * generation. The second process that changes the policy waits for the lock.
 *
 * Stores reach memory in the order in which they were made, as releases keep them; loads are made in
 * the order of the program, as acquires keep them.
 *
 * -DNO_CHECK leaves out the second look at the generation, -DNO_ODD the odd generation before the
 * words, -DNO_LOCK the lock between two writers: each must fail.
 */
#define WRITERS 2
#define REFILLS 3

byte generation = 0;      /* of the policy in force */
byte word[2];             /* its row; both words hold the number of the policy */
bool locked = false;
byte numbers = 0;         /* policies made so far */

proctype Writer() {
    byte mine, i;
#ifndef NO_LOCK
    atomic { !locked -> locked = true }
#endif
    atomic { numbers++; mine = numbers }
#ifndef NO_ODD
    generation = generation | 1;
#endif
    word[0] = mine;
    word[1] = mine;
#ifdef NO_ODD
    generation = generation + 2;
#else
    generation = (generation | 1) + 1;
#endif
    locked = false
}

proctype Thread() {
    byte row[2], row_generation = 0, seen, copy[2], refills = 0;
    do
    :: refills < REFILLS ->
        refills++;
        if
        :: generation != row_generation ->
            seen = generation;
            copy[0] = word[0];
            copy[1] = word[1];
            if
#ifdef NO_CHECK
            :: true ->
#else
            :: (seen & 1) == 0 && generation == seen ->
#endif
                row[0] = copy[0]; row[1] = copy[1]; row_generation = seen
            :: else -> skip     /* the old row serves */
            fi
        :: else -> skip
        fi;
        assert(row[0] == row[1]);
        assert(row[0] == row_generation / 2)
    :: else -> break
    od
}

init {
    atomic {
        run Writer(); run Writer(); run Thread(); run Thread()
    }
}
