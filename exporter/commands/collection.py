"""`python -m embedfleet.exporter.commands.collection DIR`: make the collection of a run in object storage, in its local copy or
its spool."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..command_line import held, serve


def main() -> int:
    """Publish the segments of a finished run that its shard lacks. Prints the error, if any, on standard error."""
    parser = argparse.ArgumentParser(prog="embedfleet.exporter.commands.collection")
    parser.add_argument("root", type=Path)
    root: Path = parser.parse_args().root

    def work() -> None:
        from ..index.whole_run import publish_run

        held(root, lambda: publish_run(root))

    return serve(work)


if __name__ == "__main__":
    sys.exit(main())
