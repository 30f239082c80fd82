"""The library in odd company: the dynamic loader before main, destructors after it, dlopen when
static TLS is short."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

Programs = Callable[..., Path]
COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "")
pytestmark = pytest.mark.skipif(not COMPILER, reason="no C compiler")
STATIC_TLS_BYTES = 64


def build(place: Path, name: str, source: str, *flags: str) -> Path:
    """A program, or a library where the name ends in .so, made of ``source``."""
    text = place / f"{name}.c"
    headers = "".join(
        f"#include <{header}.h>\n" for header in ("dlfcn", "stdio", "stdlib", "string", "unistd")
    )
    text.write_text(f"#define _GNU_SOURCE\n{headers}{source}")
    shared = ["-shared", "-fPIC"] if name.endswith(".so") else []
    subprocess.run(
        [COMPILER, "-O1", "-w", *shared, str(text), "-o", str(place / name), *flags], check=True
    )
    return place / name


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


WORK = """
static void work(const char *when) {
    void *blocks[200];
    for (int i = 0; i < 200; i++) memset(blocks[i] = malloc(i * 37 + 1), i, i * 37 + 1);
    for (int i = 0; i < 200; i += 2) blocks[i] = realloc(blocks[i], i * 1000 + 1);
    for (int i = 0; i < 200; i++) free(blocks[i]);
    free(strdup(when));
    if (write(1, when, strlen(when)) < 0) _exit(9);
}
"""


def test_before_and_after_main(native_program: Programs, tmp_path: Path) -> None:
    """An IFUNC's resolver, DT_INIT of a dependency and of a plugin, the earliest constructor;
    atexit and destructors."""
    early = build(
        tmp_path,
        "libearly.so",
        WORK
        + """
        static int chosen(void) { return 7; }
        static void *(*get)(size_t) = malloc;
        static int (*choose(void))(void) { return chosen; }
        int early(void) __attribute__((ifunc("choose")));
        __attribute__((constructor(101))) static void first(void) { work("dependency "); }
        __attribute__((destructor(101))) static void last(void) { work("dependency's end\\n"); }
    """,
        "-Wl,-soname,libearly.so",
    )
    plugin = build(
        tmp_path,
        "plugin.so",
        WORK
        + """
        static char *kept;
        __attribute__((constructor)) static void first(void) {
            kept = malloc(5000);
            work("plugin ");
        }
        __attribute__((destructor)) static void last(void) { free(kept); work("plugin's end "); }
    """,
    )
    main = build(
        tmp_path,
        "program",
        WORK
        + """
        int early(void);
        __attribute__((constructor(101))) static void first(void) { work("constructor "); }
        __attribute__((destructor(101))) static void last(void) { work("destructor "); }
        static void at_exit(void) { work("atexit "); }
        int main(int count, char **words) {
            atexit(at_exit);
            for (int i = 0; i < 20; i++) {
                void *plugin = dlopen(words[1], RTLD_NOW);
                if (!plugin || dlclose(plugin)) return 1;
            }
            work("main ");
            return early() != 7;
        }
    """,
        str(early),
        f"-Wl,-rpath,{tmp_path}",
        "-ldl",
    )
    said = run([str(main), str(plugin)], preloaded(library_of(native_program), LD_BIND_NOW="1"))
    assert (
        said
        == "dependency constructor "
        + "plugin plugin's end " * 20
        + "main atexit destructor dependency's end\n"
    )


def test_static_tls_is_tiny(native_program: Programs) -> None:
    if not shutil.which("readelf"):
        pytest.skip("no readelf")
    headers = subprocess.run(
        ["readelf", "-lW", str(library_of(native_program))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    sizes = [
        int(line.split()[5], 16) for line in headers.splitlines() if line.split()[:1] == ["TLS"]
    ]
    assert sizes and sum(sizes) <= STATIC_TLS_BYTES


def test_late_dlopen_where_static_tls_is_nearly_used_up(
    native_program: Programs, tmp_path: Path
) -> None:
    """Libraries with 256 bytes of static TLS each are opened until one is refused; ours still comes
    in, and works."""
    for i in range(24):
        kept = '__thread char kept[256] __attribute__((tls_model("initial-exec"))) = "x";'
        build(tmp_path, f"hog{i}.so", kept + " char *get(void) { return kept; }")
    main = build(
        tmp_path,
        "opener",
        """
        int main(int count, char **words) {
            char path[4096];
            int n = 0;
            for (; n < 24; n++) {
                snprintf(path, sizeof path, "%s/hog%d.so", words[1], n);
                if (!dlopen(path, RTLD_NOW)) break;
            }
            printf("%d opened, then ", n);
            void *library = dlopen(words[2], RTLD_NOW);
            if (!library) return printf("refused: %s\\n", dlerror()), 1;
            void *(*make)(void *, unsigned long, unsigned, void *);
            make = dlsym(library, "hak_heap_create");
            void *(*get)(void *, unsigned long) = dlsym(library, "hak_heap_alloc");
            unsigned (*give)(void *, void *, void *) = dlsym(library, "hak_heap_free");
            long fault[8];
            void *heap = make(0, 1 << 24, 0, fault), *block = get(heap, 100);
            printf("in, and %s\\n", block && !give(heap, block, fault) ? "works" : "fails");
            return 0;
        }
    """,
        "-ldl",
    )
    said = run(
        [str(main), str(tmp_path), str(library_of(native_program))],
        {**os.environ, "LD_PRELOAD": ""},
    )
    found = re.fullmatch(r"(\d+) opened, then in, and works\n", said)
    assert found and int(found[1]) < 24, f"static TLS was never used up, or we did not fit: {said}"


def test_preloaded_and_loaded_by_python_is_one_instance(
    native_program: Programs, tmp_path: Path
) -> None:
    """By its own path and by a symbolic link; the heap that malloc uses is the one that Python
    sees."""
    library = library_of(native_program)
    link = tmp_path / "libhakmem.so"
    link.symlink_to(library)
    source = (
        "import ctypes, hakmem.clib.binding as b, hakmem\n"
        "root = ctypes.CDLL(None).hak_root_address; root.restype = ctypes.c_void_p\n"
        "print(b.library().hak_root_address() == root(), b.library().hak_process_heap() == "
        "hakmem.process_heap().address)\n"
    )
    for named in (library, link):
        environment = preloaded(library, HAKMEM_LIBRARY=str(named), PYTHONMALLOC="malloc")
        assert run([sys.executable, "-c", source], environment) == "True True\n"


def test_preloaded_and_a_copy_loaded_by_python_is_refused(
    native_program: Programs, tmp_path: Path
) -> None:
    library = library_of(native_program)
    copy = tmp_path / "libhakmem.so"
    shutil.copy(library, copy)
    environment = preloaded(library, HAKMEM_LIBRARY=str(copy), PYTHONMALLOC="malloc")
    source = (
        "import hakmem.clib.binding as b, hakmem\n"
        "try: b.library()\n"
        "except hakmem.HakmemError as error: print(type(error).__name__, error)\n"
    )
    said = run([sys.executable, "-c", source], environment)
    assert (
        said.startswith("LibraryConflict ")
        and str(copy) in said
        and str(library) in said
        and "HAKMEM_LIBRARY" in said
    )
