"""What a GPU makes of the packed forward pass, in at most ten minutes: `python benchmarks/gpu_suite.py OUT.jsonl [--tiny]`.

One JSON line a measurement, written at once. The stages are in the order of their worth; none begins after 560 seconds, and a
line says which did not. Exit code 3: a forward pass without padding computed other numbers than one with it, so no rate counts.
Models are configurations with random weights by a fixed seed, made on the device: their speed is that of trained ones. The
last stage runs the whole command on the bundled all-MiniLM-L6-v2 and needs the package's own requirements; without these it
says so. `--tiny` is the rehearsal: every stage on a CPU with models of two layers, in about a minute.

Rates are wall-clock after warming up, the device waited for at both ends; FLOP count matrix products of unpadded tokens.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from gpu.command import tokenizing, whole_command
from gpu.kernels import profile, roofline, vocabulary
from gpu.passes import compiled, correctness, forward_passes
from gpu.suite import Suite

os.environ.setdefault("HF_HUB_OFFLINE", "1")
STAGES = (roofline, correctness, forward_passes, compiled, vocabulary, tokenizing, whole_command, profile)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiny", action="store_true", help="rehearse on a CPU")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; add --tiny to rehearse on the CPU")
    suite = Suite(options.out, tiny=options.tiny)
    for stage in STAGES:
        if suite.is_late:
            suite.write(stage.__name__, left_out="no time was left")
            continue
        start = time.monotonic()
        try:
            stage(suite)
        except Exception as error:
            suite.write(stage.__name__, failed=f"{type(error).__name__}: {error}"[:500])
            if options.tiny:
                raise
        suite.write("took", of=stage.__name__, seconds=time.monotonic() - start)


if __name__ == "__main__":
    main()
