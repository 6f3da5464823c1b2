"""One segment committed in a process of its own, to be killed at any of its system calls: `python one_commit.py DIR`.

`ready` on standard output says that the commit begins, `acknowledged` that it is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from embedfleet.exporter.segments.builder import SegmentBuilder
from embedfleet.exporter.segments.writer import commit_segment
from embedfleet.protocol.process.arrow import leave_out_pandas
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PassSpec
from numpy.random import default_rng

ROWS, DIM = 5, 4
PASS = PassSpec(vector="dense-a", kind="dense", model="fake:4")


def vectors() -> np.ndarray:
    """Unit vectors (rows, dim), the same every time."""
    made = default_rng(7).normal(size=(ROWS, DIM)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def main() -> int:
    leave_out_pandas()  # as in the exporter
    builder = SegmentBuilder(ROWS, PASS.outputs, [DIM])
    results = {
        "positions": np.arange(ROWS, dtype=np.int32),
        "vector": vectors(),
        "n_tokens": np.full(ROWS, 3, np.int32),
        "truncated": np.zeros(ROWS, np.uint8),
    }
    builder.add(results)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    commit_segment(RunLayout(Path(sys.argv[1])), 0, "f" * 16, builder)
    sys.stdout.write("acknowledged\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
