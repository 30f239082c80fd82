"""Timelines: what looks after another make, the charts, the page, the command."""

from __future__ import annotations

import base64
import doctest
import json
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import hakmem
from hakmem.cli import main
from hakmem.errors import HakmemError, UnknownName
from hakmem.views.answers.causes import NAMES
from hakmem.views.pictures import areas
from hakmem.views.pictures.areas import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Area, Chart
from hakmem.views.pictures.moments import SITE_AMOUNTS, Moment, Moments, Whose
from hakmem.views.pictures.timeline import OTHERS, SITES, Timeline
from tests.support.heaps import Make

MIB = 1 << 20
SHOP = Whose(4711, "/usr/bin/shop", 1 << 40)


def moment(
    number: int, *, whose: Whose = SHOP, sites: tuple[tuple[int, int, int], ...] = (), **causes: int
) -> Moment:
    """A moment ``number`` seconds after the first, with MiB by cause."""
    sizes = np.zeros(len(NAMES), dtype=np.int64)
    for name, size in causes.items():
        sizes[NAMES.index(name.replace("_", " "))] = size * MIB
    return Moment(
        f"looks/look-{number:06}.npz",
        whose,
        f"process {whose.pid} (shop)",
        1_000_000.0 + number,
        int(sizes.sum()),
        sizes,
        f"Look {number} says <why> & more.",
        np.array([*sites], dtype=SITE_AMOUNTS),
    )


def of(*found: Moment, sites: tuple[str, ...] = (), sampled: bool = False) -> Moments:
    """Moments as they come."""
    made = Moments()
    made.found += found
    made.sites = {name: place for place, name in enumerate(sites)}
    made.sampled = sampled or bool(sites)
    return made


def small() -> Moments:
    """Three looks out of order, and one at another process."""
    load, parse = (0, 3 * MIB, 1 * MIB), (1, 2 * MIB, 0)
    return of(
        moment(2, in_use=8, live_blocks=4, outside=2, sites=(load, (1, 5 * MIB, 7))),
        moment(0, in_use=4, outside=2, sites=(parse,)),
        moment(1, whose=Whose(9, "/bin/sh", 1 << 40), in_use=1),
        moment(3, in_use=2, live_blocks=6, metadata=1, outside=2, sites=(load,)),
        sites=("load (shop.c:7)", "parse (shop.c:9)"),
    )


def parsed(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script id="data" type="text/plain">([^<]*)</script>', page)
    assert found
    data: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found[1])))
    return data


def test_examples() -> None:
    failed, attempted = doctest.testmod(areas)
    assert failed == 0 and attempted


def test_rows_are_the_looks_of_one_heap_by_time() -> None:
    made = Timeline.of(small())
    assert made.lines() == [
        "process 4711 (shop): 3 looks over 3 s, 6 MiB resident at first, 14 MiB at most, "
        "11 MiB at last"
    ]
    assert [one.file for one in made.others] == ["looks/look-000001.npz"]
    rows = made.rows()
    assert [(row["file"], row["seconds"], row["rss_bytes"] // MIB) for row in rows] == [
        ("looks/look-000000.npz", 0.0, 6),
        ("looks/look-000002.npz", 2.0, 14),
        ("looks/look-000003.npz", 3.0, 11),
    ]
    for row in rows:
        assert sum(row["causes"].values()) == row["rss_bytes"] and tuple(row["causes"]) == NAMES
    assert [row["live"] for row in rows] == [
        {"parse (shop.c:9)": 2 * MIB, "load (shop.c:7)": 0},
        {"parse (shop.c:9)": 5 * MIB, "load (shop.c:7)": 3 * MIB},
        {"parse (shop.c:9)": 0, "load (shop.c:7)": 3 * MIB},
    ]
    assert [row["pinned"]["load (shop.c:7)"] for row in rows] == [0, MIB, MIB]
    assert rows[1]["explanation"] == "Look 2 says <why> & more."


def test_sites_beyond_the_colours_are_one_area() -> None:
    names = tuple(f"site{number}" for number in range(SITES + 5))
    sizes = tuple((place, 100 + place, 0) for place in range(len(names)))
    made = Timeline.of(of(moment(0, in_use=1, sites=sizes), moment(1, in_use=1), sites=names))
    live = made.chart("live").areas
    assert [area.name for area in live] == [*reversed(names[5:]), OTHERS]
    assert live[-1].values.tolist() == [sum(range(100, 105)), 0]
    assert [area.name for area in made.chart("pinned").areas] == [OTHERS]


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(HakmemError, match="no look that can be shown"):
        Timeline.of(Moments())
    bare = Timeline.of(of(moment(0, in_use=1)))
    assert list(bare.charts) == ["cause"] and "live" not in bare.rows()[0]
    with pytest.raises(HakmemError, match="hakmem run --profile"):
        bare.chart("live")
    with pytest.raises(UnknownName, match="cause, live, pinned"):
        bare.chart("class")


# --- charts ---------------------------------------------------------------------------------------


def chart(*values: list[int], seconds: list[float]) -> Chart:
    colours = (0x0072B2, 0xE69F00, 0xC8C8C8)
    rows = [
        Area(f"area {place}", colours[place], np.array(row, dtype=np.int64))
        for place, row in enumerate(values)
    ]
    return Chart("a chart", np.array(seconds), tuple(rows))


def test_areas_stand_one_above_the_other() -> None:
    drawn = chart([10, 20, 0], [5, 0, 30], seconds=[0, 1, 4])
    assert drawn.edges.tolist() == [[0, 0, 0], [10, 20, 0], [15, 20, 30]]
    assert (drawn.step, drawn.most, drawn.span) == (8, 32, 4.0)
    assert drawn.x().tolist() == [LEFT, LEFT + (RIGHT - LEFT) / 4, RIGHT]
    assert drawn.y()[0].tolist() == [BOTTOM] * 3
    assert drawn.y()[2].tolist() == [BOTTOM - size / 32 * (BOTTOM - TOP) for size in (15, 20, 30)]


def test_pixels_are_the_areas() -> None:
    drawn = chart([10, 10], [20, 20], seconds=[0, 1])
    pixels = drawn.pixels()
    assert pixels.shape == (BOTTOM - TOP, RIGHT - LEFT, 4)
    high = BOTTOM - TOP
    column = [bytes(row).hex() for row in pixels[:, 400, :3].tolist()]
    counts = {colour: column.count(colour) for colour in dict.fromkeys(column)}
    assert list(counts) == ["ffffff", "e69f00", "0072b2"]
    assert counts["0072b2"] == pytest.approx(high * 10 / 32, abs=1)
    assert counts["e69f00"] == pytest.approx(high * 20 / 32, abs=1)


@pytest.mark.parametrize(
    ("values", "seconds"), [([7], [0.0]), ([0, 0], [0.0, 0.0]), ([1 << 50, 1], [0.0, 9e6])]
)
def test_one_look_none_resident_and_much(values: list[int], seconds: list[float]) -> None:
    drawn = chart(values, seconds=seconds)
    root = ElementTree.fromstring(f"<svg>{drawn.svg()}</svg>")
    assert "nan" not in drawn.svg() and "inf" not in drawn.svg()
    ticks = [item for item in root.iter("text") if item.get("text-anchor") == "middle"]
    assert 1 <= len(ticks) <= 13
    assert drawn.pixels().any()


def test_names_are_written_where_there_is_room() -> None:
    drawn = chart([1, 1, 100], [1, 1, 1], seconds=[0, 1, 2])
    root = ElementTree.fromstring(f"<svg>{drawn.svg()}</svg>")
    names = [item for item in root.iter("text") if item.get("class") == "name"]
    assert [item.text for item in names] == ["area 0"]
    assert float(names[0].get("x", 0)) > (LEFT + RIGHT) / 2


def test_svg_png_and_files(tmp_path: Path) -> None:
    made = Timeline.of(small())
    for by in ("cause", "live", "pinned"):
        root = ElementTree.fromstring(made.svg(by))
        texts = [item.text or "" for item in root.iter() if item.tag.endswith("}text")]
        assert texts[0] == made.lines()[0]
        assert {area.name for area in made.chart(by).areas} <= {*texts}
    assert made._repr_html_() == made.svg() and ".save('t.html')" in repr(made)
    for ending in ("html", "svg", "png"):
        made.save(tmp_path / f"t.{ending}")
        with pytest.raises(FileExistsError):
            made.save(tmp_path / f"t.{ending}")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"t\.gif: expected a name that ends with \.html"):
        made.save(tmp_path / "t.gif")


def test_the_page_has_every_figure() -> None:
    made = Timeline.of(small())
    text = made.page()
    data = parsed(text)
    assert data["files"] == [row["file"] for row in made.rows()]
    assert data["paragraphs"] == [row["explanation"] for row in made.rows()]
    assert data["plot"] == [LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT]
    for mode, drawn in made.charts.items():
        found = {area["name"]: area["values"] for area in data["charts"][mode]["areas"]}
        assert found == {area.name: area.values.tolist() for area in drawn.areas}
        ElementTree.fromstring(f"<svg>{data['charts'][mode]['svg']}</svg>")
    assert "http" not in re.sub(r'<script id="data"[^<]*</script>', "", text)


def test_names_that_are_markup_stay_names() -> None:
    name = "</text><script>alert(1)</script>&"
    made = Timeline.of(of(moment(0, in_use=1, sites=((0, MIB, MIB),)), sites=(name,)))
    root = ElementTree.fromstring(made.svg("live"))
    assert name in [item.text for item in root.iter()]
    assert "<script>alert" not in made.page() and "<script>alert" not in made.svg("live")


# --- looks ----------------------------------------------------------------------------------------


@pytest.fixture
def looks(make: Make, tmp_path: Path) -> Path:
    """Three looks at a heap that grows, and what cannot be read beside them."""
    folder = tmp_path / "looks"
    folder.mkdir()
    heap = make(name="test heap")
    heap.profile(1 << 12)
    for number in range(3):
        heap.free_many(heap.alloc_many([1000] * 400)[::2])
        heap.view().save(folder / f"look-{number}.npz")
    whole = (folder / "look-1.npz").read_bytes()
    (folder / "look-3.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "look-4.npz").write_bytes(b"")
    heap.view().save(folder / "look-5.npz", residency=False)
    return folder


def test_figures_are_those_of_why_and_sites(looks: Path) -> None:
    moments = Moments()
    for place in sorted(looks.glob("look-[012].npz")):
        moments.add(hakmem.load(place), str(place))
    made = Timeline.of(moments)
    for number, row in enumerate(made.rows()):
        view = hakmem.load(looks / f"look-{number}.npz")
        answer = view.why()
        assert row["rss_bytes"] == answer.rss_bytes and row["explanation"] == answer.paragraph()
        assert [*row["causes"].values()] == answer.causes["size_bytes"].tolist()
        assert sum(row["live"].values()) == view.sites["live_bytes"].sum()
        assert sum(row["pinned"].values()) == np.maximum(view.sites["pinned_bytes"], 0).sum()


Say = Callable[..., tuple[str, str]]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """``hakmem timeline``: its stdout and stderr."""

    def run(*words: object, code: int = 0) -> tuple[str, str]:
        assert main(["timeline", *map(str, words)]) == code, capfd.readouterr()
        return tuple(capfd.readouterr())  # type: ignore[return-value]

    return run


def test_the_command(looks: Path, tmp_path: Path, say: Say) -> None:
    page = tmp_path / "t.html"
    out, error = say(looks, "-o", page)
    assert re.match(rf"hakmem timeline: {page}: .* KiB, .*: 3 looks over [\d.]+ s, ", out), out
    lines = error.splitlines()
    assert len(lines) == 3 and all("left out: " in line for line in lines)
    for number, line in zip((3, 4, 5), lines, strict=True):
        assert f"look-{number}.npz" in line
    assert len(parsed(page.read_text())["files"]) == 3
    assert "exists already; -f overwrites" in say(looks, "-o", page, code=2)[1]
    say(looks, "-o", page, "-f")
    say(looks, "-o", tmp_path / "t.svg", "--by", "pinned")
    assert "pinned bytes by call site" in (tmp_path / "t.svg").read_text()
    say(looks, "-o", tmp_path / "t.png")
    rows = json.loads(say(looks, "--json")[0])
    assert len(rows["looks"]) == 3 and len(rows["left_out"]) == 3
    assert not list(tmp_path.glob(".*part*"))


def test_bad_input_is_one_line(looks: Path, tmp_path: Path, say: Say) -> None:
    empty, page = tmp_path / "empty", tmp_path / "t.html"
    empty.mkdir()
    for words, expected, code in (
        ((empty, "-o", page), "empty: no looks (*.npz) in it; hakmem run --every 1s", 2),
        ((tmp_path / "gone", "-o", page), "neither a folder nor a file of a saved look", 2),
        ((looks / "look-4.npz", "-o", page), "no look can be read: ", 1),
        ((looks, "--heap", 3, "-o", page), "1 heaps, numbered from 0: no --heap 3", 1),
        ((looks,), "expected -o FILE.html, .svg or .png, or --json", 2),
        ((looks, "-o", tmp_path / "t.gif"), "expected a name that ends with .html", 2),
        ((looks, "-o", tmp_path / "t.svg", "--by", "class"), "expected cause, live, pinned", 2),
        ((looks, "-o", empty), "a directory; name a file", 2),
    ):
        out, error = say(*words, code=code)
        assert out == "" and error.count("\n") == 1 and expected in error, error
    assert not page.exists()


def test_a_program_that_ran_and_a_browser(tmp_path: Path) -> None:
    code = (
        "import time\ndef hold(n): return [bytes(3000) for _ in range(n)]\nkept = []\n"
        "for _ in range(6): kept += hold(2000); time.sleep(0.5)"
    )
    options = ["-q", "--profile=16K", "--every", "0.5s", "-o", tmp_path / "looks", "--"]
    command = [sys.executable, "-m", "hakmem"]
    words = [*command, "run", *options, sys.executable, "-c", code]
    subprocess.run([*map(str, words)], check=True, timeout=60)
    words = [*command, "timeline", tmp_path / "looks", "-o", tmp_path / "t.html"]
    subprocess.run([*map(str, words)], check=True, timeout=120, stdout=subprocess.DEVNULL)
    data = parsed((tmp_path / "t.html").read_text())
    assert len(data["files"]) >= 3 and data["rss"][-1] > data["rss"][0] + 5 * MIB
    names = [area["name"] for area in data["charts"]["live"]["areas"]]
    assert any(name.startswith("hold") for name in names), names
    assert not any(name.startswith("0x") for name in names), "a look has the program's files"
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium to show the page in")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [browser, *options, "--dump-dom", f"file://{tmp_path}/t.html#look=1&sites=pinned"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'data-ready="yes"' in done.stdout, done.stderr[-2000:]
    assert f"<h2>{data['files'][1]}</h2>" in done.stdout
    assert done.stdout.count('class="chosen"') == 2
    assert "pinned bytes by call site" in done.stdout and "2 of " in done.stdout
