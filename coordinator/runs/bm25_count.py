"""Count the BM25 terms of a run's chunks while the intake writes them, as a child process of the coordinator.

    python -m embedfleet.coordinator.runs.bm25_count DIR

reads the chunk segments of DIR in order, each as soon as it is written, and ends after the last one. It writes a byte every
second to standard output as a heartbeat, and at the end a line with the outcome, a JSON object.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.errors import EXIT_DONE, DamagedChunks, RunDirectoryError
from ...protocol.process import lifeline
from ...protocol.process.stop_signals import ignore_stop_signals
from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.intake import read_intake
from ...protocol.text.bm25_words import bounded_words

EXACT_K = 2.0**60
"""With b = 0, the engine's weight of a term that occurs tf times is tf·(k+1) / (tf+k). With so large a k the weight is tf
itself, exact in float32 up to 2^24; a text has at most half as many terms. With k = 1.2 it would be exact up to about 2,500."""
BEAT_SECONDS, LOOK_SECONDS = 1.0, 0.05
NICENESS = 10
"""A lower priority than that of the workers."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The counts; or, in `trouble`, why there are none. `damaged` is the chunk segment at fault; None: the host is."""

    chunks: int = 0
    terms: int = 0
    trouble: str = ""
    damaged: int | None = None


class TermCounter:
    """Counts the terms of texts: without stop words, with repetitions."""

    def __init__(self) -> None:
        import qdrant_edge

        self._model: Any = qdrant_edge.Bm25(qdrant_edge.Bm25Config(k=EXACT_K, b=0.0))

    def count(self, text: str) -> int:
        """Terms of one text."""
        return int(sum(self._model.embed_document(bounded_words(text)).values))


def count_terms(layout: RunLayout, beat: Callable[[], None]) -> Outcome:
    """Count until the intake has ended and every segment is counted; `beat` is called at least once per text."""
    counter, segment, chunks, terms = TermCounter(), 0, 0, 0
    while True:
        beat()
        # In this order: once the intake has ended, all segments are there.
        last = _segments(layout)
        if layout.chunk_segment(segment).exists() or (last is not None and segment < last):
            column: Any = read_chunk_columns(layout, segment, ("text",)).column("text")
            for text in column.to_pylist():
                terms += counter.count(text)
                beat()
            segment, chunks = segment + 1, chunks + len(column)
        elif last is not None:
            return Outcome(chunks=chunks, terms=terms)
        else:
            time.sleep(LOOK_SECONDS)


def _segments(layout: RunLayout) -> int | None:
    """How many segments the run has; None until the intake has ended."""
    intake = read_intake(layout)
    return intake.segments if intake is not None else None


def main() -> int:
    """Count for the run directory that is the first argument."""
    lifeline.hold()
    ignore_stop_signals()
    os.nice(NICENESS)
    beaten = 0.0

    def beat() -> None:
        nonlocal beaten
        now = time.monotonic()
        if now - beaten >= BEAT_SECONDS:
            beaten = now
            os.write(sys.stdout.fileno(), b".")

    try:
        outcome = count_terms(RunLayout(Path(sys.argv[1])), beat)
    except DamagedChunks as error:
        outcome = Outcome(trouble=error.reason, damaged=error.segment)
    except (RunDirectoryError, OSError) as error:
        outcome = Outcome(trouble=str(error))
    os.write(sys.stdout.fileno(), b"\n" + msgspec.json.encode(outcome))
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
