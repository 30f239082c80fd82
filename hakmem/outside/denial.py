"""Why another process cannot be read, and what would let it: said once, clearly."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import AttachDenied, AttachError, ProcessNotFound
from ..system import procfs

_SCOPES = {
    1: "1: a process may be read by its ancestors only, unless it opts in, as programs started "
    "by `hakmem run` do",
    2: "2: only a process with CAP_SYS_PTRACE may read others",
    3: "3: no process may read another until the next boot, which is to set a lower one",
}


def _scope() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def denied(pid: int, verb: str = "read") -> AttachDenied:
    """The error of a process that the kernel keeps from us, with everything that may be the
    reason."""
    me = os.geteuid()
    try:
        owner = int(procfs.status(pid)["Uid"].split()[0])
    except (OSError, KeyError, ValueError):
        owner = None
    both = "CAP_SYS_PTRACE and CAP_DAC_OVERRIDE (as root)"  # /proc/PID/mem is its owner's file
    reasons = []
    if owner is not None and owner != me and me != 0:
        reasons.append(
            f"it belongs to user {owner} and this process to user {me}: run this as user "
            f"{owner}, or with {both}"
        )
    scope = _scope()
    if scope in _SCOPES and not reasons:
        remedy = "; run this with CAP_SYS_PTRACE (as root)" if scope < 3 else ""
        reasons.append(
            f"ptrace scope (/proc/sys/kernel/yama/ptrace_scope) is {_SCOPES[scope]}{remedy}"
        )
    if not reasons:
        what = (
            "it may have gained privileges or made itself unreadable (prctl PR_SET_DUMPABLE), a "
            "sandbox forbids it, or /proc is another pid namespace's"
        )
        reasons.append(f"{what}: run this with {both}")
    return AttachDenied(f"process {pid} may not be {verb}: {'; '.join(reasons)}")


def gone(pid: int) -> AttachError:
    """The error of a process that is not there to be read."""
    try:
        fields = procfs.status(pid)
    except OSError:
        return ProcessNotFound(f"there is no process {pid}")
    if not procfs.readable_task(pid) and "State" in fields:
        name, parent = fields.get("Name", "?"), fields.get("PPid", "?")
        return ProcessNotFound(
            f"process {pid} ({name}) has ended: a zombie without memory, until its parent "
            f"{parent} waits for it"
        )
    if "2" in (str(pid), fields.get("PPid")) and "VmSize" not in fields:
        return AttachError(
            f"process {pid} ({fields.get('Name', '?')}) is a thread of the kernel and has no "
            "memory of its own"
        )
    return ProcessNotFound(
        f"process {pid} ended, or became another program (exec), while it was read; attach again"
    )
