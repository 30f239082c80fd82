"""The policy of a heap: the objects composed, and the image C obeys."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from ..text import Printer, Text
from . import environment as environment_variables
from . import files, toml
from .acquire import AcquirePolicy
from .arenas import ArenaGrowth
from .caches import CachePolicy
from .differences import Differences, diff
from .headers import HeaderCodec
from .parts import Parts
from .profile import ProfilePolicy
from .retain import RetainPolicy
from .size_classes import SizeClassMap

_FNV_OFFSET, _FNV_PRIME, _MASK = 0xCBF2_9CE4_8422_2325, 0x100_0000_01B3, (1 << 64) - 1


def checksum(image: bytes, place: int = mirror.HakPolicy.checksum.offset) -> int:
    """FNV-1a (64 bits) of a policy image with its checksum field, at ``place``, read as zero."""
    value = _FNV_OFFSET
    for byte in image[:place] + bytes(8) + image[place + 8 :]:
        value = ((value ^ byte) * _FNV_PRIME) & _MASK
    return value


def _check_bounds(image: bytes) -> None:
    """PolicyError for the first field of an image that is out of `layout.POLICY_BOUNDS`, and for
    stages that do not exist."""
    count = 0
    for bound in layout.POLICY_BOUNDS:
        place = mirror.policy_place(bound.path)
        for index in range(1, count + 1) if place.stride else (0,):
            start = place.offset + index * place.stride
            found = int.from_bytes(image[start : start + place.width], "little")
            if not bound.low <= found <= bound.high or found % bound.step:
                name = (
                    bound.path.replace("classes.", f"classes[{index}].")
                    if place.stride
                    else bound.path
                )
                steps = f" in steps of {bound.step}" if bound.step > 1 else ""
                raise PolicyError(
                    f"image.{name}",
                    found,
                    f"{bound.low} to {bound.high}{steps}",
                    "make the image again with Policy.save",
                )
        if bound.path == "sizes.class_count":
            count = int.from_bytes(image[place.offset : place.offset + place.width], "little")
    place = mirror.policy_place("acquire.order")
    if max(image[place.offset : place.offset + place.width]) > layout.constant("HAK_STAGE_GROW"):
        raise PolicyError(
            "image.acquire.order",
            image[place.offset : place.offset + place.width].hex(),
            "stages that exist",
            "make the image again",
        )


@dataclass(frozen=True, slots=True, repr=False)
class Policy(Parts):
    """Everything a heap may decide. ``replace()`` makes a changed one; ``image()`` is what C gets.
    Its echo is what differs from the default.

    >>> Policy.default().replace(headers="all").headers.mode
    'all'
    >>> Policy.default()
    Policy: as the default
    """

    def __repr__(self) -> str:
        found = type(self)().diff(self, names=("default", "here"))
        return f"Policy: differs from the default\n{found}" if found else "Policy: as the default"

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        printer.text(repr(self))

    def _repr_html_(self) -> str:
        found = type(self)().diff(self, names=("default", "here"))
        head = "differs from the default" if found else "as the default"
        return f"<p>Policy: {head}</p>" + (found._repr_html_() if found else "")

    @classmethod
    def default(cls) -> Self:
        """The built-in policy."""
        return cls()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The policy of a preloaded process: the built-in one or the image that ``HAKMEM_POLICY``
        names, then the variables of `layout.ENVIRONMENT`. PolicyError names what is bad, where C
        says so in one line and leaves it out."""
        given = os.environ if environment is None else environment
        named = given.get(layout.POLICY_FILE_VARIABLE)
        return environment_variables.apply(cls.load(named) if named else cls(), given)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The policy of an image file, or of a TOML file when its name ends in ``.toml``.
        PolicyError says what is wrong."""
        data = files.read(path)
        if os.fspath(path).endswith(".toml") and not data.startswith(files.MAGIC):
            return cls.from_toml(data)
        return cls.from_image(data)

    @classmethod
    def from_toml(cls, text: str | bytes) -> Self:
        """The policy of a TOML text (see `hakmem.policy.toml`); what it does not name is the
        default's. PolicyError names a wrong field.

        >>> Policy.from_toml('headers = "all"').headers.mode
        'all'
        """
        return toml.from_toml(text, cls)

    def to_toml(self, *, full: bool = False) -> Text:
        """The TOML text that `from_toml` makes this policy of: what differs from the default, or
        with ``full`` every number, with its unit and meaning. A subclass of a part is written as
        its image says it.

        >>> Policy.default().replace(headers="all").to_toml()
        [headers]
        mode = "all"
        <BLANKLINE>
        """
        return Text(toml.to_toml(self, full=full))

    def diff(self, other: Policy, *, names: tuple[str, str] = ("first", "second")) -> Differences:
        """What ``other`` does differently: rows of field, value here, value there. ``names`` head
        the columns of its table. TypeError when ``other`` is no Policy.

        >>> Policy.default().diff(Policy.from_toml("[arenas]\\ninit_mb = 2"))[0]
        Difference(field='arenas.init_mb', first=1, second=2)
        """
        if not isinstance(other, Policy):
            raise TypeError(f"other: expected a Policy, got {type(other).__name__}")
        return diff(self, other, names)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the policy image that ``HAKMEM_POLICY`` may name. FileExistsError when there is
        one, unless ``force``; OSError."""
        files.save(self.image(), path, force=force)

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_policy``, checksum included."""
        made = mirror.HakPolicy()
        made.magic = layout.POLICY_MAGIC
        made.layout_hash = mirror.LAYOUT_HASH
        made.image_bytes = ctypes.sizeof(made)
        made.arenas = self.arenas.to_struct()
        made.caches = self.caches.to_struct(self.size_classes)
        made.acquire = self.acquire.to_struct()
        made.retain = self.retain.to_struct()
        made.profile = self.profile.to_struct()
        made.headers = self.headers.to_struct()
        made.sizes = self.size_classes.to_struct(self.headers.mode)
        made.checksum = checksum(bytes(made))
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The policy of a ``hak_policy``; PolicyError when magic, layout or checksum do not fit."""
        if struct.magic != layout.POLICY_MAGIC:
            raise PolicyError(
                "image.magic",
                hex(struct.magic),
                hex(layout.POLICY_MAGIC),
                "this is no policy image",
            )
        if struct.layout_hash != mirror.LAYOUT_HASH:
            raise PolicyError(
                "image.layout_hash",
                hex(struct.layout_hash),
                hex(mirror.LAYOUT_HASH),
                "make the image again with this version",
            )
        if struct.checksum != (expected := checksum(bytes(struct))):
            raise PolicyError(
                "image.checksum",
                hex(struct.checksum),
                hex(expected),
                "the image is damaged; make it again",
            )
        _check_bounds(bytes(struct))
        sizes = SizeClassMap.from_struct(struct.sizes)
        return cls(
            sizes,
            HeaderCodec.from_struct(struct.headers),
            ArenaGrowth.from_struct(struct.arenas),
            CachePolicy.from_struct(struct.caches, sizes),
            AcquirePolicy.from_struct(struct.acquire),
            RetainPolicy.from_struct(struct.retain),
            ProfilePolicy.from_struct(struct.profile),
        )

    def image(self) -> bytes:
        """The policy image: the bytes of ``hak_policy``."""
        return bytes(self.to_struct())

    @classmethod
    def from_image(cls, image: bytes) -> Self:
        """The policy of an image; PolicyError when it is not one."""
        size = ctypes.sizeof(mirror.HakPolicy)
        if len(image) != size:
            raise PolicyError(
                "image",
                f"{len(image)} bytes",
                f"{size} bytes",
                "make the image again with this version",
            )
        made = cls.from_struct(mirror.HakPolicy.from_buffer_copy(image))
        if made.image() != image:
            raise PolicyError(
                "image",
                "tables of its own",
                "the tables that follow from its numbers",
                "make the image again with Policy.save",
            )
        return made

    def table(self) -> Text:
        """Every part as a table, one after another."""
        parts = {
            "size classes": self.size_classes.table(),
            "thread caches": self.caches.table(self.size_classes),
            "arenas": self.arenas.table(),
            "acquire": self.acquire.table(),
            "retain": self.retain.table(),
            "profile": self.profile.table(),
        }
        heads = {f"{name} (headers: {self.headers.mode})": part for name, part in parts.items()}
        return Text(
            "\n\n".join(f"{head}\n{part}" for head, part in heads.items()),
            lambda: "".join(f"<p>{head}</p>{part._repr_html_()}" for head, part in heads.items()),
        )
