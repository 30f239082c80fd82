/* reaping.pml: the core of heap.reap for spin: the gate, the two sides that look for each other, the
 * list that is cut. reaping.py tries more (whole store buffers, carved ranges, forks) by a search of
 * its own; this one is a second opinion by another tool.
 *
 * One owner does OPERATIONS calls, each a pop, a push or a slow path that gives the whole list back.
 * One reaper takes what is behind the second block, twice. The owner's store of `slow` waits in its
 * processor (`pending`) until that pleases, or until the reaper's barrier.
 *
 * `make reaping-model` runs it as it is, which must find no error, and with each of NO_BARRIER,
 * ONE_LOOK, ONE_LEFT and NOT_ASKED defined, which must find one.
 */
#define BLOCKS 5
#define OPERATIONS 4
#define GARBAGE 99

mtype = { listed, program, taken, given };
byte link[BLOCKS + 1];
mtype place[BLOCKS + 1];
byte head = 1;
bool gate, slow, pending;

inline walk(first, before, after) { /* every block from `first` on is where it is said to be */
    x = first;
    do
    :: x == 0 -> break
    :: else ->
        assert(x <= BLOCKS);
        assert(place[x] == before);
        place[x] = after;
        x = link[x]
    od;
    x = 0
}

proctype owner() {
    byte done, h, n, x, held = BLOCKS;
    do
    :: done == OPERATIONS -> break
    :: done < OPERATIONS ->
        done++;
        if
        :: gate -> goto enter
        :: !gate -> skip
        fi;
        if
        :: h = head; /* a pop */
           if
           :: h == 0 -> goto enter
           :: else -> skip
           fi;
           n = link[h];
           assert(n <= BLOCKS);
           head = n;
           atomic { assert(place[h] == listed); place[h] = program };
           link[h] = GARBAGE
        :: held -> /* a push of the block that the program has had from the start */
           h = head;
           link[held] = h;
           atomic { head = held; place[held] = listed; held = 0 }
        :: goto enter
        fi;
        goto next;
enter:  pending = true;
        do
        :: !gate -> break /* looked at behind the store, which nobody need have seen */
        od;
        atomic { walk(head, listed, given) };
        head = 0;
        atomic { pending = false; slow = false };
next:   skip
    od
}

proctype processor() { /* the owner's store becomes visible some time */
end:
    do
    :: atomic { pending -> pending = false; slow = true }
    od
}

proctype reaper() {
    byte times, h, n, x;
    do
    :: times == 2 -> break
    :: times < 2 ->
        times++;
        gate = true;
#ifndef NO_BARRIER
        atomic {
            if
            :: pending -> pending = false; slow = true
            :: else -> skip
            fi
        };
#endif
#ifndef NOT_ASKED
        if
        :: slow -> goto open
        :: else -> skip
        fi;
#endif
        h = head;
        if
        :: h == 0 -> goto open
        :: else -> skip
        fi;
        n = link[h];
#ifndef ONE_LOOK
        if
        :: head != h -> goto open
        :: else -> skip
        fi;
#endif
#ifdef ONE_LEFT
        n = h;
#endif
        if
        :: n == 0 -> goto open
        :: else -> skip
        fi;
        assert(n <= BLOCKS);
        atomic {
            walk(link[n], listed, taken);
            link[n] = 0
        };
open:   gate = false
    od
}

init {
    /* 1 to 4 are in the list; the last is the program's */
    atomic {
        link[1] = 2; link[2] = 3; link[3] = 4; link[5] = GARBAGE;
        place[1] = listed; place[2] = listed; place[3] = listed; place[4] = listed;
        place[5] = program;
        run owner();
        run processor();
        run reaper()
    }
}
