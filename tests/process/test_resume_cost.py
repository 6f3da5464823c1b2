"""A resume behind many committed segments: how much there is to do before the first lease does not grow to a second.

For each segment that stands the exporter reads the last four bytes of a file, and the intake a footer; that it reads
everything again to see whether it is whole goes on beside the work. `benchmarks/detection.py` has the figure for 10 million
rows (600 segments).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.source.check import note_stamps
from embedfleet.protocol.source.corpus import resolve
from embedfleet.protocol.spec.run_spec import RunSpec
from embedfleet.protocol.wire.export import Opened

FEW, MANY = 10, 1_000
SECONDS = 1.0
"""That so many segments more may take; a tenth or two of it is usual."""


@pytest.fixture
def run_of(run_files: ModuleType, tmp_path: Path) -> Callable[[int], Any]:
    """A run directory with so many segments of a row each, but for the last one's vectors.

    To open them nobody reads what is in a vector segment: all are the first one's file.
    """

    def make(segments: int) -> Any:
        files = run_files.RunFiles(tmp_path / f"of-{segments}", sizes=[1], index="none").write()
        files.layout.intake.unlink()  # else it would say how many segments there are
        for vector in (run_files.DENSE, run_files.SPARSE):
            first = files.layout.vector_segment(vector, 0)
            files.layout.pass_file(vector).unlink()
            for segment in range(1, segments - 1):
                os.link(first, files.layout.vector_segment(vector, segment))
        source = tmp_path / "corpus.jsonl"
        source.write_text('{"id": "c0", "text": "text 0"}\n')
        spec = msgspec.structs.replace(files.spec, source=str(source))
        files.layout.spec.write_bytes(msgspec.json.encode(spec))
        note_source(files.layout, spec)
        return files.layout, spec

    return make


def test_the_exporter_opens_them_within_a_second(make_exporter: Any, run_of: Any) -> None:
    took: dict[int, float] = {}
    for segments in (FEW, MANY):
        (layout, spec), exporter = run_of(segments), make_exporter()
        began = time.monotonic()
        exporter.open(layout.root, spec)
        assert len(exporter.hear(Opened).committed[0]) == segments - 1
        took[segments] = time.monotonic() - began
    assert took[MANY] - took[FEW] < SECONDS


def test_the_intake_tells_of_them_within_a_second(run_files: ModuleType, tmp_path: Path) -> None:
    """Where the source was read to its end there is no more to do; otherwise they are told before their ids are looked at."""
    files = run_files.RunFiles(tmp_path / "run", sizes=[1] * MANY, index="none")
    files.layout.chunks.mkdir(parents=True)
    for segment in range(MANY):
        files.chunk_segment(segment)
    source = tmp_path / "corpus.jsonl"
    source.write_text("".join(f'{{"id": "c{row}", "text": "text {row}"}}\n' for row in range(MANY)))
    spec = RunSpec(source=str(source), passes=files.spec.passes, index="none")
    note_source(files.layout, spec)
    for _ in ("broken off", "read to its end"):
        told: list[float] = []
        began = time.process_time()
        ChunkLoader(
            spec, files.layout, SegmentLimits(), lambda _, to=told, at=began: to.append(time.process_time() - at), never
        ).load()
        assert len(told) == MANY
        assert told[-1] < SECONDS
    assert files.layout.intake.exists()


def note_source(layout: RunLayout, spec: RunSpec) -> None:
    """The files of the source, as an intake that begins notes them."""
    note_stamps(layout, resolve(spec.source))


def never() -> bool:
    return False
