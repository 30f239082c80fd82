"""Traces: every call that a program made of its allocator, lossless in order (docs/replay.md).

`format` says what stands in a file, for C and Python alike; `reading` makes arrays of it, `packing`
deflates and seals it, `ordering` finds one order for all threads, `playing` takes a trace through a
heap.
"""
