"""``hakmem shell``: a Python prompt with a heap in hand."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from . import OK
from .targets import TARGET, add_heap, add_stop, open_target

if TYPE_CHECKING:
    from ..views.heap_view import HeapView

DESCRIPTION = """\
A Python prompt in which `heap` is the heap of a process as it is now, or of a file: IPython
where it is installed, else Python's own, with completion. Without a target `heap` is a new,
empty one to try things on."""
EXAMPLES = """\
  hakmem shell 4711
  hakmem shell heap.npz
  echo 'print(heap.why())' | hakmem shell -q 4711"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target, if any."""
    parser.add_argument("target", metavar="PID|FILE", nargs="?", help=TARGET)
    add_stop(parser)
    add_heap(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no help at the start")
    parser.add_argument(
        "--plain", action="store_true", help="Python's own prompt, also where IPython is installed"
    )


def greeting(live: bool, mine: bool) -> str:
    """The two-line help."""
    first = "heap.classes .slabs[0] .threads .whatis(0x...) .why(), Tab for more"
    if mine:
        second = "block = heap.alloc(100); heap.whatis(block); heap.free(block)   Ctrl-D leaves"
    elif live:
        second = (
            "old, heap = heap, heap.again() looks again; hakmem.diff(old, heap)   Ctrl-D leaves"
        )
    else:
        second = "hakmem.diff(heap, hakmem.load(FILE)) compares with another file   Ctrl-D leaves"
    return f"{first}\n{second}"


def _plain(names: dict[str, Any], banner: str) -> None:
    import code

    try:
        import readline
    except ImportError:  # a Python without it: no completion
        pass
    else:
        from .completer import WORD_ENDS, Completer

        readline.set_completer(Completer(names).complete)
        readline.set_completer_delims(WORD_ENDS)
        readline.parse_and_bind("tab: complete")
    if sys.stdin.isatty():
        code.interact(banner, local=names, exitmsg="")
        return
    text = sys.stdin.read()  # a script on stdin: no prompts among its output
    exec(compile(text, "<stdin>", "exec"), names)


def main(arguments: argparse.Namespace) -> int:
    """Runs the prompt until it is left."""
    import numpy as np

    import hakmem

    heap: HeapView | hakmem.Heap
    live = False
    if arguments.target is None:
        heap = hakmem.Heap()
    else:
        heap = open_target(arguments.target, stop=arguments.stop, number=arguments.heap)
        live = arguments.target.isdecimal()
    names = {"heap": heap, "hakmem": hakmem, "np": np}
    banner = "" if arguments.quiet else greeting(live, arguments.target is None)
    if not arguments.quiet and arguments.target is not None and sys.stdin.isatty():
        banner = f"{heap.title()}\n{banner}"  # type: ignore[union-attr]
    if not arguments.plain and sys.stdin.isatty():
        try:
            from IPython import start_ipython
            from traitlets.config import Config
        except ImportError:
            pass
        else:
            config = Config()
            config.TerminalInteractiveShell.banner1 = banner + "\n" if banner else ""
            config.TerminalInteractiveShell.confirm_exit = False
            config.Completer.use_jedi = (
                False  # it does not look through properties, and views are nothing else
            )
            config.IPCompleter.evaluation = config.Completer.evaluation = "unsafe"
            start_ipython(argv=[], user_ns=names, config=config)
            return OK
    _plain(names, banner)
    return OK
