"""Fills a Redis through its socket: many small values first, then fewer large ones, so that with a
limit of memory the small ones are evicted a few here and there."""

import socket
import sys

said = b"+OK\r\n"


def command(*words: bytes) -> bytes:
    """A command as Redis takes it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


with socket.socket(socket.AF_UNIX) as redis:
    redis.connect(sys.argv[1])
    answers = redis.makefile("rb")
    for size, count in ((150, 200_000), (400, 120_000), (1500, 40_000)):
        for first in range(0, count, 500):
            keys = range(first, first + 500)
            redis.sendall(
                b"".join(
                    command(b"SET", b"%d:%d" % (size, key), b"v" * (size - key % (size // 4)))
                    for key in keys
                )
            )
            for _ in keys:
                assert answers.readline() == said
