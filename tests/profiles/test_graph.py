"""Graphs, the table by function, and files by their ending: what they show of profiles by hand."""

from __future__ import annotations

import base64
import doctest
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hakmem.profiles import graph, names, saving, summary, tree
from hakmem.profiles.graph import Graph
from hakmem.profiles.records import AMOUNTS, Frame, Profile, SiteRecord
from hakmem.profiles.tree import Tree
from tests.profiles.profiles import APP, MAIN, MODULE, OUTER, PYTHON, SMALL, wide


def test_examples() -> None:
    for module in (names, saving, summary, tree):
        failed, attempted = doctest.testmod(module)
        assert failed == 0 and attempted, module


def spelled(made: Tree, amount: str) -> list[str]:
    """The tree as it is drawn: a line a node, two blanks a step, largest first."""
    totals = made.totals(amount)
    children, lines = made.children(totals), []
    waiting = [(0, 0)]
    while waiting:
        node, depth = waiting.pop()
        lines.append(f"{'  ' * depth}{made.labels[node]} {totals[node]}")
        waiting += [(child, depth + 1) for child in reversed(children[node])]
    return lines


def test_the_tree() -> None:
    made = Tree.of(SMALL.sites)
    assert spelled(made, "live_bytes") == [
        "all 9508",
        "  main 9000",
        "    shop::run<int> 8000",
        "      load 8000",
        "        fill 8000",
        "    load 1000",
        "      libz.so.1+0x1234 1000",
        "  0x7e0000000010 500",
    ]
    assert [line for line in spelled(made, "total_blocks") if "app.py" in line] == [
        "    <module> (app.py) 7",
        "      parse (app.py) 7",
    ]
    by_label = dict(zip(made.labels, made.groups, strict=True))
    assert by_label["fill"] == "shop" and by_label["parse (app.py)"] == "Python"
    assert by_label["0x7e0000000010"] == "code made at run time" and by_label["all"] == ""


def test_amounts_are_kept_by_trees_of_any_profile() -> None:
    profile = wide(800)
    made = Tree.of(profile.sites)
    for amount, whole in profile.totals().items():
        assert made.totals(amount)[0] == whole
    assert all(parent < node for node, parent in enumerate(made.parents))


# --- the image ------------------------------------------------------------------------------------


def test_boxes_lie_within_their_callers() -> None:
    drawn = Graph.of(wide(300), "pinned_bytes")
    boxes = {box.node: box for box in drawn.boxes()}
    totals = drawn.tree.totals("pinned_bytes")
    assert boxes[0] == (0, 0, 0.0, graph.WIDTH)
    for box in boxes.values():
        assert box.width == pytest.approx(totals[box.node] / totals[0] * graph.WIDTH)
        if box.node:
            parent = boxes[drawn.tree.parents[box.node]]
            assert box.depth == parent.depth + 1
            assert parent.left - 1e-6 <= box.left
            assert box.left + box.width <= parent.left + parent.width + 1e-6
    levels: dict[int, list[graph.Box]] = {}
    for box in boxes.values():
        levels.setdefault(box.depth, []).append(box)
    for level in levels.values():
        level.sort(key=lambda box: box.left)
        for one, other in pairwise(level):
            assert one.left + one.width <= other.left + 1e-6


def test_svg() -> None:
    drawn = Graph.of(SMALL, "pinned_bytes")
    root = ElementTree.fromstring(drawn.svg())
    texts = [item.text or "" for item in root.iter() if item.tag.endswith("}text")]
    titles = [item.text or "" for item in root.iter() if item.tag.endswith("}title")]
    assert texts[0] == (
        "process 4711 (shop): 9.29 KiB live in 77 blocks, 126 KiB pinned, 171 KiB allocated, "
        "one sample each 512 KiB"
    )
    assert texts[1] == "width: pinned bytes, 126 KiB pinned"
    assert {"main", "shop::run<int>", "load", "fill", "shop", "Python"} <= {*texts}
    assert "fill\n125 KiB pinned, 99.5%\nown: 125 KiB pinned\n/src/list.h\nshop" in titles
    assert drawn._repr_html_() == drawn.svg() and repr(drawn) == (
        "graph of process 4711 (shop): 9 nodes"
    )


def test_svg_of_nothing_and_of_names_that_are_markup() -> None:
    assert "nothing: live bytes" in Graph.of(Profile(())).svg()
    frame = Frame('<script>alert("1")</script>&\x1b[31m', "</title>", 0, "a<b>&c", 5)
    site = SiteRecord((frame,), 1, 64, 1, 64, 1, 0, 0, 0)
    hostile = Profile((site,), process="{{data}}</script><b>", pid=1)
    root = ElementTree.fromstring(Graph.of(hostile).svg())
    assert not [item for item in root.iter() if item.tag.endswith("script")]
    page = Graph.of(hostile).page()
    assert page.count("</script>") == 2 and "<b>" not in page and "\x1b" not in page
    assert "<title>process 1 ({{data}}&lt;/script&gt;&lt;b&gt;)</title>" in page
    assert summary.summary(hostile).text(100).splitlines()[-1].startswith("<script>alert")


def test_groups_beyond_the_colours_share_one() -> None:
    sites = tuple(
        SiteRecord((Frame(f"f{n}", "", 0, f"/lib/{n}.so", 9), MAIN), 1, 64, 1, 64, 1, 0, 0, 0)
        for n in range(12)
    )
    drawn = Graph.of(Profile(sites))
    assert len(drawn.groups) == graph.GROUPS + 1 and drawn.groups[-1] == graph.OTHERS
    left = {*drawn.tree.groups[1:]} - {*drawn.groups}
    assert {drawn.colour(group) for group in left} == {drawn.colour(graph.OTHERS)}
    named = [drawn.colour(group) for group in drawn.groups]
    assert len({*named}) == len(named)


# --- the page -------------------------------------------------------------------------------------


def parsed(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="text/plain">([^<]*)</script>', page)
    assert found
    data: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found[1])))
    return data


def test_a_page_has_the_whole_tree_and_needs_no_network() -> None:
    profile = wide(500)
    drawn = Graph.of(profile)
    page = drawn.page()
    data = parsed(page)
    assert [node - step for node, step in enumerate(data["parents"])] == drawn.tree.parents
    assert [data["names"][place] for place in data["labels"]] == drawn.tree.labels
    assert [data["groups"][place] for place in data["kinds"]] == drawn.tree.groups
    assert [data["files"][place] for place in data["places"]] == drawn.tree.files
    sums = [sum(row[1 + place] for row in data["own"]) for place in range(len(AMOUNTS))]
    assert sums == [*profile.totals().values()]
    bare = re.sub(r'<script id="data"[^<]*</script>', "", page)
    assert "http" not in bare and "src=" not in bare and "url(" not in bare
    assert len(bare) < 25_000


def test_a_large_page_is_small() -> None:
    assert len(Graph.of(wide(3000)).page()) < 250_000


KEYS = """
<script>
const wait = setInterval(() => {
  if (document.documentElement.dataset.ready !== "yes") return;
  clearInterval(wait);
  const said = [], look = () => said.push(document.querySelector("#side h2").textContent);
  const press = key => document.getElementById("canvas").dispatchEvent(
    new KeyboardEvent("keydown", {key, bubbles: true}));
  for (const keys of %s) { keys.split(" ").forEach(press); look(); }
  const find = document.getElementById("find");
  find.value = "RUN";
  find.dispatchEvent(new Event("input"));
  said.push(document.getElementById("found").textContent);
  const amount = document.getElementById("amount");
  amount.selectedIndex = 4;
  amount.dispatchEvent(new Event("change"));
  said.push(document.getElementById("found").textContent);
  document.getElementById("theme").click();
  said.push(document.documentElement.dataset.theme);
  document.body.dataset.said = said.join("|");
}, 20);
</script>
</body>
"""


def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium: make programs")
    steps = [
        "ArrowDown",
        "ArrowRight",
        "ArrowLeft ArrowDown ArrowDown Enter",
        "ArrowUp ArrowUp",
        "Escape",
        "i ArrowDown",
        "ArrowDown ArrowDown ArrowDown",
        "i",
        "p ArrowDown ArrowDown ArrowRight ArrowRight ArrowDown ArrowDown",
        "p",
    ]
    library = "/usr/lib/libpython3.13.so.1.0"
    append, call = (Frame(n, "", 0, library, 0x7F1) for n in ("PyList_Append", "PyObject_Call"))
    stack = append, PYTHON, call, MODULE, MAIN
    made = replace(SMALL, sites=(*SMALL.sites, SiteRecord(stack, 5, 100, 1, 100, 1, 0, 0, 0)))
    file = tmp_path / "shop.html"
    file.write_text(Graph.of(made).page().replace("</body>\n", KEYS % json.dumps(steps)))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000")
    done = subprocess.run(
        [browser, *options, "--window-size=1300,700", "--dump-dom", f"file://{file}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'data-ready="yes"' in done.stdout, done.stderr[-2000:]
    found = re.search(r'data-said="([^"]*)"', done.stdout)
    assert found, done.stdout[-3000:]
    assert found[1].split("|") == [
        "main",
        "0x7e0000000010",
        "load",
        "main",
        "everything",
        "fill",
        "main",
        "everything",
        "parse (app.py)",
        "everything",
        "1 function, 7.81 KiB (83.3 %)",
        "1 function, 125 KiB (99.5 %)",
        "dark",
    ]
    assert "<li>" not in done.stdout.split('id="side"')[1] and "126 KiB (100.0 %)" in done.stdout


# --- the table, and files ------------------------------------------------------------------------


TABLE = """
13.2 KiB live in 7 functions
function          live bytes    share       own    own share    live blocks    pinned bytes
--------------  ------------  -------  --------  -----------  -------------  --------------
main                12.7 KiB    96.2%                                    75         125 KiB
load                12.7 KiB    96.2%  3.91 KiB        29.6%             75         125 KiB
shop::run<int>      7.81 KiB    59.2%                                    70         125 KiB
fill                7.81 KiB    59.2%  7.81 KiB        59.2%             70         125 KiB
not shown: where
and 3 more"""


def test_the_table() -> None:
    recursive = SiteRecord((OUTER, MAIN, OUTER, MAIN), 1, 4000, 4, 4000, 4, 0, 0, 0)
    profile = Profile((*SMALL.sites, recursive), process="shop")
    assert "\n" + summary.summary(profile, most=4).text(98) == TABLE
    assert {*summary.summary(profile).cells[-1]} == {
        "shop",
        "libz.so.1",
        "code made at run time",
        "",
    }
    assert summary.summary(Profile(())).text(80).splitlines()[0] == "0 B live in 0 functions"


def test_files_by_their_ending(tmp_path: Path) -> None:
    for ending in saving.FORMS:
        path = tmp_path / f"shop{ending}"
        saving.save(SMALL, path, "pinned_bytes")
        assert path.read_bytes() == saving.rendered(SMALL, ending, "pinned_bytes")
        with pytest.raises(FileExistsError):
            saving.save(SMALL, path)
        saving.save(SMALL, path, force=True)
    assert (tmp_path / "shop.pb.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert json.loads((tmp_path / "shop.speedscope.json").read_text())["activeProfileIndex"] == 0
    assert "main;load;libz.so.1+0x1234 1000\n" in (tmp_path / "shop.collapsed").read_text()
    with pytest.raises(ValueError, match=r"shop\.gif: expected a name that ends with \.pb\.gz"):
        saving.save(SMALL, tmp_path / "shop.gif")
    assert not (tmp_path / "shop.gif").exists()


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    frame = Frame("a\udcff", "\udcfe", 1, APP.path, 5)
    profile = Profile((SiteRecord((frame,), 1, 64, 1, 64, 1, 0, 0, 0),), process="\udcfd")
    for ending in saving.FORMS:
        assert saving.rendered(profile, ending)
