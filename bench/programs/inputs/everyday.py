"""Many short strings and small dicts, as services of records make them: parsed, indexed, joined,
sorted, changed and dropped in another order than they came. Every result is printed."""

import hashlib
import json
import sys

COUNT = int(sys.argv[1])


def words(seed: int, count: int) -> list[str]:
    """Short words, many of them more than once."""
    found = []
    for _ in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        found.append(f"{seed >> 50:x}-{seed >> 40 & 0x3FF}")
    return found


def records(count: int) -> list[dict[str, object]]:
    """A small dict for each, with strings, a list and a dict of its own."""
    names = words(7, count)
    return [
        {
            "id": number,
            "name": name,
            "path": "/".join((name, str(number % 97), name[::-1])),
            "tags": name.split("-"),
            "at": {"x": number / 7, "y": str(number)},
        }
        for number, name in enumerate(names)
    ]


def indexed(rows: list[dict[str, object]]) -> dict[str, list[dict[str, object]]]:
    """Rows by the first part of their name."""
    found: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        found.setdefault(row["tags"][0], []).append(row)  # type: ignore[index]
    return found


def main() -> None:
    """One batch after the other; some rows of each outlive the next ones."""
    kept: dict[str, dict[str, object]] = {}
    digest = hashlib.sha256()
    for batch in range(6):
        rows = records(COUNT)
        index = indexed(rows)
        for key in sorted(index)[batch::3]:
            for row in index.pop(key):
                row["path"] = f"{row['path']}?{batch}"
                kept[f"{row['name']}#{batch}"] = row
        text = json.dumps([row for of_key in index.values() for row in of_key])
        again = json.loads(text)
        lines = "\n".join(sorted(f"{row['name']}={row['at']['y']}" for row in again))
        digest.update(lines.encode())
        for key in list(kept)[:: batch + 2]:
            del kept[key]
        print(batch, len(text), len(again), len(index), len(kept))
    print(digest.hexdigest(), len("".join(str(row["path"]) for row in kept.values())))


main()
