"""Which allocators take part: hakmem's library, the peers that are installed, and what the user
names."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import ROOT, BenchError, policy_files, versions, wheels
from bench.driver import path_shown
from bench.records import AllocatorInfo, Kind

LIBRARY = "libhakmem.so"
SANITIZED_BUILDS = frozenset({"debug", "asan", "tsan", "ubsan"})
LIBRARY_DIRS = (
    Path("/usr/lib/x86_64-linux-gnu"),
    Path("/usr/lib/aarch64-linux-gnu"),
    Path("/usr/lib64"),
    Path("/usr/lib"),
    Path("/usr/local/lib"),
)
PEER_PATTERNS: Mapping[str, tuple[str, ...]] = {
    "mimalloc": ("libmimalloc.so.2*", "libmimalloc.so.3*", "libmimalloc.so"),
    "jemalloc": ("libjemalloc.so.2",),
    "tcmalloc": ("libtcmalloc_minimal.so.4",),
    "tbbmalloc": (
        "libtbbmalloc_proxy.so.2",
    ),  # it brings malloc, and libtbbmalloc.so.2 does the work
}
BASE_FAMILY = "mimalloc"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, slots=True)
class Allocator:
    """A malloc to measure. ``path`` is preloaded; without one the C library's own malloc serves.
    ``policy_file``: what HAKMEM_POLICY's image was made of, where that was another file.
    ``on_request``: it takes part where it is named, since a newer version of it is there."""

    name: str
    kind: Kind
    path: Path | None
    variables: dict[str, str] = field(default_factory=dict)
    policy_file: Path | None = None
    on_request: bool = False


def environment_of(allocator: Allocator) -> dict[str, str]:
    """This process's environment without its HAKMEM_ variables, with the allocator preloaded."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HAKMEM_")}
    preload = {"LD_PRELOAD": str(allocator.path)} if allocator.path else {}
    return {**kept, **allocator.variables, **preload}


def under_policy(
    name: str, library: Path | None, file: Path, variables: dict[str, str]
) -> Allocator:
    """An allocator that obeys a policy file, image or TOML. Raises BenchError for no policy."""
    image = policy_files.image_for(file)
    made_of = None if image == file.resolve() else file
    return Allocator(
        name, "subject", library, {**variables, policy_files.VARIABLE: str(image)}, made_of
    )


def find_hakmem() -> Path | None:
    """The library to measure: ``HAKMEM_LIB``, else the newest release build that is installed or
    built.

    Raises BenchError when ``HAKMEM_LIB`` names no file.
    """
    named = os.environ.get("HAKMEM_LIB")
    if named:
        path = Path(named)
        if not path.is_file():
            raise BenchError(f"HAKMEM_LIB={named}: no such file")
        return path.resolve()
    places = [ROOT / "build"]
    spec = importlib.util.find_spec("hakmem")
    # An editable install names the folder above the checkout too, where other checkouts may lie.
    found_at = (spec.submodule_search_locations or []) if spec else []
    places += [Path(place) for place in found_at if Path(place).name == "hakmem"]
    places += ROOT.glob(".venv/lib/python*/site-packages/hakmem")
    found = {
        path.resolve()
        for place in places
        if place.is_dir()
        for path in place.rglob(LIBRARY)
        if not SANITIZED_BUILDS & set(path.relative_to(place).parts)
    }
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def find_peer(name: str, dirs: Sequence[Path] = LIBRARY_DIRS) -> Path | None:
    """The installed library of a peer, from the usual directories, then from ldconfig's cache."""
    for pattern in PEER_PATTERNS[name]:
        for place in dirs:
            for path in sorted(place.glob(pattern)):
                return path
    for path in _ldconfig_paths() if dirs is LIBRARY_DIRS else []:
        if any(path.match(pattern) for pattern in PEER_PATTERNS[name]):
            return path
    return None


def _ldconfig_paths() -> list[Path]:
    tool = shutil.which("ldconfig") or shutil.which("/sbin/ldconfig")
    if tool is None:
        return []
    done = subprocess.run([tool, "-p"], capture_output=True, text=True, check=False)
    return [
        Path(line.split("=> ")[1].strip()) for line in done.stdout.splitlines() if "=> " in line
    ]


def fetched_peers(place: Path = wheels.PLACE) -> list[Allocator]:
    """The peers of ``make peers`` that the distribution does not have, each named by its family
    and the first number of its version: ``mimalloc3``."""
    found = []
    for wheel in wheels.WHEELS:
        path = wheels.find(wheel, place)
        if path is not None:
            number = versions.as_numbers(versions.version_of(path))[:1] or ("-new",)
            # What the library needs of its package is not taken from the distribution's.
            beside = (
                {"LD_LIBRARY_PATH": str(path.parent)}
                if len(list(path.parent.iterdir())) > 1
                else {}
            )
            found.append(Allocator(f"{wheel.family}{number[0]}", "peer", path, beside))
    return found


def is_outdated(peer: Allocator, newer: Sequence[Allocator]) -> bool:
    """Whether a fetched peer stands for the distribution's. Debian's mimalloc stays in every run:
    the first results and a target are over it."""
    return peer.name != BASE_FAMILY and any(
        re.fullmatch(rf"{re.escape(peer.name)}\d+", one.name) for one in newer
    )


def base_among(allocators: Sequence[Allocator]) -> str:
    """The allocator under the ratios: the newest mimalloc that is there, else glibc, else the
    first."""
    found = {
        one.name: versions.version_of(one.path)
        for one in allocators
        if one.kind == "peer" and one.path is not None and one.name.startswith(BASE_FAMILY)
    }
    names = [one.name for one in allocators]
    return versions.newest(found) or ("glibc" if "glibc" in names else names[0])


def default_allocators(
    dirs: Sequence[Path] = LIBRARY_DIRS, fetched: Path = wheels.PLACE
) -> tuple[list[Allocator], dict[str, str]]:
    """hakmem, glibc, the installed peers and the fetched ones; and by name a line for each of the
    distribution's that is absent."""
    found: list[Allocator] = []
    absent: dict[str, str] = {}
    hakmem = find_hakmem()
    if hakmem is None:
        absent["hakmem"] = (
            f"hakmem: skipped, no {LIBRARY} built or installed (HAKMEM_LIB=PATH names one)"
        )
    else:
        found.append(Allocator("hakmem", "subject", hakmem))
    found.append(Allocator("glibc", "peer", None))
    for name in PEER_PATTERNS:
        path = find_peer(name, dirs)
        if path is None:
            absent[name] = f"{name}: skipped, {PEER_PATTERNS[name][0]} is not installed"
        else:
            found.append(Allocator(name, "peer", path))
    newer = fetched_peers(fetched)
    found = [replace(one, on_request=is_outdated(one, newer)) for one in found] + newer
    found.append(Allocator("limit", "limit", None))
    return found, absent


def allocator_from(text: str, known: Sequence[Allocator]) -> Allocator:
    """``name=path.so[,VARIABLE=VALUE]...``; in place of a path the name of a known allocator will
    do.

    Raises BenchError with one line that says what is wrong.
    """
    name, equals, rest = text.partition("=")
    if not equals or not NAME.fullmatch(name) or not rest:
        raise BenchError(f"--alloc {text}: expected NAME=PATH.so[,VARIABLE=VALUE]...")
    place, *settings = rest.split(",")
    variables: dict[str, str] = {}
    for setting in settings:
        variable, equals, value = setting.partition("=")
        if not equals or not variable.isidentifier() or variable.startswith("LD_"):
            raise BenchError(f"--alloc {text}: {setting!r} is not VARIABLE=VALUE")
        variables[variable] = value
    for other in known:
        if other.name == place and other.kind != "limit":
            return _with(name, other.path, {**other.variables, **variables})
    path = Path(place)
    if not path.is_file():
        raise BenchError(f"--alloc {text}: {place} is no file and no known allocator")
    if re.search(r"[\s:]", str(path.resolve())):
        raise BenchError(
            f"--alloc {text}: the path has a space or a colon, which LD_PRELOAD cannot carry"
        )
    return _with(name, path.resolve(), variables)


def _with(name: str, path: Path | None, variables: dict[str, str]) -> Allocator:
    named = variables.get(policy_files.VARIABLE)
    if named is None:
        return Allocator(name, "subject", path, variables)
    return under_policy(name, path, Path(named), variables)


def describe(allocator: Allocator, build_kind: str | None) -> AllocatorInfo:
    """The record of an allocator: the file's digest, and its version where that can be known."""
    path = allocator.path
    return AllocatorInfo(
        name=allocator.name,
        kind=allocator.kind,
        path=None if path is None else path_shown(path),
        sha256=None if path is None else hashlib.sha256(path.read_bytes()).hexdigest(),
        version=_version(allocator),
        build_kind=build_kind,
        variables={
            name: value.replace(f"{ROOT}/", "") for name, value in allocator.variables.items()
        }
        | ({policy_files.VARIABLE: str(allocator.policy_file)} if allocator.policy_file else {}),
    )


def _version(allocator: Allocator) -> str | None:
    if allocator.kind == "limit":
        return "an inlined list (driver/limit.h)"
    return versions.libc_version() if allocator.path is None else versions.described(allocator.path)
