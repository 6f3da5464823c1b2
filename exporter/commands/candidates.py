"""`python -m embedfleet.exporter.commands.candidates DIR --candidates N [--wanted S --named S]`.

A step of `embedfleet run --queries`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..command_line import held, serve


def main() -> int:
    """Find the candidates of the queries of one run."""
    parser = argparse.ArgumentParser(prog="embedfleet.exporter.commands.candidates")
    parser.add_argument("root", type=Path)
    parser.add_argument("--candidates", type=int, required=True)
    parser.add_argument("--wanted", action="append", default=[], help="a signal to fuse; none: all")
    parser.add_argument("--named", action="append", default=[], help="a signal fused even if another contains it")
    flags = parser.parse_args()

    def work() -> None:
        from ..ranking.candidates import find_candidates

        held(flags.root, lambda: find_candidates(flags.root, flags.candidates, flags.wanted, flags.named))

    return serve(work)


if __name__ == "__main__":
    sys.exit(main())
