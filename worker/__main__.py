"""`python -m embedfleet.worker`: started by a host agent, never by hand."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from ..protocol.process import lifeline
from ..protocol.process.standard_streams import guard_standard_error
from ..protocol.process.stop_signals import ignore_stop_signals


def main() -> int:
    """Pin this process, then serve. CUDA_VISIBLE_DEVICES and the thread counts are in the environment already."""
    guard_standard_error()
    ignore_stop_signals()
    lifeline.hold()
    parser = argparse.ArgumentParser(prog="python -m embedfleet.worker")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--kind", choices=["cpu", "cuda"], required=True)
    parser.add_argument("--uuid", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--cores", default="", help="processors to stay on, as in 0,1")
    options = parser.parse_args()
    if options.cores:
        with contextlib.suppress(AttributeError, OSError):  # no such call, or a container forbids it: run unpinned
            os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    _die_first()
    from .entry import WorkerLoop, WorkerSettings

    settings = WorkerSettings(
        options.endpoint, options.worker, options.epoch, options.kind, options.uuid, options.threads
    )
    loop = WorkerLoop(settings)
    code = loop.run()
    loop.close()
    return code


def _die_first() -> None:
    """Make the kernel kill workers first when memory runs out: other workers can compute their batches."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900")


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # skip torch's slow teardown: the next model waits for the device
