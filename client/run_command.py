"""`embedfleet run`: the run as people and scripts see it, and the exit code."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path

import orjson

from ..protocol.control_messages import RunEnded
from ..protocol.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_QUARANTINED,
    EXIT_TERMINATED,
    revive,
)
from ..protocol.spec import RunSpec
from .progress import ProgressView, make_view
from .run_flow import follow_run
from .run_table import show_table


def run(spec: RunSpec, out: Path, *, devices: str | None, restart: bool, otlp: str | None, as_json: bool) -> int:
    """Embed the corpus; the exit code."""
    view = make_view()
    followed = follow_run(spec, out, devices=devices, restart=restart, otlp=otlp, view=view)
    if followed.ending is None:
        view.say("stopped at once; what was committed stays, the same command resumes")
        return _interrupted(followed.signals)
    return _conclude(followed.ending, out, followed.signals, as_json, view)


def _conclude(ending: RunEnded, out: Path, received: list[int], as_json: bool, view: ProgressView) -> int:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(summary(ending)) + b"\n")
        sys.stdout.flush()
    if ending.status == "failed":
        raise revive(ending.kind, ending.error)
    show_table(ending, out, view)
    left = ending.chunks - ending.committed - ending.quarantined
    view.say(
        f"{ending.chunks:,} read = {ending.committed:,} committed + {ending.quarantined:,} quarantined"
        + (f" + {left:,} to be computed" if left else "")
        + f"; {ending.skipped_duplicates:,} duplicates skipped; {ending.seconds:,.1f} s"
    )
    if ending.status == "interrupted":
        view.say(f"interrupted; the same command resumes in {out}")
        return _interrupted(received)
    if ending.quarantined:
        view.say(f"in quarantine: {ending.quarantined:,}, each with its reason in {out / 'quarantine.jsonl'}")
        for reason, count in _frequent_reasons(out):
            view.say(f"  {count:,} times: {reason}")
        return EXIT_QUARANTINED
    return EXIT_DONE


def _frequent_reasons(out: Path) -> list[tuple[str, int]]:
    """The three reasons that stand most often in the quarantine."""
    try:
        with (out / "quarantine.jsonl").open("rb") as lines:
            counts = Counter(str(orjson.loads(line)["reason"])[:120] for line in lines)
    except (OSError, KeyError, orjson.JSONDecodeError):
        return []  # on another host, perhaps: the file itself is named above
    return counts.most_common(3)


def summary(ending: RunEnded) -> dict[str, object]:
    """The object that `--json` prints."""
    return {
        "run": ending.run,
        "status": ending.status,
        "chunks": ending.chunks,
        "committed": ending.committed,
        "quarantined": ending.quarantined,
        "skipped_duplicates": ending.skipped_duplicates,
        "seconds": ending.seconds,
        "passes": [
            {
                "vector": one.vector,
                "model": one.model,
                "device": one.device,
                "chunks": one.chunks,
                "chunks_per_second": one.chunks_per_second,
                "tokens_per_second": one.tokens_per_second,
                "padding": one.padding,
                "rotation_gap_seconds": one.rotation_gap_seconds,
                "coverage": one.coverage,
                "peak_bytes": one.peak_bytes,
                "gpu_peak_bytes": one.gpu_peak_bytes,
                "dtype": one.dtype,
                "placement": one.placement,
            }
            for one in ending.passes
        ],
        **({"error": ending.error} if ending.error else {}),
    }


def _interrupted(received: list[int]) -> int:
    return EXIT_TERMINATED if received and received[0] == signal.SIGTERM else EXIT_INTERRUPTED
