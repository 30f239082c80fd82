"""The commands: ``hakmem why``, ``whatis``, ``slab``, ``sites``, ``help``. What is wrong is one
line of gdb's, and a script of gdb's ends there, as at any other command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import gdb

from ..errors import HakmemError
from ..views.showing.tables import terminal_width
from . import memory

SITES_SHOWN: Final = 20


class Command(NamedTuple):
    """One command."""

    name: str
    argument: str
    summary: str
    answer: Callable[[str], str]


def why(words: str) -> str:
    """Why memory is resident; of a core, what the heap holds."""
    if words:
        raise HakmemError(f"expected nothing behind it, got {words!r}")
    view = memory.selected()
    if view.capture.source.pid:
        return view.why().text(_width())
    return (
        "A core does not keep which pages were resident, so nobody can tell why; what the heap "
        f"held, by class:\n\n{view!r}"
    )


def whatis(words: str) -> str:
    """What stands at an address."""
    if not words:
        raise HakmemError("expected an address or an expression: hakmem whatis 0x7f21a8e40c10")
    address = memory.address_of(words)
    return repr(memory.selected().whatis(address))


def slab(words: str) -> str:
    """One slab, letter by letter: by its first unit, or by an address in it."""
    if not words:
        raise HakmemError("expected an address, an expression or the number of a unit")
    number = memory.address_of(words)
    view = memory.selected()
    by_unit = number < view.capture.geometry.unit_limit
    for heap in (view,) if by_unit else view.heaps:
        found = heap.find_slab(unit=number) if by_unit else heap.find_slab(address=number)
        if found is not None:
            return str(found.map(_width()))
    if by_unit:
        raise HakmemError(f"no slab begins at unit {number} of {view.name}")
    raise HakmemError(f"no slab there: {view.whatis(number).sentence()}")


def sites(words: str) -> str:
    """Who allocated what the program holds."""
    if words:
        raise HakmemError(f"expected nothing behind it, got {words!r}")
    view = memory.selected()
    return f"{view.title()}\n\n{view.sites.drawn(limit=SITES_SHOWN).text(_width())}"


def help_text(words: str) -> str:
    """The commands."""
    width = max(len(f"{row.name} {row.argument}") for row in COMMANDS)
    rows = [f"hakmem {f'{row.name} {row.argument}':<{width}}  {row.summary}" for row in COMMANDS]
    return "\n".join(rows)


COMMANDS: Final = (
    Command("why", "", "why memory does not go back; of a core, what the heap holds", why),
    Command("whatis", "EXPRESSION", "the block at an address, its state and slab", whatis),
    Command("slab", "EXPRESSION|UNIT", "a slab letter by letter", slab),
    Command("sites", "", "who allocated what the program holds, from samples", sites),
    Command("help", "", "this list", help_text),
)


def _width() -> int:
    """Columns of gdb's own output; where it does not break lines, of the terminal."""
    return int(gdb.parameter("width") or 0) or terminal_width()


class _Prefix(gdb.Command):
    """The allocator's view of the program: why, whatis, slab, sites, help."""

    def __init__(self) -> None:
        super().__init__("hakmem", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Lists the commands."""
        if argument:
            names = ", ".join(row.name for row in COMMANDS)
            raise gdb.GdbError(f"hakmem: there is no {argument.split()[0]!r}; there are {names}")
        print(help_text(""))


class _Command(gdb.Command):
    def __init__(self, row: Command) -> None:
        self.row = row
        self.__doc__ = f"{row.summary[:1].upper()}{row.summary[1:]}."
        kind = gdb.COMPLETE_EXPRESSION if row.argument else gdb.COMPLETE_NONE
        super().__init__(f"hakmem {row.name}", gdb.COMMAND_DATA, kind)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Prints the answer."""
        try:
            answer = self.row.answer(argument.strip())
        except (HakmemError, OSError, gdb.error) as error:
            message = " ".join(str(error).split())
            raise gdb.GdbError(f"hakmem {self.row.name}: {message}") from None
        print(answer)


def define() -> None:
    """Define the commands in gdb."""
    _Prefix()
    for row in COMMANDS:
        _Command(row)
