"""Languages whose run-time is a program of its own, and tools that are preloaded themselves: PHP,
Ruby, Java, Go with cgo, Rust, Octave, Erlang, Emacs, faketime, fakeroot; some under a limit."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.programs import languages, tools
from bench.programs.languages import SOURCES
from bench.programs.program import Program, executable
from bench.programs.stage import Stage


def made_by(*command: str | Path, cwd: Path, **variables: str) -> None:
    """Runs a compiler. Raises OSError with its first line."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(cwd), **variables},
    )
    if done.returncode:
        raise OSError((done.stderr.strip() or "the compiler failed").splitlines()[0])


def amount(stage: Stage, small: int, large: int) -> str:
    """How much to do."""
    return str(small if stage.quick else large)


def php_work(stage: Stage) -> None:
    stage.run(executable("php"), SOURCES / "everyday.php", amount(stage, 500, 60_000))


def php_records_work(stage: Stage) -> None:
    words = ("-n", SOURCES / "records.php", amount(stage, 300, 6_000))
    stage.run(executable("php"), *words)


def lacking_extension(*names: str) -> str | None:
    """None, or which of PHP's extensions is to be installed."""
    done = subprocess.run([executable("php"), "-m"], capture_output=True, text=True, check=False)
    absent = set(names) - set(done.stdout.lower().split())
    if not absent:
        return None
    packages = "php-intl php-xml php-mbstring php-sqlite3"
    return f"not installed ({', '.join(sorted(absent))}): apt-get install {packages}"


def ruby_work(stage: Stage) -> None:
    stage.run(executable("ruby"), SOURCES / "everyday.rb", amount(stage, 500, 150_000))


def java_prepare(directory: Path, quick: bool) -> None:
    made_by(executable("javac"), "-d", directory, SOURCES / "Everyday.java", cwd=directory)


def java_work(stage: Stage) -> None:
    # Without a file of figures for other tools: its name has the process's id.
    words = ("-XX:-UsePerfData", "-Xmx512m", "-cp", stage.input, "Everyday")
    stage.run(executable("java"), *words, amount(stage, 500, 100_000))


def go_prepare(directory: Path, quick: bool) -> None:
    target = directory / "everyday-go"
    cache = str(directory / "cache")
    made_by(
        executable("go"),
        "build",
        "-o",
        target,
        SOURCES / "everyday.go",
        cwd=directory,
        GOCACHE=cache,
        GOFLAGS="-mod=mod",
        GO111MODULE="off",
    )


def go_work(stage: Stage) -> None:
    stage.run(stage.input / "everyday-go", amount(stage, 2_000, 100_000))


def rust_prepare(directory: Path, quick: bool) -> None:
    target = directory / "everyday-rust"
    flags = () if quick else ("-O",)
    made_by(executable("rustc"), *flags, "-o", target, SOURCES / "everyday.rs", cwd=directory)


def rust_work(stage: Stage) -> None:
    stage.run(stage.input / "everyday-rust", amount(stage, 2_000, 200_000))


def octave_work(stage: Stage) -> None:
    words = ("--no-gui", "--norc", "--quiet", SOURCES / "everyday.m")
    variables = {"COUNT": amount(stage, 40, 400), "HOME": str(stage.scratch)}
    stage.run(executable("octave-cli"), *words, variables=variables)


def erlang_prepare(directory: Path, quick: bool) -> None:
    made_by(executable("erlc"), SOURCES / "everyday.erl", cwd=directory)


def erlang_work(stage: Stage) -> None:
    call = f'everyday:main(["{amount(stage, 500, 20_000)}"]), halt().'
    for kind in ((), ("+Mea", "min")):  # its own carriers, and malloc for all
        words = (*kind, "-noinput", "-noshell", "-pa", stage.input, "-eval", call)
        stage.run(
            executable("erl"),
            *words,
            label=f"erl {' '.join(kind)}".strip(),
            variables={"HOME": str(stage.scratch)},
        )


def emacs_work(stage: Stage) -> None:
    variables = {"COUNT": amount(stage, 500, 40_000), "HOME": str(stage.scratch)}
    stage.run(
        executable("emacs"), "-Q", "--batch", "-l", SOURCES / "everyday.el", variables=variables
    )


def faketime_work(stage: Stage) -> None:
    """The library that faketime preloads stands before ours, and behind it."""
    say = "print scalar(gmtime), ' ', scalar(map { \"$_\" } 1 .. $ARGV[0]), qq(\\n)"
    perl = (executable("perl"), "-e", say, amount(stage, 1_000, 500_000))
    stage.run(executable("faketime"), "-f", "@2020-02-02 02:02:02", *perl, label="before")
    library = sorted(Path("/usr/lib").rglob("faketime/libfaketime.so.1"))[0]
    preload = f"{stage.environment.get('LD_PRELOAD', '')}:{library}"
    variables = {"LD_PRELOAD": preload, "FAKETIME": "@2020-02-02 02:02:02"}
    stage.run(*perl, label="behind", variables=variables)


def fakeroot_work(stage: Stage) -> None:
    script = (
        "mkdir tree && touch tree/a tree/b && chown 0:42 tree/a && mknod tree/null c 1 3 && "
        "ls -ln tree | awk '{print $1, $3, $4, $NF}' && tar -cf - --mtime=@0 tree | tar -tvf -"
    )
    stage.run(executable("fakeroot"), "sh", "-c", script)


def under(option: str, kib: int, work: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The same work under a limit of the shell's ``ulimit``."""

    def limited(stage: Stage) -> None:
        stage.limit = ("sh", "-c", f'ulimit -{option} {kib} && exec "$@"', "sh")
        work(stage)

    return limited


PERL, SQLITE, CPP = (
    next(program for program in known if program.name == name)
    for known, name in (
        (languages.PROGRAMS, "perl"),
        (tools.PROGRAMS, "sqlite3"),
        (languages.PROGRAMS, "c++"),
    )
)

PROGRAMS: tuple[Program, ...] = (
    Program(
        "php",
        "arrays, JSON, and extensions as plugins: intl, dom, PDO, mbstring, zlib",
        ("php-cli", "php-intl", "php-xml", "php-mbstring", "php-sqlite3"),
        ("php",),
        ("php*",),
        php_work,
        lacks=lambda: lacking_extension("intl", "dom", "pdo_sqlite", "mbstring"),
    ),
    Program(
        "php-records",
        "arrays of records, short strings, JSON; no plugins, every block malloc's "
        "(USE_ZEND_ALLOC=0)",
        ("php-cli",),
        ("php",),
        ("php*",),
        php_records_work,
        variables=(("USE_ZEND_ALLOC", "0"),),
    ),
    Program(
        "ruby",
        "strings, hashes, JSON, zlib, threads, a fork, compaction",
        ("ruby",),
        ("ruby",),
        ("ruby*",),
        ruby_work,
    ),
    Program(
        "java",
        "collections, streams, 200 threads, direct buffers, zlib",
        ("default-jdk-headless",),
        ("java", "javac"),
        ("java",),
        java_work,
        java_prepare,
    ),
    Program(
        "go",
        "cgo: blocks of C that one goroutine makes and another frees",
        ("golang-go", "gcc"),
        ("go", "gcc"),
        ("everyday-go",),
        go_work,
        go_prepare,
    ),
    Program(
        "rust",
        "vectors, maps, aligned boxes, blocks freed by other threads",
        ("rustc", "gcc"),
        ("rustc", "gcc"),
        ("everyday-rust",),
        rust_work,
        rust_prepare,
    ),
    Program(
        "octave",
        "matrices, sparse ones, cells, strings, regular expressions",
        ("octave",),
        ("octave-cli",),
        ("octave-cli*",),
        octave_work,
    ),
    Program(
        "erlang",
        "processes, messages, binaries, ETS; its own carriers, and malloc for all",
        ("erlang-base",),
        ("erl", "erlc"),
        ("beam.smp",),
        erlang_work,
        erlang_prepare,
    ),
    Program(
        "emacs",
        "a buffer sorted, searched, indented; JSON, a child",
        ("emacs-nox",),
        ("emacs",),
        ("emacs*",),
        emacs_work,
    ),
    Program(
        "faketime",
        "perl under faketime, preloaded before the library and behind it",
        ("faketime", "perl"),
        ("faketime", "perl"),
        ("perl",),
        faketime_work,
    ),
    Program(
        "fakeroot",
        "chown, mknod and tar as a root that is none",
        ("fakeroot",),
        ("fakeroot",),
        ("tar",),
        fakeroot_work,
    ),
    *(
        replace(
            program,
            name=f"{program.name}-{option}",
            summary=f"the same under ulimit -{option} {kib >> 10} MiB",
            work=under(option, kib, program.work),
        )
        for program, option, kib in (
            (CPP, "v", 1 << 20),
            (PERL, "v", 1 << 20),
            (SQLITE, "d", 256 << 10),
        )
    ),
)
