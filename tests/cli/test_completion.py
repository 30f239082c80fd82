"""``hakmem completion``: what the shells complete, asked of the shells themselves; the manual page;
the version."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from commands import ROOT, Target, hakmem, refused, said

import hakmem as package
from hakmem.cli import COMMANDS, completion, manual, parser_of

NAMES = [command.name for command in COMMANDS]

ASK_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
function=$(complete -p hakmem | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function hakmem "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """``ask(*words)``: what bash offers for the last word."""
    path = tmp_path_factory.mktemp("completion") / "hakmem"
    path.write_text(completion.script("bash"))

    def offered(*words: str) -> list[str]:
        command = ["bash", "-c", ASK_BASH, "bash", str(path), "hakmem", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent)
        assert done.stderr == ""
        return done.stdout.split()

    return offered


def test_bash_offers_commands_and_options(ask: Callable[..., list[str]]) -> None:
    assert ask("") == NAMES
    assert ask("wh") == ["why", "whatis"]
    assert {"--stop", "--json", "--output"} <= set(ask("why", "--"))
    assert ask("completion", "") == list(completion.SHELLS)
    assert {"show", "save", "check", "diff"} <= set(ask("policy", ""))
    assert {"run", "rows", "count"} <= set(ask("bench", ""))
    assert "--quick" in ask("bench", "run", "--q")


def test_bash_offers_processes_on_the_library(
    ask: Callable[..., list[str]], launch: Callable[..., Target], tmp_path: Path
) -> None:
    program = launch()
    said(program)
    for command in ("why", "top", "dump"):
        assert str(program.pid) in ask(command, str(program.pid)[:-1])
    assert str(program.pid) in ask("why", "")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_gets_every_command(shell: str, tmp_path: Path) -> None:
    done = hakmem("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    for name in NAMES:
        assert re.search(rf"\b{name}\b", done.stdout), name
    assert "_hakmem_pids" in done.stdout
    if shutil.which(shell):
        path = tmp_path / "hakmem"
        path.write_text(done.stdout)
        checked = subprocess.run([shell, "-n", path], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_a_shell_that_is_not_known() -> None:
    refused(hakmem("completion", "tcsh"), 2, "tcsh", "bash")
    refused(hakmem("completion"), 2, "shell")


# --- the manual page ------------------------------------------------------------------------------


def test_the_manual_has_every_command_option_and_variable() -> None:
    text = manual.page().replace("\\-", "-")
    for name in NAMES:
        assert f'.SS "hakmem {name}"' in text
        for action in parser_of(name)._actions:
            for option in action.option_strings:
                assert option in text, (name, option)
    for variable in package.layout.VARIABLE_NAMES:
        assert f'.B "{variable}"' in text


def test_the_manual_is_made_without_packages_and_reads_well() -> None:
    """As the build makes it; groff, where it is, finds nothing to complain of."""
    command = [sys.executable, "-I", "-S", "-B", "hakmem/cli/manual.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == manual.page() and done.stderr == ""
    if shutil.which("groff"):
        read = subprocess.run(
            ["groff", "-man", "-Tascii", "-ww", "-z"],
            input=done.stdout,
            capture_output=True,
            text=True,
        )
        assert (read.returncode, read.stderr) == (0, "")


# --- the version ----------------------------------------------------------------------------------


def test_one_version(tmp_path: Path) -> None:
    """The package's own number is the command's, the metadata's and the changelog's; a checkout
    that is not installed has it too."""
    version = package.__version__
    assert hakmem("--version").stdout == f"hakmem {version}\n" == hakmem("-V").stdout
    assert metadata.version("hakmem") == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"], "or there would be two"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from hakmem.cli import main; main(['-V'])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == f"hakmem {version}\n", done.stderr


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(package.__file__).parent / "py.typed").is_file()
