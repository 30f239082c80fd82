"""`ProgramMemory`: the memory of a program that runs on the library, as a `MemorySource`.

Wherever its bytes come from, a process or a core file, the library is found in it, its layout read
as it describes itself, and the heaps of another layout translated.
"""

from __future__ import annotations

import ctypes
import struct
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from .. import layout
from ..errors import AttachError, FieldMissing, HakmemError, LayoutMismatch, NoHakmem
from ..generate import description, mirror
from ..generate.description import BadDescription, Description
from ..system.procfs import Mapping
from ..views.reading.source import MemorySource, MemoryUnreadable
from .image import Image, file_build_id, find_images

if TYPE_CHECKING:
    from ..views.reading.missing import Missing
    from ..views.reading.translation import TranslatedHeap, Translation

HEAPS_LIMIT: Final = 65536


class ProgramMemory(MemorySource):
    """The memory of a program. `find_library` comes first; then `heaps` are known."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.maps: list[Mapping] = []
        """What is mapped, as far as the library is looked for in it."""
        self.images: list[Image] = []
        self.translations: dict[int, Translation] = {}
        """By the address of a library's root: how its layout is read, where it is another."""
        self.translated: dict[int, TranslatedHeap] = {}
        """The heaps of another layout, by address."""

    @abstractmethod
    def read_as_it_is(self, address: int, size_bytes: int) -> bytes | memoryview:
        """The bytes as they are. Raises MemoryUnreadable."""

    def find_images(self) -> list[Image]:
        """The libraries in it."""
        return find_images(self, self.maps)

    def title(self) -> str:
        """The program, as the first word of a sentence."""
        return self.name[:1].upper() + self.name[1:]

    def read(self, address: int, size_bytes: int) -> bytes | memoryview:
        """A copy of ``size_bytes`` bytes from ``address`` on; of a heap of another layout the
        metadata translated. Raises MemoryUnreadable, or ProcessNotFound when it ended."""
        heap = self._heap_of(address) if self.translated else None
        found = None if heap is None else heap.read(address - heap.address, size_bytes)
        return self.read_as_it_is(address, size_bytes) if found is None else found

    def find_library(self) -> None:
        """Find the library, and check that its layout is this package's.

        Raises NoHakmem with what to start the program with, LayoutMismatch with both layouts and
        both build ids.
        """
        self.images = self.find_images()
        self.check()
        if not self.images:
            raise NoHakmem(
                f"{self.title()} does not run on hakmem: nothing it has mapped exports hak_root_; "
                "start it with: hakmem run -- COMMAND"
            )
        for image in self.images:
            # the first two words are the same in every layout
            magic, found = struct.unpack("<QQ", self.read_as_it_is(image.root, 16))
            if magic == layout.ROOT_MAGIC and found == mirror.LAYOUT_HASH:
                continue
            from ..views.reading.translation import Translation  # with numpy

            try:
                theirs = self._description(image)
                if magic != layout.ROOT_MAGIC or theirs.hash != found:
                    raise BadDescription(f"what it describes is 0x{theirs.hash:016x}")
                self.translations[image.root] = Translation(theirs)
            except BadDescription as error:
                raise LayoutMismatch(
                    f"{self.name} runs another build, {image.path}: its layout is "
                    f"0x{found:016x}, which cannot be read ({error}), and its build id "
                    f"{image.build_id or 'none'}; this package's layout is "
                    f"0x{mirror.LAYOUT_HASH:016x}, build id {file_build_id() or 'none'}; "
                    "use the hakmem that the program was started with"
                ) from None

    def _description(self, image: Image) -> Description:
        """The layout as the library describes it. Raises BadDescription."""
        if not image.description:
            raise BadDescription("it does not describe itself")
        try:
            head = bytes(self.read_as_it_is(image.description, description.HEAD.size))
            size = min(description.HEAD.unpack(head)[1], description.PACKED_LIMIT_BYTES)
            at = image.description + len(head)
            return description.unpack(head + bytes(self.read_as_it_is(at, size)))
        except MemoryUnreadable as error:
            raise BadDescription(str(error)) from None

    def translation_of(self, image: Image) -> Translation | None:
        """What a library's records are in this layout; None: the same."""
        return self.translations.get(image.root)

    def background_word(self, image: Image) -> int:
        """Address of the word on which a library's background thread waits; 0: it has none."""
        translation = self.translation_of(image)
        try:
            return image.root + (
                int(mirror.HakRoot.background.offset)
                if translation is None
                else translation.place("hak_root", "background")
            )
        except FieldMissing:
            return 0

    def _root(self, image: Image) -> ctypes.Structure:
        return self._struct("hak_root", image.root, self.translation_of(image))

    def _struct(self, name: str, address: int, translation: Translation | None) -> ctypes.Structure:
        kind = mirror.structure(name)
        if translation is None:
            return kind.from_buffer_copy(self.read_as_it_is(address, ctypes.sizeof(kind)))
        raw = self.read_as_it_is(address, translation.theirs.sizes[name])
        return translation.structure(name, raw)

    def missing(self, address: int) -> Missing | None:
        """What the heap at ``address`` lacks because it is of another layout."""
        heap = self.translated.get(address)
        return None if heap is None else heap.missing

    def _heap_of(self, address: int) -> TranslatedHeap | None:
        """The heap of another layout whose region holds an address."""
        for base, heap in self.translated.items():
            if base <= address < base + heap.plan.reserved_bytes:
                return heap
        return None

    def no_heap(self) -> HakmemError:
        """Why `heaps` finds none."""
        library = self.images[0].path
        if first := next((at for image in self.images if (at := self._root(image).first_heap)), 0):
            return AttachError(
                f"{self.title()} has the library, {library}, but its heap at {first:#x} cannot be "
                "read: a core file was cut off, or the heap is being destroyed"
            )
        return NoHakmem(f"{self.title()} has the library, {library}, but has made no heap yet")

    def heaps(self) -> list[tuple[int, str]]:
        """Addresses and names of its heaps, the one behind malloc first, then in the order they
        were made."""
        found: dict[int, tuple[int, int, str]] = {}
        for image in self.images:
            root, translation = self._root(image), self.translation_of(image)
            at = int(root.first_heap)
            while at and at not in found and len(found) < HEAPS_LIMIT:
                try:
                    heap = self._struct("hak_heap", at, translation)
                except MemoryUnreadable:
                    # this heap was just destroyed, so its link is gone; the next look finds those
                    # behind
                    break
                if heap.magic != layout.HEAP_MAGIC:
                    break
                if translation is not None:
                    from ..views.reading.translation import TranslatedHeap

                    self.translated[at] = TranslatedHeap(translation, self.read_as_it_is, at)
                mine = at == root.process_heap
                found[at] = (
                    0 if mine else 1,
                    heap.generation,
                    "process heap" if mine else f"heap {heap.generation}",
                )
                at = int(heap.next_heap)
        return [(at, name) for at, (_, _, name) in sorted(found.items(), key=lambda item: item[1])]
