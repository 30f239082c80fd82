"""`Symbolizer`: the frames at native addresses of a process, alive or known by its modules only.

Nothing runs in the process and nothing waits for it: its files are read, through its own root
directory, or as the kernel keeps them where they were deleted. A file of another build than the
mapped one is refused. What has no name is called ``module+0xoffset``,
by its place in the file, and `problems` says why.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from ..profiles.records import Frame, Module, Stack
from ..system.elf import NotElf
from . import debug_files, llvm, perf_map
from .elf_file import ElfFile
from .llvm import CodePlace, SymbolizerFailed, SymbolizerSlow
from .modules import (
    DELETED,
    VDSO,
    ascending,
    memory_file,
    modules_of,
    open_image,
    open_regular,
    read_vdso,
)

SLOW_MOST: Final = 2
"""Files that LLVM's symbolizer may be too slow for before it is asked no more: a target can map
many that were made so."""


class Symbolizer:
    """Names addresses, many at a time; what was asked once is kept.

    ``pid``: a process that still runs with these modules; 0 for those of a saved look, whose files
    are looked for where they were. ``returns``: addresses are return addresses, and what is named
    is the call before.
    """

    def __init__(self, modules: Sequence[Module], pid: int = 0, *, returns: bool = True) -> None:
        self.modules = ascending(modules)
        self._back = int(returns)
        self._slow = 0
        self._pid = pid
        self._starts = [module.start for module in self.modules]
        self._known: dict[int, Stack] = {}
        self._problems: dict[str, None] = {}
        self._jit = perf_map.of_process(pid) if pid else perf_map.PerfMap(b"")

    @classmethod
    def of_process(cls, pid: int) -> Symbolizer:
        """That of a running process. Raises OSError where its mappings cannot be read."""
        return cls(modules_of(pid), pid)

    @property
    def problems(self) -> tuple[str, ...]:
        """A line for each file that could not be used, and why; grows as addresses are asked."""
        return tuple(self._problems)

    def module_at(self, address: int) -> Module | None:
        """The module that an address lies in."""
        place = bisect_right(self._starts, address) - 1
        if place < 0 or address >= self.modules[place].end:
            return None
        return self.modules[place]

    def frames_at(self, addresses: Iterable[int]) -> dict[int, Stack]:
        """The frames at each address, innermost first: those inlined there, then the function that
        has the code."""
        wanted = [*dict.fromkeys(addresses)]
        by_file: dict[tuple[str, str], dict[int, Module]] = {}
        for address in wanted:
            if address in self._known:
                continue
            module = self.module_at(address - self._back)
            if module is None:
                self._known[address] = (self._unmapped(address, address - self._back),)
            else:
                by_file.setdefault((module.path, module.build_id), {})[address] = module
        for places in by_file.values():
            self._name(places)
        return {address: self._known[address] for address in wanted}

    def _unmapped(self, address: int, place: int) -> Frame:
        """Code made at run time, or nothing at all."""
        name, file, line = perf_map.place_of(self._jit.name_at(place))
        return Frame(name or f"{address:#x}", file, line, "", address)

    def _name(self, places: dict[int, Module]) -> None:
        """Name the addresses of one file."""
        path = next(iter(places.values())).path
        name = path.removesuffix(DELETED)
        found: dict[int, list[CodePlace]] = {}
        numbers: dict[int, int] = {}
        with ExitStack() as open_files:
            opened = self._open(next(iter(places.values())), open_files)
            if opened is not None:
                elf, descriptor = opened
                for address, module in places.items():
                    number = elf.address_of(module.file_offset(address - self._back))
                    if number is not None:
                        numbers[address] = number
                found = self._ask(name, elf, descriptor, {*numbers.values()}, open_files)
        for address, module in places.items():
            answer = found.get(numbers.get(address, -1))
            if not answer:
                function = f"{os.path.basename(name)}+{module.file_offset(address):#x}"
                self._known[address] = (Frame(function, "", 0, name, address),)
                continue
            last = len(answer) - 1
            self._known[address] = tuple(
                Frame(place.function, place.file, place.line, name, address, depth < last)
                for depth, place in enumerate(answer)
            )

    # --- files ---------------------------------------------------------------------------------

    def _problem(self, text: str) -> None:
        self._problems.setdefault(text)

    def _open(self, module: Module, open_files: ExitStack) -> tuple[ElfFile, int] | None:
        """The file that is mapped there, of no other build, and its descriptor."""
        why = "not found"
        for opened in self._candidates(module):
            try:
                descriptor, bias = opened()
            except OSError as error:
                why = error.strerror or str(error)
                continue
            open_files.callback(os.close, descriptor)
            try:
                elf = ElfFile.of_descriptor(descriptor, bias)
                build_id = elf.build_id
            except (NotElf, OSError) as error:
                why = str(error)
                continue
            if module.build_id and build_id != module.build_id:
                why = f"build id {build_id or '(none)'}, mapped is {module.build_id}"
                continue
            return elf, descriptor
        self._problem(f"{module.path}: {why}; its functions have no names")
        return None

    def _candidates(self, module: Module) -> Iterator[Callable[[], tuple[int, int]]]:
        """Ways to the file of a module and its bias, the surest first."""
        gone = module.path.endswith(DELETED)
        if self._pid and module.path == VDSO:
            yield lambda: (memory_file(read_vdso(self._pid, module)), 0)
            return
        if self._pid:
            proc = f"/proc/{self._pid}"
            yield _file(f"{proc}/map_files/{module.start:x}-{module.end:x}")
            if not gone:
                yield _file(f"{proc}/root{module.path}")
            elif _link(f"{proc}/exe") == module.path:
                yield _file(f"{proc}/exe")
        # a saved look's: where it was, which its build id must confirm once it was deleted
        if module.path.startswith("/") and (not gone or module.build_id):
            yield _file(module.path.removesuffix(DELETED))
        if self._pid:
            yield lambda: open_image(self._pid, module.path)

    def _objects(
        self, name: str, elf: ElfFile, descriptor: int, open_files: ExitStack
    ) -> Iterator[tuple[ElfFile, int]]:
        """The files to ask for the names of a file, in order: the one with lines first."""
        if not elf.has_lines:
            roots = (f"/proc/{self._pid}/root", "") if self._pid else ("",)
            separate = debug_files.open_debug_file(elf, name, roots)
            if separate is not None:
                open_files.callback(os.close, separate)
                yield ElfFile.of_descriptor(separate), separate
        yield elf, descriptor
        if not elf.has_symbols and (data := elf.mini_debug_data()):
            small = memory_file(data)
            open_files.callback(os.close, small)
            try:
                yield ElfFile.of_descriptor(small), small
            except NotElf as error:
                self._problem(f"{name}: .gnu_debugdata: {error}")

    def _ask(
        self, name: str, elf: ElfFile, descriptor: int, wanted: set[int], open_files: ExitStack
    ) -> dict[int, list[CodePlace]]:
        """What stands at addresses of a file's own numbering."""
        found: dict[int, list[CodePlace]] = {}
        for part, part_descriptor in self._objects(name, elf, descriptor, open_files):
            left = sorted(wanted - found.keys())
            if not left:
                break
            try:
                if self._slow >= SLOW_MOST:
                    raise SymbolizerFailed("not asked, it was too slow for other files")
                found |= llvm.ask(part_descriptor, left)
                failed = False
            except SymbolizerFailed as error:
                self._slow += isinstance(error, SymbolizerSlow)
                self._problem(f"{name}: llvm-symbolizer: {error}")
                failed = True
            if failed or not part.sections:  # LLVM reads no symbols where there are no sections
                found |= {
                    number: [CodePlace(llvm.plain(function), "", 0)]
                    for number in left
                    if number not in found and (function := part.symbol_at(number))
                }
        return found


def _file(path: str) -> Callable[[], tuple[int, int]]:
    return lambda: (open_regular(path), 0)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
