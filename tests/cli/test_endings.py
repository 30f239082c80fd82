"""CPython at the end of env, timeout, shells and shims is recognised, or it is said that it was
not."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from commands import hakmem

from hakmem.cli import CommandError, programs
from hakmem.cli.endings import Endings, endings
from hakmem.cli.scripts import commands_of

MALLOC = "import os; print(os.environ.get('PYTHONMALLOC'))"
PY = os.path.realpath(sys.executable)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH, with CPython as ``python3`` in it."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.delenv("PYENV_VERSION", raising=False)
    return place


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def ending(*words: str) -> Endings:
    return endings(programs.examine(words[0], words[1:]), os.environ)


FOUND = [
    ["env", "python3", "-c", "1"],
    ["env", "-u", "HOME", "A=1", "python3", "-c", "1"],
    ["env", "--unset=HOME", "-C", "/", "A=1", "python3", "-c", "1"],
    ["env", "-S", "A=1 python3 -c", "1"],
    ["env", "-SA=1 python3 -c", "1"],
    ["timeout", "5", "python3", "-c", "1"],
    ["timeout", "-k", "1", "--signal", "TERM", "-v", "5", "python3", "-c", "1"],
    ["timeout", "-vk1", "--signal=TERM", "5", "python3", "-c", "1"],
    ["nice", "python3", "-c", "1"],
    ["nice", "-n", "5", "python3", "-c", "1"],
    ["nice", "-5", "--", "python3", "-c", "1"],
    ["nohup", "setsid", "-w", "stdbuf", "-oL", "-e", "0", "python3", "-c", "1"],
    ["taskset", "-c", "0", "python3", "-c", "1"],
    ["setarch", "-R", "python3", "-c", "1"],
    ["setarch", "x86_64", "-R", "python3", "-c", "1"],
    ["xargs", "-n", "1", "python3", "-c", "1"],
    ["sh", "-c", "python3 -c 1"],
    ["sh", "-ec", "cd /tmp; A=1 exec python3 -c 1"],
    ["bash", "-o", "pipefail", "-c", "python3 -c 1 | cat >/dev/null"],
    ["sh", "-c", "if true; then python3 -c 1; fi"],
    ["sh", "-c", "for a in python2 b; do\n python3 -c 1\ndone"],
    ["sh", "-c", "x=$(python3 -c 1)"],
    ["sh", "-c", 'exec "$@"', "name", "python3", "-c", "1"],
    ["sh", "-c", '"$0" -c 1', "python3"],
    ["sh", "-c", "P=python3; ${P} -c 1"],
    ["sh", "-c", "timeout 5 nice sh -c 'exec python3 -c 1'"],
    ["timeout", "5", "env", "sh", "-c", "python3 -c 1"],
]


@pytest.mark.parametrize("words", FOUND, ids=" ".join)
def test_cpython_behind_starters_and_shells(folder: Path, words: list[str]) -> None:
    if not shutil.which(words[0]):
        pytest.fail(f"{words[0]} belongs to every Linux")
    found = ending(*words)
    assert [program.binary for program in found.pythons()] == [PY], found
    assert found.known and found.cleared is None and not found.chosen
    assert not found.pythons()[0].python_ignores_environment()


@pytest.mark.parametrize(
    "words",
    [
        ["timeout", "5", "ls", "python3"],
        ["sh", "-c", "echo python3 >python3; cat <python3"],
        ["sh", "-c", "# python3 -c 1\nfor python3 in a; do echo; done"],
        ["env", "no-such-program", "python3"],
        ["timeout", "5"],
        ["env"],
    ],
    ids=" ".join,
)
def test_other_programs_are_none(folder: Path, words: list[str]) -> None:
    found = ending(*words)
    assert found.known and not found.pythons(), found


@pytest.mark.parametrize(
    "text",
    [
        "$(command -v python3) -c 1",
        "$UNSET_ANYWHERE -c 1",
        "eval 'python3 -c 1'",
        ". ./venv/bin/activate; flask run",
        "./not/there",
        "echo 'a\nb'",
    ],
)
def test_what_only_the_shell_knows_is_told_apart(folder: Path, text: str) -> None:
    assert not ending("sh", "-c", text).known


def test_an_interactive_shell_is_not_known(folder: Path) -> None:
    found = ending("sh")
    assert not found.known and not found.programs


def test_flask_like_scripts(folder: Path) -> None:
    """Console scripts as pip writes them: ``#!python``, and the long form through /bin/sh."""
    script(folder / "flask", f"#!{sys.executable}\nimport sys\n")
    script(
        folder / "deep", f"#!/bin/sh\n'''exec' {sys.executable} -B \"$0\" \"$@\"\n' '''\nx = {{\n"
    )
    script(folder / "start", '#!/bin/sh\nset -e\nPORT=5\nexec flask run --port "$PORT"\n')
    for words in (["flask"], ["timeout", "5", "flask"], ["deep"], ["env", "deep"], ["start"]):
        found = ending(*words)
        assert [program.binary for program in found.pythons()] == [PY], words
        assert found.known


def shims(place: Path) -> Path:
    """A pyenv: one shim under every name, two versions, one of them with flask."""
    root = place / "pyenv"
    for version in ("3.11.9", "3.12.4"):
        (root / "versions" / version / "bin").mkdir(parents=True)
    (root / "versions/3.12.4/bin/python3").symlink_to(sys.executable)
    script(root / "versions/3.12.4/bin/flask", f"#!{sys.executable}\n")
    (root / "versions/3.11.9/bin/convert").symlink_to("/bin/ls")
    (root / "libexec").mkdir()
    script(root / "libexec/pyenv", "#!/usr/bin/env bash\nexec $nothing\n")
    (root / "shims").mkdir()
    for name in ("python3", "flask", "convert", "elsewhere"):
        script(
            root / "shims" / name,
            '#!/usr/bin/env bash\nset -e\n[ -n "$PYENV_DEBUG" ] && set -x\nprogram="${0##*/}"\n'
            f'export PYENV_ROOT="{root}"\nexec "{root}/libexec/pyenv" exec "$program" "$@"\n',
        )
    return root


def test_pyenv_shims(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shims(tmp_path)
    script(folder / "elsewhere", f"#!{sys.executable}\n")
    monkeypatch.setenv("PATH", f"{root}/shims:{folder}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    (root / "version").write_text("3.11\n# older\n")
    (tmp_path / ".python-version").write_text("3.12\n")

    def found(*words: str) -> list[str]:
        end = ending(*words)
        assert end.known
        return [program.path for program in end.pythons()]

    chosen = str(root / "versions/3.12.4/bin")
    assert found("flask", "run") == [f"{chosen}/flask"]
    assert found("nice", "python3", "-c", "1") == [f"{chosen}/python3"]
    assert found("elsewhere") == [str(folder / "elsewhere")], "as pyenv, on the rest of PATH"
    monkeypatch.setenv("PYENV_VERSION", "3.11:3.12.4")
    assert found("convert") == [], "a program of a version that is no Python"
    assert found("python3") == [f"{chosen}/python3"]


def test_a_shim_of_another_kind_is_taken_by_its_name(folder: Path) -> None:
    script(folder / "python3.12", '#!/bin/sh\nexec "$(manager which python3.12)" "$@"\n')
    found = ending("env", "python3.12", "-c", "1")
    assert [program.path for program in found.pythons()] == [str(folder / "python3.12")]
    assert found.known


def test_what_stands_on_the_way(folder: Path, tmp_path: Path) -> None:
    for words in (["env", "-i", "python3"], ["env", "-u", "LD_PRELOAD", "python3"]):
        assert ending(*words).cleared == " ".join(words[:-1])
    assert ending("env", "PYTHONMALLOC=debug", "python3").chosen
    assert ending("timeout", "5", "env", "-uPYTHONMALLOC", "python3").chosen
    with pytest.raises(CommandError, match="neither an ELF program nor a script"):
        ending("timeout", "5", str(script(tmp_path / "text", "text\n")))
    assert ending("sh", "-c", str(tmp_path / "text")).known is False, "a shell would read it itself"
    nothing = script(tmp_path / "again", f"#!/bin/sh\n{tmp_path}/again\n")
    assert ending(str(nothing)).pythons() == [], "a script that calls itself ends"


def test_variables_and_lists_of_a_text() -> None:
    read = commands_of(
        "PATH=/opt:$PATH\nexport A=ls B=2\n$A -l $C && { cat x; } || (wc <y)\n"
        "case $1 in a) b;; esac",
        "name",
        ["first"],
        {"PATH": "/bin", "C": "c"},
    )
    assert read.assigned == {"PATH": "/opt:/bin", "A": "ls", "B": "2"}
    assert [words[0] for words in read.commands] == ["ls", "cat", "wc", "b"]
    assert read.commands[0] == ("ls", "-l", "c") and read.understood


# --- from end to end ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["env", "A=1", sys.executable, "-c", MALLOC],
        ["timeout", "30", "nice", sys.executable, "-c", MALLOC],
        ["/bin/sh", "-c", f'exec {sys.executable} -c "$0"', MALLOC],
    ],
)
def test_it_gets_malloc_and_says_where(words: list[str]) -> None:
    done = hakmem("run", *words)
    assert done.stdout == "malloc\n"
    assert done.stderr.startswith(f"hakmem run: CPython ({sys.executable}): PYTHONMALLOC=malloc is")
    assert done.stderr.count("\n") == 1


def test_what_is_not_known_is_said() -> None:
    done = hakmem("run", "/bin/sh", "-c", 'eval "$0"', "echo ${PYTHONMALLOC-unset}")
    assert done.stdout == "unset\n" and done.stderr.count("\n") == 1
    assert "cannot be told from here" in done.stderr and "PYTHONMALLOC=malloc" in done.stderr
    assert hakmem("run", "-q", "sh", "-c", "eval true").stderr == ""
    done = hakmem("run", "env", "-i", sys.executable, "-c", MALLOC)
    assert done.stdout == "None\n"
    assert done.stderr == (
        "hakmem run: env -i takes LD_PRELOAD away: what it runs is not on the library\n"
    )
    chosen = hakmem("run", "env", "PYTHONMALLOC=debug", sys.executable, "-c", MALLOC)
    assert (chosen.stdout, chosen.stderr) == ("debug\n", "")
