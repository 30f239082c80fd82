"""The one layout: every struct, constant and bound that Python and C share.

The C header is printed from here (``python -I -S -B hakmem/layout.py``), the ctypes structures are
built from here, and numpy dtypes derive from those, so that one edit changes all of them or none.
Each field carries who writes it, who reads it, with which memory order, in which unit; the C header
repeats that as comments.

The address space of one heap, from low to high (one reservation)::

    hak_heap | policy | fast map | registry | slab records | partial sets | dirty marks |
    purged lately | holes | last looks | thread records | live marks | units ...
    (all before the units is metadata, whole units of it)

Unit numbers count from the start of the reservation, so unit 0 is always metadata and 0 can mean
"none". Standard library only: this file also runs on its own at build time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .text import Text

# --- geometry -------------------------------------------------------------------------------------

UNIT_SHIFT: Final = 16
UNIT_BYTES: Final = 1 << UNIT_SHIFT
OS_PAGE_BYTES: Final = 4096
SUPERSLAB_UNITS: Final = 32
SUPERSLAB_BYTES: Final = SUPERSLAB_UNITS * UNIT_BYTES
SLAB_UNITS_MAX: Final = 8
CLASS_LIMIT: Final = 64
CLASS_COUNT_MAX: Final = 60
SIZE_GRANULE_SHIFT: Final = 3
SIZE_MAP_LIMIT_BYTES: Final = 1 << 16
SIZE_MAP_ENTRIES: Final = (SIZE_MAP_LIMIT_BYTES >> SIZE_GRANULE_SHIFT) + 1
RUN_EXACT_BINS: Final = 32
RUN_BIN_COUNT: Final = 192
RUN_BIN_WORDS: Final = RUN_BIN_COUNT // 64
BLOCK_ALIGN_BYTES: Final = 16
LIVE_BYTES_PER_UNIT: Final = UNIT_BYTES >> (SIZE_GRANULE_SHIFT + 3)
CACHE_LINE_BYTES: Final = 64
REGISTRY_OFFSET: Final = 9 * OS_PAGE_BYTES
REGION_UNITS_MAX: Final = 1 << 24
REGION_WISH_BYTES: Final = 64 << 30
PROCESS_WISH_BYTES: Final = 1 << 40
REGION_LEAST_BYTES: Final = 2 << 20
REGION_LIMIT_PER_256: Final = 192
CAP_LIMIT_COUNT: Final = 1 << 20
RETURN_GROUPS: Final = 16
LOCK_SPIN_TRIES: Final = 12
RESIDENT_SAMPLE_PAGES: Final = 64
LOCK_BACKOFF_SPINS: Final = 64
BACKGROUND_STACK_BYTES: Final = 128 << 10
THREADS_MIN: Final = 256
CRASH_STACK_BYTES: Final = 64 << 10
EVENT_COUNT: Final = 8192
STACK_NEAR_BYTES: Final = 8 << 20
THREADS_MAX: Final = 65536
ACQUIRE_STAGES: Final = 8
LINE_BYTES: Final = 400
LINE_QUOTE_BYTES: Final = 160

HEAP_MAGIC: Final = 0x4B41_485F_4D45_4D31
POLICY_MAGIC: Final = 0x4B41_485F_504F_4C31
ROOT_MAGIC: Final = 0x4B41_485F_524F_4F54
LAYOUT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Constant:
    """One named number of the C header: ``name``, ``value``, ``meaning``."""

    name: str
    value: int
    meaning: str


# fmt: off
CONSTANTS: Final[tuple[Constant, ...]] = (
    Constant("HAK_UNIT_SHIFT", UNIT_SHIFT,
        "log2 bytes of a unit, the grain of the region and of the registry"),
    Constant("HAK_UNIT_BYTES", UNIT_BYTES, "bytes of a unit"),
    Constant("HAK_OS_PAGE_BYTES", OS_PAGE_BYTES, "bytes of an OS page"),
    Constant("HAK_SUPERSLAB_UNITS", SUPERSLAB_UNITS, "units of a superslab (2 MiB)"),
    Constant("HAK_UNIT_PAGES", UNIT_BYTES // OS_PAGE_BYTES,
        "OS pages of a unit, bits of its mask of holes"),
    Constant("HAK_SLAB_BLOCKS_MAX", UNIT_BYTES >> SIZE_GRANULE_SHIFT,
        "blocks of a slab that has holes looked for"),
    Constant("HAK_SLAB_UNITS_MAX", SLAB_UNITS_MAX,
        "units of the longest slab: offsets / 8 must fit 16 bits"),
    Constant("HAK_CLASS_LIMIT", CLASS_LIMIT,
        "registry tags: 0, the classes, and the special tags below"),
    Constant("HAK_CLASS_COUNT_MAX", CLASS_COUNT_MAX,
        "size classes of a policy; their indices start at 1"),
    Constant("HAK_SIZE_GRANULE_SHIFT", SIZE_GRANULE_SHIFT, "log2 bytes of a step of the size map"),
    Constant("HAK_SIZE_MAP_LIMIT_BYTES", SIZE_MAP_LIMIT_BYTES,
        "largest size the size map can hold"),
    Constant("HAK_SIZE_MAP_ENTRIES", SIZE_MAP_ENTRIES, "entries of the size map"),
    Constant("HAK_RUN_EXACT_BINS", RUN_EXACT_BINS, "run bins of exactly 1, 2, 3 ... units"),
    Constant("HAK_RUN_BIN_COUNT", RUN_BIN_COUNT,
        "run bins in all; past the exact ones 8 a doubling"),
    Constant("HAK_RUN_BIN_WORDS", RUN_BIN_WORDS, "64-bit words of a run bin bitmap"),
    Constant("HAK_BLOCK_ALIGN_BYTES", BLOCK_ALIGN_BYTES,
        "alignment of every block of 16 bytes and up"),
    Constant("HAK_LIVE_BYTES_PER_UNIT", LIVE_BYTES_PER_UNIT,
        "bytes of live marks a unit has in a checked heap"),
    Constant("HAK_CACHE_LINE_BYTES", CACHE_LINE_BYTES,
        "bytes of a cache line; malloc and free each start one"),
    Constant("HAK_REGISTRY_OFFSET", REGISTRY_OFFSET,
        "bytes from the start of a heap to its registry: behind heap, policy and fast map"),
    Constant("HAK_REGION_UNITS_MAX", REGION_UNITS_MAX,
        "units of the largest region: heads must fit 24 bits"),
    Constant("HAK_REGION_WISH_BYTES", REGION_WISH_BYTES,
        "region wished for a heap; halved until the OS agrees"),
    Constant("HAK_PROCESS_WISH_BYTES", PROCESS_WISH_BYTES, "region wished for the process heap"),
    Constant("HAK_REGION_LEAST_BYTES", REGION_LEAST_BYTES,
        "a smaller region than this is not tried"),
    Constant("HAK_REGION_LIMIT_PER_256", REGION_LIMIT_PER_256,
        "share of a limited address space a region may wish for, in 1/256"),
    Constant("HAK_CAP_LIMIT_COUNT", CAP_LIMIT_COUNT, "largest cap a policy image may carry"),
    Constant("HAK_RETURN_GROUPS", RETURN_GROUPS,
        "chains gathered at once when a cache gives blocks back"),
    Constant("HAK_LOCK_SPIN_TRIES", LOCK_SPIN_TRIES, "tries for a lock before its waiter yields"),
    Constant("HAK_RESIDENT_SAMPLE_PAGES", RESIDENT_SAMPLE_PAGES,
        "OS pages looked at to tell how much of a range is resident"),
    Constant("HAK_LOCK_BACKOFF_SPINS", LOCK_BACKOFF_SPINS,
        "longest backoff at a lock that belongs to no policy"),
    Constant("HAK_CRASH_STACK_BYTES", CRASH_STACK_BYTES,
        "alternate stack of the crash report, for the thread that asks for it"),
    Constant("HAK_STACK_NEAR_BYTES", STACK_NEAR_BYTES,
        "an address this near the stack pointer is told as the stack"),
    Constant("HAK_THREADS_MIN", THREADS_MIN, "thread records of the smallest heap"),
    Constant("HAK_THREADS_MAX", THREADS_MAX, "thread records of the largest heap"),
    Constant("HAK_ACQUIRE_STAGES", ACQUIRE_STAGES, "places of the acquire order"),
    Constant("HAK_HEAP_MAGIC", HEAP_MAGIC, "first word of a heap"),
    Constant("HAK_POLICY_MAGIC", POLICY_MAGIC, "first word of a policy image"),
    Constant("HAK_ROOT_MAGIC", ROOT_MAGIC, "first word of hak_root"),
    Constant("HAK_LINE_BYTES", LINE_BYTES, "longest line the library writes to stderr"),
    Constant("HAK_LINE_QUOTE_BYTES", LINE_QUOTE_BYTES,
        "longest piece of it that is quoted from outside"),
    Constant("HAK_BACKGROUND_STACK_BYTES", BACKGROUND_STACK_BYTES,
        "stack of the background thread, where the system's libraries leave room in it"),
    Constant("HAK_MS_PER_SECOND", 1000, "ms in a second"),
    Constant("HAK_NS_PER_MS", 1_000_000, "ns in a ms"),
    Constant("HAK_LAYOUT_VERSION", LAYOUT_VERSION, "layout version, beside the hash, for people"),
    # registry tags
    Constant("HAK_TAG_NONE", 0,
        "registry: not ours to hand out (metadata, uncommitted, in transit)"),
    Constant("HAK_TAG_SPAN", 61, "registry: unit of a span, head in the upper bits"),
    Constant("HAK_TAG_FREE", 62,
        "registry: unit of a free run, head in the upper bits at both ends"),
    # slab record kinds
    Constant("HAK_KIND_NONE", 0, "record: nothing, or in transit between run heap and slab"),
    Constant("HAK_KIND_SLAB", 1, "record: a slab, fields protected by its claim"),
    Constant("HAK_KIND_SPAN", 2, "record: a span, fields protected by its owner, the program"),
    Constant("HAK_KIND_RUN", 3, "record: a free run, fields protected by the run lock"),
    Constant("HAK_KIND_LOST", 4,
        "record: a slab whose claimer died in a fork; never handed out again"),
    # slab flags
    Constant("HAK_SLAB_FRESH", 1, "slab flag: uncarved blocks are known to be zero"),
    Constant("HAK_SLAB_LISTED", 2, "slab flag: in its class's partial set"),
    Constant("HAK_SLAB_HOLES", 4,
        "slab flag: some of its pages were purged, the free blocks on them are in no list"),
    # a slab's detail_count
    Constant("HAK_LOOK_EPOCH_MASK", 0xFFFFFF,
        "slab's last look: epoch_count when pages of it were purged last"),
    Constant("HAK_LOOK_PAUSE_SHIFT", 24,
        "slab's last look: from this bit on log2 of the pause after it"),
    Constant("HAK_LOOK_REFAULT", 1 << 31,
        "slab's last look: a page of it was needed within two epochs"),
    # heap flags
    Constant("HAK_HEAP_CHECKED", 1, "heap flag: live marks are kept and every free is checked"),
    Constant("HAK_HEAP_PYTHON", 2, "heap flag: run by the Python plane"),
    Constant("HAK_HEAP_PROCESS", 4, "heap flag: this process's malloc"),
    # acquire stages
    Constant("HAK_STAGE_END", 0, "acquire order: nothing more to try"),
    Constant("HAK_STAGE_HOT", 1, "acquire: the slab this thread took from last, a hint"),
    Constant("HAK_STAGE_EMPTY", 2, "acquire: a slab that became empty, any class"),
    Constant("HAK_STAGE_PARTIAL", 3, "acquire: the class's set of partly free slabs"),
    Constant("HAK_STAGE_ADOPT", 4, "acquire: slabs with remote frees waiting, the class's mailbox"),
    Constant("HAK_STAGE_UNIT", 5,
        "acquire: lock-free claim of an unused unit of the open superslab"),
    Constant("HAK_STAGE_LAST", 6, "acquire: one last look for a slab to adopt"),
    Constant("HAK_STAGE_GROW", 7,
        "acquire: the run heap under its lock, growing the arena if need be"),
    # thread states
    Constant("HAK_THREAD_UNUSED", 0, "thread record: never used or given back"),
    Constant("HAK_THREAD_LIVE", 1, "thread record: its thread runs"),
    Constant("HAK_THREAD_PARKED", 2,
        "thread record: its thread ended, caches kept for the next one"),
    Constant("HAK_THREAD_LEFT", 3,
        "thread record: left by a fork, its thread does not exist here; caches to be flushed"),
    # the word that a fork wipes
    Constant("HAK_FORK_WIPED", 0, "fork word: a child that has repaired nothing yet"),
    Constant("HAK_FORK_WHOLE", 1, "fork word: nothing to repair"),
    Constant("HAK_FORK_BUSY", 2, "fork word: one thread repairs, others wait"),
    Constant("HAK_FORK_LEFT", 3, "fork word: repaired, but for caches of threads that are gone"),
    # background thread
    Constant("HAK_BACKGROUND_NONE", 0, "background thread: not started"),
    Constant("HAK_BACKGROUND_STARTING", 1, "background thread: being started"),
    Constant("HAK_BACKGROUND_LOOKING", 2, "background thread: looks every tick"),
    Constant("HAK_BACKGROUND_WAITING", 3, "background thread: nothing to do, waits to be woken"),
    Constant("HAK_BACKGROUND_REFUSED", 4, "background thread: the OS refused one, not tried again"),
    # events of debug builds
    Constant("HAK_EVENT_COUNT", EVENT_COUNT, "events that the ring of a debug build keeps"),
    Constant("HAK_EVENT_REFILL", 1, "event: blocks came from slabs; count: blocks"),
    Constant("HAK_EVENT_OVERFLOW", 2, "event: a full cache gave a batch back; count: blocks"),
    Constant("HAK_EVENT_SLAB_MADE", 3, "event: a slab was made; count: units"),
    Constant("HAK_EVENT_SLAB_RETIRED", 4, "event: a slab became empty; count: units"),
    Constant("HAK_EVENT_ACQUIRE", 5, "event: a stage found a slab; count: the stage"),
    Constant("HAK_EVENT_CLAIM_FAILED", 6, "event: a claim was not got; count: tries"),
    Constant("HAK_EVENT_REMOTE", 7, "event: a chain went on a remote list; count: blocks"),
    Constant("HAK_EVENT_DRAIN", 8, "event: a remote list was drained; count: blocks"),
    Constant("HAK_EVENT_SPAN_ALLOC", 9, "event: a span was handed out; count: units"),
    Constant("HAK_EVENT_SPAN_FREE", 10, "event: a span was freed; count: units"),
    Constant("HAK_EVENT_PURGE", 11, "event: a free run was purged; count: units"),
    Constant("HAK_EVENT_FORK_REPAIR", 12,
        "event: a fork's child was repaired; count: slabs lost so far"),
    # header modes
    Constant("HAK_HEADERS_NONE", 0, "no class has headers"),
    Constant("HAK_HEADERS_TINY", 1, "the tiny classes have headers"),
    Constant("HAK_HEADERS_ALL", 2, "all classes have headers"),
    # bands
    Constant("HAK_BAND_TINY", 1, "class of the tiny band"),
    Constant("HAK_BAND_POOL", 2, "class of the pool band"),
    # what an environment variable's number does to a policy image
    Constant("HAK_APPLY_FIELD", 0, "one field, scaled"),
    Constant("HAK_APPLY_REFILL_SLABS", 1, "refill_slabs of a band's classes"),
    Constant("HAK_APPLY_CACHE_BYTES", 2, "caps of a band's classes, from a byte bound"),
    Constant("HAK_APPLY_HEADERS", 3, "the header mode, and the class tables that follow from it"),
    # faults
    Constant("HAK_OK", 0, "no fault"),
    Constant("HAK_FAULT_FOREIGN", 1, "address outside the region, or in no slab and no span"),
    Constant("HAK_FAULT_INTERIOR", 2, "address inside a block, a span, or a slab's edge"),
    Constant("HAK_FAULT_UNCARVED", 3, "address of a block that was never handed out"),
    Constant("HAK_FAULT_DOUBLE", 4, "block is free already"),
    Constant("HAK_FAULT_HEADER", 5, "header byte is neither live nor freed: overwritten"),
    Constant("HAK_FAULT_NOMEM", 6, "region exhausted or the OS refused"),
    Constant("HAK_FAULT_SIZE", 7, "size or alignment out of range"),
    Constant("HAK_FAULT_POLICY", 8, "policy image refused"),
)
# fmt: on


# --- the description of a struct ------------------------------------------------------------------

SCALARS: Final[dict[str, str]] = {
    "u8": "uint8_t",
    "u16": "uint16_t",
    "u32": "uint32_t",
    "i64": "int64_t",
    "u64": "uint64_t",
}
"""The scalar types of fields, and what C calls them."""


@dataclass(frozen=True, slots=True)
class Field:
    """One struct member.

    ``type`` is a scalar of ``u8 u16 u32 i64 u64`` or the name of a struct; ``count`` > 1 makes an
    array. ``access`` reads *writer > readers, order*; ``unit`` is the unit of the number.
    """

    name: str
    type: str
    unit: str
    access: str
    meaning: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Struct:
    """One mirrored struct: C ``name``, Python ``python_name``, exact ``size`` in bytes, fields in
    order."""

    name: str
    python_name: str
    size: int
    meaning: str
    fields: tuple[Field, ...]


_OWNER = "owner thread > any, relaxed"
_CLAIM = "claimer > any, plain under claim_seq"
_LOCK = "run lock holder > any, plain"
_LOCK_RELAXED = "run lock holder > any, relaxed"
_INIT = "creator > all, before publication"
_ANY = "any > any"


def _counter(name: str, meaning: str) -> Field:
    return Field(name, "u64", "count", _OWNER, meaning)


# fmt: off
COUNTERS: Final[tuple[Field, ...]] = (
    _counter("refill_count", "slow-path refills of a class"),
    _counter("refill_list_count", "refills served from a slab's free list"),
    _counter("refill_carve_count", "refills served by carving"),
    _counter("refill_block_count", "blocks all refills brought"),
    _counter("stage_hot_count", "slabs got at stage hot"),
    _counter("stage_empty_count", "slabs got at stage empty"),
    _counter("stage_partial_count", "slabs got at stage partial"),
    _counter("stage_adopt_count", "slabs got at stage adopt"),
    _counter("stage_unit_count", "slabs got at stage unit"),
    _counter("stage_last_count", "slabs got at stage last look"),
    _counter("stage_grow_count", "slabs got at stage grow"),
    _counter("lend_count",
        "mallocs that a block of a larger class served, lent by this thread's cache"),
    _counter("overflow_count", "frees that found their cache full"),
    _counter("return_chain_count", "chains given back to a slab under its claim"),
    _counter("return_block_count", "blocks given back to slabs under the claim"),
    _counter("remote_chain_count", "chains pushed on a remote list"),
    _counter("remote_block_count", "blocks pushed on remote lists"),
    _counter("drain_count", "remote lists drained"),
    _counter("drain_block_count", "blocks drained"),
    _counter("adopt_count", "slabs taken from a mailbox"),
    _counter("slab_new_count", "slabs made from units"),
    _counter("slab_retire_count", "slabs that became empty and gave their units back"),
    _counter("span_alloc_count", "spans handed out"),
    _counter("span_free_count", "spans freed"),
    _counter("span_resize_count", "spans resized in place"),
    _counter("span_remap_count", "spans moved by remapping"),
    _counter("cache_shrink_count", "times an idle or free-only cache was halved"),
    _counter("cap_raise_count", "times a cache's cap was raised"),
    _counter("cas_try_count",
        "CAS attempts on shared words, but for the claims that return_chain_count counts"),
    _counter("cas_retry_count", "of them, those that lost"),
    _counter("claim_fail_count", "claims not got"),
    _counter("locked_fallback_count", "lock-free tries given up for the locked path"),
    _counter("early_return_count",
        "refills that a drained remote list alone could serve: nothing carved, no new slab"),
    _counter("fault_count", "misuses reported"),
)
# fmt: on

# fmt: off
STRUCTS: Final[tuple[Struct, ...]] = (
    Struct(
        "hak_class", "HakClass", 32, "The geometry of one size class.",
        (
            Field("reciprocal", "u64", "1/2^64", _INIT,
                "ceil(2^64 / stride): d is a multiple of stride iff d * r mod 2^64 < r"),
            Field("stride_bytes", "u32", "bytes", _INIT, "distance of two blocks"),
            Field("capacity_bytes", "u32", "bytes", _INIT,
                "what the caller may use: stride, less 1 with a header"),
            Field("block_count", "u32", "blocks", _INIT, "blocks of a slab"),
            Field("start_bytes", "u32", "bytes", _INIT,
                "offset of block 0 in the slab: 0, or 16 with headers"),
            Field("unit_count", "u32", "units", _INIT, "units of a slab"),
            Field("band", "u16", "HAK_BAND", _INIT, "tiny or pool"),
            Field("header", "u16", "bool", _INIT, "1: a header byte at user - 1"),
        ),
    ),
    Struct(
        "hak_size_class_map", "HakSizeClassMap", 8 + 32 * CLASS_LIMIT + SIZE_MAP_ENTRIES + 7,
        "SizeClassMap: the classes and the table from size to class.",
        (
            Field("class_count", "u32", "classes", _INIT, "classes in use, 1 .. class_count"),
            Field("size_limit_bytes", "u32", "bytes", _INIT,
                "largest size served by a class; above it a span"),
            Field("classes", "hak_class", "", _INIT,
                "the classes; entry 0 is the always-empty class", CLASS_LIMIT),
            Field("size_map", "u8", "class", _INIT,
                "class of ceil(size / 8); 0 where a span serves", SIZE_MAP_ENTRIES + 7),
        ),
    ),
    Struct(
        "hak_header_codec", "HakHeaderCodec", 8 + 2 * CLASS_LIMIT,
        "HeaderCodec: the byte before a block, by class and state.",
        (
            Field("mode", "u32", "HAK_HEADERS", _INIT, "which bands carry headers"),
            Field("reserved", "u32", "", _INIT, "zero"),
            Field("live", "u8", "byte", _INIT, "header of a block that is out, by class",
                CLASS_LIMIT),
            Field("freed", "u8", "byte", _INIT, "header of a block that is not, by class",
                CLASS_LIMIT),
        ),
    ),
    Struct(
        "hak_arena_growth", "HakArenaGrowth", 40, "ArenaGrowth: how much is committed at a time.",
        (
            Field("init_bytes", "u64", "bytes", _INIT, "first arena chunk"),
            Field("max_bytes", "u64", "bytes", _INIT, "largest arena chunk"),
            Field("levels", "u32", "doublings", _INIT,
                "chunk k is min(max, init << min(k, levels))"),
            Field("huge_pages", "u32", "bool", _INIT,
                "1: advise transparent huge pages for each chunk"),
            Field("populate_units", "u32", "units", _INIT,
                "fresh units of the open superslab populated at a time, 0 or 1 never"),
            Field("populate_live_units", "u32", "units", _INIT,
                "live units from which on that is done"),
            Field("populate_slab_count", "u32", "slabs", _INIT,
                "fresh slabs of a class that a thread has taken before it is done for it"),
            Field("reserved", "u32", "", _INIT, "zero"),
        ),
    ),
    Struct(
        "hak_cache_class", "HakCacheClass", 40, "CachePolicy of one class.",
        (
            Field("batch_count", "u32", "blocks", _INIT,
                "blocks a refill or an overflow moves, before the cap bounds it"),
            Field("cap_init_count", "u32", "blocks", _INIT, "cap of a new thread cache"),
            Field("cap_max_count", "u32", "blocks", _INIT, "cap at most"),
            Field("carve_count", "u32", "blocks", _INIT, "blocks a refill carves"),
            Field("list_count", "u32", "blocks", _INIT,
                "free blocks from which a slab joins the partial set"),
            Field("prewarm_count", "u32", "blocks", _INIT, "blocks a prewarm puts into a cache"),
            Field("refill_slabs", "u32", "slabs", _INIT, "slabs a refill may take from, 1..4"),
            Field("raise_per_256", "u32", "1/256", _INIT,
                "part of itself, a batch at least, that a cap gains where its list swings; 0: one "
                "block a refill"),
            Field("lend_count", "u32", "classes", _INIT,
                "classes behind this one that may lend it a block before one is carved"),
            Field("lend_keep_count", "u32", "blocks", _INIT,
                "blocks of its list that this class never lends"),
        ),
    ),
    Struct(
        "hak_cache_policy", "HakCachePolicy", 48 + 40 * CLASS_LIMIT,
        "CachePolicy: the thread caches.",
        (
            Field("thread_bytes", "u64", "bytes", _INIT, "bound of one thread's caps together"),
            Field("idle_events", "u32", "events", _INIT,
                "slow-path events of a thread between looks for idle caches"),
            Field("free_only_count", "u32", "overflows", _INIT,
                "overflows in a row, no refill between, that halve a cap"),
            Field("parked_count", "u32", "threads", _INIT,
                "ended threads whose caches wait for a new thread"),
            Field("prewarm", "u32", "bool", _INIT,
                "1: prewarm each thread's caches at its first call"),
            Field("free_only_bytes", "u32", "bytes", _INIT,
                "bytes overflowed without a refill of any class from which on overflows halve "
                "caps too"),
            Field("free_only_per_256", "u32", "1/256", _INIT,
                "how far freeing only shrinks a cap, as a fraction of a batch; one block at least"),
            Field("park_bytes", "u32", "bytes", _INIT,
                "largest block that waits in the cache of an ended thread"),
            Field("raise_live_per_256", "u32", "1/256", _INIT,
                "what swings may add to the caps of all threads together, as a fraction of the "
                "live bytes"),
            Field("lend_carve_count", "u32", "carves", _INIT,
                "carves after loans from which on a class lends no more"),
            Field("reserved", "u32", "", _INIT, "zero"),
            Field("classes", "hak_cache_class", "", _INIT, "by class; entry 0 is zero",
                CLASS_LIMIT),
        ),
    ),
    Struct(
        "hak_acquire_policy", "HakAcquirePolicy", 24,
        "AcquirePolicy: where a refill looks for a slab, and how long it tries.",
        (
            Field("order", "u8", "HAK_STAGE", _INIT, "stages in the order they are tried, 0 ends",
                ACQUIRE_STAGES),
            Field("retry_count", "u32", "tries", _INIT, "lost claims or CASes before the fallback"),
            Field("backoff_spins", "u32", "spins", _INIT, "longest backoff of a lost CAS"),
            Field("empty_keep_count", "u32", "slabs", _INIT,
                "empty one-unit slabs kept ready outside the run heap"),
            Field("adoption", "u32", "bool", _INIT, "0 switches the mailboxes' stages off"),
        ),
    ),
    Struct(
        "hak_retain_policy", "HakRetainPolicy", 136,
        "RetainPolicy: the run heap, and what goes back to the OS when.",
        (
            Field("floor_bytes", "u64", "bytes", _INIT, "dirty bytes always allowed"),
            Field("epoch_ns", "u64", "ns", _INIT, "length of a high-water epoch"),
            Field("remap_min_bytes", "u64", "bytes", _INIT,
                "spans from this size on move by remapping"),
            Field("high_water_per_256", "u32", "1/256", _INIT,
                "dirty bytes allowed as a fraction of the high water"),
            Field("lazy_free", "u32", "bool", _INIT, "1: MADV_FREE, 0: MADV_DONTNEED"),
            Field("run_scan_count", "u32", "runs", _INIT,
                "runs of one bin looked at for a best fit"),
            Field("purge_run_count", "u32", "runs", _INIT,
                "runs purged at one slow-path event at most"),
            Field("work_first_ns", "u64", "ns", _INIT,
                "eager work a new heap may do before it has earned any"),
            Field("work_burst_ns", "u64", "ns", _INIT, "most eager work saved up, and most debt"),
            Field("work_per_256", "u32", "1/256", _INIT,
                "share of elapsed time that eager purges may cost, 0 never"),
            Field("purge_unit_ns", "u32", "ns", _INIT, "what purging a unit costs"),
            Field("refault_unit_ns", "u32", "ns", _INIT,
                "what it costs more when the unit is needed again soon"),
            Field("eager_live_per_256", "u32", "1/256", _INIT,
                "dirty bytes that eager purges leave, as a fraction of the live bytes"),
            Field("eager_drop_per_256", "u32", "1/256", _INIT,
                "eager only while the live bytes are at most this fraction of the high water"),
            Field("sweep_wait_count", "u32", "epochs", _INIT,
                "longest pause between looks into a slab whose purged pages are needed again"),
            Field("eager_unit_count", "u32", "units", _INIT,
                "units purged eagerly at one slow-path event at most"),
            Field("background_tick_ms", "u32", "ms", _INIT,
                "time between two looks of the background thread"),
            Field("hole_block_ns", "u32", "ns", _INIT,
                "what looking at a free block costs in the look for holes"),
            Field("sweep_unit_count", "u32", "units", _INIT,
                "records looked at in one go in the look for holes, 0 never"),
            Field("sweep_event_ns", "u64", "ns", _INIT,
                "work of one go at most, at a slow-path event"),
            Field("background_bytes", "u64", "bytes", _INIT,
                "heap from which on programs with threads get a background thread, 0 never"),
            Field("clear_ask_bytes", "u64", "bytes", _INIT,
                "dirty memory from this size on is not cleared before the OS said how much of its "
                "middle is resident, 0 never"),
            Field("clear_absent_per_256", "u32", "1/256", _INIT,
                "given back instead of cleared when at least this share is not resident"),
            Field("clear_wait_count", "u32", "spans", _INIT,
                "longest pause between such questions while the answer is no"),
            Field("growth_request_per_256", "u32", "1/256", _INIT,
                "requests from this fraction of the high water on give dirty units back before "
                "more is resident than lately, 0 never"),
            Field("growth_keep_per_256", "u32", "1/256", _INIT,
                "dirty bytes that they leave, as a fraction of the high water"),
        ),
    ),
    Struct(
        "hak_policy", "HakPolicy", 32 + 10256 + 136 + 40 + 2608 + 24 + 136,
        "A policy image: the numbers and orders the data plane obeys.",
        (
            Field("magic", "u64", "", _INIT, "HAK_POLICY_MAGIC"),
            Field("layout_hash", "u64", "", _INIT, "hash of the layout it was made for"),
            Field("checksum", "u64", "", _INIT, "FNV-1a of all bytes with this field zero"),
            Field("image_bytes", "u64", "bytes", _INIT, "size of this struct"),
            Field("arenas", "hak_arena_growth", "", _INIT, "arena growth"),
            Field("caches", "hak_cache_policy", "", _INIT, "thread caches"),
            Field("acquire", "hak_acquire_policy", "", _INIT, "acquire order"),
            Field("retain", "hak_retain_policy", "", _INIT, "back to the OS"),
            Field("headers", "hak_header_codec", "", _INIT, "headers"),
            Field("sizes", "hak_size_class_map", "", _INIT, "size classes"),
        ),
    ),
    Struct(
        "hak_slab", "HakSlab", 64,
        "The record of the unit that heads a slab, a span or a free run.",
        (
            Field("claim_seq", "u32", "count", "claimer by CAS > any, acquire / release",
                "odd while claimed; one more at each claim and release"),
            Field("kind", "u8", "HAK_KIND", "claimer or run lock holder > any, relaxed",
                "what the unit heads"),
            Field("class_index", "u8", "class", "claimer > any, relaxed", "size class of a slab"),
            Field("flags", "u16", "HAK_SLAB", _CLAIM, "fresh, listed"),
            Field("remote_list", "u64", "list word", "any by CAS > claimer, acq_rel",
                "blocks given back without the claim: offset/8 | count << 16 | tag << 32"),
            Field("free_list", "u64", "list word", _CLAIM,
                "free blocks: offset/8 | count << 16 | tag << 32"),
            Field("unit_count", "u32", "units", "as kind", "units of the slab, span or run"),
            Field("used_count", "u32", "blocks", _CLAIM,
                "blocks outside: application, caches, remote list"),
            Field("carved_count", "u32", "blocks", _CLAIM,
                "blocks ever handed out since the slab was made"),
            Field("mailed", "u32", "bool", "any by exchange, acq_rel",
                "1 while the slab is in a mailbox"),
            Field("mail_next", "u32", "unit", "mailer > adopter, by the mailbox's CAS",
                "next slab of the mailbox, 0 ends"),
            Field("next", "u32", "unit", "as kind; relaxed",
                "next of the run bin, or of the empty list"),
            Field("prev", "u32", "unit", _LOCK, "previous run of the bin"),
            Field("older", "u32", "unit", _LOCK, "dirty run freed before this one"),
            Field("newer", "u32", "unit", _LOCK, "dirty run freed after this one"),
            Field("detail_count", "u32", "OS pages | units | look", "as kind",
                "span: OS pages asked for; free run: dirty units; slab: its last look that found "
                "holes, and the pause after it (holes.c)"),
        ),
    ),
    Struct(
        "hak_bin", "HakBin", 48,
        "What the slow paths need of a thread cache's class; the fast path has arrays of its own.",
        (
            Field("cap_count", "u32", "blocks", _OWNER, "blocks the list may hold"),
            Field("hot", "u32", "unit", _OWNER, "slab taken from last, 0 none; only a hint"),
            Field("bump", "u64", "address", _OWNER, "next block of the carved range"),
            Field("bump_end", "u64", "address", _OWNER, "end of the carved range"),
            Field("fresh", "u8", "bool", _OWNER, "1: the carved range is known to be zero"),
            Field("refilled", "u8", "bool", _OWNER, "1: refilled since the last overflow"),
            Field("lent", "u8", "bool", _OWNER, "1: has lent a block since the last carve"),
            Field("lend_carve_count", "u8", "carves", _OWNER,
                "carves that came after loans, 255 once they are too many; one forgiven at each "
                "look for idle classes"),
            Field("event_count", "u32", "events", _OWNER,
                "refills and overflows since the last idle look"),
            Field("free_only_count", "u32", "overflows", _OWNER, "overflows since the last refill"),
            Field("fresh_count", "u32", "slabs", _OWNER,
                "slabs made from units of the open superslab"),
            Field("stride_bytes", "u64", "bytes", _INIT,
                "copy of the class's: what a carved block takes of the range"),
        ),
    ),
    Struct(
        "hak_thread", "HakThread",
        128 + 8 * len(COUNTERS) + (-8 * len(COUNTERS)) % 64 + (48 + 3 * 8) * CLASS_LIMIT,
        "A thread of a heap: what the fast path needs, its counters, its caches.",
        (
            Field("base", "u64", "address", _INIT, "start of the reservation"),
            Field("unit_limit", "u64", "units", _INIT,
                "units of the reservation; 0 in the early record"),
            Field("fast_map", "u64", "address", _INIT,
                "size map of the fast path: the policy's own; with headers one that is 0 where "
                "calls must be checked"),
            Field("heap", "u64", "address", _INIT, "its heap"),
            Field("cap_bytes", "u64", "bytes", _OWNER, "sum of the caps in bytes"),
            Field("index", "u32", "", _INIT, "its place in the heap's thread records"),
            Field("state", "u32", "HAK_THREAD", "owner or adopter by CAS > any, acq_rel",
                "unused, live or parked"),
            Field("os_id", "u32", "", _OWNER, "the OS's thread id"),
            Field("next", "u32", "index", "by the CAS of its list",
                "next of the parked or unused list, index + 1"),
            Field("event_count", "u32", "events", _OWNER,
                "slow-path events since the last idle look"),
            Field("busy", "u32", "class + 1", _OWNER,
                "record 0: 1 while locked; any: class + 1 while its list is moved to slabs"),
            Field("sample_left", "u64", "bytes", _OWNER, "reserved for sampling by bytes"),
            Field("free_only_bytes", "u64", "bytes", _OWNER,
                "bytes overflowed since the last refill of any class"),
            Field("drain_served", "u64", "ticket", "owner thread > outside, release",
                "the drain_request that this thread obeyed last"),
            Field("first_cap_bytes", "u64", "bytes", _INIT,
                "sum of the caps that the record began with"),
            Field("reserved", "u64", "", _OWNER, "zero", 4),
            *COUNTERS,
            *(Field("counter_pad", "u64", "", _OWNER, "zero", count)
              for count in ((-len(COUNTERS)) % 8,) if count),
            Field("heads", "u64", "address", _OWNER,
                "first cached block by class; each holds the address of the next; entry 0 is "
                "always empty",
                CLASS_LIMIT),
            Field("reciprocals", "u64", "1/2^64", _OWNER,
                "copies of the classes'; 0 sends every free to the slow path", CLASS_LIMIT),
            Field("room_counts", "i64", "blocks", _OWNER,
                "caps less cached blocks; may pass below 0 for a moment", CLASS_LIMIT),
            Field("bins", "hak_bin", "", _OWNER, "the rest of the caches, by class", CLASS_LIMIT),
        ),
    ),
    Struct(
        "hak_os_counts", "HakOsCounts", 64,
        "Calls to the OS; each successful or failed call counts once.",
        (
            Field("reserve_count", "u64", "calls", "any, relaxed add",
                "mmap of an address range, PROT_NONE"),
            Field("commit_count", "u64", "calls", "any, relaxed add", "mprotect to read and write"),
            Field("purge_count", "u64", "calls", "any, relaxed add",
                "madvise that gives pages back"),
            Field("advise_count", "u64", "calls", "any, relaxed add", "madvise that only advises"),
            Field("remap_count", "u64", "calls", "any, relaxed add", "mremap"),
            Field("release_count", "u64", "calls", "any, relaxed add", "munmap"),
            Field("purged_bytes", "u64", "bytes", "any, relaxed add", "bytes given back by purges"),
            Field("query_count", "u64", "calls", "any, relaxed add",
                "mincore: for mallinfo, malloc_trim, and before much memory is cleared"),
        ),
    ),
    Struct(
        "hak_heap", "HakHeap", 6144,
        "A heap: geometry, run heap, lists; at the start of its region.",
        (
            Field("magic", "u64", "", _INIT, "HAK_HEAP_MAGIC; 0 once destroyed"),
            Field("layout_hash", "u64", "", _INIT, "hash of the layout"),
            Field("base", "u64", "address", _INIT,
                "start of the reservation, on a superslab boundary"),
            Field("reserved_bytes", "u64", "bytes", _INIT, "bytes reserved, metadata included"),
            Field("map_base", "u64", "address", _INIT, "what the OS returned, to release"),
            Field("map_bytes", "u64", "bytes", _INIT, "bytes to release"),
            Field("policy_offset", "u64", "bytes", _INIT, "the policy image in force: hak_policy"),
            Field("fast_map_offset", "u64", "bytes", _INIT,
                "size map of the fast path: u8[HAK_SIZE_MAP_ENTRIES]; not used where no class is "
                "checked"),
            Field("registry_offset", "u64", "bytes", _INIT,
                "page registry: u32 a unit, tag | head << 8"),
            Field("slabs_offset", "u64", "bytes", _INIT, "slab records: hak_slab a unit"),
            Field("partial_offset", "u64", "bytes", _INIT,
                "partial sets: u64[unit / 64][class], a bit a unit"),
            Field("summary_offset", "u64", "bytes", _INIT,
                "their summary: u64[unit / 4096][class], a bit a word"),
            Field("dirty_offset", "u64", "bytes", _INIT,
                "dirty marks: a bit a unit; meaningful for free units"),
            Field("recent_offset", "u64", "bytes", _INIT,
                "units purged lately: two maps of a bit a unit, this epoch's and the last's"),
            Field("holes_offset", "u64", "bytes", _INIT,
                "purged pages of slabs: u16 a unit, a bit a page"),
            Field("seen_offset", "u64", "bytes", _INIT,
                "claim_seq at the last look for holes, odd once looked into: u32 a unit"),
            Field("threads_offset", "u64", "bytes", _INIT, "thread records: hak_thread"),
            Field("live_offset", "u64", "bytes", _INIT,
                "live marks: a bit for 8 bytes; 0 when not checked"),
            Field("meta_units", "u32", "units", _INIT,
                "units of metadata; the first unit of user memory"),
            Field("unit_limit", "u32", "units", _INIT, "units of the reservation"),
            Field("thread_limit", "u32", "records", _INIT, "thread records reserved"),
            Field("flags", "u32", "HAK_HEAP", _INIT, "checked, Python plane, process heap"),
            Field("slot", "u32", "", _INIT, "its place in the threads' directories"),
            Field("generation", "u32", "", _INIT, "distinguishes heaps that used one slot"),
            Field("next_heap", "u64", "address", "root lock", "next heap of hak_root"),
            Field("run_lock", "u32", "bool", "any by CAS, acquire / release",
                "guards the run heap, nothing else"),
            Field("unit_top", "u32", "units", "run lock holder > any, release / acquire",
                "first uncommitted unit"),
            Field("arena_count", "u32", "chunks", _LOCK, "arena chunks committed"),
            Field("lost_count", "u32", "slabs", "repairer of a fork's child > any",
                "slabs lost to a fork in the middle of a claim"),
            Field("live_units", "u64", "units", _LOCK_RELAXED, "units handed out by the run heap"),
            Field("dirty_units", "u64", "units", _LOCK_RELAXED, "free units that may be resident"),
            Field("high_water_now", "u64", "units", _LOCK_RELAXED, "most live units in this epoch"),
            Field("high_water_before", "u64", "units", _LOCK_RELAXED,
                "most live units in the epoch before"),
            Field("high_water_ever", "u64", "units", _LOCK, "most live units ever"),
            Field("epoch_start_ns", "u64", "ns", _LOCK_RELAXED, "start of this epoch"),
            Field("clock_ns", "u64", "ns", "clock owner", "the clock while held"),
            Field("clock_held", "u32", "bool", "clock owner",
                "1: clock_ns stands still and no other clock is read"),
            Field("policy_generation", "u32", "", "policy writer > slow paths, release / acquire",
                "one more at each change"),
            Field("lock_count", "u64", "count", _LOCK, "times the run lock was taken"),
            Field("lock_wait_count", "u64", "count", _LOCK, "of them, those that waited"),
            Field("refault_units", "u64", "units", _LOCK,
                "units purged and needed again within two epochs"),
            Field("oldest_dirty", "u32", "unit", _LOCK, "dirty run to purge first"),
            Field("newest_dirty", "u32", "unit", _LOCK, "dirty run to purge last"),
            Field("purge_count", "u64", "runs", _LOCK, "runs purged"),
            Field("purge_units", "u64", "units", _LOCK, "units purged"),
            Field("os", "hak_os_counts", "", _ANY, "OS calls made for this heap"),
            Field("open_word", "u64", "word", "any by CAS, acq_rel",
                "open superslab: first unit | mask of unused units << 32"),
            Field("empty_word", "u64", "word", "any by CAS, acq_rel",
                "empty slabs: unit | count << 32 | tag << 40"),
            Field("parked_word", "u64", "word", "any by CAS, acq_rel",
                "parked threads: index + 1 | count << 32 | tag << 40"),
            Field("unused_word", "u64", "word", "any by CAS, acq_rel",
                "given-back thread records: index + 1 | count << 32 | tag << 40"),
            Field("thread_top", "u32", "records", "any by add, acq_rel",
                "thread records ever used"),
            Field("thread_live", "u32", "threads", "any by add, relaxed", "threads attached now"),
            Field("purging_units", "u64", "units", _LOCK,
                "units of runs that are out of their bins to be purged"),
            Field("left_word", "u64", "word", "any by CAS, acq_rel",
                "thread records left by a fork: index + 1 | tag << 40"),
            Field("lost_block_count", "u64", "blocks", "repairer of a fork's child > any",
                "cached blocks lost to a fork in the middle of a move"),
            Field("repair_count", "u64", "count", "repairer of a fork's child > any",
                "forks after which this heap was repaired, in this process's line"),
            Field("earned_ns", "u64", "ns", _LOCK_RELAXED, "eager work allowed so far"),
            Field("spent_ns", "u64", "ns", _LOCK_RELAXED,
                "eager work done so far, refaults included"),
            Field("earned_at_ns", "u64", "ns", _LOCK_RELAXED, "clock when it was last earned"),
            Field("recent_units", "u32", "units", _LOCK_RELAXED,
                "units marked in each of the two recent maps", 2),
            Field("recent_eager", "u32", "units", _LOCK,
                "units purged eagerly in the epoch of each", 2),
            Field("recent_now", "u32", "", _LOCK, "which recent map is this epoch's"),
            Field("epoch_count", "u32", "epochs", _LOCK_RELAXED, "epochs closed so far; wraps"),
            Field("eager_units", "u64", "units", _LOCK,
                "of the units purged, those purged eagerly"),
            Field("sweep_unit", "u32", "units", "sweeper by CAS, acq_rel",
                "where the look for holes goes on; 0: none is due"),
            Field("sweep_busy", "u32", "bool", "sweeper by CAS, acquire / release",
                "1 while a thread looks for holes"),
            Field("hole_pages", "u64", "OS pages", "sweeper or restorer > any, relaxed add",
                "pages purged inside slabs"),
            Field("hole_now_pages", "u64", "OS pages",
                "sweeper, restorer or claimer > any, relaxed add",
                "of them, those that are holes still"),
            Field("clear_wait", "u32", "spans",
                "any, relaxed; a lost update moves the next question",
                "pause after each question: doubles while the answer is no"),
            Field("clear_skip", "u32", "spans",
                "any, relaxed; a lost update moves the next question", "spans left of this pause"),
            Field("low_water_now", "u64", "units", _LOCK_RELAXED,
                "least dirty units in this epoch, less what was purged since"),
            Field("low_water_before", "u64", "units", _LOCK_RELAXED,
                "least dirty units in the epoch before, less what was purged since"),
            Field("resident_now", "u64", "units",
                "any, relaxed; a lost update purges once more or once less",
                "most live and dirty units in this epoch, at a tick"),
            Field("resident_before", "u64", "units",
                "any, relaxed; a lost update purges once more or once less",
                "most live and dirty units in the epoch before, at a tick"),
            Field("hole_refault_pages", "u64", "OS pages", "sweeper or restorer > any, relaxed add",
                "of them, those whose blocks were needed again within two epochs"),
            Field("run_clean_bits", "u64", "bits", _LOCK, "non-empty clean bins", RUN_BIN_WORDS),
            Field("run_dirty_bits", "u64", "bits", _LOCK, "non-empty dirty bins", RUN_BIN_WORDS),
            Field("run_clean", "u32", "unit", _LOCK, "first run of each clean bin", RUN_BIN_COUNT),
            Field("run_dirty", "u32", "unit", _LOCK, "first run of each dirty bin", RUN_BIN_COUNT),
            Field("mailbox", "u64", "word", "any by CAS, acq_rel",
                "slabs with remote frees: unit | tag << 32", CLASS_LIMIT),
            Field("arena_units", "u32", "units", _LOCK,
                "units of arena chunk k; the last entry adds up the rest", 64),
            Field("drain_request", "u64", "ticket", "outside, plain > slow paths, relaxed",
                "another number: each thread gives its caches back at its next slow path"),
            Field("trim_request", "u64", "ticket", "outside, plain > slow paths, relaxed",
                "another number: whoever comes to a slow path first trims the heap"),
            Field("trim_served", "u64", "ticket", "holder of trim_busy > outside, release",
                "the trim_request that was obeyed last"),
            Field("trim_bytes", "u64", "bytes", "holder of trim_busy > outside, relaxed",
                "what that trim gave back; stands before trim_served"),
            Field("trim_busy", "u32", "bool", "any by CAS, acquire / release",
                "1 while a thread trims by request"),
            Field("reserved_trim", "u32", "", "", "zero"),
            Field("tail", "u64", "", "", "zero",
                (6144 - (608 + 2 * 24 + 2 * 768 + 512 + 256)) // 8),
        ),
    ),
    Struct(
        "hak_fault", "HakFault", 64, "What was wrong with an address or a request.",
        (
            Field("code", "u32", "HAK_FAULT", "callee > caller", "HAK_OK, or what was wrong"),
            Field("unit", "u32", "unit", "callee > caller",
                "unit of the address, its slab's or span's head"),
            Field("address", "u64", "address", "callee > caller",
                "the address, or the size asked for"),
            Field("block", "u64", "address", "callee > caller", "the block it lies in, or 0"),
            Field("class_index", "u32", "class", "callee > caller",
                "class of the slab, 0 for a span"),
            Field("expected", "u32", "", "callee > caller", "header byte, or state, expected"),
            Field("found", "u32", "", "callee > caller", "header byte, or state, found"),
            Field("used_units", "u32", "units", "callee > caller",
                "units in use when memory ran out"),
            Field("reserved", "u64", "", "callee > caller", "zero", 2),
            Field("heap", "u64", "address", "callee > caller", "the heap that was asked"),
        ),
    ),
    Struct(
        "hak_event", "HakEvent", 48, "What a slow path did; debug builds only.",
        (
            Field("ticket", "u64", "count", "writer > reader, release / acquire",
                "number of the event, from 1; 0 while it is written"),
            Field("clock_ns", "u64", "ns", "writer > reader", "the OS's coarse clock"),
            Field("count", "u64", "", "writer > reader", "blocks, units or tries, by kind"),
            Field("heap", "u32", "generation", "writer > reader", "the heap it happened in"),
            Field("thread", "u32", "", "writer > reader", "thread record; 0 where none took part"),
            Field("os_id", "u32", "", "writer > reader", "the OS's thread id"),
            Field("kind", "u32", "HAK_EVENT", "writer > reader", "what happened"),
            Field("class_index", "u32", "class", "writer > reader",
                "size class, 0 for a span or a run"),
            Field("unit", "u32", "unit", "writer > reader",
                "unit of the slab, span or run; 0 where there is none"),
        ),
    ),
    Struct(
        "hak_root", "HakRoot", 128,
        "Where an outside reader starts; exported as the symbol hak_root.",
        (
            Field("magic", "u64", "", _INIT, "HAK_ROOT_MAGIC"),
            Field("layout_hash", "u64", "", _INIT, "hash of the layout"),
            Field("version", "u32", "", _INIT, "HAK_LAYOUT_VERSION"),
            Field("lock", "u32", "bool", "any by CAS, acquire / release",
                "guards the list of heaps"),
            Field("first_heap", "u64", "address", "root lock", "the heaps of this process"),
            Field("process_heap", "u64", "address", "first caller > all, release / acquire",
                "the heap behind malloc, or 0"),
            Field("slot_top", "u32", "slots", "root lock", "directory slots ever used"),
            Field("generation", "u32", "", "root lock", "heaps ever made"),
            Field("os", "hak_os_counts", "", _ANY, "OS calls of the whole library"),
            Field("background", "u32", "HAK_BACKGROUND", "any by CAS, acq_rel",
                "state of the background thread; also the word it waits on"),
            Field("process_id", "u32", "", "maker of the process heap; a fork's child",
                "the process that the background thread belongs to"),
            Field("reserved", "u64", "", "", "zero"),
        ),
    ),
)
# fmt: on


# --- bounds and environment -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """What one field of a policy image may hold: ``low..high``, a multiple of ``step``.

    ``path`` leads from ``hak_policy`` to the field; through ``classes`` it stands for the field of
    every class.
    """

    path: str
    low: int
    high: int
    step: int = 1


_MIB: Final = 1 << 20
_BYTES_MAX: Final = 1 << 46

# The count of classes comes first: those behind it loop over the classes.
# fmt: off
POLICY_BOUNDS: Final[tuple[Bound, ...]] = (
    Bound("sizes.class_count", 1, CLASS_COUNT_MAX),
    Bound("sizes.size_limit_bytes", 1, SIZE_MAP_LIMIT_BYTES),
    Bound("sizes.classes.stride_bytes", 8, SIZE_MAP_LIMIT_BYTES, 8),
    Bound("sizes.classes.capacity_bytes", 7, SIZE_MAP_LIMIT_BYTES),
    Bound("sizes.classes.unit_count", 1, SLAB_UNITS_MAX),
    Bound("sizes.classes.block_count", 1, 0xFFFF),
    Bound("sizes.classes.start_bytes", 0, BLOCK_ALIGN_BYTES, BLOCK_ALIGN_BYTES),
    Bound("sizes.classes.band", 1, 2),
    Bound("sizes.classes.header", 0, 1),
    Bound("headers.mode", 0, 2),
    Bound("arenas.init_bytes", _MIB, 64 * _MIB, _MIB),
    Bound("arenas.max_bytes", _MIB, 1024 * _MIB, _MIB),
    Bound("arenas.levels", 0, 10),
    Bound("arenas.huge_pages", 0, 1),
    Bound("arenas.populate_units", 0, SUPERSLAB_UNITS),
    Bound("arenas.populate_live_units", 0, 1 << 24, _MIB >> UNIT_SHIFT),
    Bound("arenas.populate_slab_count", 0, 1 << 24),
    Bound("caches.thread_bytes", 0, 1 << 40),
    Bound("caches.idle_events", 1, 1 << 30),
    Bound("caches.free_only_count", 1, 1 << 20),
    Bound("caches.free_only_bytes", 0, 1 << 30),
    Bound("caches.free_only_per_256", 0, 1 << 16),
    Bound("caches.parked_count", 0, 64),
    Bound("caches.park_bytes", 0, 1 << 30),
    Bound("caches.raise_live_per_256", 0, 1 << 16),
    Bound("caches.lend_carve_count", 0, 255),
    Bound("caches.prewarm", 0, 1),
    Bound("caches.classes.batch_count", 1, 1024),
    Bound("caches.classes.cap_init_count", 0, CAP_LIMIT_COUNT),
    Bound("caches.classes.cap_max_count", 0, CAP_LIMIT_COUNT),
    Bound("caches.classes.carve_count", 1, 1 << 16),
    Bound("caches.classes.list_count", 1, 0xFFFF),
    Bound("caches.classes.prewarm_count", 0, 256),
    Bound("caches.classes.refill_slabs", 1, 4),
    Bound("caches.classes.raise_per_256", 0, 1 << 12),
    Bound("caches.classes.lend_count", 0, CLASS_COUNT_MAX),
    Bound("caches.classes.lend_keep_count", 0, CAP_LIMIT_COUNT),
    Bound("acquire.retry_count", 1, 1 << 16),
    Bound("acquire.backoff_spins", 1, 1 << 16),
    Bound("acquire.empty_keep_count", 0, 255),
    Bound("acquire.adoption", 0, 1),
    Bound("retain.floor_bytes", 0, _BYTES_MAX),
    Bound("retain.epoch_ns", 1_000_000, 3600 * 10**9),
    Bound("retain.remap_min_bytes", UNIT_BYTES, _BYTES_MAX),
    Bound("retain.high_water_per_256", 0, 1024),
    Bound("retain.lazy_free", 0, 1),
    Bound("retain.run_scan_count", 1, 1 << 16),
    Bound("retain.purge_run_count", 1, 1 << 16),
    Bound("retain.work_first_ns", 0, 60 * 10**9),
    Bound("retain.work_burst_ns", 0, 60 * 10**9),
    Bound("retain.work_per_256", 0, 256),
    Bound("retain.purge_unit_ns", 1, 10**9),
    Bound("retain.refault_unit_ns", 0, 10**9),
    Bound("retain.eager_live_per_256", 0, 1 << 16),
    Bound("retain.eager_drop_per_256", 0, 1 << 16),
    Bound("retain.sweep_wait_count", 0, 1 << 20),
    Bound("retain.eager_unit_count", 1, 1 << 24),
    Bound("retain.background_tick_ms", 1, 60_000),
    Bound("retain.hole_block_ns", 0, 10**6),
    Bound("retain.sweep_unit_count", 0, 1 << 24),
    Bound("retain.sweep_event_ns", 1, 10**9),
    Bound("retain.background_bytes", 0, _BYTES_MAX),
    Bound("retain.clear_ask_bytes", 0, _BYTES_MAX),
    Bound("retain.clear_absent_per_256", 0, 256),
    Bound("retain.clear_wait_count", 0, 1 << 20),
    Bound("retain.growth_request_per_256", 0, 1 << 16),
    Bound("retain.growth_keep_per_256", 0, 1 << 16),
)
# fmt: on
BOUND: Final[dict[str, Bound]] = {bound.path: bound for bound in POLICY_BOUNDS}


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: default and bounds in the unit its name carries; ``policy_path`` is
    the field it sets.

    ``apply`` says what C does with the number: ``HAK_APPLY_FIELD`` stores number * ``numerator`` /
    ``denominator`` in ``field`` of the image; the other ways set what several fields of the classes
    of ``band`` derive from it. ``choices``: words for the numbers 0, 1 ...; ``at_most``: the
    variable whose field this one's may not pass.
    """

    name: str
    default: int
    low: int
    high: int
    policy_path: str
    meaning: str
    field: str = ""
    numerator: int = 1
    denominator: int = 1
    apply: str = "HAK_APPLY_FIELD"
    band: str = ""
    choices: tuple[str, ...] = ()
    at_most: str = ""

    def expected(self) -> str:
        """The allowed values in words; C says the same."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        return f"a whole number from {self.low} to {self.high}"

    def parse(self, text: str) -> int | None:
        """The number of a value, or None for one that is not allowed."""
        if self.choices:
            return self.choices.index(text) if text in self.choices else None
        digits = text.lstrip("0") or text[-1:]
        if not (text.isascii() and text.isdecimal()) or len(digits) > len(str(self.high)):
            return None
        return int(digits) if self.low <= int(digits) <= self.high else None


_APPLY_REFILL: Final = "HAK_APPLY_REFILL_SLABS"
_APPLY_CAPS: Final = "HAK_APPLY_CACHE_BYTES"
_APPLY_HEADERS: Final = "HAK_APPLY_HEADERS"
_ARENA_MAX: Final = "HAKMEM_POOL_TLS_ARENA_MB_MAX"
POLICY_FILE_VARIABLE: Final = "HAKMEM_POLICY"

# fmt: off
ENVIRONMENT: Final[tuple[Variable, ...]] = (
    Variable("HAKMEM_POOL_TLS_ARENA_MB_INIT", 1, 1, 64, "arenas.init_mb", "first arena chunk, MiB",
        "arenas.init_bytes", _MIB, at_most=_ARENA_MAX),
    Variable(_ARENA_MAX, 8, 1, 1024, "arenas.max_mb", "largest arena chunk, MiB",
        "arenas.max_bytes", _MIB),
    Variable("HAKMEM_POOL_TLS_ARENA_GROWTH_LEVELS", 3, 0, 10, "arenas.levels",
        "doublings of the arena chunk", "arenas.levels"),
    Variable("HAKMEM_POOL_REFILL_BATCH", 2, 1, 4, "caches.pool_refill_slabs",
        "slabs a pool refill may take from", apply=_APPLY_REFILL, band="pool"),
    Variable("HAKMEM_CACHE_TINY_KB", 256, 0, 65536, "caches.cap_bytes_tiny",
        "thread cache of one tiny class at most, KiB; 0 none", "", 1024, apply=_APPLY_CAPS,
        band="tiny"),
    Variable("HAKMEM_CACHE_POOL_KB", 4096, 0, 65536, "caches.cap_bytes_pool",
        "thread cache of one pool class at most, KiB; 0 none", "", 1024, apply=_APPLY_CAPS,
        band="pool"),
    Variable("HAKMEM_CACHE_THREAD_KB", 32768, 0, 1 << 30, "caches.thread_bytes",
        "caches of one thread together at most, KiB", "caches.thread_bytes", 1024),
    Variable("HAKMEM_CACHE_PARKED", 4, 0, 64, "caches.parked_count",
        "ended threads whose caches wait for a new thread", "caches.parked_count"),
    Variable("HAKMEM_PREWARM", 0, 0, 1, "caches.prewarm",
        "1: fill each thread's caches at its first call", "caches.prewarm"),
    Variable("HAKMEM_RETAIN_MB", 4, 0, 1 << 20, "retain.floor_bytes",
        "free memory always kept, MiB", "retain.floor_bytes", _MIB),
    Variable("HAKMEM_RETAIN_PCT", 50, 0, 400, "retain.high_water_per_256",
        "free memory kept as a share of the most in use lately, %", "retain.high_water_per_256",
        256, 100),
    Variable("HAKMEM_RETAIN_EPOCH_MS", 600, 1, 3_600_000, "retain.epoch_ns",
        "how long lately is: an epoch and the one before, ms each", "retain.epoch_ns", 1_000_000),
    Variable("HAKMEM_EAGER_PCT", 5, 0, 100, "retain.work_per_256",
        "share of its time a program spends on giving memory back early, %", "retain.work_per_256",
        256, 100),
    Variable("HAKMEM_BACKGROUND_MB", 16, 0, 1 << 20, "retain.background_bytes",
        "heap from which programs with threads get a background thread, MiB; 0: never",
        "retain.background_bytes", _MIB),
    Variable("HAKMEM_LAZY_FREE", 0, 0, 1, "retain.lazy_free",
        "1: the OS takes free pages when it needs them (MADV_FREE)", "retain.lazy_free"),
    Variable("HAKMEM_HUGE_PAGES", 0, 0, 1, "arenas.huge_pages", "1: ask for transparent huge pages",
        "arenas.huge_pages"),
    Variable("HAKMEM_HEADERS", 0, 0, 2, "headers.mode",
        "classes whose blocks carry a header byte that frees are checked with",
        apply=_APPLY_HEADERS, choices=("none", "tiny", "all")),
    Variable("HAKMEM_ADOPTION", 1, 0, 1, "acquire.adoption",
        "0: slabs with frees of other threads waiting are not taken over", "acquire.adoption"),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class OtherVariable:
    """An environment variable that sets no field of the policy."""

    name: str
    meaning: str


# fmt: off
OTHER_VARIABLES: Final[tuple[OtherVariable, ...]] = (
    OtherVariable(POLICY_FILE_VARIABLE, "policy image to obey instead of the built-in one"),
    OtherVariable("HAKMEM_READABLE",
        "1: other processes of this user may read the heap where Yama keeps it to ancestors; "
        "`hakmem run` sets it"),
    OtherVariable("HAKMEM_VERBOSE", "1: say on stderr what is asked of `mallopt` and ignored"),
    OtherVariable("HAKMEM_LIBRARY",
        "the library that Python and `hakmem run` load, instead of the package's own"),
)
# fmt: on
VARIABLE_NAMES: Final = (
    *(variable.name for variable in ENVIRONMENT),
    *(variable.name for variable in OTHER_VARIABLES),
)


# --- by name --------------------------------------------------------------------------------------

STRUCT_BY_NAME: Final[dict[str, Struct]] = {struct.name: struct for struct in STRUCTS}
_VALUES: Final[dict[str, int]] = {constant.name: constant.value for constant in CONSTANTS}


def constant(name: str) -> int:
    """The value of the constant that C calls ``name``.

    >>> constant("HAK_UNIT_BYTES")
    65536
    """
    return _VALUES[name]


def struct_of(name: str) -> Struct:
    """The description of the struct that C calls ``name``; KeyError if there is none."""
    return STRUCT_BY_NAME[name]


def describe(name: str | None = None) -> Text:
    """Every struct, or the one called ``name``, as a table: offset, size, type, field, unit,
    meaning, access.

    Raises KeyError naming the structs that exist.
    """
    from .generate.describe import (
        describe as described,  # made from this module, which is data only
    )

    return described(name)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from hakmem.generate.header import c_header

    print(c_header(), end="")
