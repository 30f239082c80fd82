"""``hakmem bench`` is ``python -m bench`` of the source tree, and says so where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hakmem import cli
from hakmem.cli.bench import suite_root


def test_it_passes_everything_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "rows"]) == 0
    assert "random_mixed_256" in capsys.readouterr().out
    assert cli.main(["bench", "run", "--rows", "nonesuch"]) == 2
    assert capsys.readouterr().err.startswith("bench: no row named nonesuch; families: gate all ")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "run", "--nonesuch"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_the_source_tree_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(cli.CommandError, match="get the sources and run python -m bench there"):
        suite_root(tmp_path / "site-packages" / "hakmem")
