"""``hakmem bench`` is ``python -m bench`` of the source tree or of the installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from hakmem import cli
from hakmem.cli.bench import suite_root


@pytest.mark.slow
def test_it_passes_everything_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "rows"]) == 0
    assert "random_mixed_256" in capsys.readouterr().out
    assert cli.main(["bench", "run", "--rows", "nonesuch"]) == 2
    assert capsys.readouterr().err.startswith("bench: no row named nonesuch; families: gate all ")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "run", "--nonesuch"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_where_the_suite_is(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "hakmem"
    with pytest.raises(cli.CommandError, match="install hakmem again"):
        suite_root(package)
    rows = package / "suite" / "bench" / "driver" / "rows.c"
    rows.parent.mkdir(parents=True)
    rows.touch()
    assert suite_root(package) == package / "suite"


def test_without_a_compiler_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.driver.BINARY_DIR", tmp_path)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert cli.main(["bench", "rows"]) == 2
    assert capsys.readouterr().err.startswith("bench: no C compiler (no-such-compiler): install")
