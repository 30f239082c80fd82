"""Tab completion at Python's own prompt, as `hakmem shell` opens it."""

from __future__ import annotations

import re
import rlcompleter
from typing import Any, Final

KEY: Final = re.compile(r"""(?P<head>.+)\[(?P<quote>["'])(?P<prefix>[^"'\]]*)""")
"""What stands before the cursor inside ``heap.slabs["``."""
WORD_ENDS: Final = " \t\n`~!@#$%^&*()-=+{}|;:<>,/?"
"""Where readline begins a word: as Python has it, but for brackets, quotes and backslashes."""


class Completer(rlcompleter.Completer):
    """Python's own completion of names and attributes; and of names of columns, in
    ``heap.slabs["``, and of what an index gives, as in ``heap.slabs[0].``."""

    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__(names)
        self._names = names
        self.matches: list[str] = []

    def attr_matches(self, text: str) -> list[str]:
        """Attributes, behind an index too."""
        head, dot, prefix = text.rpartition(".")
        if not head.endswith("]"):
            return super().attr_matches(text)
        names = dir(self._value(head))
        return [
            f"{head}{dot}{name}"
            for name in sorted(set(names))
            if name.startswith(prefix) and (prefix.startswith("_") or not name.startswith("_"))
        ]

    def global_matches(self, text: str) -> list[str]:
        """Names; and keys, behind an open bracket and quote."""
        found = KEY.fullmatch(text)
        if found is None:
            return super().global_matches(text)
        keys: list[str] = getattr(self._value(found["head"]), "_ipython_key_completions_", list)()
        return [
            f"{found['head']}[{found['quote']}{key}{found['quote']}]"
            for key in keys
            if key.startswith(found["prefix"])
        ]

    def complete(self, text: str, state: int) -> str | None:
        """One match; a key is no attribute, whatever dots are before it."""
        if KEY.fullmatch(text) is None:
            return super().complete(text, state)
        if state == 0:
            self.matches = self.global_matches(text)
        return self.matches[state] if state < len(self.matches) else None

    def _value(self, expression: str) -> object:
        try:
            return eval(expression, self._names)
        except Exception:  # half-typed, or an attribute that fails: nothing to offer
            return None
