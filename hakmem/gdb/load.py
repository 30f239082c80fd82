"""What gdb sources: ``gdb -x .../hakmem/gdb/load.py``, which ``hakmem gdb`` does.

It is run by gdb's own Python, of whatever version and with whatever packages: what is wrong with
them is one line. Only the standard library is imported here.
"""

import os
import sys

OLDEST = (3, 11)
NEEDED = ("numpy", "tabulate")
PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def load() -> str:
    """Define the commands; what keeps them from it, or nothing."""
    version = "{}.{}".format(*sys.version_info[:2])
    if sys.version_info[:2] < OLDEST:
        return f"gdb's Python is {version}, and hakmem needs 3.11 or newer: use a newer gdb"
    if PACKAGES not in sys.path:
        sys.path.append(PACKAGES)
    try:
        for name in NEEDED:
            __import__(name)
    except ImportError as error:
        packages = " ".join(f"python3-{needed}" for needed in NEEDED)
        return (
            f"gdb's Python {version} cannot load {name} ({error}): apt-get install {packages} on "
            f"Debian and Ubuntu, or start gdb with PYTHONPATH set to a directory that has "
            f"{' and '.join(NEEDED)} for Python {version}"
        )
    from hakmem.gdb.commands import define

    define()
    return ""


problem = load()
if problem:
    print("hakmem: " + " ".join(problem.split()), file=sys.stderr)
