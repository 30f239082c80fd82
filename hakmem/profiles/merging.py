"""One stack of the native frames of a thread and its Python frames.

CPython runs Python functions in its evaluation loop, a native function. Since 3.11 one loop runs a
Python function and those that it calls from Python; a call that goes through C begins another loop.
So each native frame of a loop stands for a run of Python frames, whose outermost one is the loop's
``entry``, and is replaced by it. Source: ``Python/ceval.c`` and ``Include/internal/pycore_frame.h``
of CPython.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

from .records import Frame, Stack

_LOOP: Final = "_PyEval_EvalFrameDefault"
_TAIL_CALL: Final = "_TAIL_CALL_"
"""Begins the names of the instructions' own functions, where a build's loop (3.14) is made of
those."""
_OUTERMOST: Final = frozenset(
    "main _start __libc_start_main __libc_start_call_main start_thread clone clone3".split()
)
"""Where whole stacks end."""


def is_loop(frame: Frame) -> bool:
    """Whether a native frame is one of CPython's evaluation loop.

    >>> is_loop(Frame("_PyEval_EvalFrameDefault.cold", "", 0, "libpython3.13.so.1.0", 0x1000))
    True
    >>> is_loop(Frame("_PyEval_EvalFrameDefaultValue", "", 0, "app", 0x1000))
    False
    """
    if frame.language != "native":
        return False
    # a compiler's own endings: .cold, .part.0, .lto_priv.0
    return frame.function.split(".")[0] == _LOOP or frame.function.startswith(_TAIL_CALL)


def runs_of(python: Sequence[Frame]) -> list[Stack]:
    """Python frames, innermost first, as the runs of their loops."""
    runs: list[Stack] = []
    start = 0
    for place, frame in enumerate(python, start=1):
        if frame.entry or place == len(python):
            runs.append(tuple(python[start:place]))
            start = place
    return runs


def merged(native: Sequence[Frame], python: Sequence[Frame]) -> Stack:
    """The native frames of a thread with its Python frames in their places; all innermost first.

    Either may break off on the outside, as long stacks do: loops whose Python frames are missing
    stay, and runs whose loop is missing stand behind everything else. A Python frame without a name
    stands for a loop that has no frame any more, and whose native frame stays therefore.

    >>> def native(name): return Frame(name, "", 0, "libpython3.13.so.1.0", 0x1000)
    >>> def python(name, entry=False):
    ...     return Frame(name, "app.py", 1, "", 0, language="python", entry=entry)
    >>> stack = merged(
    ...     [native("PyList_Append"), native("_PyEval_EvalFrameDefault"), native("main")],
    ...     [python("parse"), python("<module>", entry=True)])
    >>> [frame.function for frame in stack]
    ['PyList_Append', 'parse', '<module>', 'main']
    """
    found = runs_of(python)
    loops = _loops(native)
    loops |= _nameless_loops(native, loops, len(found) - len(loops))
    runs: Iterator[Stack] = iter(found)
    made: list[Frame] = []
    for place, frame in enumerate(native):
        if place in loops:
            made.extend(_named(next(runs, ())) or (frame,))
        elif not is_loop(frame):
            made.append(frame)
    for run in runs:
        made.extend(_named(run))
    return tuple(made)


def _loops(native: Sequence[Frame]) -> set[int]:
    """The places of frames that stand for a loop each: an instruction's own function and the loop
    that called it are one."""
    made = set()
    for place, frame in enumerate(native):
        called = place > 0 and native[place - 1].function.startswith(_TAIL_CALL)
        if is_loop(frame) and (frame.function.startswith(_TAIL_CALL) or not called):
            made.add(place)
    return made


def _nameless_loops(native: Sequence[Frame], loops: set[int], missing: int) -> set[int]:
    """Loops without a name: of a stripped Python whose compiler put rare parts of the loop
    elsewhere, since only the loop itself is exported. Looked for where more loops ran than are
    seen, in a stack that is whole; the innermost ones, since rare parts seldom call on."""
    if missing <= 0 or not any(frame.function in _OUTERMOST for frame in native[-3:]):
        return set()
    modules = {native[place].module for place in loops} or {
        frame.module for frame in native if "python" in os.path.basename(frame.module)
    }
    nameless = [
        place
        for place, frame in enumerate(native)
        if frame.module in modules
        and frame.function.startswith(f"{os.path.basename(frame.module)}+0x")
    ]
    return {*nameless[:missing]}


def _named(run: Stack) -> Stack:
    return tuple(frame for frame in run if frame.function)
