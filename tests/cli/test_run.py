"""``hakmem run``: the program is itself, on the allocator; what a preload cannot reach is refused
in one line."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, clean, elf_copy, hakmem, refused

from hakmem import cli
from hakmem.cli import CommandError, programs
from hakmem.clib.binding import find

LIBRARY = str(find().absolute())


# --- the program is itself ------------------------------------------------------------------------


def test_it_runs_on_the_library() -> None:
    done = hakmem("run", "grep", "-m1", "-o", "libhakmem.so", "/proc/self/maps")
    assert (done.returncode, done.stdout, done.stderr) == (0, "libhakmem.so\n", "")


def test_arguments_are_its_own() -> None:
    for dashes in ([], ["--"]):
        done = hakmem("run", *dashes, "printf", "%s,", "-q", "--", "--policy", "a b", "")
        assert (done.returncode, done.stdout) == (0, "-q,--,--policy,a b,,")
    assert hakmem("run", "sh", "-c", "echo $0", "name").stdout == "name\n"


def test_pid_exit_code_and_signals_are_its_own() -> None:
    command = [sys.executable, "-m", "hakmem", "run", "sh", "-c", "echo $$; exit 42"]
    with subprocess.Popen(command, env=clean(), stdout=subprocess.PIPE, cwd=ROOT) as child:
        said = child.communicate()[0]
    assert (int(said), child.returncode) == (child.pid, 42)
    assert hakmem("run", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    ignored = int(hakmem("run", "grep", "^SigIgn", "/proc/self/status").stdout.split()[1], 16)
    assert not ignored & 1 << signal.SIGPIPE - 1, "the interpreter's ignored signals went along"


def test_stdin_and_the_environment_are_its_own() -> None:
    command = [sys.executable, "-m", "hakmem", "run", "cat"]
    assert (
        subprocess.run(command, env=clean(), input=b"\0\xffx", capture_output=True, cwd=ROOT).stdout
        == b"\0\xffx"
    )
    before = clean(LC_ALL="", LANG="C", ODD="a\nb")
    before.pop("LC_CTYPE", None)
    found = subprocess.run(
        [sys.executable, "-m", "hakmem", "run", "env", "-0"],
        env=before,
        capture_output=True,
        cwd=ROOT,
    ).stdout
    after = dict(pair.split("=", 1) for pair in found.decode().split("\0") if pair)
    assert after.pop("LD_PRELOAD") == LIBRARY
    assert after.pop("HAKMEM_READABLE") == "1"
    assert after == before


def test_what_was_preloaded_stays() -> None:
    source = "import os; print(os.environ['LD_PRELOAD'])"
    libm = next(
        Path(line.split()[-1])
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libc.so" in line
    )
    for given in (f"{libm}", f"{LIBRARY} {libm}", f"{libm}:{LIBRARY}"):
        done = hakmem("run", "-q", sys.executable, "-c", source, LD_PRELOAD=given)
        assert done.stdout.strip() == f"{LIBRARY}:{libm}", done.stderr


# --- CPython --------------------------------------------------------------------------------------

MALLOC = "import os; print(os.environ.get('PYTHONMALLOC'))"


def test_cpython_gets_malloc_and_says_so() -> None:
    done = hakmem("run", sys.executable, "-c", MALLOC)
    assert done.stdout == "malloc\n"
    assert (
        done.stderr.startswith("hakmem run: CPython: PYTHONMALLOC=malloc is set")
        and done.stderr.count("\n") == 1
    )
    quiet = hakmem("run", "-q", sys.executable, "-c", MALLOC)
    assert (quiet.stdout, quiet.stderr) == ("malloc\n", "")


def test_what_the_user_set_stays() -> None:
    done = hakmem("run", sys.executable, "-c", MALLOC, PYTHONMALLOC="debug")
    assert (done.stdout, done.stderr) == ("debug\n", "")
    assert hakmem("run", "-q", sys.executable, "-c", MALLOC, PYTHONMALLOC="").stdout == "malloc\n"


def test_no_other_program_gets_it() -> None:
    done = hakmem("run", "sh", "-c", "echo ${PYTHONMALLOC-unset}")
    assert (done.stdout, done.stderr) == ("unset\n", "")


@pytest.mark.parametrize(
    "first",
    [
        "#!{python}",
        "#! {python}  ",
        "#!/usr/bin/env {name}",
        "#!/usr/bin/env -S {name} -B",
        "#!/usr/bin/env -SA=1 {name}",
        "#!{link}",
        "#!{script}",
    ],
)
def test_scripts_are_followed(tmp_path: Path, first: str) -> None:
    link, inner, script = tmp_path / "anything", tmp_path / "inner", tmp_path / "script"
    link.symlink_to(sys.executable)
    inner.write_text(
        f"#!{sys.executable}\nimport sys; sys.argv.pop(0); exec(open(sys.argv[0]).read())\n"
    )
    script.write_text(
        first.format(
            python=sys.executable, name=os.path.basename(sys.executable), link=link, script=inner
        )
        + f"\n{MALLOC}\n"
    )
    for path in (inner, script):
        path.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.path.dirname(sys.executable), os.environ["PATH"]])
    done = hakmem("run", "script", PATH=path)
    assert done.stdout == "malloc\n" and "PYTHONMALLOC" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("options", "ignored"),
    [
        (["-I"], True),
        (["-sE"], True),
        (["-B", "-E"], True),
        (["-B"], False),
        (["-Wignore:EI"], False),
    ],
)
def test_cpython_that_ignores_its_environment(options: list[str], ignored: bool) -> None:
    done = hakmem("run", sys.executable, *options, "-c", "pass", "-I")
    assert ("ignores PYTHONMALLOC" in done.stderr) == ignored and done.stderr.count("\n") == 1


def test_kinds_of_python() -> None:
    kinds = {
        "python3.11": "",
        "python": "",
        "python3": "",
        "python3.13t": "t",
        "python3-dbg": "",
        "pypy3": None,
        "pythonw.sh": None,
        "bpython": None,
    }
    for name, kind in kinds.items():
        assert programs.Program(name, f"/usr/bin/{name}", ()).python() == kind, name


# --- bad input ------------------------------------------------------------------------------------


def test_what_is_not_there(tmp_path: Path) -> None:
    refused(hakmem("run", "no-such-command"), 127, "no-such-command: command not found")
    refused(hakmem("run", tmp_path / "missing"), 127, "no such file")
    refused(hakmem("run", ""), 127, "empty")
    refused(hakmem("run", tmp_path), 126, "a directory")
    plain = tmp_path / "plain"
    plain.write_text("echo hello\n")
    plain.chmod(0o644)
    if os.geteuid() != 0 or not os.access(plain, os.X_OK):
        refused(hakmem("run", plain), 126, "not executable")
        refused(hakmem("run", "plain", PATH=str(tmp_path)), 126, "not executable")
    plain.chmod(0o755)
    refused(hakmem("run", plain), 126, "neither an ELF program nor a script")
    (tmp_path / "empty").touch(0o755)
    refused(hakmem("run", tmp_path / "empty"), 126, "neither")
    (tmp_path / "cut").write_bytes(Path("/bin/true").read_bytes()[:30])
    (tmp_path / "cut").chmod(0o755)
    refused(hakmem("run", tmp_path / "cut"), 126, "neither")


def test_scripts_without_an_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "script"
    cases = {
        "#!/no/such/thing": (127, "its interpreter"),
        "#!/usr/bin/env no-such-name": (127, "no-such-name"),
        "#!": (126, "names no interpreter"),
    }
    for first, (code, says) in cases.items():
        script.write_text(f"{first}\n")
        script.chmod(0o755)
        refused(hakmem("run", script), code, says)
    script.write_text(f"#!{script}\n")
    refused(hakmem("run", script), 126, "times over")


def test_programs_that_a_preload_does_not_reach(tmp_path: Path) -> None:
    refused(
        hakmem("run", elf_copy(tmp_path / "static", interpreter=None)),
        126,
        "static program",
        "link it with the library",
    )
    refused(
        hakmem("run", elf_copy(tmp_path / "musl", interpreter=b"/lib/ld-musl-x86_64.so.1")),
        126,
        "musl",
        "glibc",
    )
    refused(
        hakmem("run", elf_copy(tmp_path / "bionic", interpreter=b"/system/bin/linker64")),
        126,
        "another libc",
    )
    refused(
        hakmem("run", elf_copy(tmp_path / "gone", interpreter=b"/x/ld-linux-x86-64.so.2")),
        127,
        "loader /x/ld-linux",
    )
    refused(hakmem("run", elf_copy(tmp_path / "arm", machine=183)), 126, "aarch64")
    refused(
        hakmem("run", elf_copy(tmp_path / "small", machine=3, bits=32)),
        126,
        "32-bit program for i386",
    )
    script = tmp_path / "script"
    script.write_text(f"#!{tmp_path / 'static'}\n")
    script.chmod(0o755)
    refused(hakmem("run", script), 126, "static program")


def test_a_real_static_program(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    made = tmp_path / "static"
    built = subprocess.run(
        ["gcc", "-static", "-x", "c", "-", "-o", str(made)],
        input="int main(void) { return 0; }",
        text=True,
        capture_output=True,
    )
    if built.returncode:
        pytest.skip("no static libc to link with")
    refused(hakmem("run", made), 126, "static program")


def test_the_loader_itself_may_be_run() -> None:
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    if not loader.exists():
        pytest.skip("no loader there")
    assert (
        hakmem(
            "run",
            loader,
            shutil.which("grep") or "grep",
            "-m1",
            "-o",
            "libhakmem.so",
            "/proc/self/maps",
        ).stdout
        == "libhakmem.so\n"
    )


def test_programs_that_gain_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0 or os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip("only root makes them, and only where the bits count")
    made = elf_copy(tmp_path / "program")
    made.chmod(0o4755)
    assert hakmem("run", made).returncode == 0, "set-user-id of the caller himself changes nothing"
    os.chown(made, 65534, 65534)
    made.chmod(0o4755)
    refused(hakmem("run", made), 126, "set-user-id", "ignores LD_PRELOAD")
    made.chmod(0o2755)
    refused(hakmem("run", made), 126, "set-group-id")
    made.chmod(0o755)
    try:
        os.setxattr(made, "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
    except OSError:
        pytest.skip("no file capabilities here")
    assert hakmem("run", made).returncode == 0, "root gains nothing by them"
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(CommandError, match="file capabilities"):
        programs.examine(str(made))


def test_wrong_arguments() -> None:
    refused(hakmem("run"), 2, "no command")
    refused(hakmem("run", "--"), 2, "no command")
    refused(hakmem("run", "--nonsense", "ls"), 2, "--nonsense", "hakmem run --help")
    refused(hakmem("run", "-q", "-v", "ls"), 2, "not allowed with")
    refused(hakmem("run", "--set", "HAKMEM_RETAIN_MB", "ls"), 2, "VARIABLE=VALUE")
    refused(hakmem("run", "--set", "HAKMEM_RETIAN_MB=1", "ls"), 2, "did you mean HAKMEM_RETAIN_MB?")
    refused(
        hakmem("run", "--set", "HAKMEM_RETAIN_MB=-1", "ls"), 2, "HAKMEM_RETAIN_MB", "0 to 1048576"
    )
    refused(hakmem("run", "--policy", "/no/such", "ls"), 2, "/no/such")


def test_what_execve_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.E2BIG, "Argument list too long")

    monkeypatch.setattr(os, "execve", refuse)
    kept = [(number, signal.getsignal(number)) for number in (signal.SIGPIPE, signal.SIGXFSZ)]
    assert cli.main(["run", "true"]) == 126
    for number, handler in kept:
        signal.signal(number, handler)
    assert re.fullmatch(r"hakmem run: .*/true: Argument list too long\n", capsys.readouterr().err)


# --- the library ----------------------------------------------------------------------------------


def test_a_library_that_is_none(tmp_path: Path) -> None:
    refused(
        hakmem("run", "ls", HAKMEM_LIBRARY=str(tmp_path / "missing.so")),
        1,
        "missing.so",
        "make setup",
    )
    text = tmp_path / "text.so"
    text.write_text("no library")
    refused(hakmem("run", "ls", HAKMEM_LIBRARY=str(text)), 1, "no library")
    refused(hakmem("lib", HAKMEM_LIBRARY=str(shutil.which("true"))), 1, "no hak_root_")
    cut = tmp_path / "cut.so"
    cut.write_bytes(Path(LIBRARY).read_bytes()[:9000])
    refused(hakmem("lib", HAKMEM_LIBRARY=str(cut)), 1, "cut.so")


def test_a_library_of_another_layout(tmp_path: Path) -> None:
    from hakmem import layout
    from hakmem.generate import mirror

    data, word = (
        Path(LIBRARY).read_bytes(),
        layout.ROOT_MAGIC.to_bytes(8, "little") + mirror.LAYOUT_HASH.to_bytes(8, "little"),
    )
    assert data.count(word) == 1
    other = tmp_path / "libhakmem.so"
    other.write_bytes(data.replace(word, word[:8] + b"\1\0\0\0\0\0\0\0"))
    for arguments in (["run", "ls"], ["lib"]):
        refused(
            hakmem(*arguments, HAKMEM_LIBRARY=str(other)),
            1,
            "layout 0x0000000000000001",
            f"0x{mirror.LAYOUT_HASH:016x}",
            "make setup",
        )


@pytest.mark.parametrize("folder", ["with space", "with:colon", "with$dollar"])
def test_a_path_that_ld_preload_cannot_carry(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir()
    shutil.copy(LIBRARY, place / "libhakmem.so")
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    for _ in range(2):  # the second time the link is there already
        done = hakmem(
            "run",
            "grep",
            "-c",
            "libhakmem",
            "/proc/self/maps",
            HAKMEM_LIBRARY=str(place / "libhakmem.so"),
            XDG_RUNTIME_DIR=str(runtime),
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert [path.is_symlink() for path in (runtime / "hakmem").iterdir()] == [True]
    lines = hakmem(
        "lib", HAKMEM_LIBRARY=str(place / "libhakmem.so"), XDG_RUNTIME_DIR=str(runtime)
    ).stdout.splitlines()
    assert len(lines) == 1 and Path(lines[0]).is_file()


def test_a_folder_of_others_is_not_used(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    shutil.copy(LIBRARY, place / "libhakmem.so")
    shared = tmp_path / "hakmem"
    shared.mkdir()
    shared.chmod(0o777)
    folders = {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "c")}
    done = hakmem(
        "run", "sh", "-c", "echo $LD_PRELOAD", HAKMEM_LIBRARY=str(place / "libhakmem.so"), **folders
    )
    assert done.stdout.startswith(str(tmp_path / "c" / "hakmem")) and not list(shared.iterdir())


# --- policy ---------------------------------------------------------------------------------------


def test_policy_and_set_reach_the_program(tmp_path: Path) -> None:
    (tmp_path / "lean.toml").write_text('headers = "tiny"\n[retain]\nfloor_bytes = 0\n')
    source = (
        "import hakmem; p = hakmem.process_heap().policy; print(p.headers.mode, "
        "p.retain.floor_bytes, p.caches.parked_count)"
    )
    options = ["run", "-q", "--policy", tmp_path / "lean.toml", "--set", "HAKMEM_CACHE_PARKED=1"]
    done = hakmem(*options, sys.executable, "-c", source, XDG_RUNTIME_DIR=str(tmp_path))
    assert (done.stdout, done.stderr) == ("tiny 0 1\n", "")
    images = list((tmp_path / "hakmem").iterdir())
    assert len(images) == 1
    done = hakmem("run", "-q", "--policy", images[0], sys.executable, "-c", source)
    assert (done.stdout, done.stderr) == ("tiny 0 4\n", "")


def test_a_bad_policy_is_refused_before_anything_runs(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    wrong = {
        "[retain]\nfloor = 1": "retain.floor",
        "headers = 3": "headers",
        "= 1": "toml",
        "[arenas]\ninit_mb = 99": "arenas.init_mb",
    }
    for text, words in wrong.items():
        bad.write_text(text)
        refused(hakmem("run", "--policy", bad, "echo", "ran"), 2, words)


# --- being read -----------------------------------------------------------------------------------


def test_it_opts_in_to_being_read(tmp_path: Path) -> None:
    """The library asks Yama, at its start and in a fork's child; not without the variable, nor with
    --private."""
    if not (strace := shutil.which("strace")):
        pytest.skip("no strace")
    code = (
        "import os, sys; pid = os.fork(); x = [bytes(5000) for _ in range(500)]; pid or "
        "os._exit(0); os.waitpid(pid, 0)"
    )
    for options, times in (([], 2), (["--private"], 0)):
        said = tmp_path / f"calls{times}"
        traced = [strace, "-f", "-e", "trace=prctl", "-o", str(said), sys.executable, "-c", code]
        done = hakmem("run", "-q", *options, *traced)
        asked = {
            line.split()[0]
            for line in said.read_text().splitlines()
            if "PR_SET_PTRACER, PR_SET_PTRACER_ANY" in line
        }
        assert (done.returncode, len(asked)) == (0, times), done.stderr
    assert (
        hakmem("run", "-q", "sh", "-c", "echo $HAKMEM_READABLE", HAKMEM_READABLE="0").stdout
        == "0\n"
    ), "what the user set stays"


def test_being_readable_is_said_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse

    from hakmem.cli import run

    arguments = argparse.Namespace(set=[], policy=None, private=False, profile=None)
    program = programs.examine("true")
    for scope, lines in ((0, 0), (1, 1), (2, 0)):
        monkeypatch.setattr(run, "yama_scope", lambda scope=scope: scope)
        made, said = run.environment(arguments, program, Path(LIBRARY), {})
        assert (
            made["HAKMEM_READABLE"] == "1"
            and len(said) == lines
            and all("--private" in line for line in said)
        )
