"""`fit.json`: figures of a whole source that its shards share, so that no vector depends on their number."""

from __future__ import annotations

import msgspec

from ...spec.int8_ranges import Int8Ranges
from ...spec.run_spec import PassSpec
from ..json_bytes import read_json
from ..layout import RunLayout
from .intake import FileStamp

SAMPLE_CHUNKS = 4_096
"""Chunks of the whole source on which ranges are measured."""
SAMPLE_SUFFIX = ".sample.jsonl"
"""Ends the name of the temporary file with the sample of one part."""


class SampledChunk(msgspec.Struct, frozen=True):
    """A chunk of a sample. Those with the smallest hashes of their ids are the sample, however the source is divided."""

    hash: int
    id: str
    text: str


class TermCount(msgspec.Struct, frozen=True, kw_only=True):
    """Chunks of a source or of a part of it, their BM25 terms (None where nobody asked), and the records that are no chunks."""

    chunks: int
    terms: int | None
    rejected: int = 0


class FittedRanges(msgspec.Struct, frozen=True, kw_only=True):
    """The int8 ranges of a pass's dense vectors, measured on a sample of the source."""

    made_by: PassSpec
    """The pass as requested, without ranges."""
    ranges: Int8Ranges


class FitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `fit.json`."""

    files: tuple[FileStamp, ...]
    """The files of the source as they were when it was read."""
    text_field: str | None = None
    id_field: str | None = None
    title_field: str | None = None
    preprocessing: str
    counts: TermCount
    ranges: tuple[FittedRanges, ...] = ()

    @property
    def average_length(self) -> float:
        """The average number of terms of a chunk; 1 if there are no terms."""
        return self.counts.terms / self.counts.chunks if self.counts.terms else 1.0


def read_fit(layout: RunLayout) -> FitRecord | None:
    """The record; None in a directory without one. RunDirectoryError where the file is damaged."""
    return read_json(layout.fit, FitRecord)
