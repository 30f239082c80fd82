"""Policy image files: what is no image is named in one line; what C accepts runs a program; what
Python accepts, C accepts."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import policy_runs
import pytest

from hakmem import AcquirePolicy, Policy, PolicyError, Stage, layout
from hakmem.clib.binding import library
from hakmem.generate import mirror
from hakmem.policy.policy import checksum

IMAGE = Policy.default().image()
SIZE = len(IMAGE)
CLASS_COUNT = len(Policy.default().size_classes.classes)
CHECKSUM = mirror.policy_place("checksum").offset
NOBODY = 65534
ROUNDS = int(os.environ.get("HAKMEM_FUZZ_ROUNDS", "25"))

# Sizes of every band, aligned blocks, realloc and calloc, each block's bytes checked before it
# goes.
PROGRAM = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <malloc.h>
enum { N = 600 };
static unsigned char *blocks[N];
static size_t sizes[N];
static unsigned state = 12345;
static unsigned next(unsigned n) { return (state = state * 1103515245u + 12345u) / 65536u % n; }
static int holds(unsigned i, size_t size) {
    for (size_t j = 0; j < size; j++) if (blocks[i][j] != (unsigned char)(i * 7 + 1)) return 0;
    return 1;
}
static void check(unsigned i) { if (!holds(i, sizes[i])) exit(3); }
static size_t any_size(void) {
    static const unsigned most[] = {8, 100, 1500, 9000, 60000, 150000};
    return next(most[next(6)]) + 1;
}
int main(void) {
    for (unsigned round = 0; round < 6000; round++) {
        unsigned i = next(N), how = next(16);
        if (blocks[i]) {
            check(i);
            if (how < 3) {
                size_t size = any_size();
                blocks[i] = realloc(blocks[i], size);
                if (!blocks[i]) return 4;
                if (!holds(i, size < sizes[i] ? size : sizes[i])) return 5;
                sizes[i] = size;
                memset(blocks[i], i * 7 + 1, size);
                continue;
            }
            free(blocks[i]);
            blocks[i] = 0;
            continue;
        }
        sizes[i] = any_size();
        size_t align = how == 0 ? (size_t)32 << next(8) : sizes[i] < 16 ? 8 : 16;
        blocks[i] = how == 0   ? aligned_alloc(align, sizes[i])
                    : how == 1 ? calloc(1, sizes[i])
                               : malloc(sizes[i]);
        if (!blocks[i] || (uintptr_t)blocks[i] % align) return 6;
        if (malloc_usable_size(blocks[i]) < sizes[i]) return 8;
        if (how == 1) for (size_t j = 0; j < sizes[i]; j++) if (blocks[i][j]) return 7;
        memset(blocks[i], i * 7 + 1, sizes[i]);
    }
    for (unsigned i = 0; i < N; i++) if (blocks[i]) check(i), free(blocks[i]);
    malloc_trim(0);
    return 0;
}
"""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program."""
    made = tmp_path_factory.mktemp("program") / "program"
    policy_runs.compile_c(PROGRAM, "-O1 -fno-builtin", made)
    return made


def sealed(image: bytearray) -> bytes:
    """The image with a checksum that fits."""
    image[CHECKSUM : CHECKSUM + 8] = checksum(bytes(image)).to_bytes(8, "little")
    return bytes(image)


def changed(path: str, value: int, index: int = 1) -> bytes:
    """The default image with one field set, sealed."""
    image, place = bytearray(IMAGE), mirror.policy_place(path)
    start = place.offset + (index * place.stride if place.stride else 0)
    image[start : start + place.width] = (value % (1 << 8 * place.width)).to_bytes(
        place.width, "little"
    )
    return sealed(image)


def accepted(image: bytes) -> bool:
    """Whether C makes a heap of it."""
    room, fault = ctypes.create_string_buffer(image, SIZE), mirror.HakFault()
    heap = library().hak_heap_create(ctypes.addressof(room), 1 << 24, 0, ctypes.byref(fault))
    if heap:
        library().hak_heap_destroy(heap)
        return True
    assert fault.code == layout.constant("HAK_FAULT_POLICY")
    return False


def obeys(program: Path, image: Path, **variables: str) -> tuple[int, list[str]]:
    """Exit code of the program under an image file, and what the library said."""
    done = policy_runs.run([str(program)], {"HAKMEM_POLICY": str(image)} | variables)
    return done.returncode, done.stderr.decode(errors="replace").splitlines()


def test_a_saved_policy_is_obeyed(program: Path, tmp_path: Path) -> None:
    Policy.default().replace(headers="all").save(tmp_path / "good image")
    assert obeys(program, tmp_path / "good image") == (0, [])


def bad_files() -> Iterator[tuple[str, bytes, str]]:
    yield "empty", b"", f"expected a policy image of {SIZE} bytes, found 0"
    yield "short", IMAGE[:-1], f"found {SIZE - 1}"
    yield "long", IMAGE + b"\0", f"found {SIZE + 1}"
    yield "text", b"headers = 'all'\n", "expected a policy image of"
    yield "zeros", bytes(SIZE), "this is no policy image"
    damaged = bytearray(IMAGE)
    damaged[5000] ^= 1
    yield "damaged", bytes(damaged), "checksum does not fit"
    yield "other layout", changed("layout_hash", 12345), "another layout"
    yield (
        "hostile epoch",
        changed("retain.epoch_ns", 5),
        "retain.epoch_ns is 5, expected 1000000 to 3600000000000",
    )
    yield (
        "hostile stride",
        changed("sizes.classes.stride_bytes", 1 << 31, 7),
        "sizes.classes.stride_bytes (class 7) is 2147483648",
    )


@pytest.mark.parametrize(
    ("content", "says"), [row[1:] for row in bad_files()], ids=[row[0] for row in bad_files()]
)
def test_a_bad_file_is_named_once_and_the_built_in_used(
    program: Path, tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "bad.image"
    path.write_bytes(content)
    code, said = obeys(program, path)
    assert code == 0 and len(said) == 1
    assert (
        said[0].startswith(f"hakmem: HAKMEM_POLICY={path}"[:150])
        and says in said[0]
        and said[0].endswith("; the built-in policy is used")
    )
    found, _ = policy_runs.image({"HAKMEM_POLICY": str(path), "HAKMEM_RETAIN_MB": "9"})
    assert found == Policy.from_environment({"HAKMEM_RETAIN_MB": "9"}).image()
    with pytest.raises(PolicyError):
        Policy.load(path)


def test_what_is_no_file(program: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    cases = {
        str(tmp_path / "missing"): "cannot be opened: no such file",
        str(tmp_path): "expected a policy image, found a directory",
        str(tmp_path / "fifo"): "expected a policy image, found no regular file",
        "/dev/zero": "expected a policy image, found no regular file",
        str(tmp_path / "loop"): "cannot be opened: error 40",
        "/proc/self/mem": "expected a policy image of",
        "x" * 5000: "cannot be opened: error 36",
        "new\nline\x1b[2J": "cannot be opened: no such file",
    }
    for path, says in cases.items():
        begun = time.monotonic()
        code, said = obeys(program, Path(path))
        assert (code, len(said)) == (0, 1) and says in said[0] and said[0].isprintable(), (
            path,
            said,
        )
        assert len(said[0]) < layout.LINE_BYTES and time.monotonic() - begun < 20
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo"):
        with pytest.raises(PolicyError):
            Policy.load(path)


def test_a_file_that_may_not_be_read(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(IMAGE)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    code, said = obeys(program, path)
    assert code == 0 and len(said) == 1 and "permission denied" in said[0]


PRINTS_POLICY = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
void *hak_process_heap(void);
int main(int count, char **words) {
    free(malloc(10));
    char *heap = hak_process_heap();
    unsigned long offset;
    memcpy(&offset, heap + atoi(words[1]), sizeof offset);
    return count != 3 || fwrite(heap + offset, 1, (size_t)atoi(words[2]), stdout) == 0;
}
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users may look into, on a file system that obeys set-user-id; with the
    library in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    place = Path(f"/run/hakmem-test-public-{os.getpid()}")
    place.mkdir()
    try:
        place.chmod(0o755)
        copy = place / "libhakmem.so"
        copy.write_bytes(policy_runs.find().read_bytes())
        copy.chmod(0o755)
        yield place
    finally:
        shutil.rmtree(place)


def test_a_file_that_another_user_may_not_read(public: Path) -> None:
    """Root reads everything; so somebody else runs the program."""
    path, made = public / "secret", public / "program"
    path.write_bytes(Policy.default().replace(headers="all").image())
    path.chmod(0o600)
    policy_runs.compile_c(
        PRINTS_POLICY, f"-O0 -fno-builtin -Wl,-rpath,{public}", made, public / "libhakmem.so"
    )
    words = [str(made), str(mirror.HakHeap.policy_offset.offset), str(len(IMAGE))]
    options = {
        "env": os.environ | {"HAKMEM_POLICY": str(path)},
        "capture_output": True,
        "timeout": 60,
    }
    # type: ignore[call-overload]
    done = subprocess.run(words, user=NOBODY, group=NOBODY, extra_groups=[], **options)
    said = done.stderr.decode().splitlines()
    assert (done.returncode, len(said)) == (0, 1), done
    assert said[0].startswith(f"hakmem: HAKMEM_POLICY={path}") and "permission denied" in said[0], (
        said
    )
    assert said[0].endswith("; the built-in policy is used")
    assert done.stdout == Policy.default().image()
    path.chmod(0o644)
    # type: ignore[call-overload]
    done = subprocess.run(words, user=NOBODY, group=NOBODY, extra_groups=[], **options)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", path.read_bytes()), (
        "the file's own policy, once it may be read"
    )


def test_empty_is_not_set(program: Path) -> None:
    assert obeys(program, Path()) != (0, [])  # "." is a directory
    done = policy_runs.run([str(program)], {"HAKMEM_POLICY": ""})
    assert (done.returncode, done.stderr) == (0, b"")


# --- bounds ---------------------------------------------------------------------------------------


def every_field() -> list[str]:
    """Paths of the scalar fields of an image, as POLICY_BOUNDS names them."""
    found = []
    for part in ("arenas", "caches", "acquire", "retain", "profile", "headers", "sizes"):
        struct = next(
            field.type for field in layout.struct_of("hak_policy").fields if field.name == part
        )
        for field in layout.struct_of(struct).fields:
            if field.name == "classes":
                found += [
                    f"{part}.classes.{row.name}"
                    for row in layout.struct_of(field.type).fields
                    if row.name not in ("reserved", "reciprocal")
                ]
            elif field.count == 1 and not field.name.startswith("reserved"):
                found.append(f"{part}.{field.name}")
    return found


def test_every_field_has_bounds() -> None:
    assert sorted(bound.path for bound in layout.POLICY_BOUNDS) == sorted(every_field())
    assert layout.POLICY_BOUNDS[0].path == "sizes.class_count"


@pytest.mark.parametrize("bound", layout.POLICY_BOUNDS, ids=lambda bound: bound.path)
def test_past_its_bounds_both_refuse(bound: layout.Bound) -> None:
    width = mirror.policy_place(bound.path).width
    outside = [bound.high + bound.step, (1 << 8 * width) - bound.step] + (
        [bound.low - bound.step] if bound.low >= bound.step else []
    )
    for value in [*outside, *([bound.low + 1] if bound.step > 1 else [])]:
        if value >= 1 << 8 * width:
            continue
        image = changed(bound.path, value)
        assert not accepted(image), (bound.path, value)
        with pytest.raises(PolicyError, match=bound.path.rpartition(".")[2]):
            Policy.from_image(image)


# Those that no other number bounds too.
FREE = [
    bound
    for bound in layout.POLICY_BOUNDS
    if not bound.path.startswith(("sizes.", "headers.", "caches.classes.lend_count"))
]


@pytest.mark.parametrize("bound", FREE, ids=lambda bound: bound.path)
def test_at_its_bounds_both_accept(bound: layout.Bound) -> None:
    for value in (bound.low, bound.high):
        image = bytearray(changed(bound.path, value))
        if bound.path == "arenas.init_bytes":
            place = mirror.policy_place("arenas.max_bytes")
            image[place.offset : place.offset + 8] = image[place.offset - 8 : place.offset]
            image = bytearray(sealed(image))
        assert accepted(bytes(image)), (bound.path, value)
        assert Policy.from_image(bytes(image)).image() == image


def test_structure_is_judged() -> None:
    """Each within its bounds, and yet nothing that C could obey."""
    place = mirror.policy_place("acquire.order").offset
    orders = [b"\x07\x01", b"\x01\x00\x07", b"\x01\x02\x03\x04\x05\x06\x01\x07", b"", b"\x01\x02"]
    for order in orders:
        image = bytearray(IMAGE)
        image[place : place + 8] = order.ljust(8, b"\0")
        assert not accepted(sealed(image)), order
        with pytest.raises(PolicyError):
            Policy.from_image(sealed(image))
    for path, value, index in [
        ("sizes.classes.stride_bytes", 24, 3),
        ("sizes.classes.stride_bytes", 16, 3),
        ("sizes.classes.capacity_bytes", 1024, 5),
        ("sizes.classes.block_count", 60000, 9),
        ("sizes.classes.header", 1, 4),
        ("sizes.classes.start_bytes", 16, 2),
        ("sizes.classes.unit_count", 1, 40),
        ("sizes.class_count", 3, 0),
        ("sizes.size_limit_bytes", 1 << 19, 0),
        ("sizes.classes.reciprocal", 1, 6),
        ("sizes.classes.reciprocal", 1, 0),
        ("arenas.populate_units", 3, 0),
        ("caches.classes.lend_count", 1, CLASS_COUNT),
        ("caches.classes.lend_count", 5, CLASS_COUNT - 4),
    ]:
        assert not accepted(changed(path, value, index)), (path, value)
        with pytest.raises(PolicyError):
            Policy.from_image(changed(path, value, index))
    for lenders in (0, CLASS_COUNT - 1):  # as many as are behind class 1
        image = changed("caches.classes.lend_count", lenders, 1)
        assert accepted(image) and Policy.from_image(image).image() == image
    for entry, class_index in ((100, 61), (2, 1), (100, 0), (50, 3)):
        image = bytearray(IMAGE)
        image[mirror.policy_place("sizes.size_map").offset + entry] = class_index
        assert not accepted(sealed(image)), entry
    for entry, class_index in ((64, 61), (64, CLASS_COUNT - 1), (64, 0), (17, 0)):
        image = bytearray(IMAGE)
        image[mirror.policy_place("sizes.big_map").offset + entry] = class_index
        assert not accepted(sealed(image)), entry
    headed = bytearray(Policy.default().replace(headers="all").image())
    assert accepted(bytes(headed))
    headed[mirror.policy_place("sizes.size_map").offset + 2] = (
        2  # 16 bytes into a block of 16 less its header
    )
    assert not accepted(sealed(headed))


def hostile(chance: random.Random) -> bytes:
    """A valid image with some bytes or fields replaced, and a checksum that fits."""
    base = chance.choice(
        [
            Policy.default(),
            Policy.default().replace(headers="all"),
            Policy.default().replace(acquire=AcquirePolicy((Stage.GROW,))),
        ]
    )
    image = bytearray(base.image())
    for _ in range(chance.choice((1, 1, 2, 4))):
        if chance.random() < 0.7:
            bound = chance.choice(layout.POLICY_BOUNDS)
            place = mirror.policy_place(bound.path)
            start = place.offset + (chance.randint(0, 63) * place.stride if place.stride else 0)
            value = chance.choice(
                (
                    bound.low,
                    bound.high,
                    bound.high + 1,
                    0,
                    1,
                    (1 << 64) - 1,
                    chance.randint(bound.low, bound.high),
                )
            )
            image[start : start + place.width] = (value % (1 << 8 * place.width)).to_bytes(
                place.width, "little"
            )
        else:
            image[chance.randrange(32, SIZE)] = chance.randrange(256)
    return sealed(image)


def test_hostile_images(program: Path, tmp_path: Path) -> None:
    """HAKMEM_FUZZ_ROUNDS sets how many; HAKMEM_FUZZ_SEED repeats a run. What C accepts is run."""
    seed = int(os.environ.get("HAKMEM_FUZZ_SEED", "1"))
    chance = random.Random(seed)
    taken = 0
    for number in range(ROUNDS):
        image = hostile(chance)
        path = tmp_path / "hostile"
        path.write_bytes(image)
        code, said = obeys(program, path)
        assert code == 0, f"seed {seed}, image {number}: exit {code}, {said}"
        assert len(said) == (not accepted(image)), said
        taken += accepted(image)
        try:
            Policy.from_image(image)
        except PolicyError:
            pass
        else:
            assert accepted(image), f"seed {seed}, image {number}: Python takes it, C does not"
    print(f"fuzz: seed {seed}: {ROUNDS} images, {taken} of them accepted and run", file=sys.stderr)
    assert taken > ROUNDS // 10


# --- more rights than the caller ------------------------------------------------------------------


def test_a_process_with_more_rights_ignores_it_silently(public: Path) -> None:
    """A set-user-id program linked with the library: its caller's environment says nothing to
    it."""
    made = public / "linked"
    body = "free(malloc(10)); mallopt(M_ARENA_MAX, 1); return geteuid() == 0 ? 0 : 9;"
    source = (
        "#include <malloc.h>\n#include <stdlib.h>\n#include <unistd.h>\nint main(void) { "
        + body
        + " }"
    )
    policy_runs.compile_c(
        source, f"-O0 -fno-builtin -Wl,-rpath,{public}", made, public / "libhakmem.so"
    )
    made.chmod(0o4755)
    variables = os.environ | {
        "HAKMEM_RETAIN_MB": "nonsense",
        "HAKMEM_POLICY": "/missing",
        "HAKMEM_VERBOSE": "1",
    }
    plain = subprocess.run([made], env=variables, capture_output=True)
    secure = subprocess.run([made], env=variables, capture_output=True, user=NOBODY, group=NOBODY)
    said = [line.split()[1] for line in plain.stderr.decode().splitlines()]
    assert said == ["HAKMEM_POLICY=/missing:", "HAKMEM_RETAIN_MB=nonsense:", "mallopt:"], (
        "without more rights it speaks: else the test shows nothing"
    )
    if secure.returncode == 9:
        pytest.skip("the file system ignores set-user-id")
    assert (secure.returncode, secure.stderr) == (0, b"")
