"""Which OS pages of a process are in memory: what smaps adds up, page by page.

Reading untouched memory maps the kernel's one page of zeros, which takes no memory of its own.
Since Linux 6.7 the PAGEMAP_SCAN call tells it from a page that is shared after a fork. Older
kernels are asked by /proc/PID/pagemap: there a page that is present but not exclusive could be
either, and is taken for the page of zeros. Source: Documentation/admin-guide/mm/pagemap.rst of
Linux.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...system import procfs

ENDING_SECONDS: Final = 0.2
"""How long the threads of a killed process may take to end one after another."""
PAGE: Final = layout.OS_PAGE_BYTES
_SCAN: Final = 3 << 30 | 96 << 16 | ord("f") << 8 | 16  # _IOWR('f', 16, struct pm_scan_arg)
_PRESENT, _SWAPPED, _ZERO_PAGE = 1 << 3, 1 << 4, 1 << 5
_ARGUMENT_BYTES: Final = 96
_VECTOR_LIMIT: Final = 4096
_WORD_PRESENT, _WORD_EXCLUSIVE = np.uint64(1 << 63), np.uint64(1 << 56)
_WORD_SWAPPED: Final = np.uint64(1 << 62)
WORDS_AT_ONCE: Final = 1 << 17


def resident_runs(
    pid: int, check: Callable[[], object], address: int, size_bytes: int, *, contents: bool = False
) -> NDArray[np.int64] | None:
    """The resident parts of a range of a process's memory, however large it is: first address and
    end of each, ascending, shape (n, 2); None where the kernel does not say.

    ``check`` is called when the tables have been read, and raises when the process has ended: then
    they may be empty. ``contents``: all that may hold something, what is swapped out as well.
    """
    runs, ending = None, False
    try:
        with open(f"{procfs.directory(pid)}/pagemap", "rb", buffering=0) as file:
            runs = _scan(file.fileno(), address, size_bytes, contents)
            if runs is None:
                runs = _words(file.fileno(), address, size_bytes, contents)
    except OSError as error:
        ending = not isinstance(error, PermissionError)
    check()
    limit = time.monotonic() + ENDING_SECONDS
    while ending and time.monotonic() < limit:  # the first thread has gone, another is about to
        time.sleep(0.002)
        check()
    return runs


def resident_pages(
    pid: int, check: Callable[[], object], address: int, size_bytes: int
) -> NDArray[np.bool_] | None:
    """As `resident_runs`, page by page: bool, shape (size_bytes / 4096,)."""
    runs = resident_runs(pid, check, address, size_bytes)
    if runs is None:
        return None
    # 1 where pages begin to be resident, -1 where they end
    steps = np.zeros(size_bytes // PAGE + 1, dtype=np.int8)
    places = (runs - address) // PAGE
    steps[places[:, 0]] += 1
    steps[places[:, 1]] -= 1
    return np.cumsum(steps, dtype=np.int8)[:-1].view(np.bool_)


def _scan(file: int, address: int, size_bytes: int, contents: bool) -> NDArray[np.int64] | None:
    """By PAGEMAP_SCAN; None where the kernel has no such call."""
    wanted = _PRESENT | _SWAPPED if contents else _PRESENT
    regions = np.zeros((_VECTOR_LIMIT, 3), dtype=np.uint64)
    found = [np.zeros((0, 2), dtype=np.int64)]
    at, end = address, address + size_bytes
    while at < end:
        # size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, anyof_mask,
        # return_mask
        words = (
            _ARGUMENT_BYTES,
            0,
            at,
            end,
            0,
            regions.ctypes.data,
            _VECTOR_LIMIT,
            0,
            _ZERO_PAGE,
            _ZERO_PAGE,
            wanted,
            wanted,
        )
        argument = np.array(words, dtype=np.uint64)
        try:
            count = fcntl.ioctl(file, _SCAN, argument)  # type: ignore[call-overload]
        except OSError:
            return None
        found.append(regions[:count, :2].astype(np.int64))
        if argument[4] <= at:
            break
        at = int(argument[4])
    return np.concatenate(found)


def _words(file: int, address: int, size_bytes: int, contents: bool) -> NDArray[np.int64] | None:
    """By the words of pagemap; None if it ends too early: the process did."""
    found = [np.zeros((0, 2), dtype=np.int64)]
    done, count = 0, size_bytes // PAGE
    while done < count:
        first = address // PAGE + done
        raw = os.pread(file, min(count - done, WORDS_AT_ONCE) * 8, first * 8)
        words = np.frombuffer(raw[: len(raw) // 8 * 8], dtype=np.uint64)
        if not len(words):
            return None
        if contents:
            there = words & (_WORD_PRESENT | _WORD_SWAPPED) != 0
        else:
            there = (words & _WORD_PRESENT != 0) & (words & _WORD_EXCLUSIVE != 0)
        edges = np.flatnonzero(np.diff(there.view(np.int8), prepend=0, append=0))
        found.append((edges.astype(np.int64).reshape(-1, 2) + first) * PAGE)
        done += len(words)
    return np.concatenate(found)


def touched_pages(pid: int, address: int, size_bytes: int) -> NDArray[np.bool_] | None:
    """Which pages of a range of process ``pid`` have contents, in memory or swapped out, bool,
    shape (size_bytes / 4096,); the others of anonymous memory read as zeros. None where the kernel
    does not say."""
    made = np.zeros(size_bytes // PAGE, dtype=np.bool_)
    done = 0
    try:
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
            while done < len(made):
                count = min(len(made) - done, WORDS_AT_ONCE) * 8
                raw = os.pread(file.fileno(), count, (address // PAGE + done) * 8)
                words = np.frombuffer(raw[: len(raw) // 8 * 8], dtype=np.uint64)
                if not len(words):
                    return None
                made[done : done + len(words)] = words & (_WORD_PRESENT | _WORD_SWAPPED) != 0
                done += len(words)
    except OSError:
        return None
    return made
