"""Tools killed while threads are on errands: ``python tests/outside/errand_storm.py SLEEPERS
--rounds 1000``.

Two tools at a time drain and trim a process whose threads sleep in all kinds of calls, run with
values in their registers, fork, and replace blocks below signal handlers that sleep; one of the two
is killed at a random moment, again and again. No thread may notice, no block may be handed out
twice, and a tool that lives must be served after it. Prints one line, exits 1 at a failure.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

from storm import Failure, forked, nothing_stopped

import hakmem
from hakmem.clib import binding
from hakmem.outside import asking

THREADS = 20
TARGET_SECONDS = 12
MOMENT_SECONDS = 0.4
SERVED_SECONDS = 30.0
END_SECONDS = 300.0
"""A target that hangs never ends; one on a busy machine takes many times its own seconds."""


def start(program: str) -> subprocess.Popen[str]:
    """The program of sleepers.c on the library, ready."""
    env = os.environ | {"LD_PRELOAD": str(binding.find())}
    command = [program, str(THREADS), str(TARGET_SECONDS), "m"]
    made = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert made.stdout is not None
    if made.stdout.readline() != "ready\n":
        raise Failure("the target did not start")
    return made


def ask(pid: int) -> None:
    """Drain and trim until something ends it, without waiting for threads to obey by themselves."""
    asking.GRACE_SECONDS = 0.0  # type: ignore[misc]
    while True:
        view = hakmem.attach(pid)
        for request in (asking.drain, asking.trim):
            request(view, 0.2)


def is_served(pid: int) -> bool:
    """Whether a tool that lives is served; False where the target ended meanwhile, by its own
    clock."""
    try:
        answer = asking.trim(hakmem.attach(pid), SERVED_SECONDS)
    except hakmem.ProcessNotFound:
        return False
    if not answer.served:
        raise Failure(f"no tool is served any more: {answer}")
    return True


def batter(program: str, rounds: int, rng: random.Random) -> int:
    """Kill tools; how often."""
    killed = served = 0
    while killed < rounds:
        target = start(program)
        end = time.monotonic() + TARGET_SECONDS / 2
        while killed < rounds and time.monotonic() < end:
            tools = [forked(partial(ask, target.pid)) for _ in range(2)]
            time.sleep(rng.random() * MOMENT_SECONDS)
            for tool in tools:
                os.kill(tool, signal.SIGKILL)
                os.waitpid(tool, 0)
                killed += 1
                time.sleep(rng.random() * MOMENT_SECONDS / 4)
            nothing_stopped(target.pid)
        served += is_served(target.pid)
        try:
            out, _ = target.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            target.kill()
            raise Failure(f"a target did not end in {END_SECONDS:.0f} s") from None
        if (out, target.returncode) != ("0 saw something\n", 0):
            raise Failure(f"a target said {out!r} and exited {target.returncode}")
    if not served:
        raise Failure("every target had ended before a tool could ask: a busy machine; try again")
    return killed


def main() -> int:
    """The storm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sleepers", help="the program made from sleepers.c")
    parser.add_argument("--rounds", type=int, default=1000, help="tools killed")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        killed = batter(options.sleepers, options.rounds, random.Random(options.seed))
    except Failure as failure:
        print(f"errand storm: {failure}", file=sys.stderr)
        return 1
    print(f"errand storm: {killed} tools killed: no thread noticed, the next were served")
    return 0


if __name__ == "__main__":
    sys.exit(main())
