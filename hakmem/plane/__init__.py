"""The Python plane: the executable specification, room for room what the native plane is in C.

Rooms from the bottom up; each calls those above its line only. Of C it uses the primitives alone:

    tables.py   the policy's decisions as rows             memory.py   a region's metadata, typed
    caller.py   a thread's record at hand                  lists.py    a slab's lists and claim
    locks.py    the run lock, record 0's lock              resolve.py  which block an address is of
    marks.py    maps of bits over units                    budget.py   what work for the OS may cost
    run_bins.py free and unmapped runs, by length          region.py   which units are mapped
    runs.py     the run heap: units taken and given        purging.py  dirty runs, one after another
    purge.py    what goes back to the OS                   partial.py  partial sets, mailboxes
    slabs.py    a slab's life                              acquire.py  where a refill finds a slab
    bins.py     what a class of a cache gives away         caps.py     how much it may hold
    cache.py    thread caches: refill, overflow, loans     threads.py  thread records
    spans.py    blocks of whole units                      resize.py   spans that grow, shrink, move
    blocks.py   one block
    heap.py     create, destroy, batches: PythonEngine

Here ``m`` is always the `Memory` of a heap and ``t`` the `Caller`, a thread's record. The
interpreter's lock makes no sequence of steps atomic: what C does by CAS is done by CAS here. A
backoff is left out: the interpreter's lock is one.
"""

from .heap import PythonEngine

__all__ = ["PythonEngine"]
