"""The circumstances of a measurement: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import IN_SOURCES, ROOT
from bench.records import Machine


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_machine() -> Machine:
    """The machine this process runs on."""
    fields: dict[str, str] = {}
    for line in _text_of("/proc/cpuinfo").partition("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    cpu = fields.get("model name") or platform.processor() or "unknown"
    if "model" in fields:
        cpu += f" (family {fields.get('cpu family', '?')}, model {fields['model']})"
    huge = _text_of("/sys/kernel/mm/transparent_hugepage/enabled")
    return Machine(
        cpu=cpu,
        cpu_count=os.cpu_count() or 1,
        arch=platform.machine(),
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        kernel=platform.release(),
        huge_pages=huge[huge.find("[") + 1 : huge.find("]")] if "[" in huge else "unknown",
    )


def read_versions(compiler: str) -> dict[str, str]:
    """Versions of Python, the C library and the compiler of the driver."""
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return {
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "cc": done.stdout.splitlines()[0] if done.stdout else "unknown",
    }


def read_commit() -> tuple[str | None, bool | None]:
    """The commit of the sources, and whether tracked files have changed since; None without git and
    where the suite is installed."""
    git = shutil.which("git")
    if git is None or not IN_SOURCES:  # installed, the commit found would be another project's
        return None, None

    def ask(*words: str) -> str | None:
        done = subprocess.run(
            [git, "-C", str(ROOT), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    changed = ask("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    return commit, None if commit is None or changed is None else bool(changed)


def measured_now(schema: str, compiler: str) -> dict[str, Any]:
    """The head of a kept result: its schema, when, on what machine, with what, of which commit."""
    commit, changed = read_commit()
    return {
        "schema": schema,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(read_machine()),
        "versions": read_versions(compiler),
        "commit": commit,
        "changed": changed,
    }
