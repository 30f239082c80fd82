"""Names of stripped programs, deleted and replaced files, processes that have ended."""

from __future__ import annotations

import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hakmem.profiles.records import Frame
from hakmem.symbols import debug_files, modules, symbolizer
from hakmem.symbols.symbolizer import Symbolizer
from tests.symbols.targets import (
    C_SOURCE,
    HIDDEN,
    INLINED,
    PLUGIN_FRAMES,
    build,
    build_id_of,
    needs,
    run,
    running,
    said,
    take_the_tool_away,
)


def test_stripped_programs_have_what_they_export(stripped: Path) -> None:
    with running(stripped) as (pid, places):
        symbols = Symbolizer.of_process(pid)
        found = symbols.frames_at(places.values())
        module = symbols.module_at(places["hidden"])
    assert module is not None
    assert [one[0] for one in said(found[places["inlined"]])] == ["outer"]
    (frame,) = found[places["hidden"]]
    assert frame.function == f"where+{module.file_offset(places['hidden']):#x}"
    assert (frame.file, frame.line, frame.module) == ("", 0, str(stripped))


@pytest.mark.parametrize("where", ["build id", "link", "link in .debug"])
def test_separate_debug_files(
    where: str, program: Path, stripped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("llvm-symbolizer", "objcopy")
    debug = tmp_path / "debug" / "where.debug"
    debug.parent.mkdir()
    run("objcopy", "--only-keep-debug", program, debug)
    if where == "build id":
        monkeypatch.setattr(debug_files, "FOLDER", str(tmp_path / "debug"))
        build_id = build_id_of(program)
        place = debug.parent / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    else:
        run("objcopy", f"--add-gnu-debuglink={debug}", stripped)
        place = stripped.parent / ("" if where == "link" else ".debug") / debug.name
    place.parent.mkdir(parents=True, exist_ok=True)
    debug.rename(place)
    with running(stripped) as (pid, places):
        found = Symbolizer.of_process(pid).frames_at(places.values())
        assert said(found[places["inlined"]]) == INLINED
        assert said(found[places["hidden"]]) == HIDDEN
        # one of another build is not taken
        run("objcopy", "--remove-section=.note.gnu.build-id", place)
        found = Symbolizer.of_process(pid).frames_at(places.values())
        assert found[places["hidden"]][0].function.startswith("where+0x")


def test_debug_link_without_a_build_id_is_held_by_its_sum(tmp_path: Path) -> None:
    needs("llvm-symbolizer", "objcopy")
    folder = tmp_path / "built"
    folder.mkdir()
    made = build(folder, C_SOURCE, "-O2", "-g", "-Wl,--build-id=none")
    debug, bare = tmp_path / "x.debug", tmp_path / "where"
    run("objcopy", "--only-keep-debug", made, debug)
    run("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", made, bare)
    with running(bare) as (pid, places):
        assert (
            said(Symbolizer.of_process(pid).frames_at(places.values())[places["hidden"]]) == HIDDEN
        )
        debug.write_bytes(debug.read_bytes() + b"\0")
        found = Symbolizer.of_process(pid).frames_at(places.values())
        assert found[places["hidden"]][0].function.startswith("where+0x")


@pytest.mark.parametrize("tool", [True, False])
def test_small_debug_data_of_distributions(
    tool: bool, program: Path, stripped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("llvm-symbolizer", "objcopy")
    small = tmp_path / "small"
    run("objcopy", "--strip-debug", "--only-keep-debug", program, small)
    (tmp_path / "data.xz").write_bytes(lzma.compress(small.read_bytes()))
    run("objcopy", f"--add-section=.gnu_debugdata={tmp_path / 'data.xz'}", stripped)
    if not tool:
        take_the_tool_away(monkeypatch)
    with running(stripped) as (pid, places):
        found = Symbolizer.of_process(pid).frames_at(places.values())
    assert [found[address][0].function for address in places.values()] == ["outer", "hidden"]


def test_without_the_tool_functions_have_names(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_the_tool_away(monkeypatch)
    with running(program) as (pid, places):
        symbols = Symbolizer.of_process(pid)
        found = symbols.frames_at(places.values())
    assert [said(found[address]) for address in places.values()] == [
        [("outer", "", 0, False)],
        [("hidden", "", 0, False)],
    ]
    assert symbols.problems == (f"{program}: llvm-symbolizer: no llvm-symbolizer",)


def test_a_deleted_library(program: Path, plugin: Callable[[str], Path]) -> None:
    needs("llvm-symbolizer", "gcc")
    library = plugin("old")
    with running(program, library) as (pid, places):
        library.unlink()
        symbols = Symbolizer.of_process(pid)
        frames = symbols.frames_at(places.values())[places["old"]]
        module = symbols.module_at(places["old"])
    assert module is not None and module.path == f"{library} (deleted)" and module.build_id
    if os.geteuid() == 0:  # others may not open what the kernel keeps of it
        assert said(frames) == PLUGIN_FRAMES
    assert frames[0].module == str(library)


def test_a_deleted_library_that_may_not_be_opened(
    program: Path, plugin: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container: what it exports is read from the process's memory."""
    needs("llvm-symbolizer", "gcc")

    def refused(path: str) -> int:
        if "map_files" in path:
            raise PermissionError(1, "Operation not permitted")
        return modules.open_regular(path)

    monkeypatch.setattr(symbolizer, "open_regular", refused)
    library = plugin("old")
    with running(program, library) as (pid, places):
        library.unlink()
        symbols = Symbolizer.of_process(pid)
        found = symbols.frames_at(places.values())
    assert [one.function for one in found[places["old_call"]]] == ["plugin_call"]
    assert found[places["old"]][0].function.startswith("old.so+0x")  # not exported
    assert said(found[places["inlined"]]) == INLINED and symbols.problems == ()


def test_a_replaced_library_is_not_asked(program: Path, plugin: Callable[[str], Path]) -> None:
    needs("llvm-symbolizer", "gcc")
    library, other = plugin("old"), plugin("other")
    with running(program, library) as (pid, places):
        saved = modules.modules_of(pid)
        other.replace(library)
        symbols = Symbolizer(saved)  # as of a saved look: nothing but the path is left
        frames = symbols.frames_at(places.values())[places["old"]]
    (module,) = [one for one in saved if one.path == str(library)]
    assert frames[0].function.startswith("old.so+0x")
    assert symbols.problems == (
        f"{library}: build id {build_id_of(library)}, mapped is {module.build_id}; "
        "its functions have no names",
    )


def test_modules_of_a_process_that_has_ended(program: Path, plugin: Callable[[str], Path]) -> None:
    needs("llvm-symbolizer", "gcc")
    library = plugin("kept")
    with running(program, library) as (pid, places):
        saved = modules.to_json(modules.modules_of(pid))
    symbols = Symbolizer(modules.from_json(saved))
    found = symbols.frames_at(places.values())
    assert said(found[places["inlined"]]) == INLINED
    assert said(found[places["kept"]]) == PLUGIN_FRAMES
    library.unlink()
    symbols = Symbolizer(modules.from_json(saved))
    assert symbols.frames_at(places.values())[places["kept"]][0].function.startswith("kept.so+0x")
    assert symbols.problems == (
        f"{library}: No such file or directory; its functions have no names",
    )


def test_nothing_is_mapped_there(program: Path) -> None:
    with running(program) as (pid, _):
        symbols = Symbolizer.of_process(pid)
    assert symbols.frames_at([5, 1 << 63]) == {
        5: (Frame("0x5", "", 0, "", 5),),
        1 << 63: (Frame("0x8000000000000000", "", 0, "", 1 << 63),),
    }
    assert Symbolizer(()).frames_at([0]) == {0: (Frame("0x0", "", 0, "", 0),)}


def test_the_kernels_own_library(program: Path) -> None:
    with running(program) as (pid, _):
        symbols = Symbolizer(modules.modules_of(pid), pid, returns=False)
        (vdso,) = [one for one in symbols.modules if one.path == modules.VDSO]
        table = modules.read_vdso(pid, vdso)
        elf = modules.ElfFile(lambda at, size: table[at : at + size])
        functions, _, _ = elf._functions
        start = vdso.start + int(functions["value"][0])
        (frame,) = symbols.frames_at([start])[start]
        assert frame.function.removeprefix("__vdso_") in ("gettimeofday", "clock_gettime", "time")
        assert frame.function == elf.symbol_at(elf.address_of(start - vdso.start) or 0)
    assert vdso.build_id and symbols.problems == ()


def test_code_made_at_run_time(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(program) as (pid, _):
        path = Path(f"/tmp/perf-{pid}.map")
        path.write_text("1000 40 old\nnonsense\n1000 20 LazyCompile:*parse /a.js:3:7\n2000 10 b\n")
        try:
            symbols = Symbolizer.of_process(pid)
        finally:
            path.unlink()
    frames = [symbols.frames_at([at])[at][0] for at in (0x1001, 0x1020, 0x1021, 0x2005)]
    assert [(one.function, one.file, one.line) for one in frames] == [
        *[("LazyCompile:parse /a.js:3:7", "/a.js", 3)] * 2,
        ("0x1021", "", 0),
        ("b", "", 0),
    ]


def test_a_map_of_another_user_is_not_believed(program: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root, to be somebody else")
    with running(program) as (pid, _):
        path = Path(f"/tmp/perf-{pid}.map")
        path.write_text("1000 40 planted\n")
        os.chown(path, 12345, 12345)
        try:
            symbols = Symbolizer.of_process(pid)
        finally:
            path.unlink()
    assert symbols.frames_at([0x1001])[0x1001][0].function == "0x1001"
