"""Samples of its own frames, taken inside malloc by the preloaded probe, beside what
``sys._getframe`` says of the same moment. Prints a line a case that holds, and one of what was
found where one does not."""

import asyncio
import atexit
import ctypes
import os
import sys
import threading

SIZE = 345_679
PROBE = ctypes.CDLL(None)
PROBE.probe_malloc.argtypes = [ctypes.c_uint64]
PROBE.probe_malloc_astray.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
PROBE.probe_malloc_astray.restype = ctypes.c_uint64
PROBE.probe_malloc_of_stranger.argtypes = [ctypes.c_uint64]
PROBE.probe_malloc_of_stranger.restype = ctypes.c_uint64
MOST = ctypes.c_uint32.in_dll(PROBE, "probe_most")
ROOM = ctypes.c_char * (1 << 15)
wrong = 0


def sampled():
    """The frames of this thread's last sample, loops without a frame left out; and all marks."""
    room = ROOM()
    count = PROBE.probe_take(room, len(room))
    text = room.raw[:count].decode()
    frames, entries = [], []
    for line in text.splitlines():
        name, file, first, at, entry = line.split("\t")
        if name:
            frames.append((name, file, int(first), int(at)))
            entries.append(entry == "1")
    return frames, entries


def walked(frame):
    frames = []
    while frame is not None:
        code = frame.f_code
        name = code.co_qualname.encode("utf-8", "backslashreplace").decode()
        file = code.co_filename.encode("utf-8", "backslashreplace").decode()
        frames.append((name, file, code.co_firstlineno, frame.f_lineno or 0))
        frame = frame.f_back
    return frames


def check(case, _, frame, entries=None):
    """``entries``: which of the innermost frames are the outermost of their evaluation loop."""
    global wrong
    found, marks = sampled()
    expected = walked(frame)[: MOST.value]
    if found != expected:
        wrong += 1
        print(f"{case}: sampled {found}, expected {expected}")
    elif entries is not None and marks[: len(entries)] != entries:
        wrong += 1
        print(f"{case}: entries {marks}, expected {entries} first")
    else:
        print(f"{case} holds, {len(found)} frames")


# --- the cases ------------------------------------------------------------------------------------


def plain():
    check("plain", bytearray(SIZE), sys._getframe(), [False, False, True])


def nested():
    def outer():
        def inner():
            check("nested", bytearray(SIZE), sys._getframe())

        inner()

    outer()


def several_lines():
    kept = []
    source = "kept.extend((\n1,\nbytearray(\nSIZE),\nsampled(),\n))"
    exec(compile(source, "<lines>", "exec"), {**globals(), "kept": kept})
    line = kept[2][0][0][3]
    print("several lines holds" if line == 3 else f"several lines: {line}, expected 3")
    return line != 3


def from_c():
    def called(_):
        check("from C", bytearray(SIZE), sys._getframe(), [True, False, False, True])

    list(map(called, [0]))


class Thing:
    def __init__(self):
        check("init", bytearray(SIZE), sys._getframe())

    def __getattr__(self, name):
        check("getattr", bytearray(SIZE), sys._getframe())
        return name

    @property
    def value(self):
        check("property", bytearray(SIZE), sys._getframe())
        return 1

    def __del__(self):
        check("del", bytearray(SIZE), sys._getframe())


def objects():
    for _ in range(40):  # until calls are specialized
        thing = Thing()
        assert thing.value == 1
        assert thing.missing == "missing"
        del thing


def generators():
    def leaf():
        yield bytearray(SIZE), check("generator", bytearray(SIZE), sys._getframe())

    def middle():
        yield from leaf()

    for _ in range(20):
        for _ in middle():
            pass
        next(middle())
        list(middle())


def coroutines():
    async def leaf():
        await asyncio.sleep(0)
        check("coroutine", bytearray(SIZE), sys._getframe())

    async def numbers():
        yield 1
        check("async generator", bytearray(SIZE), sys._getframe())

    async def root():
        await leaf()
        async for _ in numbers():
            pass
        await asyncio.gather(leaf(), leaf())

    asyncio.run(root())


def bodies():
    class Body:
        check("class body", bytearray(SIZE), sys._getframe())
        items = tuple([check("comprehension", bytearray(SIZE), sys._getframe()) for _ in (1, 2)])
        lazy = tuple(
            check("generator expression", bytearray(SIZE), sys._getframe()) for _ in (1, 2)
        )

    (lambda: check("lambda", bytearray(SIZE), sys._getframe()))()


def executed():
    take = "(bytearray(SIZE), sys._getframe())"
    source = "\n" * 300 + f"def made():\n    check('exec', *{take})\nmade()\n"
    exec(compile(source, "<made>", "exec"), globals())
    eval(f"check('eval', *{take})")
    far = "def far():\n" + "    x = 1\n" * 5000 + f"    check('far', *{take})\n"
    exec(compile(far + "far()\n", "<far>", "exec"), globals())
    code = compile(f"check('no line', *{take})", "<bare>", "eval")
    exec(code.replace(co_linetable=b""), globals())


def texts():
    gothic, cyrillic = "\U00010330\U00010331", "\u0438\u043c\u044f"
    for name in ("naïve", "größe_ß", "名前", cyrillic, gothic, "long_" + "n" * 500):
        source = f"def {name}():\n    check('text', bytearray(SIZE), sys._getframe())\n{name}()\n"
        for file in (f"<{name}>", "<plain>", "<caf\xe9\udcff>"):
            exec(compile(source, file, "exec"), globals())


def deep():
    def down(left):
        if left:
            down(left - 1)
        else:
            check("deep", bytearray(SIZE), sys._getframe())

    down(500)
    for MOST.value in (1, 2, 3, 63):
        down(70)
    MOST.value = 64


def many_threads():
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            sum(range(1000))

    def without_gil(case):
        for _ in range(50):
            check(case, PROBE.probe_malloc(SIZE), sys._getframe())

    others = [threading.Thread(target=busy, daemon=True) for _ in range(2)]
    for thread in others:
        thread.start()
    without_gil("without the GIL")
    own = threading.Thread(target=without_gil, args=("a thread without the GIL",))
    own.start()
    own.join()
    check("thread", bytearray(SIZE), sys._getframe())
    stranger = PROBE.probe_malloc_of_stranger(SIZE)
    print("a stranger has none" if stranger == 0 else f"a stranger: {stranger} bytes of frames")
    stop.set()
    for thread in others:
        thread.join()
    return stranger != 0


def astray():
    found = PROBE.probe_malloc_astray(SIZE, 5000)
    sampled()
    check("after a state that was wrong", PROBE.probe_malloc(SIZE), sys._getframe())
    print("a wrong state has none" if found == 0 else f"a wrong state: {found} frames")
    return found != 0


def forks():
    global wrong

    def forked(depth):
        if depth:
            return forked(depth - 1)
        child = os.fork()
        if not child:
            check("fork's child", bytearray(SIZE), sys._getframe())
            inner = threading.Thread(target=plain_in_thread)
            inner.start()
            inner.join()
            sys.stdout.flush()
            os._exit(wrong)
        return os.waitpid(child, 0)[1]

    sys.stdout.flush()
    return forked(3)


def plain_in_thread():
    check("fork's child's thread", bytearray(SIZE), sys._getframe())


def interpreters():
    try:
        import _interpreters
    except ImportError:
        import _xxsubinterpreters as _interpreters
    try:
        other = _interpreters.create(isolated=False)  # where ctypes can be had, 3.12
    except TypeError:
        other = _interpreters.create("legacy")
    source = f"""if True:
        import ctypes, sys
        def inside():
            kept = bytearray({SIZE}), sys._getframe().f_lineno
            room = ctypes.create_string_buffer(1 << 14)
            count = ctypes.CDLL(None).probe_take(room, 1 << 14)
            found = room.raw[:count].decode().splitlines()
            expected = f"inside\\t<script>\\t3\\t{{kept[1]}}\\t0|<module>\\t<script>\\t1\\t11\\t1"
            holds = "|".join(found[:2]).replace("<string>", "<script>") == expected
            print("subinterpreter holds" if holds else f"subinterpreter: {{found}}", flush=True)
        inside()
    """
    sys.stdout.flush()
    _interpreters.run_string(other, source)
    _interpreters.destroy(other)


class Late:
    def __del__(self):
        check("at the very end", bytearray(SIZE), sys._getframe())


CASES = (
    plain,
    nested,
    several_lines,
    from_c,
    objects,
    generators,
    coroutines,
    bodies,
    executed,
    texts,
    deep,
    many_threads,
    astray,
    forks,
    interpreters,
)


def main():
    global wrong
    for name, size in (("probe_to", SIZE + 99), ("probe_from", SIZE)):
        ctypes.c_uint64.in_dll(PROBE, name).value = size
    for case in CASES:
        failed = bool(case())
        wrong += failed


@atexit.register
def ended():
    check("at exit", bytearray(SIZE), sys._getframe())
    sys.stdout.flush()
    if wrong:
        os._exit(1)


main()
late = Late()
