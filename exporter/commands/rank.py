"""`python -m embedfleet.exporter.commands.rank DIR --top-k K [--reranker VECTOR]`: started by `embedfleet run --queries`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..command_line import held, serve


def main() -> int:
    """Write the final ranking of one run's candidates."""
    parser = argparse.ArgumentParser(prog="embedfleet.exporter.commands.rank")
    parser.add_argument("root", type=Path)
    parser.add_argument("--top-k", type=int, required=True)
    parser.add_argument("--reranker", default=None, help="the vector in DIR/rerank/run; none: the fused order is final")
    flags = parser.parse_args()

    def work() -> None:
        from ..ranking.ranking import rank_candidates

        held(flags.root, lambda: rank_candidates(flags.root, flags.top_k, flags.reranker))

    return serve(work)


if __name__ == "__main__":
    sys.exit(main())
