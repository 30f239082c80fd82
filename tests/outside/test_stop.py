"""attach(stop=True): one moment, every thread stopped for it, and everything goes on afterwards
whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hakmem
from hakmem.generate import mirror
from hakmem.outside.live import LiveProcess
from hakmem.outside.standing import inside_library
from hakmem.outside.stopping import stopped
from hakmem.system import procfs

Start = Callable[..., subprocess.Popen[str]]


def states(pid: int) -> set[str]:
    """The state letters of its threads."""
    return {procfs.task_state(pid, task) for task in procfs.tasks(pid)}


def settles(pid: int, wanted: set[str]) -> bool:
    """Whether its threads come to these states; who was let go runs for a moment before it sleeps
    again."""
    limit = time.monotonic() + 5
    while states(pid) != wanted and time.monotonic() < limit:
        time.sleep(0.005)
    return states(pid) == wanted


def holder(pid: int) -> subprocess.Popen[str]:
    """A process that stops another one, says so, and sleeps on it."""
    code = (
        f"import time\nfrom hakmem.outside.stopping import stopped\nwith stopped({pid}):\n    "
        "print('stopped', flush=True)\n    time.sleep(60)"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def ends_well(program: subprocess.Popen[str]) -> None:
    """The program still does its work to the end."""
    out, _ = program.communicate(timeout=60)
    assert (out, program.returncode) == ("sum 0\n", 0)


def test_mt_a_stopped_look_is_of_one_moment(launch: Start, workload: Path) -> None:
    program = launch("nice", "-n", "10", workload, "16")
    view = hakmem.attach(program.pid, stop=True)
    assert states(program.pid) <= {"R", "S", "D"}, "they go on before anybody looks"
    facts = view.process
    assert facts is not None and facts.stopped and len(facts.thread_names) in (17, 18), (
        "the program's, and the library's own"
    )
    torn = int(view.capture.torn.sum())
    assert torn <= len(facts.in_flight), "a thread holds one claim, in the middle of a call"
    assert [note.split(" ", 1)[1].split(" ", 1)[1] for note in view.unclean()] == (
        ["in the middle of a change"] if torn else []
    )
    found = view.validate()
    assert found.why_not == "" or "inside a call" in found.why_not
    assert int(view.slabs["application_count"].sum()) == pytest.approx(
        int(view.classes["application_count"].sum()), abs=17
    )
    flight = view.threads.array[view.threads["in_flight"]]
    assert sorted(flight["os_id"].tolist()) == sorted(facts.in_flight)
    assert view.again().process is not facts
    ends_well(program)


def test_mt_validate_holds_at_every_stop(launch: Start, workload: Path) -> None:
    """Whatever validate() finds wrong in a stopped process is explained by threads in the middle of
    a call."""
    program = launch("nice", "-n", "10", workload, "4")
    exact = 0
    for _ in range(10):
        view = hakmem.attach(program.pid, stop=True)
        found = view.validate()
        assert found.exact == (not view.process.in_flight if view.process else False)
        exact += found.exact
    assert exact, "in ten looks at four threads one finds all outside malloc"
    ends_well(program)


def test_who_sleeps_in_a_system_call_of_the_program_is_not_in_flight(python: Start) -> None:
    """Not even with a return address of the library on its stack, which a malloc before left
    there."""
    program = python()
    assert settles(program.pid, {"S"})  # in read, past the write that said it is ready
    source = LiveProcess(program.pid)
    source.find_library()
    with stopped(program.pid) as places:
        assert inside_library(source, places) == ()
        place = places[program.pid]
        assert place.call == 0, "it reads its standard input"
        inside = next(
            entry
            for entry in source.maps
            if "x" in entry.permissions and entry.path == source.images[0].path
        ).start
        background = source.background_word(source.images[0])
        for call, argument, flight in (
            (0, 0, ()),
            (202, background, ()),
            (202, place.stack, (program.pid,)),
            (28, 0, (program.pid,)),
            (-1, 0, (program.pid,)),
        ):
            changed = place._replace(
                instruction=inside if call else place.instruction, call=call, argument=argument
            )
            assert inside_library(source, {program.pid: changed}) == flight, call


def test_mt_who_waits_for_a_lock_of_the_library_is_in_flight(python: Start) -> None:
    """It may have taken units out of one record and not put them into another yet."""
    program = python("import atexit, ctypes\natexit.register(ctypes.CDLL(None).malloc, 5 << 20)")
    source = LiveProcess(program.pid)
    source.find_library()
    heap = hakmem.attach(program.pid).capture
    lock = heap.address + mirror.HakHeap.run_lock.offset
    first = program.pid.to_bytes(4, "little")
    with open(f"/proc/{program.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(lock)
        memory.write(first)  # held, by a thread that will not give it
        assert program.stdin is not None
        program.stdin.close()  # it reads the end of its input and ends, with a span
        program.stdin = None
        limit = time.monotonic() + 5
        found: tuple[int, ...] = ()
        while not found and time.monotonic() < limit:
            time.sleep(0.01)
            with stopped(program.pid) as places:
                if 202 in {place.call for place in places.values()}:
                    found = inside_library(source, places)
        assert found == (program.pid,)
        memory.seek(lock)
        memory.write(bytes(4))
    assert program.wait(timeout=10) == 0


def test_stopped_is_stopped_and_goes_on(python: Start) -> None:
    program = python(
        "import threading, time\nfor _ in range(5): threading.Thread(target=time.sleep, "
        "args=(60,), daemon=True).start()"
    )
    with stopped(program.pid) as places:
        assert len(places) == 6 and states(program.pid) == {"t"}
        assert all(place.instruction and place.stack for place in places.values())
    assert settles(program.pid, {"S"})


def test_stopped_goes_on_when_the_block_raises(python: Start) -> None:
    program = python()
    with pytest.raises(KeyError), stopped(program.pid):
        raise KeyError
    assert settles(program.pid, {"S"})


def test_a_killed_reader_leaves_nothing_stopped(python: Start) -> None:
    program = python()
    reader = holder(program.pid)
    assert reader.stdout is not None and reader.stdout.readline() == "stopped\n"
    assert states(program.pid) == {"t"}
    reader.kill()
    reader.communicate()
    assert settles(program.pid, {"S"})
    assert hakmem.attach(program.pid, stop=True).validate().exact


def test_a_traced_process_is_a_clear_error(python: Start) -> None:
    program = python()
    tracer = holder(program.pid)
    try:
        assert tracer.stdout is not None and tracer.stdout.readline()
        with pytest.raises(hakmem.AttachError) as caught:
            hakmem.attach(program.pid, stop=True)
        wanted = f"process {program.pid} is traced already, by process {tracer.pid} ("
        assert str(caught.value).startswith(wanted) and str(caught.value).endswith(
            "attach without stop=True"
        )
        assert hakmem.attach(program.pid).validate().exact, "and without stopping it can be read"
    finally:
        tracer.kill()
        tracer.communicate()


def test_this_process_cannot_stop_itself() -> None:
    with (
        hakmem.Heap(region_bytes=1 << 24),
        pytest.raises(hakmem.AttachError, match="cannot stop itself"),
    ):
        hakmem.attach(os.getpid(), stop=True)


def test_a_signal_on_its_way_arrives(launch: Start) -> None:
    """A stop may catch a thread just before a signal; the signal is not lost."""
    code = (
        "import signal, sys\nhits = 0\ndef hit(*_):\n    global hits\n    hits += 1\n    "
        "print(hits, flush=True)\n"
        "signal.signal(signal.SIGUSR1, hit)\nprint('ready', flush=True)\nwhile True: signal.pause()"
    )
    program = launch(sys.executable, "-c", code)
    assert program.stdout is not None
    for count in range(1, 40):
        os.kill(program.pid, signal.SIGUSR1)
        with stopped(program.pid):
            pass
        assert program.stdout.readline() == f"{count}\n"


def test_a_job_stopped_by_the_shell_stays_stopped(python: Start) -> None:
    program = python()
    os.kill(program.pid, signal.SIGSTOP)
    while states(program.pid) != {"T"}:
        time.sleep(0.005)
    assert hakmem.attach(program.pid, stop=True).validate().exact
    time.sleep(0.05)
    assert states(program.pid) == {"T"}
    os.kill(program.pid, signal.SIGCONT)


def test_mt_threads_that_come_and_go_are_all_stopped(launch: Start) -> None:
    code = (
        "import sys, threading\nover = False\ndef churn():\n    while not over:\n"
        "        inner = [threading.Thread(target=bytearray, args=(5000,)) for _ in range(4)]\n"
        "        [t.start() for t in inner]; [t.join() for t in inner]\nouter = "
        "[threading.Thread(target=churn) for _ in range(3)]\n"
        "[t.start() for t in outer]\nprint('ready', flush=True)\nsys.stdin.read()\nover = "
        "True\n[t.join() for t in outer]\nprint('sum 0')"
    )
    program = launch("nice", "-n", "5", sys.executable, "-c", code, PYTHONMALLOC="malloc")
    for _ in range(15):
        with stopped(program.pid) as places:
            alive = {
                task
                for task in procfs.tasks(program.pid)
                if procfs.task_state(program.pid, task) not in ("", "Z", "X")
            }
            assert alive == places.keys() and states(program.pid) <= {"t", "Z", "X"}
        assert hakmem.attach(program.pid, stop=True).process is not None
    ends_well(program)


def test_mt_redis_under_load_is_none_the_wiser(launch: Start, tmp_path: Path) -> None:
    redis, bench = shutil.which("redis-server"), shutil.which("redis-benchmark")
    if redis is None or bench is None:
        pytest.skip("no redis-server with redis-benchmark")
    socket = tmp_path / "socket"
    options = (
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--save",
        "",
        "--loglevel",
        "warning",
        "--dir",
        tmp_path,
    )
    program = launch(redis, *options, wait=False)
    limit = time.monotonic() + 20
    while not socket.exists() and time.monotonic() < limit:
        time.sleep(0.02)
    work = ("-n", "40000", "-r", "5000", "-t", "set,lpush,hset", "-q")
    load = subprocess.Popen([bench, "-s", str(socket), *work], stdout=subprocess.PIPE, text=True)
    looks = 0
    while load.poll() is None and looks < 30:
        view = hakmem.attach(program.pid, stop=looks % 2 == 0)
        assert len(view.slabs) > 0
        looks += 1
    assert load.communicate(timeout=120)[0].count("requests per second") == 3
    assert load.returncode == 0 and program.poll() is None and looks
    assert not states(program.pid) & {"t", "T"}
