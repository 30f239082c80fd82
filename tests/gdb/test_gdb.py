"""The commands inside gdb say what the commands outside say: of a process, and of its core."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakmem.clib import binding
from tests.support.programs import built

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GDB = shutil.which("gdb")
pytestmark = pytest.mark.skipif(GDB is None, reason="gdb is not installed")
NAMES = ("kept", "freed", "span", "given")
UNPACKAGED = "python sys.path[:] = [part for part in sys.path if 'packages' not in part]"


def hakmem(*words: object) -> subprocess.CompletedProcess[str]:
    """``hakmem ...``, ended."""
    return subprocess.run(
        [sys.executable, "-m", "hakmem", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def in_gdb(target: object, *commands: str, program: object = None) -> tuple[list[str], str]:
    """What gdb prints from the first command on, and its errors; never a traceback."""
    words = [word for line in ("echo begin\\n", *commands) for word in ("-x", line)]
    done = hakmem("gdb", target, *([program] if program else []), *words)
    assert "Traceback" not in done.stderr and "Python Exception" not in done.stderr
    return done.stdout.partition("begin\n")[2].splitlines(), done.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that holds blocks; skips where gdb's Python has nothing to show them with."""
    needs = "import sys, numpy, tabulate; print('python', *sys.version_info[:2])"
    words = [str(GDB), "-nx", "-batch", "-ex", f"python {needs}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    script = subprocess.run(
        [*words[:-1], "python import sys; print(*sys.version_info[:2])"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if not done.stdout and script.stdout.split() != [str(part) for part in sys.version_info[:2]]:
        pytest.skip("gdb has a Python of another version, or none, and no numpy and tabulate in it")
    return built(tmp_path_factory, HERE / "held.c", "-g")


class Held:
    """The program, running on the library."""

    def __init__(
        self, program: Path, folder: Path, library: Path | None, **environment: str
    ) -> None:
        self.process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | ({"LD_PRELOAD": str(library)} if library else {}) | environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30)),
        )
        assert self.process.stdout is not None
        self.at = dict(zip(NAMES, self.process.stdout.readline().split(), strict=True))
        assert self.process.stdout.readline() == "ready\n"

    def sentences(self) -> list[str]:
        """What ``hakmem whatis PID`` says of each address."""
        return hakmem("whatis", self.process.pid, *self.at.values()).stdout.splitlines()


Launch = Callable[..., Held]


def launcher(program: Path, folder: Path) -> Iterator[Launch]:
    """``launch(library)``: the program has printed where its blocks are, and waits."""
    made: list[Held] = []

    def start(library: Path | None = None, *, plain: bool = False, **environment: str) -> Held:
        preload = None if plain else library or binding.find()
        made.append(Held(program, folder, preload, **environment))
        return made[-1]

    yield start
    for held in made:
        held.process.kill()
        held.process.communicate()


@pytest.fixture
def launch(program: Path, tmp_path: Path) -> Iterator[Launch]:
    """Programs of one test."""
    yield from launcher(program, tmp_path)


@pytest.fixture(scope="module")
def held(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """One that waits as long as the tests ask."""
    for launch in launcher(program, tmp_path_factory.mktemp("held")):
        yield launch()


@pytest.fixture(scope="module")
def outside(held: Held) -> list[str]:
    """What is said of it outside."""
    sentences = held.sentences()
    assert len(sentences) == 4 and "application" in sentences[0] and "cached" in sentences[1]
    return sentences


@pytest.fixture(scope="module")
def core(held: Held, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its core as it stands, made by gdb."""
    path = tmp_path_factory.mktemp("core") / "made.core"
    words = [str(GDB), "-q", "-nx", "-batch", "-p", str(held.process.pid), "-ex", f"gcore {path}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert path.exists(), (done.stdout, done.stderr)
    return path


def crashed(held: Held, folder: Path) -> Path:
    """The core of its crash; skips where the kernel puts it somewhere else."""
    held.process.communicate("abort\n")
    found = [*folder.glob("core*")]
    if not found:
        pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
        pytest.skip(f"cores go elsewhere: core_pattern is {pattern}")
    return found[0]


def of_core(sentences: list[str], pid: int) -> list[str]:
    """The sentences as of a core, which differ in the name of what was read."""
    name = f"process {pid}"
    return [line.replace(f"of {name}", f"of the core of {name}") for line in sentences]


def unit_of(sentence: str) -> str:
    """The unit that a sentence names."""
    return sentence.partition("unit ")[2].partition(",")[0]


def test_a_process_in_gdb_is_the_process_outside(held: Held, outside: list[str]) -> None:
    asked = [f"hakmem whatis {name}" for name in NAMES]
    lines, errors = in_gdb(held.process.pid, *asked, "hakmem slab kept", "hakmem why")
    assert lines[:4] == outside, errors
    unit = unit_of(outside[0])
    drawn = hakmem("maps", held.process.pid, "--slab", unit).stdout.splitlines()
    assert lines[4] in drawn and lines[4].startswith(f"slab at unit {unit}")
    place = next(n for n, line in enumerate(lines) if f"Process {held.process.pid} (" in line)
    assert place > 4 and "live blocks" in "\n".join(lines[place:]), errors


BY_NAME = ("hakmem whatis kept", "hakmem whatis *kept")


def check_by_name(lines: list[str], first: str, pid: int) -> None:
    """What follows `BY_NAME`, the slab of ``kept`` and ``why``, of a core with the program."""
    assert lines[:2] == [first] * 2
    assert lines[2].startswith(f"slab at unit {unit_of(first)}, ")
    text = "\n".join(lines)
    assert "does not keep which pages were resident" in text
    assert f"the core of process {pid}'s malloc" in text


def test_a_core_says_what_the_process_said(
    held: Held, outside: list[str], core: Path, program: Path
) -> None:
    expected = of_core(outside, held.process.pid)
    asked = [f"hakmem whatis {held.at[name]}" for name in NAMES]
    slab = f"hakmem slab {unit_of(outside[0])}"
    lines, errors = in_gdb(core, *asked, f"file {program}", *BY_NAME, slab, "hakmem why")
    assert lines[:4] == expected, ("without the program's file", errors)
    check_by_name(lines[4:], expected[0], held.process.pid)


@pytest.mark.slow
def test_the_core_of_a_crash_says_what_the_process_said(
    launch: Launch, tmp_path: Path, program: Path
) -> None:
    held = launch()
    expected = of_core(held.sentences(), held.process.pid)
    core = crashed(held, tmp_path)
    asked = [f"hakmem whatis {held.at[name]}" for name in NAMES]
    slab = f"hakmem slab {unit_of(expected[0])}"
    lines, errors = in_gdb(core, *asked, *BY_NAME, slab, "hakmem why", program=program)
    assert lines[:4] == expected, errors
    check_by_name(lines[4:], expected[0], held.process.pid)


@pytest.mark.slow
def test_a_core_tells_who_allocated(launch: Launch, tmp_path: Path, program: Path) -> None:
    core = crashed(launch(HAKMEM_PROFILE_BYTES="1024"), tmp_path)
    lines, errors = in_gdb(core, "hakmem sites", "hakmem whatis span", program=program)
    text = "\n".join(lines)
    assert "main (held.c:" in text, errors
    [said] = [line for line in lines if "is the span of 1 MiB" in line]
    assert "main (held.c:" in said
    assert re.search(r"allocated \d+ ms ago", said), "counted to the last sample, not to now"


@pytest.mark.slow
def test_a_core_whose_library_file_is_gone_or_another(launch: Launch, tmp_path: Path) -> None:
    library = tmp_path / "libhakmem.so"
    shutil.copy(binding.find(), library)
    held = launch(library)
    expected = of_core(held.sentences(), held.process.pid)[:1]
    core = crashed(held, tmp_path)
    library.unlink()
    assert in_gdb(core, f"hakmem whatis {held.at['kept']}")[0] == expected
    shutil.copy("/bin/true", library)
    assert in_gdb(core, f"hakmem whatis {held.at['kept']}")[0] == expected


def test_what_is_wrong_is_one_line(held: Held, core: Path, program: Path) -> None:
    asked = {
        "hakmem whatis nosuch": 'hakmem whatis: nosuch: No symbol "nosuch" in current context.',
        "hakmem whatis": "hakmem whatis: expected an address or an expression: hakmem whatis "
        "0x7f21a8e40c10",
        "hakmem slab 1": "hakmem slab: no slab begins at unit 1 of process heap",
        "hakmem slab 0x7fffffff0000": "hakmem slab: no slab there: 0x7fffffff0000 is foreign: in "
        f"no region of a heap of the core of process {held.process.pid}",
        "hakmem why kept": "hakmem why: expected nothing behind it, got 'kept'",
        "hakmem wy": "hakmem: there is no 'wy'; there are why, whatis, slab, sites, help",
    }
    lines, errors = in_gdb(core, *asked, "hakmem sites", program=program)
    assert lines == []
    said = [line for line in errors.splitlines() if line.startswith("hakmem")]
    assert said[:-1] == [*asked.values()]
    assert "who allocates was not sampled; hakmem run --profile" in said[-1]


def test_cores_that_are_none(core: Path, tmp_path: Path) -> None:
    """One session takes them one after the other; what one left behind answers for no other."""
    whole = core.read_bytes()
    cuts = []
    for size in (0, 100, 5000, len(whole) // 3, len(whole) // 2, len(whole) * 3 // 4):
        cuts.append(tmp_path / f"{size}.core")
        cuts[-1].write_bytes(whole[:size])
    commands: list[str] = []
    for cut in cuts:
        commands += ["core-file", f"core-file {cut}", f"echo {cut.stem}:"]
        commands += ["hakmem whatis 0x1234", f"echo {cut.stem} why:", "hakmem why"]
    lines, errors = in_gdb(cuts[-1], *commands)
    said = [line for line in errors.splitlines() if line.startswith("hakmem ")]
    text = "\n".join(lines)
    answered = len(re.findall(r"\d+:0x1234 is ", text)) + len(re.findall(r"\d+ why:A core ", text))
    assert len(said) + answered == 2 * len(cuts), (lines, errors)


def test_a_process_without_the_library(launch: Launch) -> None:
    held = launch(plain=True)
    lines, errors = in_gdb(held.process.pid, "hakmem why")
    assert not [line for line in lines if line.startswith("hakmem")]
    assert f"hakmem why: process {held.process.pid} " in errors
    assert "does not run on hakmem: nothing it has mapped exports hak_root_" in errors


def bare(*words: str) -> subprocess.CompletedProcess[str]:
    """gdb itself with the file that it sources, on nothing."""
    script = hakmem("gdb", "--script").stdout.strip()
    return subprocess.run(
        [str(GDB), "-q", "-batch", "-nx", *words, "-ex", f"source {script}", "-ex", "hakmem why"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_gdb_without_packages_says_what_it_needs() -> None:
    done = bare("-iex", UNPACKAGED)
    first = done.stderr.splitlines()[0]
    assert first.startswith("hakmem: gdb's Python 3.") and "cannot load numpy" in first
    assert "apt-get install python3-numpy python3-tabulate" in first
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name a process id or a core file"),
        (("nosuch",), "nosuch: neither a process id nor a core file"),
        (("2147483647",), "there is no process 2147483647"),
        ((__file__, "nosuch"), "nosuch: no such file"),
    ],
)
def test_targets_that_are_none(words: tuple[str, ...], said: str) -> None:
    done = hakmem("gdb", *words)
    assert done.returncode in (1, 2) and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_no_core_and_no_program(tmp_path: Path) -> None:
    other = tmp_path / "text"
    other.write_text("no core\n")
    assert "hakmem why: gdb has no program" in in_gdb(other, "hakmem why")[1]
