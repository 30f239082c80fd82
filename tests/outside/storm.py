"""Readers and their targets, which take samples, killed at random moments:
``python tests/outside/storm.py WORKLOAD --rounds 1000``.

When a reader is killed, in the middle of a stop too, nothing of the target stays stopped and its
output is what it would have been. When a target is killed, its reader ends with an AttachError.
Prints one line, exits 1 at a failure.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import hakmem
from hakmem.clib import binding
from hakmem.system import procfs
from hakmem.views.heap_view import HeapView

TARGET_ROUNDS = 400_000
READERS_PER_TARGET = 25
MOMENT_SECONDS = 0.08
PATIENCE_SECONDS = 10.0


class Failure(Exception):
    """What went wrong."""


def start(workload: str, threads: int, rounds: int) -> subprocess.Popen[str]:
    """The C++ program on the library, ready; more polite than its readers."""
    command = ["nice", "-n", "5", workload, str(threads), str(rounds)]
    env = os.environ | {"LD_PRELOAD": str(binding.find()), "HAKMEM_PROFILE_BYTES": "65536"}
    program = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    assert program.stdout is not None
    if program.stdout.readline() != "ready\n":
        raise Failure("the workload did not start")
    return program


def look(pid: int, stop: bool, rng: random.Random) -> None:
    """Everything that a reader does."""
    view: HeapView = hakmem.attach(pid, stop=stop)
    _ = view.classes.array, view.threads.array, view.slabs.array
    for slab in view.slabs[rng.randrange(max(1, len(view.slabs))) :][:3]:
        slab.letters()
    view.why()
    _ = view.sites.array
    if rng.random() < 0.3:
        view.profile(rng.choice((0, 4096, 65536)), timeout=0.1, stop=stop)


def forked(work: Callable[[], None]) -> int:
    """Run ``work`` in a child; its pid. The child exits 0 after an AttachError, 3 after anything
    else."""
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        work()
    except hakmem.AttachError as error:
        code = 0 if str(error) and "\n" not in str(error) else 4
    except BaseException as error:
        print(f"reader: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def endless(pid: int, seed: int) -> None:
    """Look until something ends it."""
    rng = random.Random(seed)
    while True:
        look(pid, rng.random() < 0.6, rng)


def nothing_stopped(pid: int) -> None:
    """Raise unless every thread is let go soon."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while True:
        states = {procfs.task_state(pid, task) for task in procfs.tasks(pid)}
        if not states & {"t", "T"}:
            return
        if time.monotonic() > limit:
            raise Failure(f"threads of {pid} stay stopped: {sorted(states)}")
        time.sleep(0.001)


def kill_readers(workload: str, rounds: int, rng: random.Random) -> int:
    """Kill readers; how often. Their targets run to the end and say what they say alone."""
    env = os.environ | {"LD_PRELOAD": str(binding.find()), "HAKMEM_PROFILE_BYTES": "65536"}
    wanted = subprocess.run(
        [workload, "4", str(TARGET_ROUNDS)], capture_output=True, text=True, env=env, check=True
    ).stdout
    killed = 0
    while killed < rounds:
        program = start(workload, 4, TARGET_ROUNDS)
        for _ in range(READERS_PER_TARGET):
            reader = forked(partial(endless, program.pid, rng.getrandbits(32)))
            time.sleep(rng.random() * MOMENT_SECONDS)
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)
            if program.poll() is None:
                nothing_stopped(program.pid)
                killed += 1
            if killed >= rounds or program.poll() is not None:
                break
        out, _ = program.communicate(timeout=120)
        if (f"ready\n{out}", program.returncode) != (wanted, 0):
            raise Failure(
                f"a target said {out!r} and exited {program.returncode}, alone it says {wanted!r}"
            )
    return killed


def kill_targets(workload: str, rounds: int, rng: random.Random) -> int:
    """Kill targets under their readers; how often. Each reader ends by itself, with an
    AttachError."""
    for _ in range(rounds):
        program = start(workload, 3, 0)
        reader = forked(partial(endless, program.pid, rng.getrandbits(32)))
        time.sleep(rng.random() * MOMENT_SECONDS)
        program.kill()
        if rng.random() < 0.5:
            program.wait()  # else a zombie until the reader has ended
        limit = time.monotonic() + PATIENCE_SECONDS
        while True:
            found, status = os.waitpid(reader, os.WNOHANG)
            if found:
                break
            if time.monotonic() > limit:
                os.kill(reader, signal.SIGKILL)
                raise Failure("a reader did not notice that its target was killed")
            time.sleep(0.002)
        program.communicate()
        if os.waitstatus_to_exitcode(status) != 0:
            raise Failure(
                f"a reader whose target was killed exited {os.waitstatus_to_exitcode(status)}"
            )
    return rounds


def main() -> int:
    """The storm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", help="the program made from workload.cpp")
    parser.add_argument(
        "--rounds", type=int, default=1000, help="kills, half of readers and half of targets"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    half = (options.rounds + 1) // 2
    try:
        readers, targets = (
            kill_readers(options.workload, half, rng),
            kill_targets(options.workload, half, rng),
        )
    except Failure as failure:
        print(f"storm: {failure}", file=sys.stderr)
        return 1
    print(
        f"storm: {readers} readers and {targets} targets killed: outputs unchanged, nothing "
        "stopped, every reader ended with a clear error"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
