"""Programs that read something and write something: gcc, git, sqlite3, ffmpeg, ImageMagick."""

from __future__ import annotations

import random
from pathlib import Path

from bench.programs.program import Program, executable
from bench.programs.stage import Stage

# ---- gcc: a large generated file, and one that pulls in most of the C++ library ------------------

HEADERS = (
    "algorithm",
    "any",
    "array",
    "chrono",
    "deque",
    "filesystem",
    "fstream",
    "functional",
    "future",
    "iostream",
    "list",
    "locale",
    "map",
    "memory",
    "numeric",
    "optional",
    "queue",
    "random",
    "regex",
    "set",
    "sstream",
    "string",
    "thread",
    "tuple",
    "unordered_map",
    "variant",
    "vector",
)
FEW_HEADERS = ("iostream", "map", "numeric", "set", "string", "unordered_map", "vector")


def c_source(functions: int) -> str:
    """A C file of that many functions, each a switch, a loop and a struct of its own; the same
    every time."""
    dice = random.Random(1)
    lines = ["#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>"]
    for i in range(functions):
        lines += [
            f"struct s{i} {{ int a[{dice.randint(2, 30)}]; double d; struct s{i} *next; }};",
            f"static int f{i}(int n, struct s{i} *p) {{",
        ]
        lines += [
            "    int sum = 0;",
            "    for (int i = 0; i < n; i++) {",
            f"        switch ((i * {dice.randint(3, 99)}) % 9) {{",
        ]
        lines += [
            f"        case {k}: sum += p->a[i % 2] * {dice.randint(1, 999)} + (int)p->d; break;"
            for k in range(8)
        ]
        call = f"f{dice.randrange(i)}(n / 2, (void *)p)" if i else "1"
        lines += [f"        default: sum ^= {call}; }}", "    }", "    return sum;", "}"]
    lines += [
        "int main(int argc, char **argv) {",
        "    static char place[4096];",
        "    (void)argv;",
        "    long sum = 0;",
    ]
    lines += [f"    sum += f{i}(argc, (void *)place);" for i in range(functions)]
    return "\n".join([*lines, '    return printf("%ld\\n", sum) < 0;', "}", ""])


def cpp_source(classes: int, headers: tuple[str, ...]) -> str:
    """A C++ file that instantiates containers for that many types of its own."""
    lines = [f"#include <{name}>" for name in headers]
    for i in range(classes):
        lines += [
            f"struct T{i} {{ int key; std::string text; bool operator<(const T{i} &o) const {{ "
            "return key < o.key; } };",
            f"static long g{i}(const std::vector<T{i}> &v) {{",
            f"    std::map<T{i}, std::vector<std::string>> m; std::unordered_map<std::string, "
            f"std::set<T{i}>> u;",
            "    for (auto &t : v) { m[t].push_back(t.text); u[t.text].insert(t); }",
            "    return std::accumulate(m.begin(), m.end(), 0L, [&](long n, auto &p) { return n "
            "+ long(p.second.size() + u.size()); });",
            "}",
        ]
    lines += ["int main() {", "    long n = 0;"]
    lines += [f'    n += g{i}({{{{1, "one"}}, {{2, "two"}}}});' for i in range(classes)]
    return "\n".join([*lines, '    std::cout << n << "\\n";', "}", ""])


def gcc_prepare(directory: Path, quick: bool) -> None:
    (directory / "large.c").write_text(c_source(60 if quick else 1200), encoding="utf-8")
    (directory / "many.cc").write_text(
        cpp_source(1, FEW_HEADERS) if quick else cpp_source(25, HEADERS), encoding="utf-8"
    )


def gcc_work(stage: Stage) -> None:
    gcc, gpp = executable("gcc"), executable("g++")
    stage.run(gcc, "-O2", "-c", stage.input / "large.c", "-o", "large.o")
    stage.run(
        gpp,
        "-std=c++17",
        "-O0" if stage.quick else "-O1",
        "-frandom-seed=1",
        "-c",
        stage.input / "many.cc",
        "-o",
        "many.o",
    )
    stage.run(gcc, "large.o", "-o", "large")


# ---- git: a repository that it makes, repacks, clones and reads ----------------------------------

AUTHOR = "Someone <someone@example.org>"


def history(commits: int, files: int) -> bytes:
    """A stream for git fast-import: commits that each rewrite a few lines of a few files, on two
    branches that merge."""
    dice = random.Random(2)
    contents = {
        f"src/dir{n % 17}/file{n}.txt": [
            f"{n} {dice.random()}" for _ in range(dice.randint(5, 120))
        ]
        for n in range(files)
    }
    out: list[str] = []
    for c in range(commits):
        branch = "side" if c % 10 in (3, 4) else "main"
        stamp = 1_600_000_000 + 60 * c
        out.append(
            f"commit refs/heads/{branch}\nmark :{c + 1}\nauthor {AUTHOR} {stamp} "
            f"+0000\ncommitter {AUTHOR} {stamp} +0000\n"
        )
        message = f"Change {c}\n\n" + "Why not. " * (c % 7) + "\n"
        out.append(f"data {len(message)}\n{message}")
        if c % 10 == 3 and c > 3:
            out.append(f"from :{c}\n")
        if c % 10 == 5:
            out.append(f"merge :{c}\n")
        changed = list(contents) if c == 0 else dice.sample(list(contents), min(files, 12))
        for name in changed:
            rows = contents[name]
            rows[dice.randrange(len(rows))] = f"{c} {dice.random()}"
            text = "\n".join(rows) + "\n"
            out.append(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n")
    return "".join(out).encode()


def git_prepare(directory: Path, quick: bool) -> None:
    (directory / "history").write_bytes(history(40 if quick else 2500, 30 if quick else 600))


def git_work(stage: Stage) -> None:
    git = executable("git")
    repo, copy = stage.scratch / "repo", stage.scratch / "copy"
    config = [
        word
        for pair in (
            "user.name=Someone",
            "user.email=someone@example.org",
            "pack.threads=2",
            "gc.auto=0",
        )
        for word in ("-c", pair)
    ]

    def go(*words: str, at: Path = repo, feed: Path | None = None, keep: bool = True) -> None:
        stage.run(
            git, *config, "-C", str(at), *words, label=f"git {words[0]}", feed=feed, keep=keep
        )

    stage.run(git, "init", "--quiet", "--initial-branch=main", repo, label="git init")
    go("fast-import", "--quiet", feed=stage.input / "history")
    go("checkout", "--quiet", "main")
    go("repack", "-adfq", "--depth=50", "--window=20")
    go("fsck", "--full", "--strict", "--no-progress")
    stage.run(git, "clone", "--quiet", "--no-local", repo, copy, label="git clone")
    go("log", "--stat", "--graph", "--format=%H %an %s", at=copy)
    go("diff", "--stat", "-M", "HEAD~20", "HEAD", at=copy)
    go("blame", "src/dir0/file0.txt", at=copy)
    go("grep", "-c", "9", "HEAD~3", at=copy)
    go("rev-list", "--objects", "--all", at=copy)
    go("archive", "--format=tar", "--output", str(stage.work / "head.tar"), "HEAD", at=copy)


# ---- sqlite3: rows, indexes, joins, json, a vacuum -----------------------------------------------

SQL = """
PRAGMA journal_mode = {journal};
PRAGMA synchronous = OFF;
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, kind INTEGER, price REAL, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
INSERT INTO item SELECT i, printf('item-%07d', i * 7919 % {rows}), i % 97, i * 1.25,
    hex(i * 104729) || '-' || (i % 1000) FROM n;
CREATE INDEX by_name ON item(name);
CREATE INDEX by_kind ON item(kind, price);
SELECT count(*), sum(price), min(name), max(name) FROM item;
SELECT kind, count(*), avg(price), group_concat(DISTINCT length(note))
    FROM item GROUP BY kind ORDER BY kind;
SELECT a.name, b.name FROM item a JOIN item b ON b.id = a.id * 3
    WHERE a.kind = 5 ORDER BY a.note LIMIT 50;
SELECT substr(note, 1, 2) AS head, count(*) FROM item GROUP BY head ORDER BY 2 DESC, 1 LIMIT 40;
SELECT json_extract(doc, '$.k[1]') FROM (
    SELECT json_object('k', json_array(id, name, price)) AS doc
    FROM item WHERE id % {step} = 0) LIMIT 100;
SELECT count(DISTINCT note) FROM item;
UPDATE item SET note = upper(name) || note WHERE kind < 20;
DELETE FROM item WHERE kind BETWEEN 40 AND 60;
VACUUM;
PRAGMA integrity_check;
SELECT name, row_number() OVER (PARTITION BY kind ORDER BY price DESC) AS place
    FROM item WHERE kind > 90 ORDER BY name LIMIT 60;
"""


def sqlite_work(stage: Stage) -> None:
    rows = 5_000 if stage.quick else 1_000_000
    for journal in ("WAL",) if stage.quick else ("MEMORY",):
        stage.run(
            executable("sqlite3"),
            "rows.db",
            feed=SQL.format(journal=journal, rows=rows, step=rows // 100).encode(),
        )


# ---- pictures ------------------------------------------------------------------------------------


def ffmpeg_work(stage: Stage) -> None:
    size, seconds = ("160x120", 1) if stage.quick else ("640x480", 12)
    ffmpeg = [
        executable("ffmpeg"),
        "-nostdin",
        "-hide_banner",
        "-loglevel",
        "error",
        "-y",
        "-bitexact",
        "-threads",
        "2",
    ]
    source = [
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size={size}:rate=25:duration={seconds}",
        "-f",
        "lavfi",
        "-i",
        f"sine=frequency=440:duration={seconds}",
    ]
    exact = ["-flags", "+bitexact", "-fflags", "+bitexact"]
    stage.run(
        *ffmpeg,
        *source,
        *exact,
        "-c:v",
        "mpeg4",
        "-threads",
        "2",
        "-c:a",
        "aac",
        "picture.mkv",
        label="encode",
    )
    stage.run(
        *ffmpeg,
        "-i",
        "picture.mkv",
        "-vf",
        "scale=320:-2,hue=s=0,unsharp",
        "-f",
        "framemd5",
        "-",
        label="decode",
    )
    stage.run(
        *ffmpeg,
        "-i",
        "picture.mkv",
        "-frames:v",
        "5",
        "-flags",
        "+bitexact",
        "frame%02d.png",
        label="frames",
    )


def imagemagick_work(stage: Stage) -> None:
    size = "120x90" if stage.quick else "1600x1200"
    convert = executable("convert-im6.q16")
    stage.run(
        convert, "-seed", "7", "-size", size, "plasma:fractal", "-strip", "plain.ppm", label="make"
    )
    steps = [
        "-blur",
        "0x3",
        "-resize",
        "70%",
        "-rotate",
        "17",
        "-sharpen",
        "0x1",
        "-colors",
        "200",
        "+dither",
        "-strip",
    ]
    stage.run(
        convert,
        "plain.ppm",
        *steps,
        "-define",
        "png:exclude-chunks=date,time",
        "done.png",
        label="work",
    )
    stage.run(convert, "done.png", "-format", "%m %w %h %# %k\n", "info:-", label="read")


PROGRAMS = (
    Program(
        "gcc",
        "cc1 -O2 on a C file of 22,000 lines, cc1plus on most of the C++ library, ld",
        ("gcc", "g++"),
        ("gcc", "g++"),
        ("cc1", "cc1plus", "*ld*"),
        gcc_work,
        gcc_prepare,
    ),
    Program(
        "git",
        "import 2,500 commits, repack, fsck, clone, log, blame, grep, archive",
        ("git",),
        ("git",),
        ("git",),
        git_work,
        git_prepare,
    ),
    Program(
        "sqlite3",
        "a million rows: insert, index, join, group, json, update, vacuum",
        ("sqlite3",),
        ("sqlite3",),
        ("sqlite3",),
        sqlite_work,
    ),
    Program(
        "ffmpeg",
        "a generated film encoded, decoded, filtered, as pictures",
        ("ffmpeg",),
        ("ffmpeg",),
        ("ffmpeg",),
        ffmpeg_work,
    ),
    Program(
        "imagemagick",
        "a generated picture blurred, turned, sharpened, reduced",
        ("imagemagick",),
        ("convert-im6.q16",),
        ("convert-im6.q16",),
        imagemagick_work,
    ),
)
