"""Policy files: images, which C obeys, and TOML (`hakmem.policy.toml`), which people write."""

from __future__ import annotations

import os
from pathlib import Path

from .. import layout
from ..errors import PolicyError

MAGIC = layout.POLICY_MAGIC.to_bytes(8, "little")


def save(image: bytes, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a policy image to ``path``: whole or not at all. FileExistsError when there is a file
    already, unless ``force``."""
    place = Path(path)
    if not force and place.exists():
        raise FileExistsError(f"{place} exists already; choose another name, or force")
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        part.write_bytes(image)
        os.replace(part, place) if force else os.link(part, place)
    finally:
        part.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a policy file. PolicyError when it is none: missing, not readable, no regular
    file, or too long."""
    place = Path(path)
    try:
        if place.exists() and not place.is_file():
            raise PolicyError(
                "file",
                str(place),
                "a policy image or a TOML file",
                "this is no regular file; name another",
            )
        with open(place, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise PolicyError(
            "file", str(place), "a file that can be read", f"it cannot: {error.strerror or error}"
        ) from None
