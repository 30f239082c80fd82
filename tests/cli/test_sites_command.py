"""``hakmem sites``, ``leaks``, ``why`` and ``run --at-exit`` find planted causes by name."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Target, hakmem, refused, said

import hakmem as package
from hakmem import cli
from tests.support.programs import built


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of planted.c."""
    return str(built(tmp_path_factory, Path(__file__).with_name("planted.c"), "-g", "-O1"))


def test_who_pins_is_named(launch: Callable[..., Target], planted: str, tmp_path: Path) -> None:
    program = launch("", planted, "pins", env={"HAKMEM_PROFILE_BYTES": "8192"})
    said(program)
    by_pinned = hakmem("sites", "--by", "pinned", "--json", program.pid)
    found = json.loads(by_pinned.stdout)["sites"]
    assert found[0]["where"].startswith("pin_here (planted.c:"), by_pinned.stderr
    whole = sum(max(site["pinned_bytes"], 0) for site in found)
    assert found[0]["pinned_bytes"] > 0.8 * whole > 4 << 20
    assert [frame["function"] for frame in found[0]["frames"]][:3] == ["pin_here", "pin", "main"]
    freed = next(site for site in found if site["where"].startswith("temp_here"))
    assert freed["live_bytes"] == 0 and abs(freed["total_blocks"] / (101 * 200) - 1) < 0.15
    words = " ".join(hakmem("why", "-q", program.pid).stdout.split())
    assert "The call site that pins most, by samples: pin_here (planted.c:" in words
    kinds = package.attach(program.pid).why().outside.by_kind().array
    own = kinds[kinds["kind"] == "hakmem's samples"]
    assert len(own) == 1 and 1 << 14 < own["rss_bytes"][0] < 4 << 20, "and not anonymous"
    shown = hakmem("sites", "--limit", "1", program.pid).stdout
    assert "free in thread caches, no site's: " in shown and ": thread 1 (planted) " in shown, shown
    screen = hakmem("sites", "-v", "--limit", "1", "--by", "pinned", program.pid).stdout
    assert "    pin_here (" in screen and "... 1 more" in screen
    page, packed = tmp_path / "waste.svg", tmp_path / "heap.pb.gz"
    assert hakmem("sites", "--by", "pinned", program.pid, "-o", page).returncode == 0
    assert "pin_here" in page.read_text()
    assert hakmem("sites", program.pid, "-o", packed).returncode == 0
    assert packed.read_bytes()[:2] == b"\x1f\x8b"
    refused(hakmem("sites", program.pid, "-o", packed), cli.USAGE, "-f overwrites it")


def test_what_leaks_is_named(launch: Callable[..., Target], planted: str, tmp_path: Path) -> None:
    program = launch("", planted, "leaks", env={"HAKMEM_PROFILE_BYTES": "4096"})
    said(program)
    before = tmp_path / "before.npz"
    time.sleep(1)
    assert hakmem("dump", program.pid, "-o", before).returncode == 0
    deadline = time.monotonic() + 60
    names: list[str] = []
    while not names and time.monotonic() < deadline:
        time.sleep(1)
        found = json.loads(hakmem("leaks", "--json", before, program.pid).stdout)["sites"]
        names = [site["where"] for site in found]
    assert [name.split(" ")[0] for name in names] == ["leak_here"], "and not work_here"
    assert "leak_here" in hakmem("diff", before, program.pid).stdout


def test_whatis_shows_who_allocated(launch: Callable[..., Target], planted: str) -> None:
    program = launch("", planted, "pins", env={"HAKMEM_PROFILE_BYTES": "8192"})
    said(program)
    tables = package.attach(program.pid).capture.profile
    address = int(tables.live["address"][-1])  # type: ignore[union-attr]
    shown = hakmem("whatis", program.pid, hex(address)).stdout
    assert "with 640 B by thread" in shown and "    main (" in shown


def test_a_program_that_ends_leaves_a_look(planted: str, tmp_path: Path) -> None:
    place = tmp_path / "end.npz"
    done = hakmem("run", "-q", "--profile=8K", "--at-exit", place, "--", planted, "ends")
    assert done.returncode == 3 and done.stdout == "ready\n", done.stderr
    assert "pin_here (planted.c:" in hakmem("sites", "--by", "pinned", "-q", place).stdout
    again = hakmem("run", "-q", "--at-exit", place, "--", planted, "ends")
    refused(again, cli.USAGE, "-f overwrites it")


def test_never_sampled(launch: Callable[..., Target], planted: str) -> None:
    program = launch("", planted, "pins")
    said(program)
    refused(hakmem("sites", program.pid), cli.FAILED, "was not sampled", "hakmem profile on")


def test_bad_words(tmp_path: Path) -> None:
    every = hakmem("run", "-q", "--every", "1s", "--", "true")
    refused(every, cli.USAGE, "expected both, or none of them")
    refused(hakmem("run", "--every", "0", "-o", tmp_path, "--", "true"), cli.USAGE, "10ms to 1 day")
    refused(hakmem("sites", "--format", "flame", "1"), cli.USAGE, "name a file with -o")


def test_a_program_has_the_name_it_was_started_with(
    launch: Callable[..., Target], planted: str
) -> None:
    """As redis-server is a link to redis-check-rdb; functions of a stripped one name the file."""
    stripped = Path(planted).with_name("checker")
    link = Path(planted).with_name("server")
    subprocess.run(["strip", "-o", stripped, planted], check=True)
    link.symlink_to("checker")
    program = launch("", str(link), "pins", env={"HAKMEM_PROFILE_BYTES": "8192"})
    said(program)
    found = package.attach(program.pid)
    assert found.process is not None and found.process.program == str(link)
    names = found.sites.array["where"].tolist()
    assert any("server+0x" in name for name in names), names
    assert not any("checker" in name for name in names), names


def test_a_burst_at_start_is_named_by_what_it_left(
    launch: Callable[..., Target], planted: str
) -> None:
    """One block of a hundred of a burst lives on, among the blocks of its work."""
    program = launch("", planted, "burst", env={"HAKMEM_PROFILE_BYTES": "16384"})
    said(program)
    time.sleep(2)
    view = package.attach(program.pid)
    assert "by samples: burst_here (planted.c:" in view.why().paragraph()
    rows = view.sites.array
    assert rows["where"][rows["pinned_bytes"].argmax()].startswith("burst_here (planted.c:")


def test_what_outlives_its_slabs_is_named_with_a_remedy(
    launch: Callable[..., Target], planted: str, tmp_path: Path
) -> None:
    program = launch("", planted, "pins", env={"HAKMEM_PROFILE_BYTES": "8192"})
    said(program)
    time.sleep(5)
    place = tmp_path / "pins.npz"
    package.attach(program.pid).save(place)
    words = " ".join(hakmem("sites", "--lifetimes", "-q", place).stdout.split())
    assert "pin_here (planted.c:" in words.split(" pins ")[0][-60:]
    assert "in class 18 (640 B): its blocks have lived" in words
    assert "among blocks of temp_here (planted.c:" in words and "the same size" in words
    by_class = json.loads(hakmem("sites", "--lifetimes=class", "--json", place).stdout)
    assert by_class["lifetimes"][0]["where"] == "class 18 (640 B)"
    assert sum(by_class["lifetimes"][0]["lifetimes"]) > 1000
    assert by_class["mixed"][0]["where"].startswith("pin_here") and by_class["mixed"][0]["remedy"]
