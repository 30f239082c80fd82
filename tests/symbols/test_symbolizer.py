"""Addresses of programs in C, C++ and Rust get names: whole, stripped, deleted, replaced ones."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hakmem.profiles.records import Frame, Module
from hakmem.symbols import debug_files, llvm, modules, symbolizer
from hakmem.symbols.symbolizer import Symbolizer

HERE = Path(__file__).resolve().parent
C_SOURCE, PLUGIN = HERE / "where.c", HERE / "plugin.c"


def line_of(source: Path, text: str) -> int:
    """The line of a source that has a text."""
    (found,) = [
        number for number, line in enumerate(source.read_text().splitlines(), 1) if text in line
    ]
    return found


def needs(*names: str) -> None:
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"no {name}: make programs")


def run(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done


def build(folder: Path, source: Path, *options: str) -> Path:
    """A program with its own options; kept with what else the compiler leaves beside it."""
    compiler = "g++" if source.suffix == ".cpp" else "gcc"
    needs(compiler)
    run(compiler, *options, "-pthread", "-o", folder / source.stem, source)
    return folder / source.stem


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """where.c with debugging information and exported functions."""
    folder = tmp_path_factory.mktemp("program")
    return build(folder, C_SOURCE, "-O2", "-g", "-rdynamic", "-Wl,--build-id")


@pytest.fixture
def stripped(program: Path, tmp_path: Path) -> Path:
    """The program without its symbol table and debugging information."""
    needs("objcopy")
    run("objcopy", "--strip-all", program, tmp_path / "where")
    return tmp_path / "where"


@contextmanager
def running(program: Path, *words: object) -> Iterator[tuple[int, dict[str, int]]]:
    """A program that waits: its pid, and the addresses that it said."""
    command = [*map(str, (program, *words))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        count = {"where.rs": 1, "shop": 1}.get(program.name, 2 + 2 * bool(words))
        lines = [process.stdout.readline().split() for _ in range(count)]
        try:
            yield process.pid, {name.decode(): int(number, 16) for name, number in lines}
        finally:
            process.stdin.close()
            process.wait(timeout=30)


def said(frames: tuple[Frame, ...]) -> list[tuple[str, str, int, bool]]:
    """Frames in short; older demanglers write ``> >``."""
    return [
        (one.function.replace("> >", ">>"), os.path.basename(one.file), one.line, one.inlined)
        for one in frames
    ]


INLINED = [
    ("innermost", "where.c", line_of(C_SOURCE, 'say("inlined")'), True),
    ("inner", "where.c", line_of(C_SOURCE, " innermost();"), True),
    ("outer", "where.c", line_of(C_SOURCE, " inner();"), False),
]
HIDDEN = [("hidden", "where.c", line_of(C_SOURCE, 'say("hidden")'), False)]


def test_inlined_functions_and_lines(program: Path) -> None:
    needs("llvm-symbolizer")
    with running(program) as (pid, places):
        symbols = Symbolizer.of_process(pid)
        found = symbols.frames_at([*places.values(), places["inlined"]])
    assert said(found[places["inlined"]]) == INLINED
    assert said(found[places["hidden"]]) == HIDDEN
    for address, frames in found.items():
        assert {(one.module, one.address, one.language) for one in frames} == {
            (str(program), address, "native")
        }
    assert symbols.problems == ()


@pytest.mark.parametrize(
    "options",
    [
        ("-no-pie",),
        ("-pie", "-fPIE"),
        ("-static-pie", "-fPIE"),
        ("-gdwarf-4",),
        ("-gz",),
        ("-gsplit-dwarf",),
        ("-flto",),
    ],
    ids=" ".join,
)
def test_programs_however_they_are_built(options: tuple[str, ...], tmp_path: Path) -> None:
    needs("llvm-symbolizer")
    made = build(tmp_path, C_SOURCE, "-O2", "-g", "-w", *options)
    with running(made) as (pid, places):
        found = Symbolizer.of_process(pid).frames_at(places.values())
    assert said(found[places["inlined"]]) == INLINED


def test_cpp(tmp_path: Path) -> None:
    needs("llvm-symbolizer")
    source = HERE / "where.cpp"
    made = build(tmp_path, source, "-O2", "-g", "-fno-ipa-sra").rename(tmp_path / "shop")
    with running(made) as (pid, places):
        (frames,) = Symbolizer.of_process(pid).frames_at(places.values()).values()
    assert said(frames) == [
        (
            "shop::Shelf<std::pair<int, char>>::put(std::pair<int, char>)",
            *_at(source, 'say("put")'),
        ),
        (
            "shop::Shelf<std::pair<int, char>>::fill(std::pair<int, char>)",
            *_at(source, "put(item)"),
        ),
    ]


def _at(source: Path, text: str) -> tuple[str, int, bool]:
    return source.name, line_of(source, text), text.startswith("say")


@pytest.mark.parametrize("mangling", ["legacy", "v0"])
def test_rust(mangling: str, tmp_path: Path) -> None:
    needs("llvm-symbolizer", "rustc")
    source, made = HERE / "where.rs", tmp_path / "where.rs"
    command = ["rustc", "-O", "-g", "-Zunstable-options", f"-Csymbol-mangling-version={mangling}"]
    done = subprocess.run(
        [*command, "-o", made, source],
        capture_output=True,
        text=True,
        env=os.environ | {"RUSTC_BOOTSTRAP": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with running(made) as (pid, places):
        (frames,) = Symbolizer.of_process(pid).frames_at(places.values()).values()
    assert [(one.function, one.inlined) for one in frames] == [
        ("where::here", True),
        ("<where::Shelf<T> as where::Fill>::fill", False)
        if mangling == "legacy"
        else ("<where::Shelf<u32> as where::Fill>::fill", False),
    ]
    assert frames[0].line == line_of(source, "lea {}, [rip]")


# --- what is missing ------------------------------------------------------------------------------


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
        build_id = _elf_build_id(program)
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


def _elf_build_id(path: Path) -> str:
    with open(path, "rb") as file:
        return modules.ElfFile.of_descriptor(file.fileno()).build_id


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
        _take_the_tool_away(monkeypatch)
    with running(stripped) as (pid, places):
        found = Symbolizer.of_process(pid).frames_at(places.values())
    assert [found[address][0].function for address in places.values()] == ["outer", "hidden"]


def _take_the_tool_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise llvm.SymbolizerFailed("no llvm-symbolizer")

    monkeypatch.setattr(llvm, "find", missing)


def test_without_the_tool_functions_have_names(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _take_the_tool_away(monkeypatch)
    with running(program) as (pid, places):
        symbols = Symbolizer.of_process(pid)
        found = symbols.frames_at(places.values())
    assert [said(found[address]) for address in places.values()] == [
        [("outer", "", 0, False)],
        [("hidden", "", 0, False)],
    ]
    assert symbols.problems == (f"{program}: llvm-symbolizer: no llvm-symbolizer",)


# --- what changes ---------------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], Path]:
    """``plugin(name)``: a library that calls back under that name."""

    def make(name: str) -> Path:
        path = tmp_path / f"{name}.so"
        options = ("-O2", "-g", "-fPIC", "-shared", "-Wl,--build-id", f'-DNAME="{name}"')
        run("gcc", *options, "-o", path, PLUGIN)
        return path

    return make


PLUGIN_FRAMES = [("plugin_part", "plugin.c", line_of(PLUGIN, "say(NAME);"), False)]


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
        f"{library}: build id {_elf_build_id(library)}, mapped is {module.build_id}; "
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


# --- hostile files --------------------------------------------------------------------------------


def test_a_pipe_in_the_place_of_a_library_does_not_wait(tmp_path: Path) -> None:
    pipe = tmp_path / "lib.so"
    os.mkfifo(pipe)
    symbols = Symbolizer([Module(str(pipe), 0x1000, 0x2000, 0)])
    assert symbols.frames_at([0x1801])[0x1801][0].function == "lib.so+0x801"
    assert symbols.problems == (f"{pipe}: {pipe}: no regular file; its functions have no names",)


def test_broken_files_give_no_names_and_no_errors(program: Path, tmp_path: Path) -> None:
    """Every field of the heads and tables overwritten in turn, and the file cut at many places."""
    whole = program.read_bytes()
    with running(program) as (pid, places):
        saved = [one for one in modules.modules_of(pid) if one.path == str(program)]
    broken = tmp_path / "where"
    sections = int.from_bytes(whole[40:48], "little")
    spots = [*range(16, 64, 4), *range(64, 400, 24), *range(sections, len(whole) - 8, 40)]
    tried = 0
    for place, spot in enumerate(spots):
        for word in (b"\xff" * 8, b"\0" * 8)[place % 2 :][:1]:
            broken.write_bytes(whole[:spot] + word + whole[spot + 8 :])
            tried += _survives(broken, saved, places)
    for length in (0, 4, 63, 64, 100, 1000, sections, sections + 100, len(whole) - 1):
        broken.write_bytes(whole[:length])
        tried += _survives(broken, saved, places)
    assert tried == len(spots) + 9


def _survives(path: Path, saved: list[Module], places: dict[str, int]) -> bool:
    moved = [Module(str(path), one.start, one.end, one.offset_bytes) for one in saved]
    found = Symbolizer(moved).frames_at(places.values())
    assert {*found} == {*places.values()} and all(found.values())
    with open(path, "rb") as file:
        try:
            elf = modules.ElfFile.of_descriptor(file.fileno())
            elf.symbol_at(0x1234)
            assert elf.mini_debug_data() == b"" and elf.debug_link is None
        except modules.NotElf:
            pass
    return True


def test_a_tool_that_hangs_is_ended(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "tool"
    monkeypatch.setattr(llvm, "find", lambda: str(tool))
    monkeypatch.setattr(llvm, "TIME_LIMIT_S", 1.0)
    for script, said in (
        ("exec sleep 600", "took longer than 1 s"),
        ("exit 3", "ended with 3: no message"),
        ("echo no such thing >&2; kill -ABRT $$", "ended with -6: no such thing"),
        ("echo \"llvm-symbolizer: Unknown argument '--x'\" >&2; exit 1", "is too old"),
    ):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        with running(program) as (pid, places):
            symbols = Symbolizer.of_process(pid)
            found = symbols.frames_at(places.values())
        assert [found[at][0].function for at in places.values()] == ["outer", "hidden"]
        assert len(symbols.problems) == 1 and said in symbols.problems[0]


def test_many_files_that_hang_the_tool(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\necho >>{tmp_path}/asked\nexec sleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setattr(llvm, "find", lambda: str(tool))
    monkeypatch.setattr(llvm, "TIME_LIMIT_S", 0.5)
    copies = []
    for place in range(6):
        copy = tmp_path / f"lib{place}.so"
        shutil.copy(program, copy)
        copies.append(Module(str(copy), place << 20, (place + 1) << 20, 0))
    symbols = Symbolizer(copies)
    found = symbols.frames_at([(place << 20) + 0x1200 for place in range(6)])
    assert len(found) == 6 and (tmp_path / "asked").read_text().count("\n") == 2
    assert [line.rsplit(": ", 1)[1] for line in symbols.problems] == [
        *["took longer than 0.5 s"] * 2,
        *["not asked, it was too slow for other files"] * 4,
    ]


def test_xz_that_unpacks_to_much(stripped: Path, tmp_path: Path) -> None:
    needs("objcopy")
    data = tmp_path / "data.xz"
    data.write_bytes(lzma.compress(bytes(65 << 20), preset=0))
    run("objcopy", f"--add-section=.gnu_debugdata={data}", stripped)
    with open(stripped, "rb") as file:
        assert modules.ElfFile.of_descriptor(file.fileno()).mini_debug_data() == b""
