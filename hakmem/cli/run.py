"""``hakmem run``: a program on the allocator."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from . import USAGE, CommandError
from .endings import CHILD_STARTERS, Endings, endings
from .library import checked, own_folder, preloadable
from .profile import ON_BYTES
from .programs import NOT_RUNNABLE, Program, examine
from .targets import bytes_argument, seconds, writable

DESCRIPTION = """\
Run a program with libhakmem.so as its malloc. The program replaces this one: pid, signals and exit
code are its own. CPython gets PYTHONMALLOC=malloc unless that is set: its own allocator would hide
the small objects. It is recognised behind env, timeout, nice, sh -c, scripts and shims too; where a
shell's text does not tell, that is said. Where the kernel (Yama) lets ancestors alone read a
process, the program and its children opt in to being read by this user's other processes.
126: found, but it cannot be run, or a preload would have no effect (static, set-user-id, another
libc or processor); 127: not found."""
EXAMPLES = """\
  hakmem run ls -l
  hakmem run -q -- python3 script.py --verbose
  hakmem run --policy lean.toml -- redis-server
  hakmem run --profile -- python3 server.py
  hakmem run --profile=64K --at-exit end.npz -- make; hakmem sites end.npz
  hakmem run --profile=64K --at-peak most.npz -- python3 job.py; hakmem why most.npz
  hakmem run --set HAKMEM_RETAIN_MB=64 --set HAKMEM_HEADERS=all -- make"""


READABLE = "HAKMEM_READABLE"
PROFILE = "HAKMEM_PROFILE_BYTES"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options come before the command; what follows it is its own."""
    parser.usage = (
        "hakmem run [-h] [-q | -v] [--private] [--policy FILE] [--profile[=BYTES]] "
        "[--at-exit FILE] [--at-peak FILE] [--every SECONDS -o DIR] [-f] "
        "[--set VARIABLE=VALUE] "
        "[--] COMMAND [ARGUMENT ...]"
    )
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="say nothing of PYTHONMALLOC and of being readable",
    )
    loud.add_argument(
        "-v", "--verbose", action="store_true", help="say what is run with which variables"
    )
    parser.add_argument(
        "--private",
        action="store_true",
        help="where Yama keeps a process's memory to its ancestors, leave it so",
    )
    parser.add_argument(
        "--policy", metavar="FILE", help="policy image or .toml file to obey (HAKMEM_POLICY)"
    )
    parser.add_argument(
        "--profile",
        metavar="BYTES",
        type=bytes_argument,
        nargs="?",
        const=ON_BYTES,
        help="sample who allocates, a block each BYTES allocated (HAKMEM_PROFILE_BYTES): "
        "--profile=64K; 512K if not said",
    )
    parser.add_argument(
        "--at-exit",
        metavar="FILE",
        help="save a look when the program ends, for hakmem sites, why and diff",
    )
    parser.add_argument(
        "--at-peak",
        metavar="FILE",
        help="save a look at the program when most was resident, within a sixteenth",
    )
    parser.add_argument(
        "--every",
        metavar="SECONDS",
        type=interval,
        help="save a look so often into the folder of -o: 1s, 0.5s, 2min",
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="the folder of --every")
    parser.add_argument(
        "-f", "--force", action="store_true", help="overwrite the files of --at-exit and --at-peak"
    )
    add_program(parser)


def add_program(parser: argparse.ArgumentParser) -> None:
    """The program to start, and the variables that it is to obey."""
    parser.add_argument(
        "--set",
        metavar="VARIABLE=VALUE",
        action="append",
        default=[],
        help="set a HAKMEM_ variable, checked first; may be repeated",
    )
    parser.add_argument(
        "command", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and its arguments"
    )


def interval(text: str) -> float:
    """argparse type: a time above 0, in seconds or with a unit.

    >>> interval("0.5"), interval("2s"), interval("1min")
    (0.5, 2.0, 60.0)
    """
    size, number = next(
        ((size, text.removesuffix(unit)) for unit, size in _UNITS if text.endswith(unit)), (1, text)
    )
    found = seconds(number) * size
    if not 0.01 <= found <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 10ms to 1 day, as 1s or 5min")
    return found


_UNITS = (("ms", 0.001), ("min", 60), ("s", 1), ("h", 3600))


def watch(arguments: argparse.Namespace) -> None:
    """Start what saves looks at the program. Raises CommandError for a place that cannot be
    written."""
    from ..outside.watcher import Wishes
    from ..outside.watching import start

    if (arguments.every is None) != (arguments.output is None):
        raise CommandError("--every SECONDS and -o DIR: expected both, or none of them", USAGE)
    at_exit, at_peak = (
        None if name is None else _place(name, force=arguments.force)
        for name in (arguments.at_exit, arguments.at_peak)
    )
    if at_exit is not None and at_exit == at_peak:
        raise CommandError(
            f"--at-exit and --at-peak: expected two files, both are {at_exit}", USAGE
        )
    folder = None
    if arguments.output is not None:
        folder = Path(arguments.output).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob("look-*.npz")):
            raise CommandError(f"{folder} has looks of another run; name another folder", USAGE)
    start(Wishes(at_exit, arguments.every or 0.0, folder, at_peak, CHILD_STARTERS), say)


def _place(name: str, *, force: bool) -> Path:
    """Where a look is to be saved. Raises CommandError for a place that cannot be written."""
    place = Path(writable(name, force=force)).absolute()
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise CommandError(f"{place.parent}: expected a folder that can be written", USAGE)
    return place


def say(text: str) -> None:
    """One line on stderr."""
    print(f"hakmem run: {text}", file=sys.stderr)


def settings(given: list[str]) -> dict[str, str]:
    """The variables of ``--set``. Raises CommandError for one that does not exist, PolicyError for
    a value out of bounds."""
    from difflib import get_close_matches

    from .. import layout
    from ..policy.environment import numbers

    made: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise CommandError(f"--set {pair}: expected VARIABLE=VALUE", USAGE)
        if name not in layout.VARIABLE_NAMES:
            near = get_close_matches(name, layout.VARIABLE_NAMES, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else "hakmem policy lists them"
            raise CommandError(f"--set {pair}: there is no variable {name}; {hint}", USAGE)
        made[name] = value
    numbers(made)
    return made


def policy_file(path: str) -> str:
    """An image to name in HAKMEM_POLICY: the file itself, or the image of a TOML file, kept under
    its checksum."""
    from ..policy import Policy, files
    from ..policy.policy import checksum

    policy = Policy.load(path)
    if files.read(path).startswith(files.MAGIC):
        return os.path.abspath(path)
    image = policy.image()
    place = own_folder() / f"policy-{checksum(image):016x}.image"
    if not place.exists() or place.read_bytes() != image:
        policy.save(place, force=True)
    return str(place)


def started_with(name: str) -> bool:
    """Whether this process was started with a variable; the interpreter sets LC_CTYPE for itself in
    the C locale."""
    try:
        words = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return True
    return any(word.startswith(name.encode() + b"=") for word in words)


def environment(
    arguments: argparse.Namespace, program: Program, library: Path, base: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The environment of the program, and what to say about it."""
    made, said = dict(base), []
    if "LC_CTYPE" in made and not started_with("LC_CTYPE"):
        del made["LC_CTYPE"]
    made |= settings(arguments.set)
    if arguments.profile is not None:
        made |= settings([f"{PROFILE}={arguments.profile}"])
    if arguments.policy is not None:
        made["HAKMEM_POLICY"] = policy_file(arguments.policy)
    others = [
        name
        for name in made.get("LD_PRELOAD", "").replace(" ", ":").split(":")
        if name and name != str(library)
    ]
    made["LD_PRELOAD"] = ":".join([str(library), *others])
    said += python_settings(endings(program, made), made)
    if not arguments.private and made.get(READABLE) is None:
        made[READABLE] = "1"
        if yama_scope() == 1:
            said.append(
                f"{READABLE}=1 is set, so that this user's other processes may read its memory, "
                "as hakmem why does, and all else of ptrace; --private leaves it out"
            )
    return made, said


def python_settings(end: Endings, made: dict[str, str]) -> list[str]:
    """Sets PYTHONMALLOC in ``made`` where CPython runs in the end; what to say about it, and about
    what cannot be told."""
    if end.cleared:
        return [f"{end.cleared} takes LD_PRELOAD away: what it runs is not on the library"]
    pythons = end.pythons()
    if made.get("PYTHONMALLOC") or end.chosen:
        return []
    if not pythons:
        if end.known:
            return []
        return [
            f"what {end.through[-1]} runs cannot be told from here: should CPython be among it, "
            "set PYTHONMALLOC=malloc, or its own allocator hides its small objects"
        ]
    path = f" ({pythons[0].path})" if end.through else ""
    if all("t" in (program.python() or "") for program in pythons):
        return [
            f"a free-threaded CPython{path} keeps its own allocator for objects: only the rest is "
            "seen"
        ]
    if all(program.python_ignores_environment() for program in pythons):
        return [
            f"CPython{path} with -E or -I ignores PYTHONMALLOC: its own allocator hides the small "
            "objects"
        ]
    made["PYTHONMALLOC"] = "malloc"
    return [
        f"CPython{path}: PYTHONMALLOC=malloc is set, so that its small objects are seen too "
        "(set it to anything to choose)"
    ]


def yama_scope() -> int:
    """What Yama allows: 0 where it is not there."""
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def main(arguments: argparse.Namespace) -> int:
    """Never returns where the program starts."""
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not words:
        raise CommandError(
            "no command; expected hakmem run [options] [--] COMMAND [ARGUMENT ...]", USAGE
        )
    library = checked()
    program = examine(words[0], tuple(words[1:]))
    made, said = environment(arguments, program, preloadable(library), os.environ)
    for text in [] if arguments.quiet else said:
        say(text)
    if arguments.verbose:
        changed = [
            f"{name}={value}" for name, value in made.items() if os.environ.get(name) != value
        ]
        say(" ".join([*changed, program.path, *words[1:]]))
    sys.stdout.flush()
    sys.stderr.flush()
    if any(wish is not None for wish in (arguments.at_exit, arguments.at_peak, arguments.every)):
        watch(arguments)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(
            number, signal.SIG_DFL
        )  # the interpreter ignores them, and execve hands that on
    try:
        os.execve(program.path, words, made)
    except OSError as error:
        raise CommandError(f"{program.path}: {error.strerror}", NOT_RUNNABLE) from None
