"""Stopped threads serve a request and go on where they were: whatever they sleep in goes on, no
register, no errno and no mask changes, and their caches are empty afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hakmem
from hakmem import layout
from hakmem.generate import mirror
from hakmem.outside import asking, errands, interrupted
from hakmem.outside.live import LiveProcess
from hakmem.outside.tracing import Tracee
from hakmem.system import procfs
from tests.support.programs import built

Launch = Callable[..., subprocess.Popen[str]]
HERE = Path(__file__).resolve().parent
CASES = {
    "n": "nanosleep",
    "p": "poll",
    "P": "ppoll",
    "s": "select",
    "f": "a futex with a time limit",
    "r": "read",
    "e": "epoll_wait without a time limit",
    "v": "a socket with a time limit",
    "u": "user code with values in its registers",
}


WIDE_CACHES = {"HAKMEM_CACHE_FIRST_MB": "2048"}
"""As wide as one thread has alone, however many there are."""


@pytest.fixture(scope="session")
def sleepers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of sleepers.c."""
    return built(tmp_path_factory, HERE / "sleepers.c", "-O1", "-mavx")


def cached(pid: int) -> int:
    """What the caches of all threads hold."""
    return int(hakmem.attach(pid).threads["cached_bytes"].sum())


def ended_well(program: subprocess.Popen[str]) -> None:
    """No thread of it saw anything."""
    said, _ = program.communicate(timeout=60)
    assert program.returncode == 0 and "0 saw something" in said, said


@pytest.mark.parametrize("call", CASES, ids=CASES.get)
def test_mt_threads_asleep_are_drained_and_see_nothing(
    launch: Launch, sleepers: Path, call: str
) -> None:
    """Twice, since a call that was made again is interrupted in another state."""
    threads = 1 if call == "v" else 3
    program = launch(sleepers, threads, 3, call)
    held = cached(program.pid)
    for _ in range(2):
        answer = asking.drain(hakmem.attach(program.pid), 20)
        assert answer.served and answer.sent_count >= threads, answer
    assert held > threads << 20 and cached(program.pid) < held // 20
    ended_well(program)


@pytest.mark.slow
def test_mt_four_hundred_sleepers_hold_nothing(launch: Launch, sleepers: Path) -> None:
    program = launch(sleepers, 400, 90, "n", **WIDE_CACHES)
    view = hakmem.attach(program.pid)
    before = procfs.resident_bytes(program.pid)
    assert asking.drain(view, 60).served and asking.trim(view, 20).served
    after = procfs.resident_bytes(program.pid)
    # all of the process, stacks included
    assert before > 400 << 20 and after < 400 * 32 << 10, (before, after)
    program.kill()


def test_mt_four_hundred_sleepers_that_nobody_asks_hold_little(
    launch: Launch, sleepers: Path
) -> None:
    """Nor do they without a drain: so many threads have small caches."""
    program = launch(sleepers, 400, 90, "n")
    assert procfs.resident_bytes(program.pid) < 400 << 18
    program.kill()


def test_a_view_asks_and_tells(launch: Launch, sleepers: Path, tmp_path: Path) -> None:
    program = launch(sleepers, 10, 3, "n")
    view = hakmem.attach(program.pid)
    left = view.drain(0, stop=False)
    assert (
        not left.served and "leave out stop=False" in repr(left) and "pending has all" in repr(left)
    )
    drained, trimmed = view.drain(20), view.trim(20)
    assert drained.served and f"({drained.sent_count} threads stopped for it): " in repr(drained)
    assert repr(trimmed).endswith(" now") and " given back: " in repr(trimmed)
    assert repr(trimmed) in trimmed._repr_html_()
    view.save(tmp_path / "asleep.npz")
    for other in (hakmem.load(tmp_path / "asleep.npz"), hakmem.attach(program.pid, stop=True)):
        with pytest.raises(
            hakmem.HakmemError, match="can not be asked to trim: only another process"
        ):
            other.trim()
    ended_well(program)


def test_a_signal_ends_sigsuspend_after_it(launch: Launch, sleepers: Path) -> None:
    program = launch(sleepers, 1, 1, "g")
    for _ in range(3):
        assert asking.drain(hakmem.attach(program.pid), 20).served
    program.send_signal(signal.SIGUSR1)
    ended_well(program)


def test_a_single_thread_asleep_trims_at_once(python: Callable[..., subprocess.Popen[str]]) -> None:
    code = "held = [bytearray(1 << 20) for _ in range(300)]; del held"
    program = python(code, HAKMEM_EAGER_PCT="0", HAKMEM_RETAIN_PCT="400")
    before = procfs.resident_bytes(program.pid)
    answer = asking.trim(hakmem.attach(program.pid), 10)
    assert answer.served and answer.sent_count == 1 and answer.given_bytes > 250 << 20, answer
    assert before - procfs.resident_bytes(program.pid) > 250 << 20


def test_nothing_is_stopped_that_need_not_be(python: Callable[..., subprocess.Popen[str]]) -> None:
    program = python("import threading")
    asleep = asking.drain(hakmem.attach(program.pid), 0.3, stop=False)
    assert not asleep.served and asleep.sent_count == 0 and asleep.refusal == asking.NOT_ASKED
    assert [thread.reason for thread in asleep.pending] == [""]
    now = asking.drain(hakmem.attach(program.pid), 0)
    assert not now.served and now.sent_count == 0, "it was asked, and nobody waited"


def test_a_process_does_not_stop_itself(python: Callable[..., subprocess.Popen[str]]) -> None:
    code = (
        "import os, hakmem; from hakmem.outside import asking\n"
        "answer = asking.drain(hakmem.attach(os.getpid()), 0.3)\n"
        "assert 'itself' in answer.refusal, answer"
    )
    assert python(code).poll() is None


def test_mt_a_restartable_sequence_is_left_alone(
    launch: Launch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A thread is sent only once the kernel has broken the sequence off."""
    program = launch(built(tmp_path_factory, HERE / "restartable.c", "-O1"))
    for _ in range(10):
        asking.drain(hakmem.attach(program.pid), 1)
    said, _ = program.communicate("\n", timeout=60)
    assert (program.returncode, said) == (0, "0 left and entered again, begun anew\n")


def test_a_thread_stopped_by_job_control_is_left(
    python: Callable[..., subprocess.Popen[str]],
) -> None:
    program = python()
    program.send_signal(signal.SIGSTOP)
    while procfs.task_state(program.pid, program.pid) != "T":
        time.sleep(0.001)
    answer = asking.drain(hakmem.attach(program.pid), 0.3)
    assert [thread.reason for thread in answer.pending] == [errands.STOPPED]
    assert procfs.task_state(program.pid, program.pid) == "T"
    program.send_signal(signal.SIGCONT)
    assert asking.drain(hakmem.attach(program.pid), 10).served


def test_a_long_wait_that_would_begin_anew_is_left(
    python: Callable[..., subprocess.Popen[str]],
) -> None:
    code = (
        "import select; queue = select.epoll(); print('ready', flush=True); "
        "print(queue.poll(3.0)); print('over', flush=True)"
    )
    program = python(code)
    time.sleep(0.2)
    answer = asking.drain(hakmem.attach(program.pid), 0.5)
    assert [thread.reason for thread in answer.pending] == [errands.WAITS_LONG]


@pytest.mark.slow
def test_mt_tools_killed_at_random(sleepers: Path) -> None:
    """The storm of errand_storm.py in its short form; `make attach-storm` has the long one."""
    command = [sys.executable, str(HERE / "errand_storm.py"), str(sleepers), "--rounds", "16"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith("errand storm: 16 tools killed")


def test_mt_a_handler_over_malloc_is_seen(launch: Launch, sleepers: Path) -> None:
    """Handlers that sleep lie over malloc and free; none of their threads' caches is emptied."""
    program = launch(sleepers, 6, 3, "h")
    limit = time.monotonic() + 2
    while time.monotonic() < limit:
        asking.drain(hakmem.attach(program.pid), 0.4)
    ended_well(program)


def test_a_thread_that_was_late_to_stop_is_let_go(launch: Launch, sleepers: Path) -> None:
    """Else it would stop a moment later, for as long as the tool lives."""
    program = launch(sleepers, 1, 1, "g")
    for _ in range(20):
        thread = Tracee(program.pid, program.pid)
        thread.halt(0)
        thread.let_go()
        assert procfs.status(program.pid, program.pid)["TracerPid"] == "0"
        assert procfs.task_state(program.pid, program.pid) not in "tT"


def test_registers_with_which_an_interrupted_thread_goes_on() -> None:
    def words(result: int, call: int) -> list[int]:
        made = list(range(100, 100 + interrupted.WORDS))
        made[interrupted.RAX], made[interrupted.ORIG_RAX] = result % 2**64, call % 2**64
        return made

    at = 100 + interrupted.RIP
    for result, call, again, instruction in (
        (-512, 0, 0, at - 2),
        (-513, 56, 56, at - 2),
        (-514, 34, 34, at - 2),
        (-516, 35, interrupted.RESTART_CALL, at - 2),
        (-4, 232, 232, at - 2),
        (-4, 3, -4 % 2**64, at),  # close has closed
        (7, 0, 7, at),
        (-516, -1, -516 % 2**64, at),  # in user code rax is whatever it is
    ):
        found = interrupted.resumed(words(result, call))
        assert (found[interrupted.RAX], found[interrupted.RIP]) == (again, instruction)
    assert interrupted.restarted(words(-4, 232))[interrupted.RAX] == -514 % 2**64
    assert interrupted.restarted(words(-516, 35)) == words(-516, 35)


def test_an_owner_that_is_no_thread_is_forgotten(
    python: Callable[..., subprocess.Popen[str]],
) -> None:
    """As in a fork's child, whose parent's thread was on an errand."""
    program = python()
    view = hakmem.attach(program.pid)
    source = view.capture.source
    assert isinstance(source, LiveProcess)
    at = source.images[0].errand + int(mirror.HakErrand.owner.offset)
    sent = layout.constant("HAK_ERRAND_SENT")
    source.write(at, (999_999).to_bytes(4, "little") + sent.to_bytes(4, "little"))
    assert asking.drain(view, 10).served
    assert source.word(at) == 0
