"""The crash report: what the library knows of the address, at a signal that ends the process."""

from __future__ import annotations

import os

from ..errors import HakmemError
from .binding import library


def crash_report(enabled: bool = True) -> None:
    """Report SIGSEGV, SIGBUS and SIGABRT with what is known of the address, then let the handler
    before have its turn.

    One line on stderr: the signal, the thread, and the slab, span and block that the address lies
    in, or that it lies in no heap. Goes with ``faulthandler``, in either order. The same from
    outside: ``HAKMEM_CRASH_REPORT=1``. The calling thread gets an alternate stack if it has none,
    so that its stack overflows are reported too. Raises HakmemError where the OS refuses.
    """
    failed = library().hak_crash_report(1 if enabled else 0)
    if failed:
        raise HakmemError(
            f"the crash report cannot be {'en' if enabled else 'dis'}abled: {os.strerror(failed)}"
        )
