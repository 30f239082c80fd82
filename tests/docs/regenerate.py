"""``python -m tests.docs.regenerate [PAGE ...]``: writes what the commands of README.md and docs/
print today into those pages; git diff then shows what has changed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.docs.transcripts import PAGES, matches, rewritten, run_page


def main(words: list[str]) -> int:
    """Rewrites the pages; names each step that prints something else than before."""
    for page in [Path(word).resolve() for word in words] or PAGES:
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            steps = run_page(text, Path(folder))
        for step in steps:
            if not matches(step):
                print(f"{page.name}:{step.first}: {step.source.splitlines()[0]}")
        page.write_text(rewritten(text, steps), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
