"""Real programs on the library: each runs with and without a preload and must say, write and return
the same.

``python -m bench.programs`` runs them all and prints a row each; ``--quick`` takes small inputs. A
program is a ``Program`` (program.py): what it needs, what it reads, what it does on a ``Stage``
(stage.py). A ``Stage`` starts processes with the allocator preloaded and keeps what they said; a
small observer (observe.py) preloaded beside it has every process tell, at its end, which object
served its malloc, its peak memory, and the library's own counters.
"""
