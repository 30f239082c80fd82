"""Looks at a program from its start to its end: which of them are kept."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hakmem.outside.watcher import Watcher, Wishes


class Touching(Watcher):
    """One whose looks are empty files."""

    def _save(self, pid: int, place: Path) -> None:
        place.touch()


@pytest.mark.parametrize("ended", [False, True])
def test_a_look_during_which_the_program_ended_is_not_kept(tmp_path: Path, ended: bool) -> None:
    with subprocess.Popen(["sleep", "60"]) as program:
        if ended:
            program.kill()
            os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        said: list[str] = []
        watcher = Touching(program.pid, Wishes(None, 1.0, tmp_path), said.append)
        watcher._look_between()
        watcher._look_between()
        kept = sorted(place.name for place in tmp_path.iterdir())
        assert kept == ([] if ended else ["look-000001.npz", "look-000002.npz"])
        assert not said
        program.kill()
