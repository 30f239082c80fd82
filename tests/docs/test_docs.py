"""README.md and docs/: every transcript is run and compared, links lead somewhere, tables are the
code's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from hakmem import layout
from hakmem.cli import COMMANDS
from hakmem.policy import environment
from tests.docs.transcripts import (
    CASES,
    PAGES,
    ROOT,
    Step,
    aligned,
    differences,
    matches,
    plain,
    rewritten,
    run_page,
    steps_of,
)

CASE_PAGES = sorted((ROOT / "docs" / "cases").glob("*.md"))
TEXTS = [*PAGES, *CASE_PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
LONG = ("outside", "profile")
"""Pages whose programs run for a minute."""
WITH_STEPS = [page for page in PAGES if steps_of(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.stem in LONG else ())
        for page in WITH_STEPS
    ],
    ids=[page.stem for page in WITH_STEPS],
)
def test_mt_a_page_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    steps = run_page(page.read_text(encoding="utf-8"), tmp_path)
    found = list(differences(steps))
    assert not found, "\n".join([*found, "python -m tests.docs.regenerate writes it anew"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in CASE_PAGES if page.stem in CASES and shutil.which(CASES[page.stem])],
    ids=lambda page: page.stem,
)
def test_mt_a_case_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    found = list(differences(run_page(page.read_text(encoding="utf-8"), tmp_path)))
    assert not found, "\n".join(found)


def test_every_command_is_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for command in COMMANDS:
        assert f"hakmem {command.name}" in text, command.name


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [
                re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings
            ]


def test_the_readme_fits_three_screens() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert max(map(len, prose.splitlines())) <= 110


def test_the_table_of_variables_is_the_layouts() -> None:
    text = (ROOT / "docs" / "variables.md").read_text(encoding="utf-8")
    assert environment.markdown() in text
    for other in layout.OTHER_VARIABLES:
        assert f"| `{other.name}` | {other.meaning} |" in text


def test_the_glossary_has_every_word_once() -> None:
    """The words of ARCHITECTURE.md's tables and of the letter maps are in it, none twice."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| \*\*([^*]+)\*\* \|", text, re.MULTILINE)
    assert len(words) == len(set(words)) > 60
    tables = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    used = re.findall(r"^\| ([a-z ]+) \| (?!here)", tables, re.MULTILINE)
    assert used and set(used) <= set(words)
    asked = (
        "mailbox hot carve band epoch dirty refault drain park loan sweep live claim adopt purge "
        "cached purged uncarved application resident look span slab unit"
    )
    assert set(asked.split()) | {"high water", "in use", "size class"} <= set(words)


# --- the comparison itself ------------------------------------------------------------------------


def page(*lines: str) -> list[Step]:
    return steps_of("\n".join(["```console", *lines, "```"]))


def test_steps_are_read() -> None:
    text = "```pycon\n>>> for a in 1, 2:\n...     a\n1\n2\n>>> a\n2\n```\n\n```sh\n$ no\n```\n"
    first, second = steps_of(text)
    assert (first.source, first.expected) == ("for a in 1, 2:\n    a", ["1", "2"])
    assert (second.source, second.expected, second.first) == ("a", ["2"], 6)
    [step] = page("$ printf 'a\\", "b'", "a", "b")
    assert step.source == "printf 'a\\\nb'" and step.expected == ["a", "b"]


@pytest.mark.parametrize(
    ("expected", "said", "same"),
    [
        (["1 slab of 2.5 MiB"], ["7 slab of 31 KiB"], True),
        (["1 slab of 2.5 MiB"], ["7 slabs of 31 KiB"], False),
        (["a", "[...]", "d"], ["a", "b", "c", "d"], True),
        (["a", "[...]"], ["a"], True),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        (["a", "[...]", "d"], ["a", "b"], False),
        (["  pid    name", "-----  ---"], ["pid  name", "---  -------"], True),
        ([], ["an error"], False),
    ],
)
def test_what_is_the_same(expected: list[str], said: list[str], same: bool) -> None:
    [step] = page("$ command", *expected)
    step.said = said
    assert matches(step) == same


def test_numbers_count_where_figures_are_not_said() -> None:
    [step] = steps_of("```pycon\n>>> a\n12 blocks at 0x7f0000000000\n```\n")
    step.said = ["12 blocks at 0x7fffffff0000"]
    assert matches(step)
    step.said = ["13 blocks at 0x7fffffff0000"]
    assert not matches(step)
    assert plain("heap2 and class 18", True) == "heap2 and class N"


def test_a_page_is_written_anew() -> None:
    text = "```console\n$ a\nold 1\n[...]\nend 2\n$ b\nother\n```\n"
    first, second = steps_of(text)
    first.said, second.said = ["old 3", "between", "end 4"], ["quite", "new"]
    assert aligned(first) == ["old 3", "[...]", "end 4"]
    assert rewritten(text, [first, second]) == (
        "```console\n$ a\nold 3\n[...]\nend 4\n$ b\nquite\nnew\n```\n"
    )
