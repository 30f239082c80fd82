"""The C stress driver in its short form: every scenario, the sanitizer build, and the bug it must
find."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hakmem.policy import Policy

Programs = Callable[..., Path]
SCENARIOS = (
    "handoff",
    "rings",
    "batches",
    "random",
    "aligned",
    "realloc",
    "zeroed",
    "caps0",
    "contend",
    "smallcaps",
    "pool",
    "magazines",
    "smallmags",
    "orders",
    "noadopt",
    "headers",
    "headers0",
    "checked",
    "trim",
    "holes",
    "lazy",
    "churn",
    "shared",
    "full",
    "tight",
    "destroy",
    "malloc",
    "fork1",
    "fork",
    "forks",
    "forkmags",
)


def run(program: Path, *words: str, limit: int = 300) -> subprocess.CompletedProcess[str]:
    """The driver with ``words``; address randomisation off, which older sanitizer run-times want;
    they bring a malloc."""
    fixed = (
        ["setarch", "-R"]
        if shutil.which("setarch")
        and subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0
        else []
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "LD_PRELOAD" or "tsan" not in program.parts
    }
    return subprocess.run(
        [*fixed, str(program), *words], capture_output=True, text=True, timeout=limit, env=kept
    )


def passes(program: Path, *words: str) -> str:
    """Runs the driver, which must exit 0 and be silent on stderr; returns its report."""
    done = run(program, *words)
    assert (done.returncode, done.stderr) == (0, ""), (
        f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr[-4000:]}"
    )
    return done.stdout


def test_mt_scenarios_are_all_named_here(native_program: Programs) -> None:
    listed = passes(native_program("stress"), "--list")
    assert tuple(line.split()[0] for line in listed.splitlines()) == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_mt_scenario(native_program: Programs, scenario: str) -> None:
    assert passes(
        native_program("stress"), "--short", "--threads", "8", "--scenario", scenario
    ).startswith(scenario)


def test_mt_thread_churn_of_ten_thousand(native_program: Programs) -> None:
    assert " records" in passes(native_program("stress"), "--threads", "4", "--scenario", "churn")


@pytest.mark.parametrize("threads", (2, 3, 16))
@pytest.mark.slow
def test_mt_every_scenario_with_other_thread_counts(native_program: Programs, threads: int) -> None:
    chosen = [
        word
        for name in ("handoff", "rings", "random", "caps0", "smallcaps", "checked", "trim", "full")
        for word in ("--scenario", name)
    ]
    passes(
        native_program("stress"),
        "--short",
        "--threads",
        str(threads),
        "--seed",
        str(threads),
        *chosen,
    )


@pytest.mark.parametrize("headers", ("tiny", "all"))
def test_mt_policy_from_an_image(native_program: Programs, tmp_path: Path, headers: str) -> None:
    policy = Policy.default().replace(headers=headers)
    image = tmp_path / "policy.image"
    image.write_bytes(policy.replace(caches=policy.caches.without_caches()).image())
    chosen = ("--scenario", "random", "--scenario", "realloc", "--scenario", "zeroed")
    passes(native_program("stress"), "--short", "--policy", str(image), *chosen)


def test_mt_damaged_policy_image_is_refused(native_program: Programs, tmp_path: Path) -> None:
    image = bytearray(Policy.default().image())
    image[100] ^= 1
    (tmp_path / "policy.image").write_bytes(image)
    done = run(
        native_program("stress"),
        "--short",
        "--scenario",
        "handoff",
        "--policy",
        str(tmp_path / "policy.image"),
    )
    assert (done.returncode, done.stderr) == (1, "stress: handoff: create: fault 8\n")


@pytest.mark.slow
def test_mt_debug_build_asserts_hold(native_program: Programs) -> None:
    passes(native_program("stress", "debug"), "--short")


@pytest.mark.slow
def test_mt_thread_sanitizer_is_silent(native_program: Programs) -> None:
    """ThreadSanitizer without a suppression, over the scenarios in which threads meet most; `make
    tsan` runs all."""
    chosen = [
        word
        for name in ("handoff", "rings", "contend", "checked", "trim", "churn", "shared", "destroy")
        for word in ("--scenario", name)
    ]
    passes(native_program("stress", "tsan"), "--short", *chosen)


@pytest.mark.slow
def test_mt_child_of_a_fork_finds_threads_cut_off_anywhere(native_program: Programs) -> None:
    """Each state that a thread which is gone may leave behind, written by hand; the list is the
    program's own."""
    assert len(passes(native_program("torn")).splitlines()) == 42


SHORT_CUTS = (
    *("span_alloc", "span_free", "span_shrink", "slab", "refill", "overflow"),
    "magazine_put",
)


@pytest.mark.slow
def test_mt_child_of_a_fork_behind_every_store(native_program: Programs) -> None:
    """The same states met in fact: the other thread goes on by one instruction at a time; all
    operations by `make storm`."""
    said = passes(native_program("cut"), *SHORT_CUTS).splitlines()
    assert [line.split()[0] for line in said] == list(SHORT_CUTS)
    assert all(int(line.split()[3]) > 4 for line in said), said


def test_mt_drain_before_claim_is_found(native_program: Programs) -> None:
    """Negative control: with remote lists drained before the claim, lists break, and the driver
    says so in one line."""
    done = run(
        native_program("stress_drain_bug"),
        "--scenario",
        "contend",
        "--seconds",
        "60",
        "--threads",
        "8",
    )
    assert done.returncode == 1, f"the bug was not found:\n{done.stdout}"
    assert done.stderr.startswith("stress: contend: ") and done.stderr.count("\n") == 1
