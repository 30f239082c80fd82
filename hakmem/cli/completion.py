"""``hakmem completion``: what bash, zsh and fish need to complete the command line."""

from __future__ import annotations

import argparse
from typing import Final

from . import COMMANDS, parser_of
from .bench import suite_options

SHELLS: Final = ("bash", "zsh", "fish")
DESCRIPTION = """\
Print the completion of the hakmem command for a shell: commands, options, their values, process ids
of programs on the library, files. It is made from the commands themselves by shtab, and completing
starts no Python."""
EXAMPLES = """\
  hakmem completion bash > ~/.local/share/bash-completion/completions/hakmem
  hakmem completion zsh > ~/.zfunc/_hakmem      with fpath+=~/.zfunc before compinit in ~/.zshrc
  hakmem completion fish > ~/.config/fish/completions/hakmem.fish"""

# The processes on the library are those that map it: no interpreter is started to list them.
_MAPPED: Final = (
    r"grep -ls 'libhakmem[^ ]*\.so' /proc/*/maps 2>/dev/null | cut -d/ -f3 | grep '^[0-9]'"
)
_PREAMBLE: Final = {
    "bash": f"""
_hakmem_pids() {{ compgen -W "$({_MAPPED})" -- "$1"; }}
_hakmem_targets() {{ _hakmem_pids "$1"; compgen -f -X '!*.npz' -- "$1"; compgen -d -S / -- "$1"; }}
_hakmem_commands() {{ compgen -c -- "$1"; compgen -f -- "$1"; }}
""",
    "zsh": f"""
_hakmem_pids() {{ local -a pids; pids=(${{(f)"$({_MAPPED})"}}); _describe pid pids; }}
_hakmem_targets() {{ _hakmem_pids; _files -g '*.npz(-.)'; }}
_hakmem_commands() {{ _command_names -e; _files; }}
""",
    "fish": f"""
function _hakmem_pids; {_MAPPED}; end
function _hakmem_targets; _hakmem_pids; __fish_complete_path (commandline -ct); end
function _hakmem_commands; __fish_complete_command; end
""",
}
_FUNCTIONS: Final = {"PID": "pids", "PID|FILE": "targets", "COMMAND": "commands"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=SHELLS, help="whose completion to print")


def whole_parser() -> argparse.ArgumentParser:
    """One parser of all commands; the suite's own commands are in it where the suite is."""
    whole = argparse.ArgumentParser(prog="hakmem")
    whole.add_argument("-V", "--version", action="store_true", help="print the version")
    commands = whole.add_subparsers()
    for command in COMMANDS:
        parser = parser_of(command.name)
        if command.name == "bench":
            parser = suite_options() or parser
        commands.add_parser(command.name, help=command.summary, parents=[parser], add_help=False)
    return whole


def _complete(parser: argparse.ArgumentParser) -> None:
    """Says of each action with a value how a shell completes that."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _complete(inner)
        elif isinstance(action.metavar, str) and action.choices is None:
            if function := _FUNCTIONS.get(action.metavar):
                name = f"_hakmem_{function}"
                action.complete = {  # type: ignore[attr-defined]
                    "bash": name,
                    "zsh": name,
                    "fish": f"({name})",
                }
            elif action.metavar.startswith("FILE"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]


def script(shell: str) -> str:
    """The completion for a shell."""
    import shtab

    parser = whole_parser()
    _complete(parser)
    return shtab.complete(parser, shell, preamble=_PREAMBLE)  # type: ignore[arg-type]


def main(arguments: argparse.Namespace) -> int:
    """Prints the completion."""
    print(script(arguments.shell))
    return 0
