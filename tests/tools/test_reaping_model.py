"""The model of reaping: the design holds in every interleaving, and fails without any part."""

from __future__ import annotations

import pytest

from models.reaping import VARIANTS, main, verdict

SHORT = ("mmm", "fmf", "smm")
LEFT_OUT = [name for name in VARIANTS if name != "design"]


def test_the_design_holds() -> None:
    assert verdict(VARIANTS["design"], SHORT) == ""


@pytest.mark.parametrize(
    ("name", "script", "what"),
    [
        ("no barrier", "mmm", "in two places"),
        ("head not read again", "mmm", "garbage"),
        ("one block left", "mmm", "in the list"),
        ("range taken whole", "mmmmm", "in two places"),
        ("slow paths not asked", "smm", "takes what is elsewhere"),
    ],
)
def test_each_part_left_out_fails(name: str, script: str, what: str) -> None:
    assert what in verdict(VARIANTS[name], (script,))


def test_what_fails_is_told_by_name_and_as_the_exit_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(LEFT_OUT[:1]) == 0
    assert capsys.readouterr().out.startswith(f"{LEFT_OUT[0]}: mmm: block")
