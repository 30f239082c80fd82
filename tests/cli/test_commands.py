"""The command line itself, ``hakmem lib`` and ``hakmem policy``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, clean, hakmem, refused

from hakmem import Policy, PolicyError, cli, layout
from hakmem.clib.binding import find
from hakmem.policy import environment


def test_every_command_has_its_room() -> None:
    listed = hakmem("--help").stdout
    for command in cli.COMMANDS:
        done = hakmem(command.name, "--help")
        assert (
            done.returncode == 0
            and done.stdout.startswith(f"usage: hakmem {command.name}")
            and "examples:" in done.stdout
        ), command
        assert command.summary in listed


def test_entry_point_is_the_module() -> None:
    script = Path(sys.executable).with_name("hakmem")
    if not script.exists():
        pytest.skip("installed before there was a command: make setup")
    assert (
        subprocess.run([script, "lib"], env=clean(), capture_output=True, text=True).stdout
        == hakmem("lib").stdout
    )


def test_wrong_commands() -> None:
    done = hakmem()
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("usage: hakmem")
    refused(hakmem("rnu"), 2, "did you mean run?", "run, record, replay, ps, maps")
    refused(hakmem("--nonsense"), 2, "there is no option")
    refused(hakmem("lib", "extra"), 2, "extra", "hakmem lib --help")
    assert hakmem("--version").stdout.startswith("hakmem ")


def test_lib() -> None:
    done = hakmem("lib")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{find().absolute()}\n", "")
    relative = hakmem("lib", HAKMEM_LIBRARY=os.path.relpath(find(), ROOT))
    assert relative.stdout == done.stdout


def test_lib_loads_little() -> None:
    """A command in every preload: neither numpy nor the layout, which takes three times as long as
    all else."""
    header = find().parent / "hak_layout.h"
    names = "{'numpy', 'tabulate', 'psutil', 'ctypes', 'hakmem.heap'}"
    source = (
        f"import sys, hakmem.cli; hakmem.cli.main(['lib']); print(sorted({names} & "
        "set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], env=clean(), capture_output=True, text=True
    )
    heavy = done.stdout.splitlines()[-1]
    assert heavy == "[]" or (heavy == "['ctypes']" and not header.exists()), heavy


def test_a_reader_that_goes_and_an_interrupt() -> None:
    done = subprocess.run(
        f"{sys.executable} -m hakmem policy show -v | head -c 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env=clean(),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.stdout, done.stderr) == ("p", "") and done.returncode in (0, cli.PIPE)
    # an interrupt is ignored from birth where the tests run in the background of a shell
    source = (
        "import hakmem.cli, hakmem.cli.lib as lib, signal, sys; signal.signal(signal.SIGINT, "
        "signal.default_int_handler); "
        "lib.checked = lambda: (print('waits', flush=True), signal.pause()); "
        "sys.exit(hakmem.cli.main(['lib']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source],
        env=clean(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"waits\n"
        child.send_signal(signal.SIGINT)
        try:
            said = child.communicate(timeout=20)[1]
        finally:
            child.kill()
    assert (child.returncode, said) == (cli.INTERRUPTED, b"")


# --- policy ---------------------------------------------------------------------------------------


def test_show() -> None:
    done = hakmem("policy", HAKMEM_RETAIN_MB="64", HAKMEM_RETIAN_MB="1")
    row = next(line for line in done.stdout.splitlines() if line.startswith("HAKMEM_RETAIN_MB"))
    assert row.split()[:4] == ["HAKMEM_RETAIN_MB", "64", "set", "4"]
    assert (
        done.stderr == "hakmem policy: HAKMEM_RETIAN_MB is set, and no variable of this version\n"
    )
    assert len(hakmem("policy", "show", "-v").stdout) > 2 * len(hakmem("policy").stdout)
    found = json.loads(hakmem("policy", "--json", HAKMEM_HEADERS="all").stdout)
    assert found["variables"]["HAKMEM_HEADERS"] == 2 and found["policy"]["headers"]["mode"] == "all"
    refused(hakmem("policy", HAKMEM_RETAIN_MB="x"), 2, "HAKMEM_RETAIN_MB", "'x'")
    refused(hakmem("policy", "show", "/no/such"), 2, "/no/such")
    refused(hakmem("policy", "nonsense"), 2, "nonsense")


def test_save_never_overwrites_without_force(tmp_path: Path) -> None:
    made = tmp_path / "a.image"
    assert hakmem("policy", "save", "-o", made, HAKMEM_RETAIN_MB="64").returncode == 0
    kept = made.read_bytes()
    assert kept == Policy.from_environment({"HAKMEM_RETAIN_MB": "64"}).image()
    refused(hakmem("policy", "save", "-o", made), 2, "exists already", "-f")
    assert made.read_bytes() == kept
    assert hakmem("policy", "save", "-f", "-o", made).returncode == 0
    assert made.read_bytes() == Policy.default().image()
    refused(hakmem("policy", "save", "-o", tmp_path), 2, "a directory")
    refused(hakmem("policy", "save", "-o", tmp_path / "no" / "folder"), 1, "No such file")
    refused(hakmem("policy", "save"), 2, "-o")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.image"]


def test_check(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text("[acquire]\norder = ['hot', 'grow']\n")
    assert (
        hakmem("policy", "save", tmp_path / "good.toml", "-o", tmp_path / "good.image").returncode
        == 0
    )
    (tmp_path / "bad.image").write_bytes(bytes(100))
    done = hakmem("policy", "check", *sorted(tmp_path.iterdir()))
    assert done.returncode == 1 and done.stderr == ""
    says = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert says[0].startswith("policy field image = '100 bytes'") and says[1:] == [
        "can be obeyed",
        "can be saved as an image",
    ]
    assert hakmem("policy", "check", "-q", tmp_path / "good.image").stdout == ""


# --- TOML -----------------------------------------------------------------------------------------


def test_toml_sets_what_it_names() -> None:
    text = """
headers = "all"
[arenas]
init_mb = 2
huge_pages = true
[caches]
parked_count = 1
[caches.classes.3]
cap_max_count = 7
[size_classes]
tiny = [16, 32, 64]
pool = [2048, 8192]
"""
    made = Policy.from_toml(text)
    assert (
        made.headers.mode,
        made.arenas.init_mb,
        made.arenas.huge_pages,
        made.caches.parked_count,
    ) == ("all", 2, True, 1)
    assert [item.stride_bytes for item in made.size_classes.classes] == [16, 32, 64, 2048, 8192]
    assert [(index, row.cap_max_count) for index, row in made.caches.classes] == [(3, 7)]
    assert Policy.from_image(made.image()).image() == made.image()
    assert Policy.from_toml("") == Policy.default()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("nonsense = 1", "nonsense"),
        ("x", "toml"),
        ("caches = 1", "caches"),
        ("arenas = 3", "arenas"),
        ("[arenas]\ninit = 1", "arenas.init"),
        ("[arenas]\ninit_mb = 1.5", "arenas.init_mb"),
        ("[retain]\nlazy_free = 1", "retain.lazy_free"),
        ("headers = 'some'", "headers"),
        ("headers = true", "headers"),
        ("[acquire]\norder = 'hot'", "acquire.order"),
        ("[acquire]\norder = ['hot']", "acquire.order"),
        ("[acquire]\norder = ['warm', 'grow']", "acquire.order"),
        ("[caches.classes.99]\ncap_max_count = 1", "99"),
        ("[caches.classes.1]\nrefill_slabs = 9", "refill_slabs"),
        ("[size_classes]\ntiny = [17]", "stride_bytes"),
        ("[size_classes]\ntiny = 3", "size_classes.tiny"),
        ("[size_classes]\ntiny = []", "size_classes"),
    ],
)
def test_toml_that_is_wrong(text: str, names: str) -> None:
    with pytest.raises(PolicyError, match=names):
        Policy.from_toml(text)


def test_save_and_load(tmp_path: Path) -> None:
    policy = Policy.default().replace(headers="tiny")
    policy.save(tmp_path / "a")
    assert Policy.load(tmp_path / "a").image() == policy.image()
    with pytest.raises(FileExistsError, match="exists already"):
        policy.save(tmp_path / "a")
    policy.save(tmp_path / "a", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# --- variables ------------------------------------------------------------------------------------


def test_variables_are_what_the_policy_has() -> None:
    """Defaults of the table are the built-in policy's, and each bound is one that the policy
    takes."""
    for variable in layout.ENVIRONMENT:
        assert environment.in_force(Policy.default(), variable) == variable.default, variable.name
        for number in (variable.low, variable.high):
            text = variable.choices[number] if variable.choices else str(number)
            others = (
                {variable.at_most: "1024"}
                if variable.at_most
                else {"HAKMEM_POOL_TLS_ARENA_MB_INIT": "1"}
            )
            made = Policy.from_environment(others | {variable.name: text})
            assert environment.in_force(made, variable) == number, variable.name


def test_policy_as_toml_and_beside_another(tmp_path: Path) -> None:
    lean = tmp_path / "lean.toml"
    lean.write_text("[retain]\nfloor_bytes = 0\n")
    image = tmp_path / "lean.image"
    assert hakmem("policy", "save", str(lean), "-o", str(image)).returncode == 0
    for file in (lean, image):
        done = hakmem("policy", "show", "--toml", str(file))
        assert (done.returncode, done.stdout) == (0, "[retain]\nfloor_bytes = 0\n")
    done = hakmem("policy", "diff", "default", str(image))
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()[::2]] == [
        ["field", "default", str(image)],
        ["retain.floor_bytes", "4,194,304", "0"],
    ]
    done = hakmem("policy", "diff", str(lean), str(image), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    done = hakmem("policy", "diff", str(lean), str(tmp_path / "none"))
    assert done.returncode == 2 and "a file that can be read" in done.stderr
    done = hakmem("policy", "--toml", "-v")
    assert done.returncode == 0 and "floor_bytes = 4194304  # bytes: dirty" in done.stdout
