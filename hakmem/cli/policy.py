"""``hakmem policy``: policies shown, compared, saved and checked."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from .. import layout
from ..errors import PolicyError
from ..policy import Policy
from ..policy import environment as variables
from . import FAILED, OK, PENDING, USAGE, CommandError, fitting

DESCRIPTION = """\
Policies: the numbers that the allocator obeys. Without an action, show the one that a preloaded
program would have: the built-in one, or the file that HAKMEM_POLICY names, with the HAKMEM_
variables over it."""
EXAMPLES = """\
  hakmem policy                                       the variables and their values
  hakmem policy show -v lean.toml                     every number of a policy
  hakmem policy show --toml lean.image                what differs from the default, as TOML
  hakmem policy diff default lean.toml                what two policies do differently
  HAKMEM_RETAIN_MB=64 hakmem policy save -o big.image keep what is set as an image
  hakmem policy save lean.toml -o lean.image          make the image of a TOML file
  hakmem policy check *.image                         0 if all can be obeyed, else 1
  hakmem policy fit PID -o fitted.toml                size classes for what a process asks for
  hakmem policy show --toml 4711                      that of a process that runs
  hakmem policy set 4711 retain.floor_bytes=0         another from now on
  hakmem policy set 4711 headers.mode=all --next p.image    for its next start
  hakmem policy reset 4711                            what it began with"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions: show (default), diff, save, check, fit."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, text in (
        ("show", "print a policy"),
        ("diff", "tell what two policies do differently"),
        ("save", "write a policy image"),
        ("check", "say whether files can be obeyed"),
        ("set", "change the policy of a process that runs"),
        ("reset", "give a process the policy back that it began with"),
    ):
        action = actions.add_parser(
            name, help=text, description=text.capitalize() + ".", allow_abbrev=False
        )
        action.error = parser.error  # type: ignore[method-assign]
        if name == "diff":
            for place in ("first", "second"):
                action.add_argument(
                    place, metavar="POLICY", help="policy image, .toml file, or the word default"
                )
            action.add_argument("--json", action="store_true", help="for programs")
            continue
        if name in ("set", "reset"):
            _add_change(action, name)
            continue
        if name == "check":
            action.add_argument(
                "files", metavar="FILE", nargs="+", help="policy image, or a .toml file"
            )
            action.add_argument("-q", "--quiet", action="store_true", help="only the exit code")
            continue
        action.add_argument(
            "file",
            metavar="FILE",
            nargs="?",
            help="policy image or .toml file, or a process id; else what the environment says",
        )
        if name == "show":
            _add_show(action)
        else:
            action.add_argument(
                "-o", "--output", metavar="FILE", required=True, help="the image to write"
            )
            action.add_argument("-f", "--force", action="store_true", help="overwrite it")
    fitting.add_action(actions, parser)
    _add_show(parser)


def _add_change(action: argparse.ArgumentParser, name: str) -> None:
    """The process, what is to change, and how long to wait."""
    from .targets import add_heap, add_volume, seconds
    from .trim import TIMEOUT_SECONDS

    action.add_argument("pid", metavar="PID", help="the process")
    if name == "set":
        action.add_argument(
            "words",
            metavar="NAME=VALUE",
            nargs="+",
            help="a number of the policy, as retain.floor_bytes=0 or caches.classes.3.cap_max_count"
            "=9, or a variable, as HAKMEM_RETAIN_MB=0",
        )
        action.add_argument(
            "--next",
            metavar="FILE",
            help="change nothing now: write the changed policy to FILE, an image for HAKMEM_POLICY "
            "at the program's next start; for what a running heap keeps, too",
        )
        action.add_argument("-f", "--force", action="store_true", help="overwrite FILE")
    action.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=TIMEOUT_SECONDS,
        help=f"how long to wait in all: {TIMEOUT_SECONDS:g}",
    )
    action.add_argument("--no-stop", action="store_true", help="only ask: stop no thread for it")
    add_heap(action)
    add_volume(action, "only the exit code", "name all threads that have not obeyed")
    action.add_argument("--json", action="store_true", help="for programs")


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=argparse.SUPPRESS,
        help="every number, class by class",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for programs")
    form.add_argument(
        "--toml",
        action="store_true",
        default=argparse.SUPPRESS,
        help="what differs from the default, as a file that --policy takes; -v: every number",
    )


def _policy(file: str | None) -> tuple[Policy, Mapping[str, str]]:
    """The policy asked for, and the environment that has a say in it."""
    if file is None:
        return Policy.from_environment(), os.environ
    if file.isascii() and file.isdecimal() and not os.path.lexists(file):
        from .targets import open_target

        return open_target(file).policy, {}
    return Policy.load(file), {}


def _unknown(environment: Mapping[str, str]) -> list[str]:
    return sorted(
        name
        for name in environment
        if name.startswith("HAKMEM_") and name not in layout.VARIABLE_NAMES
    )


def _show(arguments: argparse.Namespace) -> int:
    policy, environment = _policy(getattr(arguments, "file", None))
    verbose = getattr(arguments, "verbose", False)
    if getattr(arguments, "toml", False):
        print(policy.to_toml(full=verbose), end="")
        return OK
    if getattr(arguments, "json", False):
        values = {
            variable.name: variables.in_force(policy, variable) for variable in layout.ENVIRONMENT
        }
        print(json.dumps({"variables": values, "policy": asdict(policy)}, indent=2))
        return OK
    named = environment.get(layout.POLICY_FILE_VARIABLE) if environment else arguments.file
    print(f"policy: {named or 'built-in'}\n")
    print(variables.table(policy, environment))
    if verbose:
        print(f"\n{policy.table()}")
    for name in _unknown(environment):
        print(f"hakmem policy: {name} is set, and no variable of this version", file=sys.stderr)
    return OK


def _diff(arguments: argparse.Namespace) -> int:
    names = arguments.first, arguments.second
    first, second = (Policy.default() if name == "default" else Policy.load(name) for name in names)
    found = first.diff(second, names=names)
    if arguments.json:
        print(json.dumps([row._asdict() for row in found], indent=2))
    else:
        print(found)
    return OK


def _save(arguments: argparse.Namespace) -> int:
    policy, _ = _policy(arguments.file)
    if os.path.isdir(arguments.output):
        raise CommandError(f"{arguments.output}: a directory; name a file", USAGE)
    try:
        policy.save(arguments.output, force=arguments.force)
    except FileExistsError:
        raise CommandError(f"{arguments.output} exists already; -f overwrites it", USAGE) from None
    return OK


def _check(arguments: argparse.Namespace) -> int:
    code = OK
    for name in arguments.files:
        try:
            Policy.load(name)
            text = "can be obeyed" if Path(name).suffix != ".toml" else "can be saved as an image"
        except PolicyError as error:
            code, text = FAILED, str(error)
        if not arguments.quiet:
            print(f"{name}: {text}")
    return code


def _change(arguments: argparse.Namespace) -> int:
    from ..policy.changing import assigned
    from .targets import open_target, pid_of, write_json

    view = open_target(str(pid_of(arguments.pid)), number=arguments.heap)
    policy = assigned(view.policy, arguments.words) if arguments.action == "set" else None
    if policy is not None and arguments.next is not None:
        return _keep(policy, arguments.next, force=arguments.force)
    answer = view.set_policy(policy, arguments.timeout, stop=not arguments.no_stop)
    changes = answer.changes
    if arguments.json:
        rows = [row._asdict() for row in changes]
        told = {"served": answer.served, "overtaken": answer.overtaken, "changes": rows}
        write_json(told | {"seconds": answer.seconds}, sys.stdout)
    elif not answer.served:
        undone = answer.undone(arguments.timeout, verbose=arguments.verbose)
        print(f"hakmem policy: {undone}", file=sys.stderr)
    elif answer.overtaken:
        print(f"hakmem policy: {answer.told()}", file=sys.stderr)
    elif not arguments.quiet:
        print(changes if changes else "as before: nothing to change")
    if not answer.served:
        return PENDING
    return FAILED if answer.overtaken else OK


def _keep(policy: Policy, name: str, *, force: bool) -> int:
    """Write what is meant for the next start."""
    try:
        policy.save(name, force=force)
    except FileExistsError:
        raise CommandError(f"{name} exists already; -f overwrites it", USAGE) from None
    place = os.path.abspath(name)
    print(f"kept in {name}; start the program with {layout.POLICY_FILE_VARIABLE}={place}")
    return OK


def main(arguments: argparse.Namespace) -> int:
    """Does the action."""
    actions = {
        None: _show,
        "show": _show,
        "diff": _diff,
        "save": _save,
        "check": _check,
        "set": _change,
        "reset": _change,
        "fit": fitting.main,
    }
    return actions[arguments.action](arguments)
