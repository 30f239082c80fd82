"""Views: a heap read back as numpy arrays, tables and letter maps.

Gathering (source, capture, blocks) knows nothing of rendering (tables); the views stand between.
Where the bytes come from is a `MemorySource`: this process, and in time another process or a saved
file.
"""

from .answers.whatis import Region, WhatIs
from .heap_view import HeapView
from .parts.blocks import Block
from .reading.slab_states import STATE_LETTERS, STATE_NAMES
from .reading.source import MemorySource, MemoryUnreadable, OwnProcess

__all__ = [
    "STATE_LETTERS",
    "STATE_NAMES",
    "Block",
    "HeapView",
    "MemorySource",
    "MemoryUnreadable",
    "OwnProcess",
    "Region",
    "WhatIs",
]
