"""Measure the chunk segments of a run: the intake's own writer writes those of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...protocol.run_directory.atomic_files import make_folder
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.intake import SegmentLimits
from ...protocol.run_directory.segment_info import Cursor, Passed
from ...protocol.text.token_estimates import BYTES_PER_TOKEN
from ..intake.chunk_batch import ChunkBatch
from ..intake.resume_point import ResumePoint
from ..intake.segment_writer import MAX_HELD_BYTES, SegmentWriter

DIGESTS = Passed(n_bytes=1 << 20, digest="0" * 32)
"""As large as the digests of a source that each segment keeps."""


@dataclass(frozen=True, slots=True)
class ChunkFiles:
    """The segments of these rows."""

    rows: int
    segments: int
    n_bytes: int
    segment_rows: int
    """Rows of a usual segment, by the limits."""


def write_chunks(folder: Path, limits: SegmentLimits, batches: Sequence[ChunkBatch], *, whole: bool) -> ChunkFiles:
    """Write the segments into `folder`. Without `whole`, the batches are parts of a large source: the smaller segments with
    which a run begins are left out."""
    limits = limits if whole else msgspec.structs.replace(limits, first_rows=msgspec.UNSET)
    layout = RunLayout(folder)
    make_folder(layout.chunks)
    make_folder(layout.intake_folder)
    writer = SegmentWriter(layout, limits, lambda _segment: None, ResumePoint(), lambda _cursor: DIGESTS)
    with closing(writer):
        for batch in batches:
            writer.add(0, "", batch, [], [])
        writer.finish(Cursor())
    n_bytes = sum(layout.chunk_segment(segment).stat().st_size for segment in segments_in(layout.chunks))
    return ChunkFiles(writer.rows, writer.segment, n_bytes, _usual_rows(limits, batches))


def _usual_rows(limits: SegmentLimits, batches: Sequence[ChunkBatch]) -> int:
    rows = max(1, sum(map(len, batches)))
    texts = sum(sum(batch.n_bytes) for batch in batches)
    others = sum(len(one) for batch in batches for one in (*batch.ids, *filter(None, batch.metadata)))
    by_text = limits.tokens * BYTES_PER_TOKEN / max(texts / rows, 1)
    by_memory = MAX_HELD_BYTES / max((texts + others) / rows, 1)
    return max(1, int(min(limits.rows, by_text, by_memory)))
