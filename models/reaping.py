"""Reaping, modelled: may another thread take the cached blocks of one that sleeps, or runs?

    python models/reaping.py [NAME ...]    each variant's verdict; `design` must hold, others fail

`heap.reap` takes a thread's cached blocks without its help, at no instruction of the fast paths
(hakmem/native/gate.h, reap.c):

1. The reaper closes the owner's *gate* (its size map becomes the empty one, its fast limit 0), so
   that the owner's next operation takes the slow path.
2. A *barrier* (membarrier) on the owner's processor: what it stored is seen, and no operation
   begins any more. At most one fast operation is in flight, however long it takes.
3. If the owner is in a slow path (*in_slow*) the reaper goes away. Who enters a slow path stores
   in_slow, then looks at the gate, with no barrier of his own: the reaper's serves both (Dekker).
4. The reaper reads the list's head, the second block behind it, and the head again. If that moved,
   the list is left alone. Else it cuts behind the second block: the operation in flight reads or
   writes no more than the links of the first two.
5. Of the carved range it takes all but the first block, which the operation in flight may take.
6. The gate opens. The count that fast paths change stays the owner's: the list's cap falls
   instead, so that nothing is left to be mended.

Every interleaving of the owner's and the reaper's loads and stores is tried, exhaustively. The
owner's stores wait in a buffer, first in, first out, as on x86; weaker orders, and two classes at
once, are not modelled (an operation touches one class only). After each step it is asserted that
no block is in two places and no list names what the program wrote, as a child that another thread
forks just then would find it. A child that the owner forks between two operations has no reaper: it
opens the gate and goes on, and what the reaper had in hand is lost. `reaping.pml` is a smaller
model of the same for spin.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

BLOCKS: Final = 7  # 1..4 in the list, 5 the program's, 6 and 7 carved
LISTED: Final = 4
HELD: Final = 5
GARBAGE: Final = 99  # what the program writes over a link
SCRIPTS: Final = ("mmm", "fmm", "mfm", "mmf", "ffm", "fmf", "mmmmm", "smm", "msf", "mmmms")
Place = str | int  # a word of memory: a block's link, or a name
Words = tuple[tuple[Place, int], ...]


class Wrong(Exception):
    """What no interleaving may lead to."""


@dataclass(frozen=True)
class Variant:
    """The design, or one with a part left out."""

    barrier: bool = True
    reread: bool = True
    leave_blocks: int = 2
    leave_carved: int = 1
    asks_slow: bool = True


VARIANTS: Final = {
    "design": Variant(),
    "no barrier": Variant(barrier=False),
    "head not read again": Variant(reread=False),
    "one block left": Variant(leave_blocks=1),
    "range taken whole": Variant(leave_carved=0),
    "slow paths not asked": Variant(asks_slow=False),
}


@dataclass(frozen=True)
class State:
    """Memory, the owner (script position, step, registers, store buffer), and the reaper."""

    memory: Words
    buffer: Words = ()
    at: int = 0
    step: str = "start"
    first: int = 0
    second: int = 0
    held: tuple[int, ...] = (HELD,)
    returned: tuple[int, ...] = ()
    reaper: str = "close"
    head: int = 0
    behind: int = 0
    taken: tuple[int, ...] = ()
    forked: bool = False

    def load(self, place: Place, own: bool) -> int:
        """A word as memory has it, or as the owner sees it."""
        value = dict(self.memory)[place]
        for where, what in self.buffer if own else ():
            value = what if where == place else value
        return value

    def store(self, place: Place, value: int) -> State:
        """The owner's store: into the buffer."""
        return replace(self, buffer=(*self.buffer, (place, value)))

    def write(self, place: Place, value: int) -> State:
        """A store to memory at once."""
        words = tuple((where, value if where == place else what) for where, what in self.memory)
        return replace(self, memory=words)

    def drained(self) -> State:
        """All of the owner's stores done."""
        state = self
        for place, value in self.buffer:
            state = state.write(place, value)
        return replace(state, buffer=())


def first_state() -> State:
    """Four blocks listed, one held, two carved."""
    links = [(block, block + 1 if block < LISTED else 0) for block in range(1, LISTED + 1)]
    others = [(block, GARBAGE) for block in range(LISTED + 1, BLOCKS + 1)]
    names = [("head", 1), ("gate", 0), ("slow", 0), ("bump", HELD + 1), ("end", BLOCKS + 1)]
    return State(memory=(*links, *others, *names))


def listed(state: State, own: bool) -> list[int]:
    """The blocks of the list, or Wrong."""
    found: list[int] = []
    block = state.load("head", own)
    while block:
        if not 0 < block <= BLOCKS or block in found:
            raise Wrong("a list that names what is no block of it")
        found.append(block)
        block = state.load(block, own)
    return found


# --- the owner ------------------------------------------------------------------------------------


def _begin(state: State, script: str) -> Iterator[State]:
    if state.at == len(script):
        return
    operation = script[state.at]
    if operation == "s" or state.load("gate", True):
        yield replace(state, step="enter")
    elif operation == "m":
        yield replace(state, step="pop", first=state.load("head", True))
    elif state.held:
        yield replace(state, step="link", first=state.load("head", True))
    else:
        yield replace(state, at=state.at + 1)


def _malloc(state: State) -> Iterator[State]:
    """Pop, or take the next carved block; then the program writes over it."""
    if state.step == "pop" and state.first:
        link = state.load(state.first, True)
        if not 0 <= link <= BLOCKS:
            raise Wrong("the owner follows garbage")
        yield replace(state, step="move", second=link)
    elif state.step == "pop":
        yield replace(state, step="carve", first=state.load("bump", True))
    elif state.step == "carve":
        empty = state.first == state.load("end", True)
        yield replace(state, step="enter" if empty else "bump")
    elif state.step == "bump":
        yield replace(state.store("bump", state.first + 1), step="use")
    elif state.step == "move":
        yield replace(state.store("head", state.second), step="use")
    else:
        if state.first > BLOCKS or state.first in (*state.held, *state.taken, *state.returned):
            raise Wrong(f"block {state.first} in two places")
        used = state.store(state.first, GARBAGE)
        yield replace(used, step="start", at=state.at + 1, held=(*state.held, state.first))


def _free(state: State) -> Iterator[State]:
    block = state.held[-1]
    if state.step == "link":
        yield replace(state.store(block, state.first), step="push")
    else:
        pushed = state.store("head", block)
        yield replace(pushed, step="start", at=state.at + 1, held=state.held[:-1])


def _slow(state: State) -> Iterator[State]:
    """A slow path: it gives the whole list back. While the gate is closed it waits."""
    if state.step == "enter":
        yield replace(state.store("slow", 1), step="look")
    elif state.step == "look" and state.load("gate", True):
        yield replace(state.store("slow", 0), step="wait")
    elif state.step == "look":
        yield replace(state, step="take", first=state.load("head", True))
    elif state.step == "wait":
        if not state.load("gate", True):
            yield replace(state, step="enter")
    else:
        blocks = tuple(listed(state, True))
        if set(blocks) & {*state.taken, *state.returned, *state.held}:
            raise Wrong("a slow path gives back what is elsewhere")
        done = state.store("head", 0).store("slow", 0)
        yield replace(
            done, step="start", at=state.at + 1, returned=tuple(sorted((*state.returned, *blocks)))
        )


def owner_steps(state: State, script: str) -> Iterator[State]:
    """What the owner may do next, its oldest store reaching memory included."""
    if state.buffer:
        (place, value), *rest = state.buffer
        yield replace(state.write(place, value), buffer=tuple(rest))
    if state.step == "start":
        yield from _begin(state, script)
        if not state.forked and state.reaper not in ("close", "end"):
            child = state.drained().write("gate", 0)
            yield replace(child, reaper="end", forked=True)
    elif state.step in ("pop", "move", "carve", "bump", "use"):
        yield from _malloc(state)
    elif state.step in ("link", "push"):
        yield from _free(state)
    else:
        yield from _slow(state)


# --- the reaper -----------------------------------------------------------------------------------


def _cut(state: State, variant: Variant) -> State:
    """Takes what is behind the blocks that the operation in flight may touch."""
    last = state.behind if variant.leave_blocks == 2 else state.head
    found: list[int] = []
    block = state.load(last, False)
    while block:
        if not 0 < block <= BLOCKS or block in found:
            raise Wrong("the reaper follows garbage")
        found.append(block)
        block = state.load(block, False)
    if set(found) & {*state.held, *state.returned}:
        raise Wrong("the reaper takes what is elsewhere")
    return replace(state.write(last, 0), reaper="range", taken=tuple(found))


def reaper_steps(state: State, variant: Variant) -> Iterator[State]:
    """What the reaper does next."""
    step = state.reaper
    if step == "close":
        yield replace(state.write("gate", 1), reaper="barrier")
    elif step == "barrier":
        yield replace(state.drained() if variant.barrier else state, reaper="ask")
    elif step == "ask":
        busy = variant.asks_slow and state.load("slow", False)
        yield replace(state, reaper="open" if busy else "head")
    elif step == "head":
        head = state.load("head", False)
        yield replace(state, reaper="next" if head else "range", head=head)
    elif step == "next":
        behind = state.load(state.head, False)
        yield replace(state, reaper="again" if variant.reread else "cut", behind=behind)
    elif step == "again":
        same = state.load("head", False) == state.head
        yield replace(state, reaper="cut" if same else "range")
    elif step == "cut":
        if state.behind > BLOCKS:
            raise Wrong("the reaper follows garbage")
        yield _cut(state, variant) if state.behind else replace(state, reaper="range")
    elif step == "range":
        yield replace(state, reaper="end of range", head=state.load("bump", False))
    elif step == "end of range":
        end, left = state.load("end", False), state.head + variant.leave_carved
        more = tuple(range(left, end))
        if set(more) & {*state.held, *state.returned}:
            raise Wrong("the reaper takes what is elsewhere")
        cut = state.write("end", left) if more else state
        yield replace(cut, reaper="open", taken=(*state.taken, *more))
    elif step == "open":
        yield replace(state.write("gate", 0), reaper="end")


# --- every interleaving ---------------------------------------------------------------------------


def _assert_whole(state: State, script: str) -> None:
    if set(listed(state, False)) & set(state.taken):
        raise Wrong("a taken block is in the list")
    if state.at < len(script) or state.step != "start" or state.reaper != "end" or state.buffer:
        return
    left = range(state.load("bump", False), state.load("end", False))
    places = [*listed(state, False), *state.held, *state.returned, *state.taken, *left]
    if sorted(places) != list(range(1, BLOCKS + 1)):
        raise Wrong("a block is lost")


def explore(variant: Variant, script: str) -> int:
    """How many states there are. Raises Wrong at the first that must not be."""
    seen = {first_state()}
    left = list(seen)
    while left:
        state = left.pop()
        for following in (*owner_steps(state, script), *reaper_steps(state, variant)):
            if following in seen:
                continue
            if not following.forked:
                _assert_whole(following, script)
            seen.add(following)
            left.append(following)
    return len(seen)


def verdict(variant: Variant, scripts: tuple[str, ...] = SCRIPTS) -> str:
    """What is wrong with a variant; empty: nothing in any interleaving of any script."""
    for script in scripts:
        try:
            explore(variant, script)
        except Wrong as wrong:
            return f"{script}: {wrong}"
    return ""


def main(names: list[str]) -> int:
    """Prints each variant's verdict; 1 where one is not as it must be."""
    bad = False
    for name in names or VARIANTS:
        found = verdict(VARIANTS[name])
        print(f"{name}: {found or 'holds'}")
        bad |= bool(found) == (name == "design")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
