"""The one layout: every struct, constant and bound that Python and C share.

The C header is printed from here (``python -I -S -B hakmem/layout.py``), and so is the description
that the library carries; the ctypes structures are built from here, and numpy dtypes derive from
those, so that one edit changes all of them or none. A field that comes to mean something else gets
another name or unit: tools of another version read by names and units.
Each field carries who writes it, who reads it, with which memory order, in which unit; the C header
repeats that as comments.

The address space of one heap, its region, from low to high (a window of addresses, of which parts
are mapped as they are needed)::

    hak_heap | policy | fast map | inbox | draft | first policy | registry | units ... |
    slab records | partial sets |
    dirty marks | purged lately | holes | last sweeps | thread records | live marks
    (all before the units is metadata, whole units of it; so is all behind them)

Unit numbers count from the start of the region, so unit 0 is always metadata and 0 can mean
"none". Standard library only: this file also runs on its own at build time.

From top to bottom: geometry and constants; what describes a struct; the policy numbers, a row each;
the structs, which take the policy's fields from those rows; bounds and environment variables, which
follow from them; look-ups by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

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
STRIDE_LIMIT_BYTES: Final = 4 * UNIT_BYTES
BIG_MAP_SHIFT: Final = 12
BIG_MAP_OFFSET: Final = SIZE_MAP_ENTRIES + 7
BIG_MAP_ENTRIES: Final = (STRIDE_LIMIT_BYTES >> BIG_MAP_SHIFT) + 1
FAST_MAP_BYTES: Final = BIG_MAP_OFFSET + BIG_MAP_ENTRIES + 7
RUN_EXACT_BINS: Final = 32
RUN_BIN_COUNT: Final = 192
RUN_BIN_WORDS: Final = RUN_BIN_COUNT // 64
BLOCK_ALIGN_BYTES: Final = 16
LIVE_BYTES_PER_UNIT: Final = UNIT_BYTES >> (SIZE_GRANULE_SHIFT + 3)
CACHE_LINE_BYTES: Final = 64
REGISTRY_OFFSET: Final = 21 * OS_PAGE_BYTES
REGION_UNITS_MAX: Final = 1 << 25
REGION_WISH_BYTES: Final = 64 << 30
PROCESS_WISH_BYTES: Final = (1 << 41) - (1 << 29)
TABLE_STEP_UNITS: Final = 1024
THREAD_STEP_RECORDS: Final = 8
SKIP_UNITS: Final = SUPERSLAB_UNITS
UNMAP_LEAST_UNITS: Final = 16
LIMIT_NEAR_PER_256: Final = 64
LOCKED_STEP_UNITS: Final = 16
WINDOW_LOW: Final = 0x4000_0000_0000
WINDOW_HIGH: Final = 0x5500_0000_0000
WINDOW_SLOT_SHIFT: Final = 33
WINDOW_SLOTS: Final = ((WINDOW_HIGH - WINDOW_LOW) >> WINDOW_SLOT_SHIFT) - 1
WINDOW_TRIES: Final = 16
REGION_LEAST_BYTES: Final = 2 << 20
MOVED_LIMIT: Final = 64
MAPPED_LIMIT: Final = 65536
MAPPED_STEP_ROWS: Final = 256
MAPPED_PIECES: Final = 65530 // 8
MAPPED_FREED_COUNT: Final = 16
REGION_LIMIT_PER_256: Final = 192
CAP_LIMIT_COUNT: Final = 1 << 20
MAGAZINE_SLOTS: Final = 512
MAGAZINE_COUNT_MAX: Final = 256
RETURN_GROUPS: Final = 16
WAITING_SPANS: Final = 2
LOCK_SPIN_TRIES: Final = 12
SHARED_FREES: Final = 8
RESIDENT_SAMPLE_PAGES: Final = 64
READ_SAMPLE_PAGES: Final = 4
LOCK_BACKOFF_SPINS: Final = 64
LOCK_NAP_NS: Final = 50_000
LOCK_LOOK_NS: Final = 10_000_000
LOCK_NOBODY: Final = (1 << 30) - 1
STALE_CLAIMS: Final = 16
BACKGROUND_STACK_BYTES: Final = 128 << 10
ERRAND_STACK_BYTES: Final = 64 << 10
ERRAND_STATE_BYTES: Final = 16 << 10
ERRAND_SPINS: Final = 100_000
ERRAND_WORDS: Final = 20
SITE_FRAMES_MAX: Final = 256
SITE_PYTHON_MAX: Final = 128
SITE_TEXT_BYTES: Final = 4096
LIFETIME_COUNT: Final = 16
SAMPLED_BITS: Final = 32
LIFETIME_STEP: Final = 4
PROFILE_LEAST_BYTES: Final = 256 << 10
PROFILE_RATE_MAX: Final = 1 << 46
PROFILE_FRAMES_BYTES: Final = 16 << 10
PROFILE_ROOMS: Final = 4
THREADS_MIN: Final = 256
CRASH_STACK_BYTES: Final = 64 << 10
EVENT_COUNT: Final = 8192
STACK_NEAR_BYTES: Final = 8 << 20
STACK_FRAMES: Final = 128
STACK_PAGES: Final = 64
STACK_COUNT_BITS: Final = 16
CODE_ADDRESS_BITS: Final = 56
ROWS_KEPT: Final = 4
OBJECTS_KEPT: Final = 4
EXPRESSION_WORDS: Final = 8
EXPRESSION_BYTES: Final = 64
RULE_SLOTS_LOG2: Final = 12
RULE_OFFSET_BITS: Final = 20
RULE_SAVED_BITS: Final = 6
THREADS_MAX: Final = 65536
ACQUIRE_STAGES: Final = 8
LINE_BYTES: Final = 480
LINE_QUOTE_BYTES: Final = 160
HEAP_BYTES: Final = 6144
PROFILE_BYTES: Final = 192
POLICY_OFFSET: Final = -(-HEAP_BYTES // OS_PAGE_BYTES) * OS_PAGE_BYTES

POLICY_ROOM_BYTES: Final = 4 * OS_PAGE_BYTES
INBOX_OFFSET: Final = REGISTRY_OFFSET - 3 * POLICY_ROOM_BYTES
DRAFT_OFFSET: Final = REGISTRY_OFFSET - 2 * POLICY_ROOM_BYTES
FIRST_POLICY_OFFSET: Final = REGISTRY_OFFSET - POLICY_ROOM_BYTES

HEAP_MAGIC: Final = 0x4B41_485F_4D45_4D31
POLICY_MAGIC: Final = 0x4B41_485F_504F_4C31
ROOT_MAGIC: Final = 0x4B41_485F_524F_4F54
PROFILE_MAGIC: Final = 0x4B41_485F_5052_4F31
LAYOUT_VERSION: Final = 1

OS_CALLS: Final = {
    "MAP": "memory of a heap is mapped: refused",
    "TAKEN": "memory of a heap is mapped: something else is mapped there",
    "RESERVE": "memory is mapped wherever the OS likes, or over what is reserved",
    "UNMAP": "memory is unmapped",
    "PROTECT": "reserved memory is made accessible",
    "REMAP": "OS pages are moved",
    "REMAP_LATE": "OS pages are moved: refused when the target is unmapped already",
    "PURGE": "OS pages are purged",
    "LAZY": "OS pages are purged lazily",
    "ADVISE": "other advice: huge pages, pages that a fork wipes",
    "POPULATE": "OS pages are made resident",
    "RESIDENT": "which OS pages are resident is asked",
    "LIMIT": "the limits of the process are asked",
    "WAIT": "a thread waits for a word to change: it returns at once",
    "BARRIER": "all threads of the process are made to pass a barrier",
}
"""The kinds of OS calls that a test can make fail, by the name of their bit, and what they do."""


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
        "blocks of a slab that is swept for holes"),
    Constant("HAK_SLAB_UNITS_MAX", SLAB_UNITS_MAX,
        "units of the longest slab: offsets / 8 must fit 16 bits"),
    Constant("HAK_CLASS_LIMIT", CLASS_LIMIT,
        "registry tags in all: 0, the classes, and the special tags below"),
    Constant("HAK_CLASS_COUNT_MAX", CLASS_COUNT_MAX,
        "size classes of a policy; their indices start at 1"),
    Constant("HAK_SIZE_GRANULE_SHIFT", SIZE_GRANULE_SHIFT, "log2 bytes of a step of the size map"),
    Constant("HAK_SIZE_MAP_LIMIT_BYTES", SIZE_MAP_LIMIT_BYTES,
        "largest size of the size map's fine part"),
    Constant("HAK_STRIDE_LIMIT_BYTES", STRIDE_LIMIT_BYTES, "largest stride of a class"),
    Constant("HAK_BIG_MAP_SHIFT", BIG_MAP_SHIFT,
        "log2 bytes of a step of the size map's coarse part, which serves the sizes above"),
    Constant("HAK_BIG_MAP_OFFSET", BIG_MAP_OFFSET,
        "bytes from the start of the size map to its coarse part"),
    Constant("HAK_BIG_MAP_ENTRIES", BIG_MAP_ENTRIES, "entries of its coarse part"),
    Constant("HAK_FAST_MAP_BYTES", FAST_MAP_BYTES, "bytes of the size map, both parts"),
    Constant("HAK_SIZE_MAP_ENTRIES", SIZE_MAP_ENTRIES, "entries of the size map's fine part"),
    Constant("HAK_RUN_EXACT_BINS", RUN_EXACT_BINS, "run bins of exactly 1, 2, 3 ... units"),
    Constant("HAK_RUN_BIN_COUNT", RUN_BIN_COUNT,
        "run bins in all; past the exact ones 8 a doubling"),
    Constant("HAK_RUN_BIN_WORDS", RUN_BIN_WORDS, "64-bit words of a run bin bitmap"),
    Constant("HAK_BLOCK_ALIGN_BYTES", BLOCK_ALIGN_BYTES,
        "alignment of every block of 16 bytes and up"),
    Constant("HAK_LIVE_BYTES_PER_UNIT", LIVE_BYTES_PER_UNIT,
        "bytes of live marks a unit has in a checked heap"),
    Constant("HAK_MAGAZINE_SLOTS", MAGAZINE_SLOTS, "slots of a thread's magazines together"),
    Constant("HAK_CACHE_LINE_BYTES", CACHE_LINE_BYTES,
        "bytes of a cache line; malloc and free each start one"),
    Constant("HAK_POLICY_OFFSET", POLICY_OFFSET, "bytes from the start of a heap to its policy"),
    Constant("HAK_REGISTRY_OFFSET", REGISTRY_OFFSET,
        "bytes from the start of a heap to its registry: behind heap, policies and fast map"),
    Constant("HAK_INBOX_OFFSET", INBOX_OFFSET,
        "bytes from the start of a heap to its inbox, where other processes put a policy"),
    Constant("HAK_DRAFT_OFFSET", DRAFT_OFFSET,
        "bytes from the start of a heap to its draft, the policy that is judged"),
    Constant("HAK_FIRST_POLICY_OFFSET", FIRST_POLICY_OFFSET,
        "bytes from the start of a heap to the policy that it began with, kept at the first "
        "change"),
    Constant("HAK_REGION_UNITS_MAX", REGION_UNITS_MAX,
        "units of the largest region: the run bins reach as far"),
    Constant("HAK_REGION_WISH_BYTES", REGION_WISH_BYTES,
        "user memory that a heap's window has room for; where there are no windows, a reservation "
        "that is halved until the OS agrees"),
    Constant("HAK_PROCESS_WISH_BYTES", PROCESS_WISH_BYTES,
        "the same for the process heap: with the registry a little less than the largest region"),
    Constant("HAK_TABLE_STEP_UNITS", TABLE_STEP_UNITS,
        "units that the tables are mapped for at a time"),
    Constant("HAK_THREAD_STEP_RECORDS", THREAD_STEP_RECORDS,
        "thread records mapped at a time"),
    Constant("HAK_SKIP_UNITS", SKIP_UNITS,
        "units left out, doubled at each try, where somebody else's mapping stands in the way"),
    Constant("HAK_UNMAP_LEAST_UNITS", UNMAP_LEAST_UNITS,
        "shortest run that is unmapped while addresses are short"),
    Constant("HAK_LOCKED_STEP_UNITS", LOCKED_STEP_UNITS,
        "units mapped at a time where they are locked at once, unless more is needed"),
    Constant("HAK_LIMIT_NEAR_PER_256", LIMIT_NEAR_PER_256,
        "share of a limit on mappings, in 1/256, from which on a heap unmaps what is free"),
    Constant("HAK_WINDOW_LOW", WINDOW_LOW,
        "windows lie above this address: the kernel's own choices are far from here"),
    Constant("HAK_WINDOW_SLOT_SHIFT", WINDOW_SLOT_SHIFT,
        "log2 bytes of a slot: windows begin and end on one"),
    Constant("HAK_WINDOW_SLOTS", WINDOW_SLOTS, "slots for windows"),
    Constant("HAK_WINDOW_TRIES", WINDOW_TRIES,
        "windows tried before a region is reserved instead"),
    Constant("HAK_MAP_DONE", 0, "mapping: done"),
    Constant("HAK_MAP_REFUSED", 1, "mapping: the OS refused, by a limit or for want of memory"),
    Constant("HAK_MAP_TAKEN", 2, "mapping: something else is mapped there"),
    Constant("HAK_MOVED_LIMIT", MOVED_LIMIT,
        "ranges of a region that pages were moved to, at most"),
    Constant("HAK_MAPPED_LIMIT", MAPPED_LIMIT,
        "rows of the table of mapped blocks at most"),
    Constant("HAK_MAPPED_STEP_ROWS", MAPPED_STEP_ROWS, "rows of it that are mapped at a time"),
    Constant("HAK_MAPPED_PIECES", MAPPED_PIECES,
        "mappings that mapped blocks may be at most; further blocks are spans"),
    Constant("HAK_MAPPED_FREED_COUNT", MAPPED_FREED_COUNT,
        "mapped blocks freed last that a heap remembers, to tell a second free from any address"),
    Constant("HAK_REGION_LEAST_BYTES", REGION_LEAST_BYTES,
        "a smaller region than this is not tried"),
    Constant("HAK_REGION_LIMIT_PER_256", REGION_LIMIT_PER_256,
        "share of a limited address space a region may wish for, in 1/256"),
    Constant("HAK_CAP_LIMIT_COUNT", CAP_LIMIT_COUNT, "largest cap a policy image may carry"),
    Constant("HAK_RETURN_GROUPS", RETURN_GROUPS,
        "chains gathered at once when a cache gives blocks back"),
    Constant("HAK_SHARED_FREES", SHARED_FREES,
        "frees by the shared record before a thread that never allocated gets one of its own"),
    Constant("HAK_LOCK_SPIN_TRIES", LOCK_SPIN_TRIES, "tries for a lock before its waiter sleeps"),
    Constant("HAK_LOCK_NAP_NS", LOCK_NAP_NS,
        "how long who waits for a lock sleeps before it lends the holder its priority, ns"),
    Constant("HAK_LOCK_LOOK_NS", LOCK_LOOK_NS,
        "how long it does so before it looks again whether the holder is known to the OS, ns"),
    Constant("HAK_STALE_CLAIMS", STALE_CLAIMS,
        "units put aside at most, because another holds a stale claim of them"),
    Constant("HAK_LOCK_NOBODY", LOCK_NOBODY,
        "number of a thread that the OS does not tell; no thread's own"),
    Constant("HAK_RESIDENT_SAMPLE_PAGES", RESIDENT_SAMPLE_PAGES,
        "OS pages that the OS is asked about to tell how much of a range is resident"),
    Constant("HAK_READ_SAMPLE_PAGES", READ_SAMPLE_PAGES,
        "OS pages read to tell how much of a range is resident, where the OS is not asked"),
    Constant("HAK_LOCK_BACKOFF_SPINS", LOCK_BACKOFF_SPINS,
        "longest backoff at a lock that belongs to no policy"),
    Constant("HAK_CRASH_STACK_BYTES", CRASH_STACK_BYTES,
        "alternate stack of the crash report, for the thread that asks for it"),
    Constant("HAK_STACK_NEAR_BYTES", STACK_NEAR_BYTES,
        "an address this near the stack pointer is told as the stack"),
    Constant("HAK_STACK_FRAMES", STACK_FRAMES,
        "frames of a native stack that a walk takes at most"),
    Constant("HAK_STACK_PAGES", STACK_PAGES,
        "OS pages that a walk goes up a stack that is not the thread's own"),
    Constant("HAK_STACK_COUNT_BITS", STACK_COUNT_BITS,
        "bits of the number of OS pages of a range that is no part of the own stack"),
    Constant("HAK_CODE_ADDRESS_BITS", CODE_ADDRESS_BITS, "bits of an address of code"),
    Constant("HAK_ROWS_KEPT", ROWS_KEPT,
        "rows that the program of a frame may remember; compilers remember one"),
    Constant("HAK_OBJECTS_KEPT", OBJECTS_KEPT,
        "objects that a walk remembers beside the one that it is in"),
    Constant("HAK_EXPRESSION_WORDS", EXPRESSION_WORDS, "words that an expression may work with"),
    Constant("HAK_EXPRESSION_BYTES", EXPRESSION_BYTES, "bytes of the longest expression"),
    Constant("HAK_RULE_SLOTS_LOG2", RULE_SLOTS_LOG2,
        "log2 of the slots for rules of return addresses, 16 bytes each"),
    Constant("HAK_RULE_OFFSET_BITS", RULE_OFFSET_BITS,
        "bits of a rule's distance to the CFA, in words"),
    Constant("HAK_RULE_SAVED_BITS", RULE_SAVED_BITS,
        "bits of the place of a saved register, in words below the CFA"),
    Constant("HAK_THREADS_MIN", THREADS_MIN, "thread records of the smallest heap"),
    Constant("HAK_THREADS_MAX", THREADS_MAX, "thread records of the largest heap"),
    Constant("HAK_ACQUIRE_STAGES", ACQUIRE_STAGES, "places of the acquire order"),
    Constant("HAK_HEAP_MAGIC", HEAP_MAGIC, "first word of a heap"),
    Constant("HAK_POLICY_MAGIC", POLICY_MAGIC, "first word of a policy image"),
    Constant("HAK_ROOT_MAGIC", ROOT_MAGIC, "first word of hak_root"),
    Constant("HAK_PROFILE_MAGIC", PROFILE_MAGIC, "first word of hak_profile"),
    Constant("HAK_LINE_BYTES", LINE_BYTES, "longest line the library writes to stderr"),
    Constant("HAK_LINE_QUOTE_BYTES", LINE_QUOTE_BYTES,
        "longest piece of it that is quoted from outside"),
    Constant("HAK_BACKGROUND_STACK_BYTES", BACKGROUND_STACK_BYTES,
        "stack of the background thread, where the system's libraries leave room in it"),
    Constant("HAK_MS_PER_SECOND", 1000, "ms in a second"),
    Constant("HAK_NS_PER_MS", 1_000_000, "ns in a ms"),
    Constant("HAK_NS_PER_SECOND", 1_000_000_000, "ns in a second"),
    Constant("HAK_LAYOUT_VERSION", LAYOUT_VERSION, "layout version, beside the hash, for people"),
    # which OS calls a heap makes
    Constant("HAK_OS_CALLS_PLAIN", 0, "OS calls: those that glibc's malloc and threads make"),
    Constant("HAK_OS_CALLS_WIDE", 1,
        "OS calls: also MADV_POPULATE_WRITE, mincore, membarrier, and prlimit at each epoch"),
    # OS calls that a test makes fail
    *(Constant(f"HAK_CALL_{name}", 1 << bit, f"OS calls made to fail: {meaning}")
      for bit, (name, meaning) in enumerate(OS_CALLS.items())),
    # registry entries: the head's offset from the heap in bytes | the tag
    Constant("HAK_ENTRY_HEAD_SHIFT", UNIT_SHIFT,
        "registry: from this bit on the head unit; below it an entry is its tag"),
    Constant("HAK_ENTRY_TAG_MASK", 0xFF, "registry: bits of the tag"),
    Constant("HAK_TAG_NONE", 0,
        "registry: nobody may hand the unit out (metadata, never mapped, or just changing hands)"),
    Constant("HAK_TAG_SPAN", 61, "registry: unit of a span, head in the upper bits"),
    Constant("HAK_TAG_FREE", 62,
        "registry: unit of a free run, head in the upper bits at both ends"),
    Constant("HAK_TAG_UNMAPPED", 63,
        "registry: unit that is not mapped, head in the upper bits at both ends"),
    Constant("HAK_TAG_SAMPLED", CLASS_LIMIT,
        "registry: unit of a slab that holds a sampled block, head in the upper bits; its record "
        "says the class"),
    # what the sites of the profiler hold
    Constant("HAK_SITE_STACK", 1, "sites: a call stack that allocated samples, hak_site"),
    Constant("HAK_SITE_NAME", 2, "sites: a Python function's name, hak_code_name"),
    Constant("HAK_SITE_FRAMES_MAX", SITE_FRAMES_MAX, "frames of a site at most"),
    Constant("HAK_SITE_PYTHON_MAX", SITE_PYTHON_MAX, "Python frames of a site at most"),
    Constant("HAK_SITE_TEXT_BYTES", SITE_TEXT_BYTES,
        "room for names that are not in UTF-8, while a call stack is taken"),
    Constant("HAK_LIFETIME_COUNT", LIFETIME_COUNT, "ages told apart of samples freed"),
    Constant("HAK_LIFETIME_FIRST_NS", 1_000_000,
        "ages below it are the first; each next is four times as long"),
    Constant("HAK_PROFILE_LEAST_BYTES", PROFILE_LEAST_BYTES, "smallest mapping for samples"),
    Constant("HAK_SAMPLED_BITS", SAMPLED_BITS,
        "bits of sampled_mask: a block's index modulo them is its bit"),
    Constant("HAK_LIFETIME_STEP", LIFETIME_STEP, "an age's limit as a multiple of the last"),
    Constant("HAK_PROFILE_RATE_MAX", PROFILE_RATE_MAX, "largest rate of samples"),
    Constant("HAK_PROFILE_FRAMES_BYTES", PROFILE_FRAMES_BYTES,
        "room of a profile for a call stack that is being taken"),
    Constant("HAK_PROFILE_ROOMS", PROFILE_ROOMS, "call stacks that are taken at a time at most"),
    Constant("HAK_FRAME_PYTHON", 1 << 63, "frame: a Python function; else a return address"),
    Constant("HAK_FRAME_ENTRY", 1 << 62,
        "frame of a Python function: the outermost of its evaluation loop"),
    Constant("HAK_FRAME_LINE_SHIFT", 32,
        "frame of a Python function: from this bit on the line, 0 unknown; below it the name"),
    Constant("HAK_FRAME_LINE_MAX", 1 << 24, "lines from this one on are not kept"),
    # slab record kinds
    Constant("HAK_KIND_NONE", 0,
        "record: nothing, or just changing hands between run heap and slab"),
    Constant("HAK_KIND_SLAB", 1, "record: a slab, fields protected by its claim"),
    Constant("HAK_KIND_SPAN", 2, "record: a span, fields protected by its owner, the program"),
    Constant("HAK_KIND_RUN", 3, "record: a free run, fields protected by the run lock"),
    Constant("HAK_KIND_LOST", 4,
        "record: a slab whose claimer died in a fork; never handed out again"),
    Constant("HAK_KIND_UNMAPPED", 5,
        "record: a run of units that are not mapped, fields protected by the run lock"),
    Constant("HAK_KIND_FOREIGN", 6,
        "record: units left out because something else was mapped there; never handed out"),
    Constant("HAK_KIND_WAITING", 7,
        "record: a freed span that waits in a thread's record, fields protected by that thread"),
    Constant("HAK_WAITING_SPANS", WAITING_SPANS, "freed spans that may wait in a thread's record"),
    # slab flags
    Constant("HAK_SLAB_FRESH", 1, "slab flag: uncarved blocks are known to be zero"),
    Constant("HAK_SLAB_LISTED", 2, "slab flag: in its class's partial set"),
    Constant("HAK_SLAB_HOLES", 4,
        "slab flag: some of its pages were purged, the free blocks on them are in no list"),
    Constant("HAK_SLAB_STUCK", 8,
        "record flag of a free unit: the OS refused to purge it, not tried again in this epoch"),
    Constant("HAK_SLAB_PARTED_SHIFT", 8,
        "record flags of a free unit, from this bit on: OS pages that went though not all did"),
    # what a slab remembers of its last sweep
    Constant("HAK_SWEEP_EPOCH_MASK", 0xFFFFFF,
        "slab's last sweep: epoch_count when pages of it were purged last"),
    Constant("HAK_SWEEP_PAUSE_SHIFT", 24,
        "slab's last sweep: from this bit on log2 of the pause after it"),
    Constant("HAK_SWEEP_REFAULT", 1 << 31,
        "slab's last sweep: a page of it was needed within two epochs"),
    # heap flags
    Constant("HAK_HEAP_CHECKED", 1, "heap flag: live marks are kept and every free is checked"),
    Constant("HAK_HEAP_PYTHON", 2, "heap flag: run by the Python plane"),
    Constant("HAK_HEAP_PROCESS", 4, "heap flag: this process's malloc"),
    Constant("HAK_HEAP_RESERVED", 8,
        "heap flag: the region is reserved as a whole, because no window was to be had"),
    # acquire stages
    Constant("HAK_STAGE_END", 0, "acquire order: nothing more to try"),
    Constant("HAK_STAGE_HOT", 1, "acquire: the slab this thread took from last, a hint"),
    Constant("HAK_STAGE_EMPTY", 2, "acquire: a slab that became empty, any class"),
    Constant("HAK_STAGE_PARTIAL", 3, "acquire: the class's set of partly free slabs"),
    Constant("HAK_STAGE_ADOPT", 4, "acquire: slabs with remote frees waiting, the class's mailbox"),
    Constant("HAK_STAGE_UNIT", 5,
        "acquire: lock-free claim of an unused unit of the open superslab"),
    Constant("HAK_STAGE_LAST", 6,
        "acquire: the partial set and the mailbox once more, before the heap grows"),
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
    Constant("HAK_FORK_LEFT", 2, "fork word: repaired, but for caches of threads that are gone"),
    # background thread
    Constant("HAK_BACKGROUND_NONE", 0, "background thread: not started"),
    Constant("HAK_BACKGROUND_STARTING", 1, "background thread: being started"),
    Constant("HAK_BACKGROUND_LOOKING", 2, "background thread: looks every tick"),
    Constant("HAK_BACKGROUND_WAITING", 3, "background thread: nothing to do, waits to be woken"),
    Constant("HAK_BACKGROUND_REFUSED", 4,
        "background thread: refused by the policy or by the OS, not tried again"),
    Constant("HAK_BACKGROUND_LEAVING", 5, "background thread: it ends, who said so waits for that"),
    # what a stopped thread is made to do
    Constant("HAK_ERRAND_SENT", 1, "errand: a stopped thread was sent on it"),
    Constant("HAK_ERRAND_DONE", 2,
        "errand: the thread has served, and waits a moment to be fetched"),
    Constant("HAK_ERRAND_STACK_BYTES", ERRAND_STACK_BYTES, "stack that an errand runs on"),
    Constant("HAK_ERRAND_STATE_BYTES", ERRAND_STATE_BYTES,
        "room for the extended registers of the thread on an errand"),
    Constant("HAK_ERRAND_STATES", ~(0b11 << 17) & 0xFFFFFFFF,
        "extended registers that an errand keeps: all but tiles, which no code here uses"),
    Constant("HAK_SIGNALS_BYTES", 8, "the kernel's set of signals"),
    Constant("HAK_ERRAND_SPINS", ERRAND_SPINS,
        "pauses that a thread waits for at the end of an errand: a millisecond or some"),
    Constant("HAK_ERRAND_WORDS", ERRAND_WORDS,
        "general registers that an errand restores, in the order of the kernel's user_regs_struct"),
    # what is known of how a list swings between empty and full
    Constant("HAK_SWING_REFILLED", 1, "bin: refilled since the last overflow"),
    Constant("HAK_SWING_OVERFLOWED", 2, "bin: has overflowed before"),
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
    Constant("HAK_EVENT_MAPPED_ALLOC", 13, "event: a mapped block was made; count: OS pages"),
    Constant("HAK_EVENT_MAPPED_FREE", 14, "event: a mapped block was freed; count: OS pages"),
    Constant("HAK_EVENT_MAPPED_RESIZE", 15, "event: a mapped block was resized; count: OS pages"),
    # header modes
    Constant("HAK_HEADERS_NONE", 0, "no class has headers"),
    Constant("HAK_HEADERS_TINY", 1, "the tiny classes have headers"),
    Constant("HAK_HEADERS_ALL", 2, "all classes have headers"),
    # bands
    Constant("HAK_BAND_TINY", 1, "class of the tiny band"),
    Constant("HAK_BAND_POOL", 2, "class of the pool band"),
    Constant("HAK_BAND_BIG", 3, "class of the big band"),
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
    # what came of reaping a thread
    Constant("HAK_CHANGE_DONE", 0, "change: the policy is in force"),
    Constant("HAK_CHANGE_REFUSED", 1, "change: no policy that can be obeyed"),
    Constant("HAK_CHANGE_FIXED", 2, "change: of what cannot change in a running heap"),
    Constant("HAK_CHANGE_NOMEM", 3, "change: the OS gives no memory for samples"),
    Constant("HAK_REAP_DONE", 0, "reap: what could be taken was taken"),
    Constant("HAK_REAP_UNKNOWN", 1, "reap: no such thread record"),
    Constant("HAK_REAP_ENDED", 2, "reap: the record is no live thread's"),
    Constant("HAK_REAP_OWN", 3, "reap: the record is the calling thread's own"),
    Constant("HAK_REAP_BUSY", 4, "reap: the thread is in a slow path, or reaped by another"),
    Constant("HAK_REAP_MAGAZINES", 5, "reap: not in a heap with magazines"),
    Constant("HAK_REAP_FORBIDDEN", 6, "reap: the policy allows no membarrier"),
    Constant("HAK_REAP_REFUSED", 7, "reap: the OS refuses membarrier"),
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
SCALAR_BYTES: Final = {"u8": 1, "u16": 2, "u32": 4, "i64": 8, "u64": 8}


@dataclass(frozen=True, slots=True)
class Field:
    """One struct member.

    ``type`` is a scalar of ``u8 u16 u32 i64 u64`` or the name of a struct; ``count`` > 1 makes an
    array. ``access`` reads *writer > readers, order*; ``unit`` is the unit of the number.
    ``names``: what code calls a member that means something else by the record's kind. A policy
    image whose field is not within ``low`` to ``high``, a multiple of ``step``, is refused; so is
    one for a running heap whose ``fixed`` field is another than the heap's.
    """

    name: str
    type: str
    unit: str
    access: str
    meaning: str
    count: int = 1
    low: int = 0
    high: int | None = None
    step: int = 1
    names: tuple[str, ...] = ()
    fixed: bool = False

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.count * (SCALAR_BYTES.get(self.type) or STRUCT_BY_NAME[self.type].size)


@dataclass(frozen=True, slots=True)
class Struct:
    """One mirrored struct: C ``name``, Python ``python_name``, fields in order, none of them with a
    gap before it."""

    name: str
    python_name: str
    meaning: str
    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """Its bytes: the sum of its fields'."""
        return sum(field.size for field in self.fields)


STRUCT_BY_NAME: Final[dict[str, Struct]] = {}
"""The structs by C's name, in the order they are described."""


def _struct(
    name: str, python_name: str, meaning: str, fields: tuple[Field, ...], padded_to: int = 0
) -> Struct:
    """A struct, known by its name from here on; zero words fill it up to ``padded_to`` bytes."""
    made = Struct(name, python_name, meaning, fields)
    if padded_to:
        tail = Field("tail", "u64", "", "", "zero", (padded_to - made.size) // 8)
        made = Struct(name, python_name, meaning, (*fields, tail))
    STRUCT_BY_NAME[name] = made
    return made


@dataclass(frozen=True, slots=True)
class Line:
    """Fields that share cache lines with each other and with nothing else: their ``name``, what the
    ``writers`` of each one's access begin with, when they are written."""

    name: str
    writers: tuple[str, ...]
    when: str
    fields: tuple[str, ...]


def _by_line(lines: tuple[Line, ...], fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """The fields line by line, wide ones first so that none has a gap before it, and each line
    filled up; then the fields that are in none."""
    left = {field.name: field for field in fields}
    made: list[Field] = []
    for line in lines:
        mine = [left.pop(name) for name in line.fields]
        mine.sort(key=lambda field: -SCALAR_BYTES.get(field.type, 8))
        made += mine
        odd = sum(field.size for field in mine) % 8
        if odd:
            made.append(Field(f"reserved_{line.name}_word", "u32", "", "", "zero"))
        if room := -sum(field.size for field in made) % CACHE_LINE_BYTES // 8:
            made.append(Field(f"reserved_{line.name}", "u64", "", "", "zero", room))
    return (*made, *left.values())


_OWNER = "owner thread > any, relaxed"
_CLAIM = "claimer > any, plain under claim_seq"
_LOCK = "run lock holder > any, plain"
_LOCK_RELAXED = "run lock holder > any, relaxed"
_INIT = "creator > all, before publication"
_ANY = "any > any"
_PROFILE = "profile lock holder > any, relaxed"


# --- policy numbers -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: how a policy number is set from outside.

    ``low`` to ``high`` are in the unit that its name carries. ``apply`` says what C does with the
    number: ``HAK_APPLY_FIELD`` stores number * ``numerator`` / ``denominator`` in ``field`` of the
    image; the other ways set what several fields of the classes of ``band`` derive from it.
    ``at_most``: the variable whose field this one's may not pass. The attributes after ``at_most``
    follow from the number's row: ``policy_path`` is ``part.name`` of the policy object, ``scale``
    the image's units of one of the object's, ``choices`` words for the numbers 0, 1 ...
    """

    name: str
    meaning: str
    low: int
    high: int
    numerator: int = 1
    denominator: int = 1
    apply: str = "HAK_APPLY_FIELD"
    band: str = ""
    at_most: str = ""
    default: int = 0
    policy_path: str = ""
    field: str = ""
    scale: int = 1
    choices: tuple[str, ...] = ()

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


@dataclass(frozen=True, slots=True)
class Number:
    """What is known of one policy number besides its name, its Python type and its default, which
    stand on the same row.

    ``low`` to ``high`` are in the unit of the policy object. ``type`` is the scalar of the image's
    field; "" for a *rule*, a number that only decides what other fields of the image hold.
    ``field``: the image's name of it, where that is another; ``scale``: the image's units of one
    ``object_unit``. ``choices``: words for the numbers 0, 1 ...; ``source``: the measurement that
    the default is taken from; ``fixed``: why a running heap keeps it, "" where it can change.
    """

    type: str
    unit: str
    low: int
    high: int
    meaning: str
    field: str = ""
    scale: int = 1
    object_unit: str = ""
    power_of_two: bool = False
    choices: tuple[str, ...] = ()
    variable: Variable | None = None
    source: str = ""
    fixed: str = ""


def _number(type: str, unit: str, bounds: tuple[int, int], meaning: str, **more: Any) -> Any:
    """A field of a class of policy numbers; ``default`` and the attributes of `Number` by name."""
    given = {"default": more.pop("default")} if "default" in more else {}
    return field(metadata={"number": Number(type, unit, *bounds, meaning, **more)}, **given)


def _rule(unit: str, bounds: tuple[int, int], meaning: str, **more: Any) -> Any:
    """A policy number that is in no image: it only decides what fields of it hold."""
    return _number("", unit, bounds, meaning, **more)


def numbers_of(numbers: Any) -> dict[str, Number]:
    """The policy numbers of a policy object or its class, by name, in order.

    >>> numbers_of(ArenaNumbers)["levels"].high
    10
    """
    return {
        item.name: item.metadata["number"] for item in fields(numbers) if "number" in item.metadata
    }


_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_BYTES_MAX: Final = 1 << 46
_ARENA_MAX: Final = "HAKMEM_POOL_TLS_ARENA_MB_MAX"
_LENDING = "loans took 16 threads of mixed sizes from 16.2 to 15.1 MiB, for 1-3 % more time"
_LENDING_BIG = (
    "188 MiB of blocks of 53-140 KiB replaced at random: 1.14 times that resident, 1.21 without"
)
_CAPS = (
    "128, 256 and 4 MiB instead of 32, 64 and 2 MiB take free's 99.99th percentile with two "
    "threads to .65, the peak of threads that hand blocks over to 1.03 (8-32 KiB: 1.10)"
)
_POPULATE = "1.7 us an OS page populated in groups, 2.6 us by faults"
_GROWTH = "a string that doubles (the program c++): 17.0 MiB instead of 18.9, in the same time"
_READ = "first reads, the clock left out: .1 to .4 us where resident, 1.1 us and more where not"
_CLEAR = (
    "blocks of 256 KiB-4 MiB of which three OS pages are touched: 288 us each cleared, 19 us "
    "purged (row calloc_big)"
)
_HEADERS_FIXED = "blocks that are out have the headers that they were made with"
_MAGAZINES_FIXED = "a thread's magazines are given out with its record"
_SAMPLES_FIXED = "the table of samples is laid out once"
_WEEK = "row week, day 7: 2.06 times what was live without early purges, 1.54 with them"
_PAGE_COST = ".39 us to purge an OS page and 1.6 us to fault it, times the 16 pages of a unit"
_HIGH_WATER = (
    "random replacement of 64 KiB-25 MiB: half the high water costs no more than never purging, "
    "a quarter four times as much, at the same peak; of 5-25 MiB both are within 10 %"
)

# One row is one number: the image's field, the policy object's attribute, its bounds, its default,
# its environment variable and its help all come from it (CONTRIBUTING says how one is added). A
# part's numbers stand in the order of its struct.
# fmt: off


@dataclass(frozen=True, slots=True)
class HeaderNumbers:
    """The numbers of `hakmem.HeaderCodec`."""

    mode: str = _number("u32", "HAK_HEADERS", (0, 2), "which bands carry headers",
        default="none", fixed=_HEADERS_FIXED, choices=("none", "tiny", "all"),
        variable=Variable("HAKMEM_HEADERS",
            "classes whose blocks carry a header byte that frees are checked with", 0, 2,
            apply="HAK_APPLY_HEADERS"))
    live_base: int = _rule("byte", (0, 0xFF - CLASS_COUNT_MAX),
        "header of a live block, less its class", default=0x80, fixed=_HEADERS_FIXED)
    freed_base: int = _rule("byte", (0, 0xFF - CLASS_COUNT_MAX),
        "header of a free block, less its class", default=0xC0, fixed=_HEADERS_FIXED)


@dataclass(frozen=True, slots=True)
class ArenaNumbers:
    """The numbers of `hakmem.ArenaGrowth`."""

    init_mb: int = _number("u64", "bytes", (1, 64), "first arena chunk",
        default=1, field="init_bytes", scale=_MIB, object_unit="MiB",
        variable=Variable("HAKMEM_POOL_TLS_ARENA_MB_INIT", "first arena chunk, MiB", 1, 64, _MIB,
            at_most=_ARENA_MAX))
    max_mb: int = _number("u64", "bytes", (1, 1024), "largest arena chunk",
        default=8, field="max_bytes", scale=_MIB, object_unit="MiB",
        variable=Variable(_ARENA_MAX, "largest arena chunk, MiB", 1, 1024, _MIB))
    levels: int = _number("u32", "doublings", (0, 10),
        "chunk k is min(max, init << min(k, levels))", default=3,
        variable=Variable("HAKMEM_POOL_TLS_ARENA_GROWTH_LEVELS", "doublings of the arena chunk",
            0, 10))
    huge_pages: bool = _number("u32", "bool", (0, 1),
        "1: advise transparent huge pages for each chunk",
        default=False,
        variable=Variable("HAKMEM_HUGE_PAGES", "1: ask for transparent huge pages", 0, 1))
    small_pages_mb: int = _number("u64", "bytes", (0, 1 << 20),
        "a heap's first so many are kept from transparent huge pages, 0 none",
        default=7, field="small_pages_bytes", scale=_MIB, object_unit="MiB")
    populate_units: int = _number("u32", "units", (0, SUPERSLAB_UNITS),
        "fresh units of the open superslab populated at a time, 0 or 1 never",
        default=4, power_of_two=True, source=_POPULATE)
    populate_live_mb: int = _number("u32", "units", (0, 1 << 20),
        "units in use from which on fresh units are populated",
        default=8, field="populate_live_units", scale=_MIB >> UNIT_SHIFT, object_unit="MiB")
    populate_slab_count: int = _number("u32", "slabs", (0, 1 << 24),
        "fresh slabs of a class that a thread takes before units are populated for it", default=2)
    os_calls: str = _number("u32", "HAK_OS_CALLS", (0, 1),
        "OS calls that the heap makes: those of glibc's malloc and threads, or all that help",
        default="plain", choices=("plain", "wide"),
        fixed="threads that may be reaped say so to the OS when they start",
        variable=Variable("HAKMEM_OS_CALLS",
            "wide: also calls that glibc's malloc does not make, which sandboxes may refuse", 0, 1))


@dataclass(frozen=True, slots=True)
class ClassCacheNumbers:
    """The numbers of `hakmem.ClassCache`."""

    batch_count: int = _number("u32", "blocks", (1, 1024),
        "blocks a refill or an overflow moves, before the cap bounds it")
    cap_init_count: int = _number("u32", "blocks", (0, CAP_LIMIT_COUNT),
        "cap of a new thread cache")
    cap_max_count: int = _number("u32", "blocks", (0, CAP_LIMIT_COUNT), "cap at most")
    carve_count: int = _number("u32", "blocks", (1, 1 << 16), "blocks a refill carves")
    list_count: int = _number("u32", "blocks", (1, 0xFFFF),
        "free blocks from which a slab joins the partial set")
    prewarm_count: int = _number("u32", "blocks", (0, 256),
        "blocks a prewarm puts into a cache")
    refill_slabs: int = _number("u32", "slabs", (1, 4), "slabs a refill may take from, 1..4")
    raise_per_256: int = _number("u32", "1/256", (0, 1 << 12),
        "part of itself, a batch at least, that a cap gains where its list swings; 0: one "
        "block a refill")
    lend_count: int = _number("u32", "classes", (0, CLASS_COUNT_MAX),
        "how many of the next larger classes may lend it a block before one is carved")
    lend_keep_count: int = _number("u32", "blocks", (0, CAP_LIMIT_COUNT),
        "blocks of its list that this class never lends")
    magazine_count: int = _number("u32", "blocks", (0, MAGAZINE_COUNT_MAX),
        "blocks of its magazine, where the heap has magazines; 0: none", default=0,
        fixed=_MAGAZINES_FIXED)


@dataclass(frozen=True, slots=True)
class CacheNumbers:
    """The numbers of `hakmem.CachePolicy`: rules for the rows of the classes, then what all classes
    share."""

    batch_count: int = _rule("blocks", (1, 1024), "blocks that move at once, of any class, at most",
        default=32, source="the knee of larson: .84 .73 .72 .75 at 16 32 64 128")
    batch_min_count: int = _rule("blocks", (1, 64),
        "blocks that move at once, of a tiny or pool class, at least", default=4)
    batch_bytes: int = _rule("bytes", (64, 1024 * _KIB), "bytes that move at once, at most",
        default=32 * _KIB)
    cap_entries_min: int = _rule("blocks", (0, 4096), "highest cap of a tiny class, at least",
        default=16)
    cap_entries_max: int = _rule("blocks", (0, 4096),
        "highest cap of any class, at most; 0: no thread caches", default=2048)
    cap_bytes_tiny: int = _rule("bytes", (0, 65536 * _KIB),
        "highest cap of a tiny class; 0: no cache", default=256 * _KIB,
        variable=Variable("HAKMEM_CACHE_TINY_KB",
            "thread cache of one tiny class at most, KiB; 0 none", 0, 65536, _KIB,
            apply="HAK_APPLY_CACHE_BYTES", band="tiny"))
    cap_bytes_pool: int = _rule("bytes", (0, 65536 * _KIB),
        "highest cap of a pool class; 0: no cache", default=4096 * _KIB, source=_CAPS,
        variable=Variable("HAKMEM_CACHE_POOL_KB",
            "thread cache of one pool class at most, KiB; 0 none", 0, 65536, _KIB,
            apply="HAK_APPLY_CACHE_BYTES", band="pool"))
    cap_bytes_big: int = _rule("bytes", (0, 65536 * _KIB),
        "highest cap of a big class; 0: no cache", default=256 * _KIB,
        variable=Variable("HAKMEM_CACHE_BIG_KB",
            "thread cache of one big class at most, KiB; 0 none", 0, 65536, _KIB,
            apply="HAK_APPLY_CACHE_BYTES", band="big"))
    carve_bytes: int = _rule("bytes", (64, SLAB_UNITS_MAX * UNIT_BYTES),
        "what a refill carves, a batch at least", default=16 * _KIB)
    list_divisor: int = _rule("", (1, 8192),
        "a slab joins the partial set once one block in so many is free, or a batch",
        default=16)
    tiny_refill_slabs: int = _rule("slabs", (1, 4),
        "slabs that a refill of a tiny class may take from", default=1)
    pool_refill_slabs: int = _rule("slabs", (1, 4),
        "slabs that a refill of a pool class may take from", default=2,
        source="bench evaluate refill",
        variable=Variable("HAKMEM_POOL_REFILL_BATCH", "slabs a pool refill may take from", 1, 4,
            apply="HAK_APPLY_REFILL_SLABS", band="pool"))
    raise_per_256: int = _rule("1/256", (0, 1 << 12),
        "what a cap gains where its list swings, as a fraction of itself, a batch at least; "
        "0: one block a refill",
        default=128, source=_CAPS)
    lend_bytes: int = _rule("bytes", (0, SIZE_MAP_LIMIT_BYTES),
        "largest block that is lent for a smaller request; 0: no loans", default=1 * _KIB,
        source=_LENDING)
    lend_per_256: int = _rule("1/256", (0, 1 << 16),
        "largest block that is lent, as a fraction of the borrowing class's stride", default=512,
        source=_LENDING)
    lend_keep_count: int = _rule("blocks", (0, 4096),
        "blocks of its list that a tiny or pool class never lends", default=8)
    lend_big_per_256: int = _rule("1/256", (0, 1 << 16),
        "largest block that is lent to a big class, as a fraction of its stride", default=352,
        source=_LENDING_BIG)
    prewarm_tiny_count: int = _rule("blocks", (0, 256),
        "blocks that a prewarm puts into the cache of a tiny class", default=16)
    thread_bytes: int = _number("u64", "bytes", (0, 1 << 40), "bound of one thread's caps together",
        default=32768 * _KIB,
        variable=Variable("HAKMEM_CACHE_THREAD_KB", "caches of one thread together at most, KiB",
            0, 1 << 30, _KIB))
    first_caps_bytes: int = _number("u64", "bytes", (0, 1 << 40),
        "first caps of all threads together: more threads begin with less each",
        default=8 * _MIB,
        variable=Variable("HAKMEM_CACHE_FIRST_MB", "first caps of all threads together, MiB",
            0, 1 << 20, _MIB))
    idle_events: int = _number("u32", "events", (1, 1 << 30),
        "slow-path events of a thread between its searches for idle caches", default=1024)
    free_only_count: int = _number("u32", "overflows", (1, 1 << 20),
        "overflows in a row, no refill between, that halve a cap", default=16)
    parked_count: int = _number("u32", "threads", (0, 64),
        "ended threads whose caches wait for a new thread", default=4,
        variable=Variable("HAKMEM_CACHE_PARKED", "ended threads whose caches wait for a new thread",
            0, 64))
    prewarm: bool = _number("u32", "bool", (0, 1),
        "1: prewarm each thread's caches at its first call", default=False,
        variable=Variable("HAKMEM_PREWARM", "1: fill each thread's caches at its first call", 0, 1))
    free_only_bytes: int = _number("u32", "bytes", (0, 1 << 30),
        "bytes overflowed without a refill of any class from which on overflows halve "
        "caps too", default=4096 * _KIB)
    free_only_per_256: int = _number("u32", "1/256", (0, 1 << 16),
        "how far freeing only shrinks a cap, as a fraction of a batch; one block at least",
        default=256)
    park_bytes: int = _number("u32", "bytes", (0, 1 << 30),
        "largest block that waits in the cache of an ended thread", default=8 * _KIB)
    park_cached_bytes: int = _number("u32", "bytes", (0, 1 << 30),
        "a thread that ends with more than this in such blocks leaves no cache", default=256 * _KIB)
    raise_live_per_256: int = _number("u32", "1/256", (0, 1 << 16),
        "what swings may add to the caps of all threads together, as a fraction of the "
        "bytes in use", default=256, source=_CAPS)
    lend_carve_count: int = _number("u32", "carves", (0, 255),
        "carves after loans from which on a class lends no more", default=8)
    wait_bytes: int = _number("u32", "bytes", (0, 1 << 30),
        "what freed spans that wait in a thread's record may hold; 0: none waits",
        default=2048 * _KIB)
    wait_reuse_count: int = _number("u32", "spans", (1, 1 << 16),
        "spans reused so from one look at the clock to the next", default=32)
    first_caps_least_bytes: int = _number("u32", "bytes", (0, 1 << 30),
        "first caps of a thread at least, however many threads there are", default=64 * _KIB)
    first_caps_part_per_256: int = _number("u32", "1/256", (0, 256),
        "part of what is left of a thread's share that a class begins with, at most", default=64)
    magazines: bool = _number("u32", "bool", (0, 1),
        "1: magazines stand before the lists", default=False, fixed=_MAGAZINES_FIXED,
        variable=Variable("HAKMEM_TINY_HEAP_V2",
            "1: threads keep the blocks freed last in magazines, arrays of pointers, before the "
            "lists", 0, 1))
    magazine_tiny_count: int = _rule("blocks", (0, MAGAZINE_COUNT_MAX),
        "blocks of the magazine of a tiny class; 0: none", default=16, fixed=_MAGAZINES_FIXED)
    magazine_pool_count: int = _rule("blocks", (0, MAGAZINE_COUNT_MAX),
        "blocks of the magazine of a pool class; 0: none", default=4, fixed=_MAGAZINES_FIXED)


@dataclass(frozen=True, slots=True)
class AcquireNumbers:
    """The numbers of `hakmem.AcquirePolicy`; its order of stages is no number."""

    order: tuple[Any, ...] = ()
    retry_count: int = _number("u32", "tries", (1, 1 << 16),
        "lost claims or CASes before the fallback", default=16)
    backoff_spins: int = _number("u32", "spins", (1, 1 << 16), "longest backoff of a lost CAS",
        default=64)
    empty_keep_count: int = _number("u32", "slabs", (0, 255),
        "empty one-unit slabs kept ready outside the run heap", default=16)
    empty_keep_units: int = _number("u32", "units", (0, 255),
        "units of longer empty slabs kept ready, all lengths together", default=128)
    adoption: bool = _number("u32", "bool", (0, 1), "0 switches the mailboxes' stages off",
        default=True,
        variable=Variable("HAKMEM_ADOPTION",
            "0: slabs with frees of other threads waiting are not taken over", 0, 1))


@dataclass(frozen=True, slots=True)
class RetainNumbers:
    """The numbers of `hakmem.RetainPolicy`."""

    floor_bytes: int = _number("u64", "bytes", (0, _BYTES_MAX), "dirty bytes always allowed",
        default=4 * _MIB,
        variable=Variable("HAKMEM_RETAIN_MB", "free memory always kept, MiB", 0, 1 << 20, _MIB))
    epoch_ns: int = _number("u64", "ns", (1_000_000, 3600 * 10**9), "length of a high-water epoch",
        default=600_000_000,
        variable=Variable("HAKMEM_RETAIN_EPOCH_MS",
            "how long lately is: an epoch and the one before, ms each", 1, 3_600_000, 1_000_000))
    remap_min_bytes: int = _number("u64", "bytes", (UNIT_BYTES, _BYTES_MAX),
        "spans from this size on move by remapping", default=_MIB)
    map_min_bytes: int = _number("u64", "bytes", (0, _BYTES_MAX),
        "blocks from this size on are mappings of their own, outside the region, 0 never",
        default=1 << 30,
        variable=Variable("HAKMEM_MAPPED_MB",
            "size from which a block is a mapping of its own, MiB; 0: never", 0, 1 << 20, _MIB))
    high_water_per_256: int = _number("u32", "1/256", (0, 1024),
        "dirty bytes allowed as a fraction of the high water", default=128, source=_HIGH_WATER,
        variable=Variable("HAKMEM_RETAIN_PCT",
            "free memory kept as a share of the most in use lately, %", 0, 400, 256, 100))
    lazy_free: bool = _number("u32", "bool", (0, 1), "1: MADV_FREE, 0: MADV_DONTNEED",
        default=False,
        variable=Variable("HAKMEM_LAZY_FREE",
            "1: the OS takes free pages when it needs them (MADV_FREE)", 0, 1))
    run_scan_count: int = _number("u32", "runs", (1, 1 << 16),
        "runs of one bin looked at for a best fit", default=16)
    purge_run_count: int = _number("u32", "runs", (1, 1 << 16),
        "runs purged at one slow-path event at most", default=4)
    work_first_ns: int = _number("u64", "ns", (0, 60 * 10**9),
        "eager work a new heap may do before it has earned any", default=5_000_000)
    work_burst_ns: int = _number("u64", "ns", (0, 60 * 10**9),
        "most eager work saved up", default=250_000_000)
    work_debt_ns: int = _number("u64", "ns", (0, 60 * 10**9),
        "most debt, which refaults make", default=1_000_000_000)
    young_ns: int = _number("u64", "ns", (0, 60 * 10**9),
        "until this age, in its first epoch, a heap purges early what it could pay for if all of "
        "it were needed again", default=400_000_000)
    work_per_256: int = _number("u32", "1/256", (0, 256),
        "share of elapsed time that eager purges may cost, 0 never", default=12,
        variable=Variable("HAKMEM_EAGER_PCT",
            "share of its time a program spends on giving memory back early, %", 0, 100, 256, 100))
    purge_unit_ns: int = _number("u32", "ns", (1, 10**9), "what purging a unit costs",
        default=6_400, source=_PAGE_COST)
    refault_unit_ns: int = _number("u32", "ns", (0, 10**9),
        "what a purged unit costs in addition if it is needed again soon",
        default=26_000, source=_PAGE_COST)
    eager_live_per_256: int = _number("u32", "1/256", (0, 1 << 16),
        "dirty bytes that eager purges leave, as a fraction of the bytes in use", default=64)
    eager_drop_per_256: int = _number("u32", "1/256", (0, 1 << 16),
        "eager only while the bytes in use are at most this fraction of the high water", default=32)
    sweep_wait_count: int = _number("u32", "epochs", (0, 1 << 20),
        "longest time that sweeps leave a slab alone whose purged pages are needed again",
        default=64)
    eager_unit_count: int = _number("u32", "units", (1, 1 << 24),
        "units purged eagerly at one slow-path event at most", default=1024)
    background_tick_ms: int = _number("u32", "ms", (1, 60_000),
        "time between two looks of the background thread", default=250)
    hole_block_ns: int = _number("u32", "ns", (0, 10**6),
        "what looking at a free block costs a sweep", default=10)
    sweep_unit_count: int = _number("u32", "units", (0, 1 << 24),
        "records that a sweep looks at in one go, 0 never", default=16384)
    sweep_event_ns: int = _number("u64", "ns", (1, 10**9),
        "most work of a sweep, or of purging what nobody needed, at one slow-path event",
        default=500_000, source=_WEEK)
    background_bytes: int = _number("u64", "bytes", (0, _BYTES_MAX),
        "heap from which on programs with threads get a background thread, 0 never",
        default=0,
        variable=Variable("HAKMEM_BACKGROUND_MB",
            "heap from which programs with threads get a background thread, MiB; 0: never",
            0, 1 << 20, _MIB))
    clear_ask_bytes: int = _number("u64", "bytes", (0, _BYTES_MAX),
        "dirty memory from this size on is not cleared before a sample said how much of it is "
        "resident, 0 never", default=256 * _KIB, source=_CLEAR)
    read_fault_ns: int = _number("u32", "ns", (0, 10**9),
        "a first read of an OS page that takes longer was a fault: the page is not resident",
        default=500, source=_READ)
    clear_absent_per_256: int = _number("u32", "1/256", (0, 256),
        "given back instead of cleared when at least this share is not resident", default=192)
    clear_wait_count: int = _number("u32", "spans", (0, 1 << 20),
        "spans cleared between such questions at most, while too much is resident", default=64)
    growth_request_per_256: int = _number("u32", "1/256", (0, 1 << 16),
        "requests from this fraction of the high water on purge dirty units before more "
        "becomes resident than lately, 0 never", default=64, source=_GROWTH)
    growth_keep_per_256: int = _number("u32", "1/256", (0, 1 << 16),
        "dirty bytes that such requests leave, as a fraction of the high water",
        default=8, source=_GROWTH)
    moved_range_count: int = _number("u32", "ranges", (0, MOVED_LIMIT),
        "ranges that pages were moved to, each a mapping of its own; further spans are copied",
        default=MOVED_LIMIT)


@dataclass(frozen=True, slots=True)
class ProfileNumbers:
    """The numbers of `hakmem.ProfilePolicy`."""

    rate_bytes: int = _number("u64", "bytes", (0, _BYTES_MAX),
        "bytes allocated for each sample, on average, 0: none are taken", default=0,
        variable=Variable("HAKMEM_PROFILE_BYTES",
            "bytes allocated for each sample of the profiler, on average; 0: none", 0, _BYTES_MAX))
    table_bytes: int = _number("u64", "bytes", (PROFILE_LEAST_BYTES, 1 << 32),
        "mapping that holds samples and their call stacks, resident as far as it is used",
        default=16 * _MIB, fixed=_SAMPLES_FIXED)
    frame_count: int = _number("u32", "frames", (1, SITE_FRAMES_MAX),
        "frames of a call stack at most, the innermost ones", default=64, fixed=_SAMPLES_FIXED)
    seed: int = _number("u32", "", (0, (1 << 31) - 1),
        "what the draws of all threads begin with", default=0,
        fixed="threads draw from it when they first count",
        variable=Variable("HAKMEM_PROFILE_SEED", "what the profiler's draws begin with", 0,
            (1 << 31) - 1))


# fmt: on
POLICY_PARTS: Final[dict[str, type]] = {
    "headers": HeaderNumbers,
    "arenas": ArenaNumbers,
    "caches": CacheNumbers,
    "acquire": AcquireNumbers,
    "retain": RetainNumbers,
    "profile": ProfileNumbers,
}
"""The classes of policy numbers, by the name that ``hakmem.Policy`` and ``hak_policy`` give the
part."""


def _image_fields(numbers: type) -> tuple[Field, ...]:
    """The image's fields of a class of policy numbers, in whole words of 8 bytes."""
    made = tuple(
        Field(
            number.field or name,
            number.type,
            number.unit,
            _INIT,
            number.meaning,
            low=number.low * number.scale,
            high=number.high * number.scale,
            step=number.scale,
            fixed=bool(number.fixed),
        )
        for name, number in numbers_of(numbers).items()
        if number.type
    )
    whole = sum(field.size for field in made) % 8 == 0
    return made if whole else (*made, Field("reserved", "u32", "", _INIT, "zero"))


# --- structs --------------------------------------------------------------------------------------


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
    _counter("span_reuse_count", "spans handed out that had waited in the thread's record"),
    _counter("span_resize_count", "spans resized in place"),
    _counter("span_remap_count", "spans moved by remapping"),
    _counter("mapped_alloc_count", "mapped blocks handed out, spans that became one included"),
    _counter("mapped_free_count", "mapped blocks freed"),
    _counter("mapped_resize_count", "mapped blocks resized"),
    _counter("cache_shrink_count", "times an idle or free-only cache was halved"),
    _counter("cap_raise_count", "times a cache's cap was raised"),
    _counter("row_adopt_count", "refills that took over their class's row of a changed policy"),
    _counter("cas_try_count",
        "CAS attempts on shared words, but for the claims that return_chain_count counts"),
    _counter("cas_retry_count", "of them, those that lost"),
    _counter("claim_fail_count", "claims given up because another thread held them"),
    _counter("locked_fallback_count", "lock-free tries given up for the locked path"),
    _counter("early_return_count",
        "refills that a drained remote list alone could serve: nothing carved, no new slab"),
    _counter("fault_count", "misuses reported"),
)
# fmt: on

# fmt: off
HEAP_LINES: Final[tuple[Line, ...]] = (
    Line("geometry", ("creator", "root lock"), "before the heap is published",
        ("magic", "layout_hash", "base", "reserved_bytes", "map_base", "map_bytes",
         "policy_offset", "fast_map_offset", "registry_offset", "slabs_offset", "partial_offset",
         "summary_offset", "dirty_offset", "recent_offset", "holes_offset", "swept_offset",
         "threads_offset", "magazines_offset", "mapped_offset", "live_offset", "meta_units",
         "unit_limit", "thread_limit", "flags", "slot", "generation", "next_heap",
         "start_limit_bytes")),
    Line("settings", ("clock owner", "policy lock holder", "repairer", "test", "run lock holder",
         "any by CAS", "first profiler"),
        "hardly ever",
        ("clock_ns", "clock_held", "policy_generation", "lost_count", "inherited",
         "lost_block_count", "repair_count", "map_limit_units", "locked", "profile_rate",
         "profile")),
    Line("growth", ("run lock holder",), "when the heap grows",
        ("unit_top", "table_units", "thread_mapped", "arena_count")),
    Line("epoch", ("run lock holder", "any by CAS", "any, relaxed"), "once an epoch",
        ("epoch_start_ns", "epoch_count", "collected_epoch", "high_water_before",
         "low_water_before", "resident_before", "refused_epoch")),
    Line("requests",
        ("outside", "holder of trim_busy", "any by CAS", "any, release", "policy lock holder"),
        "by requests from outside",
        ("drain_request", "trim_request", "trim_served", "trim_bytes", "trim_busy",
         "profile_wish", "profile_request", "profile_served", "policy_request", "policy_served",
         "policy_answer", "policy_lock")),
    Line("lock", ("any by CAS", "run lock holder"), "each time the run lock is taken",
        ("run_lock", "oldest_dirty", "newest_dirty", "recent_now", "lock_count",
         "lock_wait_count", "purging_units", "high_water_ever")),
    Line("figures", ("run lock holder", "any, relaxed"),
        "each time the run heap changes; ticks read them without the lock",
        ("in_use_units", "dirty_units", "high_water_now", "low_water_now", "resident_now",
         "stuck_units", "unmapped_units")),
    Line("budget", ("run lock holder",), "by eager work, which ticks look at",
        ("earned_ns", "spent_ns", "earned_at_ns", "recent_units")),
    Line("os", ("any > any",), "by each OS call", ("os",)),
    Line("open", ("any by CAS",), "by each slab made of the open superslab", ("open_word",)),
    Line("empty", ("any by CAS",), "by slabs that become empty", ("empty_word", "longer_word")),
    Line("threads", ("any by CAS", "any by add"), "when threads start and end",
        ("parked_word", "unused_word", "left_word", "thread_top", "thread_live")),
    Line("sweep", ("sweeper",), "by a sweep", ("sweep_unit", "sweep_busy")),
    Line("holes", ("sweeper",), "when holes are made and filled",
        ("hole_pages", "hole_now_pages", "hole_refault_pages")),
    Line("waits", ("any by CAS",), "by threads without a record, and by those who purge",
        ("record_lock", "purge_lock")),
    Line("clears", ("any, relaxed",), "when much memory is cleared", ("clear_wait", "clear_skip")),
    Line("mailboxes", ("any by CAS",), "by remote frees", ("mailbox",)),
)
"""The cache lines of ``hak_heap`` by who writes them and when. What is in none of them stands
behind them: only the holder of the run lock touches it."""

STRUCTS: Final[tuple[Struct, ...]] = (
    _struct(
        "hak_class", "HakClass", "The geometry of one size class.",
        (
            Field("reciprocal", "u64", "1/2^64", _INIT,
                "ceil(2^64 / stride): d is a multiple of stride iff d * r mod 2^64 < r"),
            Field("stride_bytes", "u32", "bytes", _INIT, "distance of two blocks",
                low=8, high=STRIDE_LIMIT_BYTES, step=8),
            Field("capacity_bytes", "u32", "bytes", _INIT,
                "what the caller may use: stride, less 1 with a header",
                low=7, high=STRIDE_LIMIT_BYTES),
            Field("block_count", "u32", "blocks", _INIT, "blocks of a slab",
                low=1, high=0xFFFF),
            Field("start_bytes", "u32", "bytes", _INIT,
                "offset of block 0 in the slab: 0, or 16 with headers",
                high=BLOCK_ALIGN_BYTES, step=BLOCK_ALIGN_BYTES),
            Field("unit_count", "u32", "units", _INIT, "units of a slab",
                low=1, high=SLAB_UNITS_MAX),
            Field("band", "u16", "HAK_BAND", _INIT, "tiny, pool or big",
                low=1, high=3),
            Field("header", "u16", "bool", _INIT, "1: a header byte at user - 1",
                high=1),
        ),
    ),
    _struct(
        "hak_size_class_map", "HakSizeClassMap",
        "SizeClassMap: the classes and the table from size to class.",
        (
            Field("class_count", "u32", "classes", _INIT, "classes in use, 1 .. class_count",
                low=1, high=CLASS_COUNT_MAX),
            Field("size_limit_bytes", "u32", "bytes", _INIT,
                "largest size served by a class; above it a span",
                low=1, high=STRIDE_LIMIT_BYTES),
            Field("classes", "hak_class", "", _INIT,
                "the classes; entry 0 is the always-empty class", CLASS_LIMIT),
            Field("size_map", "u8", "class", _INIT,
                "class of ceil(size / 8); 0 where a span serves", BIG_MAP_OFFSET),
            Field("big_map", "u8", "class", _INIT,
                "class of ceil(size / 4096), for sizes above 64 KiB; 0 where a span serves",
                BIG_MAP_ENTRIES + 7),
        ),
    ),
    _struct(
        "hak_header_codec", "HakHeaderCodec",
        "HeaderCodec: the byte before a block, by class and state.",
        (
            *_image_fields(HeaderNumbers),
            Field("live", "u8", "byte", _INIT, "header of a block that is out, by class",
                CLASS_LIMIT),
            Field("freed", "u8", "byte", _INIT, "header of a block that is not, by class",
                CLASS_LIMIT),
        ),
    ),
    _struct(
        "hak_arena_growth", "HakArenaGrowth", "ArenaGrowth: how much is committed at a time.",
        _image_fields(ArenaNumbers),
    ),
    _struct(
        "hak_cache_class", "HakCacheClass", "CachePolicy of one class.",
        (
            *_image_fields(ClassCacheNumbers)[:-1],
            Field("generation", "u32", "", _OWNER,
                "in a thread's record: policy_generation when it was copied; in an image zero",
                high=0),
        ),
    ),
    _struct(
        "hak_cache_policy", "HakCachePolicy",
        "CachePolicy: the thread caches.",
        (
            *_image_fields(CacheNumbers),
            Field("classes", "hak_cache_class", "", _INIT, "by class; entry 0 is zero",
                CLASS_LIMIT),
        ),
    ),
    _struct(
        "hak_acquire_policy", "HakAcquirePolicy",
        "AcquirePolicy: where a refill looks for a slab, and how long it tries.",
        (
            Field("order", "u8", "HAK_STAGE", _INIT, "stages in the order they are tried, 0 ends",
                ACQUIRE_STAGES),
            *_image_fields(AcquireNumbers),
        ),
    ),
    _struct(
        "hak_retain_policy", "HakRetainPolicy",
        "RetainPolicy: the run heap, and what goes back to the OS when.",
        _image_fields(RetainNumbers),
    ),
    _struct(
        "hak_profile_policy", "HakProfilePolicy",
        "ProfilePolicy: samples of who allocates.",
        _image_fields(ProfileNumbers),
    ),
    _struct(
        "hak_policy", "HakPolicy",
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
            Field("profile", "hak_profile_policy", "", _INIT, "samples of who allocates"),
            Field("headers", "hak_header_codec", "", _INIT, "headers"),
            Field("sizes", "hak_size_class_map", "", _INIT, "size classes"),
        ),
    ),
    _struct(
        "hak_slab", "HakSlab",
        "The record of the unit that heads a slab, a span or a free run.",
        (
            Field("claim_seq", "u32", "count", "claimer by CAS > any, acquire / release",
                "odd while claimed; one more at each claim and release"),
            Field("kind", "u8", "HAK_KIND", "claimer or run lock holder > any, relaxed",
                "what the unit heads"),
            Field("class_index", "u8", "class", "claimer > any, relaxed", "size class of a slab"),
            Field("flags", "u16", "HAK_SLAB", _CLAIM,
                "fresh, listed, with holes; of any free unit, under the run lock: stuck"),
            Field("remote_list", "u64", "list word", "any by CAS > claimer, acq_rel",
                "blocks given back without the claim: offset/8 | count << 16 | tag << 32"),
            Field("free_list", "u64", "list word", _CLAIM,
                "free blocks: offset/8 | count << 16 | tag << 32"),
            Field("unit_count", "u32", "units", "as kind", "units of the slab, span or run"),
            Field("used_count", "u32", "blocks", _CLAIM,
                "blocks outside: application, caches, remote list"),
            Field("carved_count", "u32", "blocks", _CLAIM,
                "blocks carved so far; the others are uncarved"),
            Field("mailed", "u32", "bool", "any by exchange, acq_rel",
                "1 while the slab is in a mailbox"),
            Field("mail_next", "u32", "unit", "mailer > adopter, by the mailbox's CAS",
                "next slab of the mailbox, 0 ends"),
            Field("next", "u32", "unit", "as kind; relaxed",
                "next of the run bin, or of the empty list"),
            Field("prev", "u32", "unit", _LOCK, "previous run of the bin"),
            Field("older_by_kind", "u32", "unit | mask", "as kind",
                "free run: dirty run freed before this one; slab and span: which blocks are "
                "sampled, a bit by the block's index modulo HAK_SAMPLED_BITS, under the lock of "
                "the samples",
                names=("older", "sampled_mask")),
            Field("newer", "u32", "unit", _LOCK, "dirty run freed after this one"),
            Field("by_kind", "u32", "OS pages | units | sweep", "as kind",
                "span: OS pages asked for; free run: dirty units; slab: its last sweep that found "
                "holes, and the pause after it (holes.c)",
                names=("span_page_count", "run_dirty_count", "last_sweep")),
        ),
    ),
    _struct(
        "hak_bin", "HakBin",
        "One class of a thread's cache: what slow paths alone need; the rest is in "
        "hak_thread's arrays.",
        (
            Field("cap_count", "u32", "blocks", _OWNER, "blocks the list may hold"),
            Field("hot", "u32", "unit", _OWNER, "slab taken from last, 0 none; only a hint"),
            Field("bump", "u64", "address", _OWNER, "next block of the carved range"),
            Field("bump_end", "u64", "address", _OWNER, "end of the carved range"),
            Field("fresh", "u8", "bool", _OWNER, "1: the carved range is known to be zero"),
            Field("swing", "u8", "HAK_SWING", _OWNER,
                "refilled since the last overflow; overflowed at all"),
            Field("lent", "u8", "bool", _OWNER, "1: has lent a block since the last carve"),
            Field("lend_carve_count", "u8", "carves", _OWNER,
                "carves that came after loans, 255 once they are too many; one less after each "
                "search for idle classes"),
            Field("event_count", "u32", "events", _OWNER,
                "refills and overflows since the last search for idle classes"),
            Field("free_only_count", "u32", "overflows", _OWNER, "overflows since the last refill"),
            Field("fresh_count", "u32", "slabs", _OWNER,
                "slabs made from units of the open superslab"),
            Field("stride_bytes", "u64", "bytes", _INIT,
                "copy of the class's: what a carved block takes of the range"),
        ),
    ),
    _struct(
        "hak_magazine", "HakMagazine",
        "The part of a row's slots that one class has: first < places of its blocks <= top. The "
        "slot at first holds 0.",
        (
            Field("first", "u16", "slot", _OWNER, "the slot before its first; 0: it has none"),
            Field("top", "u16", "slot", _OWNER, "slot of the block that came last"),
            Field("last", "u16", "slot", _OWNER, "slot that top may reach, by end and cap"),
            Field("end", "u16", "slot", _INIT, "its last slot"),
        ),
    ),
    _struct(
        "hak_magazines", "HakMagazines",
        "The magazines of a thread; only a heap that has magazines has these rows.",
        (
            Field("classes", "hak_magazine", "", _OWNER, "which slots each class has",
                CLASS_LIMIT),
            Field("slots", "u64", "address", _OWNER,
                "the blocks in magazines; 0 in slot 0 and before each magazine's first",
                MAGAZINE_SLOTS),
        ),
    ),
    _struct(
        "hak_thread", "HakThread",
        "A thread of a heap: what the fast path needs, its counters, its caches.",
        (
            Field("base", "u64", "address", _INIT, "start of the region"),
            Field("unit_limit", "u64", "units", _OWNER,
                "units that the tables are known to be mapped for; 0 in the early record"),
            Field("fast_map", "u64", "address", _INIT,
                "size map of the fast path: the policy's own; with headers a copy that is 0 for "
                "sizes that the slow path must serve"),
            Field("heap", "u64", "address", _INIT, "its heap"),
            Field("cap_bytes", "u64", "bytes", _OWNER, "sum of the caps in bytes"),
            Field("index", "u32", "", _INIT, "its place in the heap's thread records"),
            Field("state", "u32", "HAK_THREAD", "owner or adopter by CAS > any, acq_rel",
                "unused, live, parked or left"),
            Field("os_id", "u32", "", _OWNER, "the OS's thread id"),
            Field("next", "u32", "index", "by the CAS of its list",
                "next of the parked or unused list, index + 1"),
            Field("event_count", "u32", "events", _OWNER,
                "slow-path events since the last search for idle classes"),
            Field("busy", "u32", "class + 1", _OWNER,
                "record 0: 1 while locked; all: class + 1 while that class's list goes to slabs"),
            Field("gate", "u32", "", "reaper by CAS > owner, acq_rel",
                "the OS's number of the thread that reaps this one meanwhile; 0: none"),
            Field("in_slow", "u32", "calls", "owner > reaper, release / acquire",
                "slow paths that the thread is in, one above the other"),
            Field("free_only_bytes", "u64", "bytes", _OWNER,
                "bytes overflowed since the last refill of any class"),
            Field("drain_served", "u64", "ticket", "owner thread > outside, release",
                "the drain_request that this thread obeyed last"),
            Field("first_cap_bytes", "u64", "bytes", _INIT,
                "sum of the policy's first caps; a record begins with none where that is more "
                "than its share"),
            Field("held_bytes", "i64", "bytes", _OWNER,
                "blocks taken from slabs less blocks given back; below 0 in a thread that frees "
                "what others took"),
            Field("waiting", "u32", "unit", _OWNER,
                "freed spans that wait for the next request of their length; 0: none",
                WAITING_SPANS),
            Field("waiting_epoch", "u32", "epoch", _OWNER, "when each began to wait",
                WAITING_SPANS),
            Field("span_asked_count", "u8", "spans", _OWNER,
                "spans asked for and not freed yet, as many as may wait at most"),
            Field("span_swing", "u8", "mask", _OWNER,
                "which of the lengths freed lately were asked for again: a bit a place"),
            Field("freed_units", "u16", "units", _OWNER,
                "lengths of the spans freed lately, the last first", WAITING_SPANS),
            Field("reaped", "u8", "bool", "reaper > owner, by the gate",
                "1: its caps fell with what was taken; its next slow path looks at them"),
            Field("reserved", "u8", "", _OWNER, "zero"),
            *COUNTERS,
            Field("magazine_limit", "u64", "bytes", _INIT,
                "sizes below it are asked of the magazines; 0: the heap has none"),
            Field("magazine_row", "u64", "address", _INIT,
                "its magazines: hak_magazines; 0: the heap has none"),
            Field("counted_map", "u64", "address", "owner, reaper, who sets the rate; relaxed",
                "size map of mallocs that are counted for the profiler; the empty one if none is"),
            Field("sample_seed", "u64", "", _OWNER, "state of the generator that draws them"),
            Field("sample_rate", "u64", "bytes", _OWNER,
                "the heap's profile_rate that the thread obeys; 0: it counts nothing"),
            *(Field("counter_pad", "u64", "", _OWNER, "zero", count)
              for count in ((-len(COUNTERS) - 5) % 8,) if count),
            Field("heads", "u64", "address", _OWNER,
                "first cached block by class; each holds the address of the next; entry 0 is "
                "always empty",
                CLASS_LIMIT),
            Field("reciprocals", "u64", "1/2^64", _OWNER,
                "copies of the classes', by tag; 0 sends every free to the slow path",
                CLASS_LIMIT + CACHE_LINE_BYTES // 8),
            Field("room_counts", "i64", "blocks", _OWNER,
                "caps less cached blocks; may pass below 0 for a moment", CLASS_LIMIT),
            Field("bins", "hak_bin", "", _OWNER, "the rest of the caches, by class", CLASS_LIMIT),
            Field("sample_lefts", "i64", "blocks", _OWNER,
                "while the heap is profiled: blocks of the class to allocate before the next "
                "sample; below 0: not drawn yet. Entry 0, of spans and mapped blocks: bytes",
                CLASS_LIMIT),
            Field("rows", "hak_cache_class", "", _OWNER,
                "the policy's rows that the thread obeys, each since a refill of its class",
                CLASS_LIMIT),
        ),
    ),
    _struct(
        "hak_os_counts", "HakOsCounts",
        "Calls to the OS; each successful or failed call counts once.",
        (
            Field("reserve_count", "u64", "calls", "any, relaxed add",
                "mmap of anything but a heap's memory"),
            Field("commit_count", "u64", "calls", "any, relaxed add",
                "mmap of a heap's memory, or mprotect where it is reserved"),
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
    _struct(
        "hak_os_faults", "HakOsFaults",
        "OS calls that a test makes fail; in the library all zero.",
        (
            Field("kinds", "u32", "HAK_CALL", "test > any, relaxed", "kinds that are counted"),
            Field("reserved", "u32", "", "", "zero"),
            Field("calls", "u64", "calls", "any, relaxed add", "calls of these kinds so far"),
            Field("first", "u64", "calls", "test > any, relaxed", "number of the first that fails"),
            Field("count", "u64", "calls", "test > any, relaxed", "how many fail from there on"),
        ),
    ),
    _struct(
        "hak_mapped", "HakMapped", "A block that is a mapping of its own, outside the region.",
        (
            Field("address", "u64", "address", _LOCK_RELAXED, "where it starts; 0: no block"),
            Field("bytes", "u64", "bytes", _LOCK_RELAXED, "its whole OS pages"),
        ),
    ),
    _struct(
        "hak_heap", "HakHeap",
        "A heap: geometry, run heap, lists; at the start of its region.",
        _by_line(HEAP_LINES, (
            Field("magic", "u64", "", _INIT, "HAK_HEAP_MAGIC; 0 once destroyed"),
            Field("layout_hash", "u64", "", _INIT, "hash of the layout"),
            Field("base", "u64", "address", _INIT,
                "start of the region, on a superslab boundary"),
            Field("reserved_bytes", "u64", "bytes", _INIT,
                "bytes of the region, metadata included, mapped or not"),
            Field("map_base", "u64", "address", _INIT,
                "start of the window, or of the reservation where it is one"),
            Field("map_bytes", "u64", "bytes", _INIT, "bytes of it"),
            Field("policy_offset", "u64", "bytes", _INIT, "the policy image in force: hak_policy"),
            Field("fast_map_offset", "u64", "bytes", _INIT,
                "size map of the fast path: u8[HAK_FAST_MAP_BYTES]; not used where no class is "
                "checked"),
            Field("registry_offset", "u64", "bytes", _INIT,
                "page registry: u64 a unit, tag | head's offset in bytes"),
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
            Field("swept_offset", "u64", "bytes", _INIT,
                "claim_seq at a sweep's last visit, odd once searched for holes: u32 a unit"),
            Field("threads_offset", "u64", "bytes", _INIT, "thread records: hak_thread"),
            Field("magazines_offset", "u64", "bytes", _INIT,
                "the records' magazines: hak_magazines; 0 where the heap has none"),
            Field("mapped_offset", "u64", "bytes", _INIT, "mapped blocks, by address: hak_mapped"),
            Field("live_offset", "u64", "bytes", _INIT,
                "live marks: a bit for 8 bytes; 0 when not checked"),
            Field("meta_units", "u32", "units", _INIT,
                "units of metadata in front; the first unit of user memory"),
            Field("unit_limit", "u32", "units", _INIT, "units of the region, up to its tables"),
            Field("thread_limit", "u32", "records", _INIT, "thread records there is room for"),
            Field("flags", "u32", "HAK_HEAP", _INIT,
                "checked, Python plane, process heap, reserved"),
            Field("slot", "u32", "", _INIT, "its place in the threads' directories"),
            Field("generation", "u32", "", _INIT, "distinguishes heaps that used one slot"),
            Field("next_heap", "u64", "address", "root lock", "next heap of hak_root"),
            Field("run_lock", "u32", "OS thread id", "any by CAS, acquire / release",
                "who holds it; guards the run heap, nothing else"),
            Field("unit_top", "u32", "units", "run lock holder > any, release / acquire",
                "first unit that was never mapped"),
            Field("arena_count", "u32", "chunks", _LOCK, "arena chunks committed"),
            Field("lost_count", "u32", "slabs", "repairer of a fork's child > any",
                "slabs lost to a fork in the middle of a claim"),
            Field("in_use_units", "u64", "units", _LOCK_RELAXED, "units the run heap handed out"),
            Field("dirty_units", "u64", "units", _LOCK_RELAXED, "free units that may be resident"),
            Field("high_water_now", "u64", "units", _LOCK_RELAXED,
                "most units in use in this epoch"),
            Field("high_water_before", "u64", "units", _LOCK_RELAXED,
                "most units in use in the epoch before"),
            Field("high_water_ever", "u64", "units", _LOCK, "most units in use ever"),
            Field("epoch_start_ns", "u64", "ns", _LOCK_RELAXED, "start of this epoch"),
            Field("clock_ns", "u64", "ns", "clock owner", "the clock while held"),
            Field("clock_held", "u32", "bool", "clock owner",
                "1: clock_ns stands still and no other clock is read"),
            Field("policy_generation", "u32", "",
                "policy lock holder > slow paths, release / acquire",
                "two more at each change; odd while the policy in force is written over"),
            Field("policy_request", "u64", "ticket", "outside, plain > slow paths, relaxed",
                "a new number has the first thread at a slow path adopt the policy in the inbox"),
            Field("policy_served", "u64", "ticket", "policy lock holder > outside, release",
                "the policy_request that was answered last"),
            Field("policy_answer", "u32", "HAK_CHANGE", "policy lock holder > outside, relaxed",
                "what came of it; written before policy_served"),
            Field("policy_lock", "u32", "OS thread id", "any by CAS, acquire / release",
                "who holds it: who changes the policy; guards the draft"),
            Field("list_most_counts", "u16", "blocks", _LOCK_RELAXED,
                "the highest list_count of each class that was ever in force", CLASS_LIMIT),
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
                "empty slabs of one unit: unit | count << 32 | tag << 40"),
            Field("longer_word", "u64", "word", "any by CAS, acq_rel",
                "the same for empty slabs of 2, 3 ... units", SLAB_UNITS_MAX - 1),
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
                "repairs of this heap, one after each fork that led to this process"),
            Field("earned_ns", "u64", "ns", _LOCK_RELAXED, "eager work allowed so far"),
            Field("spent_ns", "u64", "ns", _LOCK_RELAXED,
                "eager work done so far, refaults included"),
            Field("earned_at_ns", "u64", "ns", _LOCK_RELAXED,
                "clock when earned_ns was last raised"),
            Field("recent_units", "u32", "units", _LOCK_RELAXED,
                "units marked in each of the two recent maps", 2),
            Field("recent_now", "u32", "", _LOCK, "which recent map is this epoch's"),
            Field("epoch_count", "u32", "epochs", _LOCK_RELAXED, "epochs closed so far; wraps"),
            Field("eager_units", "u64", "units", _LOCK,
                "of the units purged, those purged eagerly"),
            Field("sweep_unit", "u32", "units", "sweeper by CAS, acq_rel",
                "where the sweep goes on; 0: no sweep is due"),
            Field("sweep_busy", "u32", "bool", "sweeper by CAS, acquire / release",
                "1 while a thread sweeps"),
            Field("hole_pages", "u64", "OS pages", "sweeper or restorer > any, relaxed add",
                "pages purged inside slabs"),
            Field("hole_now_pages", "u64", "OS pages",
                "sweeper, restorer or claimer > any, relaxed add",
                "of them, those that are holes still"),
            Field("clear_wait", "u32", "spans",
                "any, relaxed; a lost update moves the next question",
                "spans cleared between two questions how much is resident; doubles while "
                "too much is"),
            Field("clear_skip", "u32", "spans",
                "any, relaxed; a lost update moves the next question",
                "spans cleared until the next question"),
            Field("low_water_now", "u64", "units", _LOCK_RELAXED,
                "least dirty units in this epoch, less what was purged since"),
            Field("low_water_before", "u64", "units", _LOCK_RELAXED,
                "least dirty units in the epoch before, less what was purged since"),
            Field("resident_now", "u64", "units",
                "any, relaxed; a lost update purges once more or once less",
                "most units in use or dirty at a tick of this epoch"),
            Field("resident_before", "u64", "units",
                "any, relaxed; a lost update purges once more or once less",
                "most units in use or dirty at a tick of the epoch before"),
            Field("hole_refault_pages", "u64", "OS pages", "sweeper or restorer > any, relaxed add",
                "of hole_pages, those whose blocks were needed again within two epochs"),
            Field("run_clean_bits", "u64", "bits", _LOCK, "non-empty clean bins", RUN_BIN_WORDS),
            Field("run_dirty_bits", "u64", "bits", _LOCK, "non-empty dirty bins", RUN_BIN_WORDS),
            Field("run_clean", "u32", "unit", _LOCK, "first run of each clean bin", RUN_BIN_COUNT),
            Field("run_dirty", "u32", "unit", _LOCK, "first run of each dirty bin", RUN_BIN_COUNT),
            Field("mailbox", "u64", "word", "any by CAS, acq_rel",
                "slabs with remote frees: unit | tag << 32", CLASS_LIMIT),
            Field("arena_units", "u32", "units", _LOCK,
                "units of arena chunk k; the last entry adds up the rest", 64),
            Field("drain_request", "u64", "ticket", "outside, plain > slow paths, relaxed",
                "a new number has each thread give its caches back at its next slow path"),
            Field("trim_request", "u64", "ticket", "outside, plain > slow paths, relaxed",
                "a new number has the first thread at a slow path trim the heap"),
            Field("trim_served", "u64", "ticket", "holder of trim_busy > outside, release",
                "the trim_request that was obeyed last"),
            Field("trim_bytes", "u64", "bytes", "holder of trim_busy > outside, relaxed",
                "what that trim gave back; written before trim_served"),
            Field("trim_busy", "u32", "bool", "any by CAS, acquire / release",
                "1 while a thread trims by request"),
            Field("profile_wish", "u64", "bytes", "outside, plain > slow paths, relaxed",
                "the rate that profile_request asks for; 0: no more samples"),
            Field("profile_request", "u64", "ticket", "outside, plain > slow paths, relaxed",
                "a new number has the first thread at a slow path adopt profile_wish"),
            Field("profile_served", "u64", "ticket", "any, release > outside",
                "the profile_request that was obeyed last"),
            Field("profile_rate", "u64", "bytes", "any by CAS > slow paths, acq_rel",
                "bytes allocated for each sample, on average; 0: no samples are taken"),
            Field("profile", "u64", "address", "first profiler by CAS > any, acq_rel",
                "where the samples are: hak_profile, a mapping of its own; 0 none"),
            Field("locked", "u32", "bool", _LOCK,
                "1: what is mapped is locked, and so resident, at once; small steps"),
            Field("table_units", "u32", "units", "run lock holder > any, release / acquire",
                "units that the tables are mapped for"),
            Field("thread_mapped", "u32", "records", "run lock holder > any, release / acquire",
                "thread records that are mapped"),
            Field("intent_unit", "u32", "unit", _LOCK,
                "first unit of those being mapped now; a fork's child unmaps them"),
            Field("intent_units", "u32", "units", _LOCK, "how many of them; 0 none"),
            Field("intent_table_units", "u32", "units", _LOCK,
                "units that the tables are being mapped for; 0: they are not"),
            Field("intent_records", "u32", "records", _LOCK,
                "thread records that are being mapped; 0 none"),
            Field("unmapped_units", "u64", "units", _LOCK_RELAXED,
                "units below unit_top that are not mapped"),
            Field("start_limit_bytes", "u64", "bytes", _INIT,
                "limit on mappings when the heap was made; UINT64_MAX none"),
            Field("stuck_units", "u64", "units", _LOCK_RELAXED,
                "dirty units that the OS would not purge, left alone until the epoch ends"),
            Field("parted_units", "u64", "units", _LOCK,
                "dirty units that the OS would not purge, but for some of their OS pages"),
            Field("map_limit_units", "u32", "units", "test > run lock holder, relaxed",
                "units mapped at most, as if the OS refused more; 0: as the OS will"),
            Field("refused_epoch", "u32", "epochs", _LOCK_RELAXED,
                "epoch_count up to which free runs are unmapped, because the OS refused; 0 none"),
            Field("run_unmapped_bits", "u64", "bits", _LOCK, "non-empty bins of unmapped runs",
                RUN_BIN_WORDS),
            Field("run_unmapped", "u32", "unit", _LOCK, "first run of each bin of unmapped runs",
                RUN_BIN_COUNT),
            Field("moved_unit", "u32", "unit", _LOCK,
                "first units of ranges that pages were moved to: mappings of their own",
                MOVED_LIMIT),
            Field("moved_units", "u32", "units", _LOCK, "how many units they are; 0: none",
                MOVED_LIMIT),
            Field("moved_count", "u32", "ranges", _LOCK_RELAXED, "how many there are"),
            Field("inherited", "u32", "bool", "repairer of a fork's child > any",
                "1: this process got the heap by a fork; new mappings do not join the old ones"),
            Field("collected_epoch", "u32", "epochs", "any by CAS, acq_rel",
                "epoch_count at which the mailboxes were last emptied"),
            Field("record_lock", "u32", "OS thread id", "any by CAS, acquire / release",
                "who holds it; guards record 0, which threads without a record share"),
            Field("purge_lock", "u32", "OS thread id", "any by CAS, acquire / release",
                "one of those who purge; who waits for what is purged lends it its priority"),
            Field("mapped_count", "u32", "blocks", _LOCK_RELAXED, "mapped blocks: rows in use"),
            Field("mapped_pending", "u32", "blocks", _LOCK,
                "rows kept for blocks that are just being mapped or moved"),
            Field("mapped_change", "u32", "", _LOCK,
                "what is being done to the table of mapped blocks: 0 nothing, 1 a row is inserted, "
                "2 one is removed"),
            Field("mapped_rows", "u32", "rows", _LOCK, "rows that are mapped"),
            Field("mapped_pieces", "u32", "mappings", _LOCK,
                "mappings that the mapped blocks are, as the OS counts"),
            Field("intent_rows", "u32", "rows", _LOCK,
                "rows that are being mapped; 0: none"),
            Field("mapped_freed", "u32", "blocks", _LOCK_RELAXED,
                "mapped blocks freed or moved so far; the next is noted at its remainder"),
            Field("mapped_bytes", "u64", "bytes", _LOCK_RELAXED, "sum of the mapped blocks"),
            Field("freed_address", "u64", "address", _LOCK_RELAXED,
                "where the mapped blocks freed last began", MAPPED_FREED_COUNT),
            Field("freed_bytes", "u64", "bytes", _LOCK_RELAXED, "how large they were",
                MAPPED_FREED_COUNT),
        )),
        padded_to=HEAP_BYTES,
    ),
    _struct(
        "hak_sample", "HakSample", "One sampled block, or one sample's place that is not used.",
        (
            Field("address", "u64", "address", _PROFILE, "the block; 0: the place is not used"),
            Field("size_bytes", "u64", "bytes", _PROFILE, "what the program asked for"),
            Field("stride_bytes", "u64", "bytes", _PROFILE,
                "what the block takes: its class's stride, a span's units, a mapping's pages"),
            Field("rate_bytes", "u64", "bytes", _PROFILE, "profile_rate when it was taken"),
            Field("time_ns", "u64", "ns", _PROFILE, "the heap's clock when it was taken"),
            Field("unit", "u32", "unit", _PROFILE,
                "head of its slab or span; 0: a mapped block"),
            Field("site", "u32", "words", _PROFILE, "its hak_site's place in the sites; 0: none"),
            Field("next", "u32", "index", _PROFILE,
                "next sample of the bucket, or of the places that are not used: index + 1"),
            Field("thread", "u32", "", _PROFILE, "thread record that allocated it"),
            Field("class_index", "u32", "class", _PROFILE, "its slab's class; 0: span or mapping"),
            Field("os_id", "u32", "", _PROFILE, "the OS's number of that thread"),
        ),
    ),
    _struct(
        "hak_site", "HakSite",
        "A call stack that allocated samples of one class; its frames follow, innermost first.",
        (
            Field("hash", "u64", "", _PROFILE, "of the frames and of what else tells it apart"),
            Field("next", "u32", "words", _PROFILE, "next entry of its bucket, 0 ends"),
            Field("kind", "u16", "HAK_SITE", _PROFILE, "a call stack or a name"),
            Field("frame_count", "u16", "frames", _PROFILE, "words that follow"),
            Field("class_index", "u32", "class", _PROFILE, "class of the samples; 0: spans"),
            Field("stride_log2", "u32", "", _PROFILE,
                "of spans: log2 of the bytes, rounded down; else 0"),
            Field("rate_bytes", "u64", "bytes", _PROFILE, "profile_rate when they were taken"),
            Field("sample_count", "u64", "samples", _PROFILE, "samples taken"),
            Field("stride_bytes", "u64", "bytes", _PROFILE, "what their blocks took together"),
            Field("size_bytes", "u64", "bytes", _PROFILE, "what was asked for together"),
            Field("freed_count", "u64", "samples", _PROFILE, "of them, those freed since"),
            Field("freed_bytes", "u64", "bytes", _PROFILE, "what those took together"),
            Field("first_ns", "u64", "ns", _PROFILE, "the heap's clock at the first sample"),
            Field("last_ns", "u64", "ns", _PROFILE, "the heap's clock at the last sample"),
            Field("lifetimes", "u32", "samples", _PROFILE,
                "samples freed, by age: below 1 ms, 4 ms, 16 ms ...", LIFETIME_COUNT),
        ),
    ),
    _struct(
        "hak_code_name", "HakCodeName",
        "A Python function's name, among the sites; its text follows: qualified name, file.",
        (
            Field("hash", "u64", "", _PROFILE, "of all that follows"),
            Field("next", "u32", "words", _PROFILE, "next entry of its bucket, 0 ends"),
            Field("kind", "u16", "HAK_SITE", _PROFILE, "a call stack or a name"),
            Field("name_bytes", "u16", "bytes", _PROFILE, "UTF-8 of the qualified name"),
            Field("first_line", "u32", "line", _PROFILE, "where its code begins"),
            Field("file_bytes", "u32", "bytes", _PROFILE, "UTF-8 of the file's name"),
        ),
    ),
    _struct(
        "hak_profile", "HakProfile",
        "The samples of a heap; at the start of a mapping of its own.",
        (
            Field("magic", "u64", "", _INIT, "HAK_PROFILE_MAGIC"),
            Field("map_bytes", "u64", "bytes", _INIT, "bytes of the mapping"),
            Field("frames_offset", "u64", "bytes", _INIT,
                "rooms where call stacks are taken, HAK_PROFILE_FRAMES_BYTES each"),
            Field("samples_offset", "u64", "bytes", _INIT, "hak_sample[sample_limit]"),
            Field("buckets_offset", "u64", "bytes", _INIT,
                "first sample of each bucket of units: u32, index + 1"),
            Field("site_buckets_offset", "u64", "bytes", _INIT,
                "first entry of each bucket of sites: u32, in words from sites_offset"),
            Field("sites_offset", "u64", "bytes", _INIT,
                "hak_site and hak_code_name, one behind the other; word 0 is not used"),
            Field("sites_limit", "u32", "words", _INIT, "room for them"),
            Field("sample_limit", "u32", "samples", _INIT, "places for samples"),
            Field("bucket_mask", "u32", "mask", _INIT, "buckets of units less 1"),
            Field("site_bucket_mask", "u32", "mask", _INIT, "buckets of sites less 1"),
            Field("frame_limit", "u32", "frames", _INIT, "frames of a site at most"),
            Field("lock", "u32", "OS thread id", "any by CAS, acquire / release",
                "who holds it; guards all that follows, and the tables"),
            Field("frames_busy", "u32", "mask", "any by CAS, acq_rel",
                "which rooms for call stacks are taken"),
            Field("reserved", "u32", "", "", "zero"),
            Field("sites_used", "u32", "words", "profile lock holder > any, release",
                "words of sites in use; written after the entry"),
            Field("sample_top", "u32", "samples", _PROFILE, "places ever used"),
            Field("unused", "u32", "index", _PROFILE, "first place not used any more, index + 1"),
            Field("live_count", "u32", "samples", _PROFILE, "samples whose blocks are out"),
            Field("site_count", "u32", "sites", _PROFILE, "entries of kind HAK_SITE_STACK"),
            Field("name_count", "u32", "names", _PROFILE, "entries of kind HAK_SITE_NAME"),
            Field("taken_count", "u64", "samples", _PROFILE, "samples taken"),
            Field("freed_count", "u64", "samples", _PROFILE, "of them, those freed since"),
            Field("lost_count", "u64", "samples", _PROFILE,
                "samples that were due, and for which there was no place"),
            Field("stackless_count", "u64", "samples", _PROFILE,
                "samples kept without a site: no room for one"),
            Field("started_ns", "u64", "ns", _PROFILE, "the heap's clock when it was made"),
        ),
        padded_to=PROFILE_BYTES,
    ),
    _struct(
        "hak_fault", "HakFault", "What was wrong with an address or a request.",
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
    _struct(
        "hak_reaped", "HakReaped", "What reaping a thread gave back.",
        (
            Field("bytes", "u64", "bytes", "callee > caller", "blocks and spans together"),
            Field("block_count", "u64", "blocks", "callee > caller",
                "cached blocks given back to their slabs"),
            Field("span_count", "u32", "spans", "callee > caller", "spans that waited"),
            Field("left_count", "u32", "classes", "callee > caller",
                "classes of which something was left, since it moved or its slab was claimed"),
        ),
    ),
    _struct(
        "hak_event", "HakEvent", "What a slow path did; debug builds only.",
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
    _struct(
        "hak_errand", "HakErrand",
        "Where a thread that a tool stopped serves a request, and how it goes on after that; "
        "exported as the symbol hak_errand_.",
        (
            Field("entry", "u64", "address", _INIT,
                "where such a thread begins; 0: not on this kind of processor"),
            Field("end", "u64", "address", _INIT, "behind the code that begins there"),
            Field("stack", "u64", "address", _INIT,
                "the stack that it runs on, HAK_ERRAND_STACK_BYTES"),
            Field("owner", "u32", "OS thread id", "tool",
                "the thread that was sent, as its process numbers it; 0: nobody"),
            Field("state", "u32", "HAK_ERRAND", "tool; owner, release",
                "how far it is; what it is worth depends on where the owner stands"),
            Field("signals", "u64", "bits", "tool > owner", "the signal mask it goes on with"),
            Field("registers", "u64", "", "tool > owner",
                "the general registers it goes on with, in the order of user_regs_struct",
                ERRAND_WORDS),
        ),
    ),
    _struct(
        "hak_root", "HakRoot",
        "Where an outside reader starts; exported as the symbol hak_root.",
        (
            Field("magic", "u64", "", _INIT, "HAK_ROOT_MAGIC"),
            Field("layout_hash", "u64", "", _INIT, "hash of the layout"),
            Field("version", "u32", "", _INIT, "HAK_LAYOUT_VERSION"),
            Field("lock", "u32", "OS thread id", "any by CAS, acquire / release",
                "who holds it; guards the list of heaps"),
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
            Field("protect_count", "u64", "calls", "any, relaxed add",
                "mprotect of what is no heap's: the C library's symbols, for plugins"),
        ),
    ),
)
# fmt: on


TOTAL_BYTES: Final = {
    "hak_slab": 64,
    "hak_mapped": 16,
    "hak_magazines": 4608,
    "hak_thread": 8768,
    "hak_heap": HEAP_BYTES,
    "hak_sample": 64,
    "hak_site": 152,
    "hak_code_name": 24,
    "hak_profile": PROFILE_BYTES,
    "hak_fault": 64,
    "hak_reaped": 24,
    "hak_event": 48,
    "hak_errand": 200,
    "hak_root": 128,
}
"""What each struct that stands on its own takes, written down so that no edit changes one unseen:
`hakmem.generate.mirror` compares. ``hak_policy`` grows with the policy numbers; the room before the
registry bounds it."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a heap's metadata: ``count`` elements of ``type`` for each ``units`` units of
    the region; 0 units: for each thread record."""

    name: str
    type: str
    count: int
    units: int

    @property
    def row_bytes(self) -> int:
        """Bytes for each so many units."""
        return self.count * (SCALAR_BYTES.get(self.type) or STRUCT_BY_NAME[self.type].size)


TABLES: Final[tuple[Table, ...]] = (
    Table("registry", "u64", 1, 1),
    Table("slabs", "hak_slab", 1, 1),
    Table("partial", "u64", CLASS_LIMIT, 64),
    Table("summary", "u64", CLASS_LIMIT, 4096),
    Table("dirty", "u64", 1, 64),
    Table("recent", "u64", 1, 64),
    Table("holes", "u16", 1, 1),
    Table("swept", "u32", 1, 1),
    Table("live", "u8", LIVE_BYTES_PER_UNIT, 1),
    Table("threads", "hak_thread", 1, 0),
    Table("magazines", "hak_magazines", 1, 0),
    Table("mapped", "hak_mapped", 1, 0),
)
"""The tables: where each begins is ``NAME_offset`` of ``hak_heap``. What a row means is said
there."""


# --- bounds and environment -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """What one field of a policy image may hold: ``low..high``, a multiple of ``step``.

    ``path`` leads from ``hak_policy`` to the field; through ``classes`` it stands for the field of
    every class. ``fixed``: a running heap keeps what it has.
    """

    path: str
    low: int
    high: int
    step: int = 1
    fixed: bool = False


def _bounds(struct: Struct, path: str = "") -> Iterator[Bound]:
    for item in struct.fields:
        if item.high is not None:
            yield Bound(path + item.name, item.low, item.high, item.step, item.fixed)
        elif item.type in STRUCT_BY_NAME:
            yield from _bounds(STRUCT_BY_NAME[item.type], f"{path}{item.name}.")


# The count of classes comes first: the bounds of a class's fields loop over the classes.
POLICY_BOUNDS: Final[tuple[Bound, ...]] = tuple(
    sorted(
        _bounds(STRUCT_BY_NAME["hak_policy"]),
        key=lambda bound: (bound.path != "sizes.class_count", not bound.path.startswith("sizes.")),
    )
)
BOUND: Final[dict[str, Bound]] = {bound.path: bound for bound in POLICY_BOUNDS}


def _variables() -> Iterator[Variable]:
    """The variables of the policy numbers, with what follows from the numbers' rows."""
    for part, numbers in POLICY_PARTS.items():
        defaults = {item.name: item.default for item in fields(numbers)}
        for name, number in numbers_of(numbers).items():
            if not (made := number.variable):
                continue
            default: Any = defaults[name]
            value = number.choices.index(default) if number.choices else int(default)
            yield replace(
                made,
                default=-(-value * number.scale * made.denominator // made.numerator),
                policy_path=f"{part}.{name}",
                field=f"{part}.{number.field or name}" if made.apply == "HAK_APPLY_FIELD" else "",
                scale=number.scale,
                choices=number.choices,
            )


ENVIRONMENT: Final[tuple[Variable, ...]] = tuple(_variables())
POLICY_FILE_VARIABLE: Final = "HAKMEM_POLICY"


@dataclass(frozen=True, slots=True)
class OtherVariable:
    """An environment variable that sets no field of the policy."""

    name: str
    meaning: str


# fmt: off
OTHER_VARIABLES: Final[tuple[OtherVariable, ...]] = (
    OtherVariable(POLICY_FILE_VARIABLE, "policy image to obey instead of the built-in one"),
    OtherVariable("HAKMEM_READABLE",
        "1: other processes of this user may read the heap where Yama keeps it to ancestors; that "
        "is all of ptrace, writing and control too; `hakmem run` sets it"),
    OtherVariable("HAKMEM_VERBOSE", "1: say on stderr what is asked of `mallopt` and ignored"),
    OtherVariable("HAKMEM_CRASH_REPORT",
        "1: SIGSEGV, SIGBUS and SIGABRT are reported with what stands at the address"),
    OtherVariable("HAKMEM_DEEPBIND",
        "keep: plugins loaded with `RTLD_DEEPBIND` keep the C library's own malloc and free"),
    OtherVariable("HAKMEM_LIBRARY",
        "the library that Python and `hakmem run` load, instead of the package's own"),
)
# fmt: on
VARIABLE_NAMES: Final = (
    *(variable.name for variable in ENVIRONMENT),
    *(variable.name for variable in OTHER_VARIABLES),
)


# --- by name --------------------------------------------------------------------------------------

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
    from hakmem.generate import description, header

    made = {"header": header.c_header, "description": description.c_source}
    print(made[sys.argv[1] if len(sys.argv) > 1 else "header"](), end="")
