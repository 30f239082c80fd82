"""Pictures of a heap: what they show, and the forms they come in, on both planes."""

from __future__ import annotations

import base64
import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import hakmem
from hakmem.errors import UnknownName
from hakmem.views.parts import headline
from hakmem.views.pictures.picture import Picture, png
from hakmem.views.pictures.sampled import NO_AGE, NO_SITE
from hakmem.views.pictures.units import CLEAN, DIRTY, READY, SLAB, SPAN, WHATS
from tests.support.heaps import Make

Heap = hakmem.Heap


def used(heap: Heap) -> Heap:
    """Slabs of three classes, a full one among them, a span, and a free run between."""
    heap.alloc_many([1000] * 100)
    heap.free_many(heap.alloc_many([160] * 500)[::2])
    heap.alloc_many([8192] * 20)
    gone = heap.alloc(500_000)
    heap.alloc(300_000)
    heap.free(gone)
    heap.flush()
    return heap


@pytest.fixture
def busy(heap: Heap) -> Heap:
    """A heap that was used, on each plane."""
    return used(heap)


def parsed(page: str) -> tuple[dict, dict[str, np.ndarray]]:
    """What the page's script reads: the head, and a column by each name."""
    found = re.search(r'<script id="data" type="text/plain">([^<]*)</script>', page)
    assert found
    raw = zlib.decompress(base64.b64decode(found[1]))
    size = struct.unpack_from("<I", raw)[0]
    head, at = json.loads(raw[4 : 4 + size]), 4 + size
    columns = {}
    sizes = [*head["fields"], *([f"mode {mode['name']}", 1] for mode in head["modes"])]
    for name, width in sizes:
        assert at % width == 0
        columns[name] = np.frombuffer(raw, dtype=f"u{width}", count=head["count"], offset=at)
        at += -(-head["count"] * width // 4) * 4
    assert at == len(raw)
    return head, columns


def test_pieces_cover_the_region_without_gaps(busy: Heap) -> None:
    view = busy.view()
    pieces = view.picture().pieces
    assert pieces["unit"][0] == view.capture.meta_units
    assert (pieces["unit"][1:] == (pieces["unit"] + pieces["unit_count"])[:-1]).all()
    assert pieces["unit"][-1] + pieces["unit_count"][-1] == view.capture.unit_top
    slabs = pieces[pieces["what"] == SLAB]
    for name in ("unit", "unit_count", "class_index", "application_count", "free_count"):
        assert slabs[name].tolist() == view.slabs[name].tolist()
    spans = pieces[pieces["what"] == SPAN]
    assert spans["unit"].tolist() == view.spans["unit"].tolist()
    assert (spans["used_bytes"] << 10).tolist() == view.spans["asked_bytes"].tolist()
    free = np.isin(pieces["what"], (CLEAN, DIRTY, READY))
    assert pieces["unit_count"][free].sum() == view.superslabs["free_units"].sum() + sum(
        view.superslabs["ready_units"]
    )


def test_colours_say_what_the_pieces_hold(busy: Heap) -> None:
    view = busy.view()
    picture = view.picture()
    fill = picture.mode("fill")
    labels = dict(fill.legend)
    shares = picture.pieces["used_bytes"] / (picture.pieces["unit_count"] * 64)
    slabs = picture.pieces["what"] == SLAB
    order = np.argsort(shares[slabs], kind="stable")
    assert (np.diff(fill.index[slabs][order].astype(int)) >= 0).all()
    assert fill.index[slabs].max() <= labels["100 %"] and fill.index[slabs].min() >= 0
    for what in np.unique(picture.pieces["what"][~slabs]).tolist():
        if WHATS[what] in labels:
            assert (fill.index[picture.pieces["what"] == what] == labels[WHATS[what]]).all()
    classes = picture.mode("class")
    assert (classes.index[slabs] == picture.pieces["class_index"][slabs]).all()
    held = picture.mode("held by")
    assert {"live blocks", "all in use"} & {label for label, _ in held.legend}
    for mode in picture.modes:
        assert mode.index.max() < len(mode.palette) <= 256
        assert all(place < len(mode.palette) for _, place in mode.legend), mode.name
    with pytest.raises(UnknownName, match="fill, class, held by"):
        picture.mode("colour")


def test_a_page_has_every_piece_and_the_letter_maps(busy: Heap) -> None:
    view = busy.view()
    picture = view.picture()
    head, columns = parsed(picture.page())
    for name, column in columns.items():
        if name in (picture.pieces.dtype.names or ()):
            assert column.tolist() == picture.pieces[name].tolist(), name
    for mode in picture.modes:
        assert columns[f"mode {mode.name}"].tolist() == mode.index.tolist()
    assert head["units"] == picture.unit_count and head["address"] == f"{view.capture.address:x}"
    assert len(head["letters"]) == len(view.slabs)
    for place, (title, runs) in head["letters"].items():
        slab = view.find_slab(unit=int(picture.pieces["unit"][int(place)]))
        assert slab is not None and title == slab.title()
        spelled = "".join(letter * int(count) for count, letter in re.findall(r"(\d+)(\D)", runs))
        assert spelled == slab.letters()
    assert "http" not in re.sub(r'<script id="data"[^<]*</script>', "", picture.page())


def test_svg_and_png_have_a_cell_a_unit(busy: Heap, tmp_path: Path) -> None:
    picture = busy.view().picture()
    cells = picture.cells("class")
    assert cells.shape[1] % 32 == 0 and (cells[:, :, 3] != 0).sum() == picture.unit_count
    raw = png(cells)
    width, height = struct.unpack_from(">II", raw, 16)
    data = zlib.decompress(raw[raw.index(b"IDAT") + 4 : raw.index(b"IEND") - 8])
    rows = np.frombuffer(data, dtype=np.uint8).reshape(height, 1 + width * 4)
    assert (rows[:, 1:].reshape(cells.shape) == cells).all() and not rows[:, 0].any()
    drawn = ElementTree.fromstring(picture.svg("class"))
    texts = [item.text or "" for item in drawn.iter() if item.tag.endswith("text")]
    assert any("test heap" in text for text in texts) and max(map(len, texts)) <= 120
    said = " ".join(texts)
    assert all(word in said for word in headline.title(busy.view()).split())
    assert any(text.startswith("class: ") for text in texts) and "span" in texts
    assert picture._repr_html_() == picture.svg() and ".save('heap.html')" in repr(picture)
    for ending in ("html", "svg", "png"):
        picture.save(tmp_path / f"heap.{ending}")
        with pytest.raises(FileExistsError):
            picture.save(tmp_path / f"heap.{ending}")
        picture.save(tmp_path / f"heap.{ending}", force=True)
    with pytest.raises(ValueError, match=r"heap\.gif: expected a name that ends with \.html"):
        picture.save(tmp_path / "heap.gif")


def test_what_is_resident_may_not_be_known(busy: Heap, tmp_path: Path) -> None:
    view = busy.view()
    assert "resident" in [mode.name for mode in view.picture().modes]
    view.save(tmp_path / "bare.npz", residency=False)
    view.save(tmp_path / "whole.npz")
    bare, whole = (hakmem.load(tmp_path / f"{name}.npz").picture() for name in ("bare", "whole"))
    assert "resident" not in [mode.name for mode in bare.modes]
    assert (whole.pieces["unit"] == view.picture().pieces["unit"]).all()
    assert (bare.mode("fill").index == whole.mode("fill").index).all()


def test_an_empty_heap_has_a_picture(make: Make) -> None:
    picture = make(name="empty").view().picture()
    assert isinstance(picture, Picture) and parsed(picture.page())[0]["letters"] == {}
    assert picture.png().startswith(b"\x89PNG") and "<svg" in picture.svg()


def test_the_command(tmp_path: Path) -> None:
    with hakmem.Heap(region_bytes=1 << 26, name="test heap") as heap:
        view = used(heap).view()
        view.save(tmp_path / "heap.npz")
        pieces = len(view.picture().pieces)

    def said(*words: object, code: int = 0) -> str:
        command = [sys.executable, "-m", "hakmem", "picture", tmp_path / "heap.npz", *words]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    page = tmp_path / "heap.html"
    assert re.search(r"heap\.html: .* units of test heap", said("-o", page))
    assert parsed(page.read_text())[0]["count"] == pieces
    assert "exists already; -f overwrites" in said("-o", page, code=2)
    assert "expected a name that ends with" in said("-o", tmp_path / "heap.gif", code=2)
    assert "class, held by" in said("-o", tmp_path / "x.svg", "--by", "colour", code=2)
    assert not (tmp_path / "x.svg").exists() and not list(tmp_path.glob(".*part*"))
    said("-o", tmp_path / "x.svg", "--by", "held by")


def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium to show the page in")
    page = tmp_path / "heap.html"
    with hakmem.Heap(region_bytes=1 << 26) as heap:
        heap.alloc_many([1000] * 100)
        heap.view().picture().save(page)
        unit = int(heap.slabs["unit"][0])
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000")
    done = subprocess.run(
        [browser, *options, "--dump-dom", f"file://{page}#by=class&unit={unit}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'data-ready="yes"' in done.stdout, done.stderr[-2000:]
    assert "<h2>slab</h2>" in done.stdout
    assert "size class of the slab" in done.stdout


def test_slabs_and_spans_are_coloured_by_who_allocated_and_when(make: Make) -> None:
    heap = make()
    heap.profile(1)
    early = heap.alloc_many([1000] * 200)
    heap.alloc(300_000)
    heap.profile(0)
    heap.alloc_many([160] * 100)
    view = heap.view()
    picture = view.picture()
    pieces, sampled = picture.pieces, picture.sampled
    classes = {view.whatis(early[0]).class_index}
    mine = (pieces["what"] == SPAN) | np.isin(pieces["class_index"], list(classes))
    mine &= np.isin(pieces["what"], (SLAB, SPAN))
    assert ((sampled.oldest_ms != NO_AGE) == mine).all()
    assert ((sampled.site != NO_SITE) == mine).all()
    by_site = picture.mode("site")
    assert {label for label, _ in by_site.legend} >= {"no sample in it", *sampled.names}
    assert len(set(by_site.index[mine].tolist())) == len(set(sampled.site[mine].tolist()))
    assert picture.mode("age").legend[-1][0] != "" and picture.png("age") and picture.svg("site")
    head, columns = parsed(picture.page())
    assert columns["oldest_ms"].tolist() == sampled.oldest_ms.tolist()
    assert columns["site"].tolist() == sampled.site.tolist()
    rows = head["sampled"]
    assert {int(place) for place in rows} == set(np.flatnonzero(mine).tolist())
    blocks = {int(place): sum(row[1] for row in found) for place, found in rows.items()}
    held = {place: int(pieces["application_count"][place]) for place in blocks}
    spans = set(np.flatnonzero(pieces["what"] == SPAN).tolist())
    assert all(blocks[place] == (1 if place in spans else held[place]) for place in blocks)
    stack = head["stacks"][next(iter(rows.values()))[0][0]]
    assert stack and all(isinstance(line, str) for line in stack)


def test_without_samples_no_mode_tells_of_them(busy: Heap) -> None:
    names = [mode.name for mode in busy.view().picture().modes]
    assert "site" not in names and "age" not in names
