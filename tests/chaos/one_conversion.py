"""A conversion stored in a process of its own, to be killed at any of its system calls: `python one_conversion.py DIR`.

`ready` on standard output says that it begins to write, `acknowledged` that it is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

from embedfleet.worker.converted.cache import FILES, Conversions

KEY = "0123"


def write(folder: Path) -> None:
    """Files like those of a conversion."""
    for name in FILES:
        (folder / name).write_text(f"the content of {name}")


def store(conversions: Conversions) -> None:
    """Store the conversion if it is not there, as a worker does."""
    with conversions.locked(KEY):
        if conversions.find(KEY) is None:
            conversions.clear(KEY)
            conversions.commit(KEY, write)


def main() -> int:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    store(Conversions(Path(sys.argv[1])))
    sys.stdout.write("acknowledged\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
