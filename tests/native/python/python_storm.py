"""Threads that begin, work and end while others allocate, with the GIL and without, forks, and an
end of the interpreter under threads that go on. Every slow malloc takes its caller's frames."""

import ctypes
import os
import random
import sys
import threading
import time

SIZE = 300_000
PROBE = ctypes.CDLL(None)
PROBE.probe_malloc_often.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
PROBE.probe_malloc_of_stranger.argtypes = [ctypes.c_uint64]
SECONDS = float(sys.argv[1])
end = time.monotonic() + SECONDS


def numbers(depth):
    if depth:
        yield from numbers(depth - 1)
    yield bytearray(SIZE)


class Cyclic:
    def __init__(self):
        self.own = self

    def __del__(self):
        bytearray(SIZE)


def work(random):
    for _ in range(5):
        name = f"größe_{random.randrange(50)}"
        exec(f"def {name}(n):\n  return [bytearray(SIZE) for _ in range(n)]\n{name}(2)", globals())
        allocate(random.randrange(6))


def allocate(depth):
    for _ in numbers(depth):
        Cyclic()
    sorted(range(9), key=lambda n: (bytearray(SIZE), -n)[1])
    PROBE.probe_malloc_often(SIZE, 5)


def brief(random):
    work(random)
    threading.Thread(target=PROBE.probe_malloc_of_stranger, args=(SIZE,)).start()


def starts(seed):
    rng = random.Random(seed)
    while time.monotonic() < end:
        threads = [threading.Thread(target=brief, args=(rng,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def forks():
    while time.monotonic() < end:
        child = os.fork()
        if not child:
            allocate(5)  # a compiler would import, and may wait for another thread's lock
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            os.abort()


def for_ever(depth=20):
    if depth:
        for_ever(depth - 1)
    while True:
        PROBE.probe_malloc_often(SIZE, 1 << 40)


work(random.Random(0))
for _ in range(2):
    threading.Thread(target=for_ever, daemon=True).start()
threads = [threading.Thread(target=starts, args=(seed,)) for seed in range(2)]
threads.append(threading.Thread(target=forks))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
