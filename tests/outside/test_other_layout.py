"""Heaps and files of another version's library: read by the layout that it describes. What it lacks
is named, and nothing is written that it might understand otherwise."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import hakmem
from hakmem import cli
from hakmem.errors import FieldMissing, LayoutMismatch, SnapshotError
from hakmem.generate import description
from hakmem.outside import asking
from hakmem.views.reading import translation
from hakmem.views.reading.records import KIND_RUN, KIND_SLAB, KIND_SPAN
from tests.support import other_layout

pytestmark = pytest.mark.slow

Launch = Callable[..., subprocess.Popen[str]]
PACKAGE = other_layout.PACKAGE


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of another version."""
    return other_layout.build(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def quiet_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with blocks of all kinds that waits for its input to end."""
    place = tmp_path_factory.mktemp("quiet")
    (place / "quiet.c").write_text(
        """
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        static void *small[5000], *large[20];
        int main(void) {
            for (int i = 0; i < 5000; i++) small[i] = malloc(16 + i % 3000);
            for (int i = 0; i < 20; i++) memset(large[i] = malloc(300000 + 4096 * i), 1, 100000);
            for (int i = 0; i < 5000; i += 2) free(small[i]);
            for (int i = 0; i < 20; i += 3) free(large[i]);
            puts("ready");
            fflush(stdout);
            while (getchar() != EOF) {
                for (int i = 0; i < 5000; i += 2) small[i] = malloc(900);
                for (int i = 0; i < 5000; i += 2) free(small[i]);
            }
            return 0;
        }
        """
    )
    subprocess.run(["cc", "-O1", "-o", "quiet", "quiet.c"], check=True, cwd=place)
    return place / "quiet"


@pytest.fixture
def pids(launch: Launch, library: Path, quiet_program: Path) -> Iterator[tuple[int, int]]:
    """One program twice: on this version's library, and on the other's."""
    own = launch(quiet_program)
    other = launch(quiet_program, LD_PRELOAD=str(library))
    yield own.pid, other.pid


def test_all_views_tell_the_same(pids: tuple[int, int]) -> None:
    own, other = map(hakmem.attach, pids)
    assert own.capture.missing is None and other.capture.missing is not None
    assert "made by hakmem" in repr(other) and other.capture.missing.layout in repr(other)
    for name in ("class_index", "stride_bytes", "slab_count", "application_count", "cached_count"):
        assert own.classes[name].tolist() == other.classes[name].tolist(), name
    for name in ("class_index", "application_count", "free_count", "cached_count", "listed"):
        assert own.slabs[name].tolist() == other.slabs[name].tolist(), name
    assert own.spans["asked_bytes"].tolist() == other.spans["asked_bytes"].tolist()
    assert own.threads["cached_count"].tolist() == other.threads["cached_count"].tolist()
    assert own.arenas["in_use_units"].tolist() == other.arenas["in_use_units"].tolist()
    maps = [str(view.slabs[9].map()).partition("\n")[2] for view in (own, other)]
    assert maps[0] == maps[1] and "#" in maps[0]
    mine, theirs = (view.blocks("application") for view in (own, other))
    assert len(mine) > 2500 and mine["capacity_bytes"].tolist() == theirs["capacity_bytes"].tolist()
    for kind in (KIND_SLAB, KIND_SPAN, KIND_RUN):  # numbered otherwise there
        counts = [int((view.capture.slabs["kind"] == kind).sum()) for view in (own, other)]
        assert counts[0] == counts[1] > 0
    where = int(other.blocks("application")["address"][7]) + 3
    assert other.whatis(where).state == "application"
    assert own.policy == other.policy


def test_what_is_resident_adds_up(pids: tuple[int, int]) -> None:
    own, other = (hakmem.attach(pid).why() for pid in pids)
    for why in (own, other):
        assert int(why.causes["size_bytes"].sum()) == why.rss_bytes
    mine, theirs = (why.causes["size_bytes"].tolist() for why in (own, other))
    for cause in (0, 1, 2, 5):  # in use, live blocks, thread caches, kept free
        assert mine[cause] == theirs[cause], cause
    assert abs(own.rss_bytes - other.rss_bytes) < 1 << 19


def test_what_it_lacks_is_named_and_left_out(pids: tuple[int, int]) -> None:
    view = hakmem.attach(pids[1])
    missing = view.capture.missing
    assert missing is not None
    assert missing.names == {
        "hak_heap.lock_wait_count",
        "hak_heap.trim_bytes",
        "hak_slab.newer",
        "hak_thread.drain_block_count",
    }
    assert "drained" not in str(view.threads.table(width=1000))
    assert "overflows" in str(view.threads.table(width=1000))
    assert "drain_block_count" not in view.threads.array.dtype.names
    for asked in (
        lambda: view.threads["drain_block_count"],
        lambda: view.threads.table(["thread", "drained"]),
        lambda: view.slabs["newer"],
        lambda: view.capture.slabs["newer"],
        lambda: view.capture.heap.lock_wait_count,
    ):
        with pytest.raises(FieldMissing) as caught:
            asked()
        said = str(caught.value)
        assert caught.value.field in missing.names and caught.value.field in said
        assert missing.layout in said and description.own().title in said and "\n" not in said
    stats = view.stats()
    assert stats.lock_wait_count is None and stats.lock_count > 0
    assert "lock wait count" not in str(stats) and stats.drain_block_count is None


def test_validate_says_what_it_could_not_check(pids: tuple[int, int]) -> None:
    found = hakmem.attach(pids[1]).validate()
    assert found.blocks > 5000 and found.application > 2500 and found.runs > 0
    assert not found.exact and "not checked: free runs (no hak_slab.newer)" in found.why_not


@pytest.mark.parametrize("words", [["ps"], ["why"], ["maps"], ["dump"], ["whatis"], ["top", "-n1"]])
def test_commands(
    pids: tuple[int, int], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = str(pids[1])
    view = hakmem.attach(pids[1])
    rest = {
        "ps": [],
        "dump": [pid, "-o", str(tmp_path / "dump.npz")],
        "whatis": [pid, hex(int(view.slabs["address"][0]))],
    }.get(words[0], [pid])
    assert cli.main([*words, *rest]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "Traceback" not in said.err and (said.out or (tmp_path / "dump.npz").exists())
    if words == ["ps"]:
        assert any(line.split()[0] == pid for line in said.out.splitlines() if line.strip())


def same(before: hakmem.HeapView, after: hakmem.HeapView) -> None:
    """Two looks at one heap that stood still."""
    for name in ("slabs", "spans", "classes", "threads"):
        one, two = (getattr(view, name).array for view in (before, after))
        for field in one.dtype.names or ():
            assert np.array_equal(one[field], two[field], equal_nan=one[field].dtype.kind == "f")
    assert before.why().causes.tolist() == after.why().causes.tolist()


@pytest.mark.parametrize("stop", [False, True])
def test_saved_and_loaded(pids: tuple[int, int], tmp_path: Path, stop: bool) -> None:
    view = hakmem.attach(pids[1], stop=stop)
    view.save(tmp_path / "saved.npz")
    loaded = hakmem.load(tmp_path / "saved.npz")
    same(view, loaded)
    missing = loaded.capture.missing
    assert missing is not None and missing.names == view.capture.missing.names  # type: ignore
    with pytest.raises(FieldMissing, match=r"hak_slab\.newer"):
        loaded.slabs["newer"]
    assert "not checked: free runs" in loaded.validate().why_not


SAVE = """
import sys
sys.path[:0] = sys.argv[2:]
import hakmem
with hakmem.Heap(region_bytes=1 << 26, policy=hakmem.Policy.default()) as heap:
    blocks = [heap.alloc(16 + index % 3000) for index in range(5000)]
    large = [heap.alloc(300_000) for _ in range(9)]
    for block in blocks[::2]:
        heap.free(block)
    heap.view().save(sys.argv[1])
    print(heap.view().slabs["application_count"].sum(), len(heap.view().spans))
    print(heap.view().validate().exact)
"""


def test_a_file_of_the_other_version(tmp_path: Path) -> None:
    """Its Python saves a heap of its library; this version reads the file."""
    package = other_layout.sources(tmp_path, whole=True)
    made = other_layout.build(tmp_path / "built")
    (tmp_path / "save.py").write_text(SAVE)
    done = subprocess.run(
        [sys.executable, "-S", "save.py", "saved.npz", tmp_path, Path(np.__file__).parents[1]],
        cwd=tmp_path,
        env=os.environ | {"HAKMEM_LIBRARY": str(made)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    count, spans, exact = done.stdout.split()
    assert exact == "True" and package.is_dir()
    view = hakmem.load(tmp_path / "saved.npz")
    assert int(view.slabs["application_count"].sum()) == int(count)
    assert len(view.spans) == int(spans) == 9
    assert (view.capture.slabs["kind"] == KIND_RUN).sum() > 0 and view.capture.checked
    found = view.validate()
    assert found.live_marks > 5000 and "not checked: free runs" in found.why_not
    assert int(view.why().causes["size_bytes"].sum()) == view.why().rss_bytes
    view.save(tmp_path / "again.npz")
    same(view, hakmem.load(tmp_path / "again.npz"))


# --- writing --------------------------------------------------------------------------------------


def test_a_request_that_it_has_all_fields_of(pids: tuple[int, int], launch: Launch) -> None:
    answer = asking.drain(hakmem.attach(pids[1]), 0.2)
    assert [thread.os_id for thread in answer.pending] == [pids[1]]  # it sleeps


def test_a_request_it_lacks_a_field_of_is_refused(
    pids: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    view = hakmem.attach(pids[1])
    with pytest.raises(FieldMissing, match=r"hak_heap\.trim_bytes"):
        asking.trim(view, 0.2)
    assert view.again().capture.heap.trim_request == 0
    assert cli.main(["trim", str(pids[1])]) != 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "hak_heap.trim_bytes" in said


def test_mt_served_requests(launch: Launch, library: Path, quiet_program: Path) -> None:
    """A program that allocates obeys what this version writes into the other's heap."""
    program = launch(quiet_program, LD_PRELOAD=str(library))
    view, stdin = hakmem.attach(program.pid), program.stdin
    assert stdin is not None and int(view.threads["cached_bytes"].sum()) > 0

    def work() -> None:
        stdin.write("x" * 50)
        stdin.flush()

    timer = threading.Timer(0.1, work)
    timer.start()
    answer = asking.drain(view, 10)
    timer.join()
    assert answer.served and answer.pending == ()


# --- layouts that cannot be read ------------------------------------------------------------------


def described(**constants: int) -> description.Description:
    text = description.text()
    for name, value in constants.items():
        own = description.own().constants[name]
        text = text.replace(f"constant {name} {own}\n", f"constant {name} {value}\n")
    return description.parse(text)


@pytest.mark.parametrize("name", [*translation.SAME, *translation.AT_MOST])
def test_a_constant_that_readers_compute_with(name: str) -> None:
    own = description.own().constants[name]
    with pytest.raises(LayoutMismatch) as caught:
        translation.Translation(described(**{name: own + 1}))
    said = str(caught.value)
    assert f"{name} is {own + 1} there and {own} here" in said and "\n" not in said
    if name in translation.AT_MOST:
        translation.Translation(described(**{name: own - 1}))


def test_every_constant_that_readers_use_is_compared_or_translated() -> None:
    """What views read of `layout` must be the same in the other layout, or be asked for where it is
    used."""
    alone = {
        "ACQUIRE_STAGES": "policy", "CONSTANTS": "own", "COUNTERS": "by name",
        "ENVIRONMENT": "own", "EVENT_COUNT": "this process", "OTHER_VARIABLES": "own",
        "POLICY_FILE_VARIABLE": "own", "SCALARS": "own", "STRUCTS": "own", "TABLES": "compared",
        "VARIABLE_NAMES": "own", "LAYOUT_VERSION": "own", "STRUCT_BY_NAME": "own", "Table": "type",
        "SCALAR_BYTES": "own", "constant": "below",
        # of this version's own geometry, at which a translated heap is shown
        "THREADS_MIN": "", "THREADS_MAX": "", "TABLE_STEP_UNITS": "", "FAST_MAP_BYTES": "",
        "MAPPED_LIMIT": "", "POLICY_ROOM_BYTES": "",
        "BLOCK_ALIGN_BYTES": "of classes that this version may be given",
        "PROFILE_MAGIC": "or its samples are not read",
        # no policy of another layout is set
        "POLICY_OFFSET": "", "FIRST_POLICY_OFFSET": "", "INBOX_OFFSET": "",
        # asked for by validate()
        "RUN_EXACT_BINS": "",
    }  # fmt: skip
    derived = {"UNIT_BYTES", "LIVE_BYTES_PER_UNIT", "SUPERSLAB_BYTES"}  # from those compared
    compared = {name.removeprefix("HAK_") for name in (*translation.SAME, *translation.AT_MOST)}
    by_name = (
        "HAK_TAG",
        "HAK_ENTRY",
        "HAK_KIND",
        "HAK_SLAB",
        "HAK_HEAP",
        "HAK_THREAD",
        "HAK_BAND",
        "HAK_BACK",
        "HAK_CHANGE",  # no policy of another layout is set
        *translation.PROFILE_CONSTANTS,
    )
    same_layout_only = ("HAK_ERRAND",)  # threads of another version's library are never sent
    for file in [
        *PACKAGE.glob("views/**/*.py"), *PACKAGE.glob("outside/*.py"), PACKAGE / "registry.py"
    ]:  # fmt: skip
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "layout":
                assert node.attr in {*alone, *derived, *compared}, f"{file}: layout.{node.attr}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "layout.constant":
                name = ast.literal_eval(node.args[0])
                assert name.startswith((*by_name, *same_layout_only)), f"{file}: {name}"


@pytest.mark.parametrize(
    ("name", "is_read"),
    [("HAK_SITE_NAME", False), ("HAK_FRAME_LINE_SHIFT", False), ("HAK_EVENT_COUNT", True)],
)
def test_samples_that_mean_something_else_are_not_read(name: str, is_read: bool) -> None:
    own = description.own().constants.get(name, 1)
    found = translation.Translation(described(**{name: own + 7})).missing.names
    assert ("hak_heap.profile" not in found) == is_read


def test_constants_of_records_are_told_from_others() -> None:
    constants = dict(description.own().constants)
    kinds = translation.constants_of(constants, "HAK_KIND", "kind")
    assert {name.removeprefix("HAK_KIND_") for name in kinds} >= {"NONE", "SLAB", "SPAN", "RUN"}
    flags = translation.constants_of(constants, "HAK_HEAP", "flags")
    assert sorted(flags.values()) == [1 << bit for bit in range(len(flags))]
    assert set(translation.constants_of(constants, "HAK_THREAD", "state")) == {
        f"HAK_THREAD_{name}" for name in ("UNUSED", "LIVE", "PARKED", "LEFT")
    }


def test_a_library_without_a_description(
    launch: Launch, library: Path, quiet_program: Path, tmp_path: Path
) -> None:
    """As those of before were: one line with both layouts and both builds."""
    mute = tmp_path / "libhakmem.so"
    raw = library.read_bytes()
    assert raw.count(description.MAGIC) == 1
    mute.write_bytes(raw.replace(description.MAGIC, b"HAKDESC0"))
    program = launch(quiet_program, LD_PRELOAD=str(mute))
    with pytest.raises(LayoutMismatch, match="runs another build") as caught:
        hakmem.attach(program.pid)
    assert "use the hakmem that the program was started with" in str(caught.value)


def test_a_file_without_a_description(tmp_path: Path) -> None:
    with hakmem.Heap(region_bytes=1 << 22) as heap:
        heap.alloc(100)
        heap.view().save(tmp_path / "own.npz")
    with np.load(tmp_path / "own.npz") as found:
        parts = {name: found[name] for name in found.files if name != "layout"}
    header = parts["header"].tobytes().replace(b"0x", b"0y")
    parts["header"] = np.frombuffer(header, dtype=np.uint8)
    np.savez_compressed(tmp_path / "mute.npz", **parts)
    with pytest.raises(SnapshotError, match="undescribed; load it with the hakmem that saved it"):
        hakmem.load(tmp_path / "mute.npz")
