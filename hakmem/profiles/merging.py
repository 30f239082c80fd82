"""One stack of the native frames of a thread and its Python frames.

CPython runs Python functions in its evaluation loop, a native function. Since 3.11 one loop runs a
Python function and those that it calls from Python; a call that goes through C begins another loop.
So each native frame of a loop stands for a run of Python frames, whose outermost one is the loop's
``entry``, and is replaced by it. Source: ``Python/ceval.c`` and ``Include/internal/pycore_frame.h``
of CPython.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from .records import Frame, Stack

_LOOP: Final = "_PyEval_EvalFrameDefault"
_TAIL_CALL: Final = "_TAIL_CALL_"
"""Begins the names of the instructions' own functions, where a build's loop (3.14) is made of
those."""


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
    runs: Iterator[Stack] = iter(runs_of(python))
    made: list[Frame] = []
    for place, frame in enumerate(native):
        # an instruction's own function and the loop that called it are one loop
        inner = native[place - 1] if place else None
        called = inner is not None and inner.function.startswith(_TAIL_CALL)
        if not is_loop(frame):
            made.append(frame)
        elif not (called and not frame.function.startswith(_TAIL_CALL)):
            made.extend(_named(next(runs, ())) or (frame,))
    for run in runs:
        made.extend(_named(run))
    return tuple(made)


def _named(run: Stack) -> Stack:
    return tuple(frame for frame in run if frame.function)
