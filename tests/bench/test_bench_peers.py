"""Peers of several versions: what a library says it is, wheels that bring one, the base of the
ratios."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import compare, peers, records, report, run, targets, versions, wheels

Library = Callable[[str, str], Path]


def mimalloc_of(library: Library, number: int) -> Path:
    return library(f"libmimalloc-{number}", f"int mi_version(void) {{ return {number}; }}")


def test_a_library_says_its_version(library: Library, tmp_path: Path) -> None:
    assert versions.version_of(mimalloc_of(library, 30403)) == "3.4.3"
    assert versions.version_of(mimalloc_of(library, 209)) == "2.0.9"
    call = "const char *tc_version(int *a, int *b, const char **c) { return a ? 0 : (b || c) ? 0 : "
    assert versions.version_of(library("tcmalloc", call + '"gperftools 2.10"; }')) == "2.10"
    text = f'const char *said = "5.3.0-0-g{"54eaed1d" * 5}";'
    assert versions.version_of(library("jemalloc", text)) == "5.3.0"
    assert versions.version_of(library("other", "int other;")) is None
    assert versions.version_of(tmp_path / "absent.so") is None


def test_the_proxy_has_the_version_of_the_library_beside_it(
    library: Library, tmp_path: Path
) -> None:
    worker = library("worker", 'const char *said = "TBBmalloc: VERSION\\t\\t2023.2.0\\n";')
    proxy = library("proxy", "int proxy;")
    worker.rename(tmp_path / "libtbbmalloc.so.2")
    proxy = proxy.rename(tmp_path / "libtbbmalloc_proxy.so.2")
    assert versions.version_of(proxy) == "2023.2.0"


def test_a_library_that_is_replaced_is_asked_anew(library: Library) -> None:
    older, newer = mimalloc_of(library, 209), mimalloc_of(library, 30403)
    assert versions.version_of(older) == "2.0.9"
    newer.replace(older)
    assert versions.version_of(older) == "3.4.3"


# wheels


def wheel_of(place: Path, *members: str) -> Path:
    with zipfile.ZipFile(place / "one.whl", "w") as file:
        for member in members:
            file.writestr(member, f"the bytes of {member}")
    return place / "one.whl"


def test_of_a_wheel_the_libraries_alone_are_taken(tmp_path: Path) -> None:
    tbb = wheels.WHEELS[1]
    names = ("libtbb.so.12", "libtbbmalloc.so.2", "libtbbmalloc.so.2.20", "libtbbmalloc_proxy.so.2")
    archive = wheel_of(tmp_path, "tbb/run.py", *(f"tbb.data/data/lib/{name}" for name in names))
    (tmp_path / "peers" / "tbb").mkdir(parents=True)
    (tmp_path / "peers" / "tbb" / "libtbbmalloc_proxy.so.1").touch()
    assert wheels.unpack(archive, tbb, tmp_path / "peers")
    found = {path.name for path in (tmp_path / "peers" / "tbb").iterdir()}
    assert found == {"libtbbmalloc.so.2", "libtbbmalloc_proxy.so.2"}
    found_path = wheels.find(tbb, tmp_path / "peers")
    assert found_path is not None and found_path.name == "libtbbmalloc_proxy.so.2"
    assert found_path.read_text() == "the bytes of tbb.data/data/lib/libtbbmalloc_proxy.so.2"


def test_a_wheel_without_the_library_changes_nothing(tmp_path: Path) -> None:
    tbb = wheels.WHEELS[1]
    assert wheels.unpack(wheel_of(tmp_path, "lib/libtbbmalloc_proxy.so.2"), tbb, tmp_path)
    assert not wheels.unpack(wheel_of(tmp_path, "lib/libtbbmalloc.so.2"), tbb, tmp_path)
    assert (tmp_path / "tbb" / "libtbbmalloc_proxy.so.2").exists()


def test_without_a_network_what_is_there_stays_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("PIP_CONFIG_FILE", "/dev/null"), ("PIP_NO_INDEX", "1")):
        monkeypatch.setenv(name, value)
    assert wheels.unpack(wheel_of(tmp_path, "lib/libmimalloc.so.3"), wheels.WHEELS[0], tmp_path)
    assert wheels.main(tmp_path) == 0
    out, error = capsys.readouterr()
    assert (out, error) == (
        "",
        "peers: not to be had from PyPI (no network?), skipped: cmeel-mimalloc, tbb; those of "
        "before stay: cmeel-mimalloc\n",
    )
    assert wheels.find(wheels.WHEELS[0], tmp_path) is not None


def test_a_fetched_peer_is_named_by_its_version_and_finds_its_own_library(
    library: Library, tmp_path: Path
) -> None:
    places = {name: tmp_path / "peers" / name for name in ("cmeel-mimalloc", "tbb")}
    for place in places.values():
        place.mkdir(parents=True)
    mimalloc_of(library, 30403).rename(places["cmeel-mimalloc"] / "libmimalloc.so.3")
    worker = library("worker", 'const char *said = "TBBmalloc: VERSION\\t\\t2023.2.0\\n";')
    worker.rename(places["tbb"] / "libtbbmalloc.so.2")
    (places["tbb"] / "libtbbmalloc_proxy.so.2").touch()
    found = peers.fetched_peers(tmp_path / "peers")
    assert [(one.name, one.variables) for one in found] == [
        ("mimalloc3", {}),
        ("tbbmalloc2023", {"LD_LIBRARY_PATH": str(places["tbb"])}),
    ]
    assert peers.describe(found[0], None).version == "3.4.3"


def test_a_newer_version_stands_for_the_distribution_s() -> None:
    newer = [peers.Allocator(name, "peer", None) for name in ("mimalloc3", "tbbmalloc2023")]
    old = {name: peers.Allocator(name, "peer", None) for name in ("mimalloc", "tbbmalloc", "glibc")}
    assert [name for name, one in old.items() if peers.is_outdated(one, newer)] == ["tbbmalloc"]
    known = [replace(old["tbbmalloc"], on_request=True), old["glibc"], newer[1]]
    names = [one.name for one in run.select_allocators(known, {}, [], None)[0]]
    assert names == ["glibc", "tbbmalloc2023"]
    named = run.select_allocators(known, {}, [], "tbbmalloc,glibc")[0]
    assert [one.name for one in named] == ["tbbmalloc", "glibc"]


# the base


def test_the_base_is_the_newest_mimalloc(library: Library) -> None:
    glibc = peers.Allocator("glibc", "peer", None)
    old = peers.Allocator("mimalloc", "peer", mimalloc_of(library, 209))
    new = peers.Allocator("mimalloc3", "peer", mimalloc_of(library, 30403))
    own = peers.Allocator("mimallocish", "subject", mimalloc_of(library, 40000))
    assert peers.base_among([glibc, new, old, own]) == "mimalloc3"
    assert peers.base_among([glibc, old]) == "mimalloc"
    assert peers.base_among([own, glibc]) == "glibc"
    assert peers.base_among([own]) == "mimallocish"


def test_a_result_says_its_base_and_the_base_s_version(session: records.Session) -> None:
    assert "ratios are to mimalloc, 1.0" in report.render(session)
    assert "ratios are to glibc, 1.0" in report.render(session, "glibc")


def test_the_target_stays_with_the_mimalloc_it_was_stated_for(session: records.Session) -> None:
    newer = replace(
        session,
        base="mimalloc3",
        allocators=[
            *session.allocators,
            replace(session.allocators[2], name="mimalloc3", version="3.4.3"),
        ],
        runs=[
            *session.runs,
            *(
                replace(run, allocator="mimalloc3", measure=replace(run.measure, wall_ns=100_000))
                for run in session.runs
                if run.allocator == "mimalloc" and run.measure is not None
            ),
        ],
    )
    lines = targets.verdicts(newer)
    assert lines[0] == (
        "hakmem: geomean time over mimalloc's 0.25 [0.22-0.27] (target ≤ 0.50: met)"
    )
    assert lines[1].startswith("hakmem: geomean time over mimalloc3's 0.")
    assert "target" not in lines[1]
    assert targets.verdicts(replace(newer, base="glibc")) == []


def test_comparing_tells_a_peer_of_another_version(session: records.Session) -> None:
    assert "another version" not in compare.compare(session, session)
    newer = replace(
        session,
        allocators=[
            replace(info, version="2.0", sha256="cd" * 32) if info.name == "glibc" else info
            for info in session.allocators
        ],
    )
    assert "- glibc is another version: 1.0, now 2.0\n" in compare.compare(session, newer)
