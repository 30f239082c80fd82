"""``hakmem run --at-peak``, ``--at-exit`` and ``--every``: what they show, and of which process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import hakmem, refused

import hakmem as package
from hakmem import cli
from hakmem.views.heap_view import HeapView
from tests.support.programs import built

MIB = 1 << 20
BURST_BYTES = 65536 * 1000


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of planted.c."""
    return str(built(tmp_path_factory, Path(__file__).with_name("planted.c"), "-g", "-O1"))


def started(*words: object) -> subprocess.Popen[str]:
    """A program under ``hakmem run``."""
    command = [sys.executable, "-m", "hakmem", "run", "-q", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def site_names(view: HeapView) -> list[str]:
    """The functions of its sites, most live bytes first."""
    return [str(name).split(" ")[0] for name in view.sites.array["where"]]


def test_the_peak_is_kept_of_a_program_that_went_on(planted: str, tmp_path: Path) -> None:
    place, end = tmp_path / "most.npz", tmp_path / "end.npz"
    looks = ("--at-peak", place, "--at-exit", end)
    with started("--profile=64K", *looks, "--", planted, "burst") as program:
        assert program.stdout is not None
        program.stdout.readline()  # the burst is over
        time.sleep(1)
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=60)
    assert program.returncode == -signal.SIGTERM
    peak, last = package.load(place), package.load(end)
    assert peak.process is not None and peak.process.rss_bytes > BURST_BYTES
    held = [
        sum(site.live_bytes for site in look.sites if site.where.startswith("burst_here"))
        for look in (peak, last)
    ]
    assert held[0] == pytest.approx(BURST_BYTES, rel=0.2) and held[1] < BURST_BYTES / 20
    assert not list(tmp_path.glob(".*"))


def test_a_program_that_ends_at_its_peak_leaves_it(planted: str, tmp_path: Path) -> None:
    place = tmp_path / "most.npz"
    done = hakmem("run", "-q", "--profile=64K", "--at-peak", place, "--", planted, "rises")
    assert done.returncode == 4, done.stderr
    found = package.load(place)
    assert site_names(found)[0] == "burst_here"
    assert int(found.sites.array["live_bytes"][0]) > BURST_BYTES * 0.6
    again = hakmem("run", "-q", "--at-peak", place, "--", planted, "rises")
    refused(again, cli.USAGE, "-f overwrites it")
    both = ("--at-peak", tmp_path / "a", "--at-exit", tmp_path / "a")
    refused(hakmem("run", *both, "--", "true"), cli.USAGE, "expected two files")


@pytest.mark.parametrize(
    "before", [("timeout", "60"), ("sh", "-c", "true; timeout 60 env A=1 $0 $1; true")]
)
def test_what_a_starter_runs_is_looked_at(
    planted: str, tmp_path: Path, before: tuple[str, ...]
) -> None:
    looks = ("--at-exit", tmp_path / "end.npz", "--at-peak", tmp_path / "most.npz")
    done = hakmem("run", "-q", "--profile=64K", *looks, "--", *before, planted, "rises")
    assert done.returncode == (4 if before[0] == "timeout" else 0), done.stderr
    for name in ("end.npz", "most.npz"):
        found = package.load(tmp_path / name)
        assert found.process is not None and found.process.program == os.path.realpath(planted)
        assert site_names(found)[0] == "burst_here"


def test_looks_between_are_of_the_program_that_a_shell_runs(planted: str, tmp_path: Path) -> None:
    folder = tmp_path / "looks"
    options = ("--profile=64K", "--every", "0.3s", "-o", folder)
    with started(*options, "--", "sh", "-c", f"{planted} burst; true") as program:
        assert program.stdout is not None
        program.stdout.readline()
        time.sleep(2)
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        program.communicate(timeout=60)
    looks = [package.load(place) for place in sorted(folder.iterdir())]
    assert len(looks) > 2
    programs = {look.process.program for look in looks if look.process is not None}
    assert os.path.realpath(planted) in programs
    assert programs <= {os.path.realpath(planted), os.path.realpath("/bin/sh")}
    assert site_names(looks[-1])[0] in ("burst_here", "work_here")


def test_a_shell_that_runs_nothing_is_looked_at_itself(tmp_path: Path) -> None:
    place = tmp_path / "end.npz"
    done = hakmem("run", "-q", "--at-exit", place, "--", "sh", "-c", "echo said")
    assert done.returncode == 0 and done.stdout == "said\n", done.stderr
    found = package.load(place).process
    folder = os.path.dirname(os.path.realpath("/bin/sh"))
    assert found is not None and found.program == os.path.join(folder, "sh")  # as it was called
