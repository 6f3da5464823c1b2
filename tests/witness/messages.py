"""The bytes of every message of every link, as the code of November 2026 encoded them: `recorded()` has them.

`python -m tests.witness.messages` writes `messages.txt`, a link and a message in base64 on each line. New messages are added
at the end; the lines before them stay as they are.
"""

from __future__ import annotations

import base64
import random
import sys
import typing
from pathlib import Path

from embedfleet.protocol.wire.codec import encode

from ..fuzz.messages import LINKS, sample

KEPT = Path(__file__).with_name("messages.txt")
EACH = 4
"""Messages of each type."""


def recorded() -> list[tuple[str, bytes]]:
    """Links, as the names in `LINKS`, and messages."""
    lines = [line.split("\t") for line in KEPT.read_text().splitlines()]
    return [(link, base64.b64decode(message, validate=True)) for link, message in lines]


def main(out: Path) -> None:
    """Write messages of every type of every link."""
    rng = random.Random(11)
    with out.open("w") as lines:
        for link, union in LINKS.items():
            for kind in typing.get_args(union) or (union,):
                for _ in range(EACH):
                    lines.write(f"{link}\t{base64.b64encode(encode(sample(kind, rng))).decode()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else KEPT)
