"""``hakmem top``, frames from samples, and on a terminal as a person drives it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from commands import ROOT, Target, clean, hakmem, refused, said

import hakmem as package
from hakmem.cli.frames import (
    CLASS_COLUMNS,
    KEYS,
    SITES,
    Choice,
    Sample,
    frame,
    sparkline,
    table_rows,
    take,
)
from hakmem.clib.binding import find
from hakmem.views.answers.glance import Glance
from hakmem.views.sites.by_name import by_name

BUSY = """
import threading, time
def work():
    keep = []
    while True:
        keep += [bytes(600 + place % 7) for place in range(500)]
        if len(keep) > 5000: keep.clear()
        time.sleep(.01)
threading.Thread(target=work, daemon=True).start()
"""


# --- frames ---------------------------------------------------------------------------------------


def glance(heap: package.Heap) -> Glance:
    view = heap.view()
    return Glance(view.capture.source, view.capture.address)


@pytest.fixture
def samples() -> tuple[Sample, Sample]:
    """A heap before and two seconds later, with 1,000 blocks of 640 B more."""
    with package.Heap(region_bytes=1 << 26) as heap:
        heap.alloc_many([640] * 500 + [40_000] * 30)
        before = take(glance(heap))
        heap.alloc_many([640] * 1000)
        return replace(before, taken=10.0), replace(take(glance(heap)), taken=12.0)


def test_rates_are_a_second(samples: tuple[Sample, Sample]) -> None:
    before, now = samples
    rows = {row["stride_bytes"]: row for row in table_rows(now, before, 0)}
    assert rows[640]["grown"] == 640 * 1000 / 2 and rows[40_960]["grown"] == 0
    assert {row["grown"] for row in table_rows(now, None, 0)} == {0.0}
    thread = table_rows(now, before, 1)[0]
    refills = (
        now.threads["refill_count"].astype(int).sum()
        - before.threads["refill_count"].astype(int).sum()
    )
    assert thread["refill_count"] == refills / 2 > 0


def column(lines: list[str], heading: str) -> list[str]:
    """The cells of the first table's column."""
    start = next(place for place, line in enumerate(lines) if "class" in line and "stride" in line)
    end = next(place for place in range(start, len(lines)) if not lines[place])
    names = [cell.strip("▼▲\x01\x02") for cell in re.split(r" {2,}", lines[start].strip())]
    return [
        re.split(r" {2,}", line.strip())[names.index(heading)] for line in lines[start + 1 : end]
    ]


def test_sort_keys_and_frames(samples: tuple[Sample, Sample]) -> None:
    before, now = samples
    choice, history = Choice(), deque([1, 2])
    assert column(frame(now, before, history, choice, 200, 50), "stride")[0] == "40,960"
    assert choice.press("s")  # by growth
    assert column(frame(now, before, history, choice, 200, 50), "stride")[0] == "640"
    choice.press("r")
    assert column(frame(now, before, history, choice, 200, 50), "stride")[-1] == "640"
    for _ in CLASS_COLUMNS:
        choice.press("s")
    assert choice.sort[0] == 3, "the keys go round"
    choice.press("t")
    assert not any("OS id" in line for line in frame(now, before, history, choice, 200, 50))
    choice.press("t")
    assert (
        not any("stride" in line for line in frame(now, before, history, choice, 200, 50))
        and choice.focus == 1
    )
    assert not choice.press("x") and choice.press("?")
    assert any("Ctrl-C" in line for line in frame(now, before, history, choice, 80, 24))


@pytest.mark.parametrize("size", [(20, 8), (80, 24), (99, 12), (200, 60)])
def test_a_frame_fits(samples: tuple[Sample, Sample], size: tuple[int, int]) -> None:
    for choice in (
        Choice(),
        Choice(plain=True),
        Choice(show=2, focus=1),
        Choice(help=True, paused=True),
    ):
        lines = frame(samples[1], samples[0], deque(range(60)), choice, *size)
        assert (
            len(lines) == size[1] and max(len(line.lstrip("\x01\x02")) for line in lines) <= size[0]
        )
        assert KEYS.startswith(lines[-1].rstrip("…"))


def test_a_dear_look_comes_more_rarely() -> None:
    from hakmem.cli.top import Watch

    watch, choice = object.__new__(Watch), Choice()
    for cost, interval in ((0.004, 1.0), (0.03, 3.0), (0.001, 1.0)):
        watch.cost_seconds = cost
        watch.pace(choice)
        assert choice.interval == interval
    choice.press("+")
    watch.cost_seconds = 0.03
    watch.pace(choice)
    assert choice.interval == 0.5, "what was chosen stays"


def test_sparkline() -> None:
    assert (
        sparkline([]) == ""
        and sparkline([5, 5]) == "▁▁"
        and sparkline([0, 7]) == "▁█"
        and sparkline([0, 1], "_#") == "_#"
    )
    assert (
        sparkline([5, 5, 6], least_range=7) == "▁▁▂" and sparkline([0, 70], least_range=7) == "▁█"
    )


def test_what_hardly_moves_looks_flat_and_what_grows_does_not(
    samples: tuple[Sample, Sample],
) -> None:
    def spark(*mib: float) -> str:
        history = deque(int(value * (1 << 20)) for value in mib)
        line = frame(samples[0], None, history, Choice(), 120, 30)[1]
        return line.split("  ")[1]

    assert spark(208, 208.3, 208) == "▁▁▁", "a range of 26 MiB at least"
    assert spark(208, 216, 234) == "▁▂▇"
    assert spark(100, 200, 800) == "▁▂█"
    assert spark(0.5, 0.6) == "▁▁", "1 MiB at least"


# --- without a terminal ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy(launch_shared: Callable[..., Target]) -> Target:
    program = launch_shared(BUSY)
    said(program)
    return program


def test_frames_in_a_pipe(busy: Target) -> None:
    done = hakmem("top", "-n", "2", "-d", "0.2", busy.pid)
    assert done.returncode == 0 and done.stderr == "" and "\x1b" not in done.stdout
    assert done.stdout.count("hakmem top  process") == 2 and "refills" in done.stdout
    rows = [
        json.loads(line)
        for line in hakmem("top", "--json", "-n", "2", "-d", "0.2", busy.pid).stdout.splitlines()
    ]
    assert (
        len(rows) == 2
        and rows[1]["rss_bytes"] > 1 << 20
        and any(thread["refill_count"] > 0 for thread in rows[1]["threads"])
    )
    piped = subprocess.run(
        f"{sys.executable} -m hakmem top -d 0.1 {busy.pid} | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env=clean(),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (piped.returncode, piped.stderr) == (141, "")


def test_bad_arguments(busy: Target) -> None:
    refused(hakmem("top", "-d", "0", busy.pid), 2, "--delay 0", "0.05")
    refused(hakmem("top", "-d", "x", busy.pid), 2, "expected seconds")
    refused(hakmem("top", 2**22 + 7), 1, "there is no process")
    refused(hakmem("top", "heap.npz"), 2, "expected a process id")


# --- on a terminal --------------------------------------------------------------------------------


class Terminal:
    """A shell in tmux: what a person types, and what stands on the screen."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "tmux")
        variables = clean(
            TERM="screen",
            LC_ALL="C.UTF-8",
            HAKMEM_LIBRARY=str(find().absolute()),
            PS1="$ ",
            IPYTHONDIR=str(folder),
        )
        variables.pop("NO_COLOR", None)
        variables.pop("TMUX", None)
        self.tmux(
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "110",
            "-y",
            "30",
            "bash",
            "--norc",
            "--noprofile",
            env=variables,
        )
        self.until(lambda screen: "$" in screen)

    def tmux(self, *words: str, env: dict[str, str] | None = None) -> str:
        return subprocess.run(
            ["tmux", "-S", self.socket, *words],
            check=True,
            capture_output=True,
            text=True,
            env=env,
            cwd=ROOT,
            timeout=20,
        ).stdout

    def screen(self, *, codes: bool = False) -> str:
        return self.tmux("capture-pane", "-p", *(["-e"] if codes else []))

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def run(self, *words: object) -> None:
        self.type("-l", " ".join([sys.executable, "-m", "hakmem", *map(str, words)]))
        self.type("Enter")

    def until(self, wanted: Callable[[str], object], seconds: float = 30) -> str:
        limit = time.monotonic() + seconds
        while not wanted(screen := self.screen()):
            assert time.monotonic() < limit, f"never came:\n{screen}"
            time.sleep(0.05)
        return screen


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("no tmux: apt-get install tmux")
    made = Terminal(tmp_path)
    yield made
    made.tmux("kill-server")


def left_well(terminal: Terminal) -> None:
    """The shell is back on its own screen, its terminal as it was."""
    terminal.type("-l", "stty -a | grep -ow -- '-\\?icanon\\|-\\?echo'; echo code $?")
    terminal.type("Enter")
    screen = terminal.until(lambda screen: "code 0" in screen)
    assert (
        "\nicanon\necho\n" in screen and "-icanon\n" not in screen and "committed" not in screen
    ), screen


def test_top_as_a_person_drives_it(busy: Target, terminal: Terminal) -> None:
    terminal.run("top", "-d", "0.2", busy.pid)
    screen = terminal.until(
        lambda screen: (
            "in use▼" in screen
            and re.search(r"a second: [1-9]", screen)
            and re.search("[▁▂▃▄▅▆▇█]{3}", screen)
        )
    )
    assert (
        screen.startswith(f"hakmem top  process {busy.pid}")
        and "every 0.2 s\n" in screen
        and "640" in screen
        and "OS id" in screen
    )
    assert screen.rstrip().endswith("? help")
    terminal.type("s")
    terminal.until(lambda screen: "grows/s▼" in screen)
    terminal.type("Tab", "s", "r")
    terminal.until(lambda screen: screen.count("grows/s▼") == 1 and "grows/s▲" in screen)
    terminal.type("t")
    terminal.until(lambda screen: "OS id" not in screen)
    terminal.type("t", "t")
    terminal.until(lambda screen: "hakmem profile on" in screen)
    terminal.type("t", "p")
    still = terminal.until(
        lambda screen: "paused" in screen and "OS id" in screen and "stride" in screen
    )
    time.sleep(0.6)
    assert terminal.screen() == still, "paused, nothing moves"
    terminal.type("?")
    terminal.until(lambda screen: "Ctrl-C   quit" in screen)
    terminal.type("?", "p", "-")
    terminal.until(lambda screen: "every 0.4 s" in screen)
    terminal.tmux("resize-window", "-x", "60", "-y", "12")
    small = terminal.until(
        lambda screen: max(map(len, screen.splitlines())) <= 60 and "…" in screen
    )
    assert len(small.splitlines()) <= 12
    terminal.type("C-z")
    terminal.until(lambda screen: "Stopped" in screen)
    terminal.type("-l", "fg")
    terminal.type("Enter")
    terminal.until(lambda screen: screen.startswith("hakmem top"))
    terminal.type("q")
    terminal.until(lambda screen: not screen.startswith("hakmem top"))
    left_well(terminal)


@pytest.mark.parametrize("way", ["C-c", "target", "terminated"])
def test_top_gives_the_terminal_back(
    launch: Callable[..., Target], terminal: Terminal, way: str
) -> None:
    program = launch()
    said(program)
    terminal.run("top", "-d", "0.2", program.pid)
    terminal.until(lambda screen: "in use▼" in screen)
    if way == "C-c":
        terminal.type("C-c")
    elif way == "target":
        program.kill()
        program.wait()
        terminal.until(lambda screen: f"hakmem top: process {program.pid} has ended" in screen)
    else:
        top = next(
            int(name)
            for name in os.listdir("/proc")
            if name.isdecimal() and _is_top(name, program.pid)
        )
        os.kill(top, signal.SIGTERM)
    terminal.until(lambda screen: not screen.startswith("hakmem top  "))
    left_well(terminal)


def _is_top(name: str, pid: int) -> bool:
    try:
        return Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")[2:-1] == [
            b"hakmem",
            b"top",
            b"-d",
            b"0.2",
            str(pid).encode(),
        ]
    except OSError:
        return False


def test_maps_are_coloured_on_a_terminal(saved: Path, terminal: Terminal) -> None:
    unit = package.load(saved).slabs["unit"][0]
    terminal.run("maps", saved, "--slab", unit)
    terminal.until(lambda screen: "application   ." in screen)
    assert "\x1b[32m#" in terminal.screen(codes=True)
    terminal.type("-l", "export NO_COLOR=1; clear")
    terminal.type("Enter")
    terminal.until(lambda screen: "application" not in screen)
    terminal.run("maps", saved, "--slab", unit)
    terminal.until(lambda screen: "application   ." in screen)
    assert "\x1b[32m" not in terminal.screen(codes=True)


@pytest.mark.parametrize("prompt", ["plain", "IPython"])
def test_shell_as_a_person_drives_it(saved: Path, terminal: Terminal, prompt: str) -> None:
    if prompt == "IPython":
        pytest.importorskip("IPython")
    terminal.run("shell", *(["--plain"] if prompt == "plain" else []), saved)
    sign = ">>>" if prompt == "plain" else "In ["
    screen = terminal.until(lambda screen: sign in screen)
    assert "Ctrl-D leaves" in screen and "process heap" in screen
    terminal.type("-l", "heap.superslabs.arr")
    terminal.type("Tab")
    terminal.until(lambda screen: "superslabs.array" in screen)
    terminal.type("C-u" if prompt == "plain" else "C-c")
    time.sleep(0.2)
    terminal.type("-l", "print(6 * 7, heap.name)")
    terminal.type("Enter")
    terminal.until(lambda screen: "42 process heap" in screen)
    terminal.type("C-d")
    terminal.until(lambda screen: re.search(r"\$ *$", screen.rstrip()))


def test_a_page_of_call_sites() -> None:
    with package.Heap(region_bytes=1 << 26) as heap:
        heap.profile(1)
        heap.alloc_many([640] * 500)
        before = take(glance(heap), by_name(heap.view()))
        heap.alloc_many([640] * 1000)
        now = replace(
            take(glance(heap), by_name(heap.view())), taken=before.taken + 2, clock="12:00:00"
        )
    choice = Choice(plain=True)
    for _ in range(3):
        assert choice.press("t")
    assert choice.with_sites and choice.focus == SITES
    (row,) = table_rows(now, before, SITES)
    assert row["live_bytes"] == 1500 * 640 and row["live_samples"] == 1500
    assert row["grown"] == row["total_bytes"] == 1000 * 640 / 2, "a second"
    lines = frame(now, before, deque([1]), choice, 120, 24)
    heading = next(at for at, line in enumerate(lines) if line.startswith("\x01"))
    words = ("call site", "livev", "grows/s", "pinned", "blocks", "allocates/s", "oldest")
    assert all(word in lines[heading] for word in words), lines[heading]
    assert "938 KiB" in lines[heading + 1] and "+312 KiB" in lines[heading + 1]
    assert "312 KiB" in lines[heading + 1].replace("+312 KiB", "", 1)
    narrow = frame(now, before, deque([1]), choice, 60, 24)
    assert "livev" in narrow[heading], "a long name leaves room for the figures"
    assert choice.press("t") and not choice.with_sites and choice.focus == 0
    assert not table_rows(replace(now, sites=None), before, SITES)
    nothing = replace(now, sites=now.sites[:0], no_sites="was not sampled")  # type: ignore[index]
    choice.show, choice.focus = 3, SITES
    assert "was not sampled" in "\n".join(frame(nothing, None, deque([1]), choice, 80, 24))


def test_call_sites_of_a_process(launch: Callable[..., Target]) -> None:
    program = launch(BUSY, env={"HAKMEM_PROFILE_BYTES": "4096"})
    made = hakmem("top", "--sites", "-n", "2", "-d", "0.5", "--json", program.pid)
    frames = [json.loads(line) for line in made.stdout.splitlines()]
    assert len(frames) == 2, made.stderr
    rates = {row["where"]: row["total_bytes"] for row in frames[1]["sites"]}
    assert any(
        rate > 0 for name, rate in rates.items() if name.startswith(("work (", "<listcomp>"))
    ), rates
