"""A profile for speedscope: one JSON file, an amount a profile in it.

Source: ``src/lib/file-format-spec.ts`` of jlfwong/speedscope.
"""

from __future__ import annotations

import json
from typing import Any, Final

from .records import AMOUNTS, Frame, Profile

_SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"


def speedscope(profile: Profile, amount: str = "live_bytes") -> str:
    """The profile as a file for speedscope, which shows the given amount first.

    >>> json.loads(speedscope(Profile(())))["shared"]
    {'frames': []}
    """
    frames: dict[tuple[str, str, int], int] = {}
    stacks = [[_number(frames, frame) for frame in reversed(site.stack)] for site in profile.sites]
    name = f"{profile.process or 'process'} {profile.pid or ''}".strip()
    return json.dumps(
        {
            "$schema": _SCHEMA,
            "exporter": "hakmem",
            "name": name,
            "activeProfileIndex": AMOUNTS.index(amount),
            "shared": {"frames": [_frame(*key) for key in frames]},
            "profiles": [_profile(profile, name, stacks) for name in AMOUNTS],
        },
        separators=(",", ":"),
    )


def _number(frames: dict[tuple[str, str, int], int], frame: Frame) -> int:
    key = frame.function or "?", frame.file, frame.line
    return frames.setdefault(key, len(frames))


def _frame(function: str, file: str, line: int) -> dict[str, Any]:
    made: dict[str, Any] = {"name": function}
    if file:
        made["file"] = file
    if line:
        made["line"] = line
    return made


def _profile(profile: Profile, amount: str, stacks: list[list[int]]) -> dict[str, Any]:
    rows = [
        (stack, value)
        for stack, site in zip(stacks, profile.sites, strict=True)
        if (value := int(getattr(site, amount))) > 0
    ]
    return {
        "type": "sampled",
        "name": amount,
        "unit": "bytes" if amount.endswith("_bytes") else "none",
        "startValue": 0,
        "endValue": sum(value for _, value in rows),
        "samples": [stack for stack, _ in rows],
        "weights": [value for _, value in rows],
    }
