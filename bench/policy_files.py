"""Policy files of a run: a preloaded library reads images alone, so a TOML file is compiled to an
image in a directory of this process, which goes when it ends."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

from bench import BenchError

VARIABLE = "HAKMEM_POLICY"


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hakmem-bench-")


def image_for(path: Path) -> Path:
    """The image that a policy file stands for: itself, or one made of a TOML file. BenchError
    for what is no policy."""
    from hakmem import Policy
    from hakmem.errors import PolicyError
    from hakmem.policy import files

    try:
        policy = Policy.load(path)
        is_image = files.read(path).startswith(files.MAGIC)
    except PolicyError as error:
        raise BenchError(f"{path}: {error}") from None
    if is_image:
        return path.resolve()
    made = Path(tempfile.mkdtemp(dir=_directory().name)) / f"{path.stem}.image"
    policy.save(made)
    return made


def name_for(path: Path, taken: set[str]) -> str:
    """What the allocator under a policy file is called: the name without its ending, numbered
    where that is taken."""
    stem = re.sub(r"[^A-Za-z0-9._+-]", "-", path.stem).lstrip("._+-") or "policy"
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    return name
