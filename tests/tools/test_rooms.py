"""The order of the rooms: imports point down, and no files import each other in a circle."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools import rooms


@pytest.fixture(scope="module")
def plan() -> rooms.Plan:
    """The rooms as they stand."""
    return rooms.read_plan()


@pytest.fixture(scope="module")
def left(plan: rooms.Plan) -> rooms.Plan:
    """The rooms without the exceptions."""
    return plan.without_exceptions()


def test_every_room_has_its_place(plan: rooms.Plan) -> None:
    assert {rooms.room_of(file) for file in plan.lines} == {*rooms.ROOMS}, "ROOMS lists them all"


def test_imports_point_down(left: rooms.Plan) -> None:
    assert left.upward() == []


def test_imports_of_types_point_down(left: rooms.Plan) -> None:
    assert left.upward(running=False) == []


def test_no_circles(left: rooms.Plan) -> None:
    assert left.circles() == []


def test_every_exception_is_needed(plan: rooms.Plan) -> None:
    circles = {file for circle in plan.circles() for file in circle}
    upward = [*plan.upward(), *plan.upward(running=False)]
    used = {item.exception for item in plan.imports if item in upward or item.importer in circles}
    assert {*rooms.EXCEPTIONS} <= used, "take out of EXCEPTIONS what no import needs"


# --- the tool itself, on plans that are wrong -----------------------------------------------------

SOUND = {
    "hakmem/__init__.py": "",
    "hakmem/errors.py": "",
    "hakmem/policy/__init__.py": "from .policy import Policy\n",
    "hakmem/policy/policy.py": "from .. import layout\nfrom ..errors import PolicyError\n",
    "hakmem/layout.py": "",
    "hakmem/plane/heap.py": "from ..policy import Policy\n",
}


def test_sound_plan() -> None:
    plan = rooms.plan_of(SOUND)
    assert (plan.upward(), plan.circles()) == ([], [])
    assert plan.arrows() == {
        ("hakmem/policy", "hakmem/layout.py"): {"import": 1},
        ("hakmem/policy", "hakmem/errors.py"): {"import": 1},
        ("hakmem/plane", "hakmem/policy"): {"import": 1},
    }


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        ("hakmem/policy/policy.py", "import hakmem.plane.heap", "import"),
        ("hakmem/policy/policy.py", "from ..plane import heap", "import"),
        ("hakmem/errors.py", "try:\n    from .plane.heap import Heap\nfinally: pass", "import"),
        ("hakmem/errors.py", "class A:\n  def f(self):\n    from .plane import heap", "late"),
        (
            "hakmem/errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .plane.heap import Heap",
            "type",
        ),
    ],
)
def test_import_upward_is_found(file: str, text: str, kind: str) -> None:
    plan = rooms.plan_of(SOUND | {file: text})
    found = plan.upward(running=kind != "type")
    assert [(item.importer, item.imported, item.kind) for item in found] == [
        (file, "hakmem/plane/heap.py", kind)
    ]
    assert plan.upward(running=kind == "type") == []


def test_circle_is_found() -> None:
    late = {"hakmem/policy/files.py": "def load():\n    from . import policy\n"}
    plan = rooms.plan_of(SOUND | late | {"hakmem/policy/policy.py": "from . import files"})
    assert plan.circles() == [["hakmem/policy/files.py", "hakmem/policy/policy.py"]]
    assert plan.upward() == [], "both are of one room"


def test_unknown_rooms_stand_where_few_arrows_point_upward() -> None:
    plan = rooms.plan_of(
        {
            "hakmem/alpha.py": "from . import beta",
            "hakmem/beta.py": "from . import gamma",
            "hakmem/gamma.py": "",
        }
    )
    assert plan.rooms == ["hakmem/gamma.py", "hakmem/beta.py", "hakmem/alpha.py"]
    assert plan.upward() == []


def test_command_prints_the_plan(plan: rooms.Plan) -> None:
    command = [sys.executable, "-m", "tools.rooms"]
    done = subprocess.run(command, cwd=rooms.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == rooms.describe(plan) + "\n"
    for room in rooms.ROOMS:
        assert f"\n{room} " in done.stdout


def test_command_refuses_an_unknown_revision() -> None:
    with pytest.raises(SystemExit, match="git archive no-such-revision"):
        rooms.main(["--at", "no-such-revision"])
