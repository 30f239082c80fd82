"""Heaps of other processes: found, read while they run, or while every thread is stopped.

``image.py`` finds the library in a process's memory, ``live.py`` is that memory as a source for
views, ``stopping.py`` stops and releases threads, ``asking.py`` asks a heap to trim or to drain,
``attaching.py`` puts them together as `hakmem.attach`.
"""
