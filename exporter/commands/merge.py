"""`python -m embedfleet.exporter.commands.merge DIR [--on-duplicate fail|first]`: started by `embedfleet merge`.

Standard output has lines of JSON: `{"step", "done", "of"}` for the progress and, last, the summary under `merged`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec
import orjson

from ..command_line import held, serve

SHOW_SECONDS = 0.25
"""Progress is written at most so often."""


def main() -> int:
    """Merge the shards of one directory."""
    parser = argparse.ArgumentParser(prog="embedfleet.exporter.commands.merge")
    parser.add_argument("root", type=Path)
    parser.add_argument("--on-duplicate", choices=["fail", "first"], default="fail")
    flags = parser.parse_args()
    shown = 0.0

    def show(step: str, done: int, of: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if done >= of or now - shown >= SHOW_SECONDS:
            shown = now
            _write({"step": step, "done": done, "of": of})

    def work() -> None:
        from ...protocol.run_directory.layout import RunLayout
        from ..merging.all_shards import shards_of
        from ..merging.merge import merge_shards

        layout = RunLayout(flags.root)
        shards_of(layout)  # before anything, the lock file included, is written there
        summary = held(flags.root, lambda: merge_shards(layout, flags.on_duplicate, show), "merge again")
        _write({"merged": msgspec.structs.asdict(summary)})

    return serve(work)


def _write(line: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
