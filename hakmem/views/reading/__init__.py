"""Gathering: the bytes of a heap, copied and taken apart into records and blocks. Knows nothing of
tables."""
