"""Int8Notes: notes on int8 vectors: segments stored as float16, and values that 0.1.0 may have clipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...protocol.run_directory.int8_count import Int8Count
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.spec.int8_ranges import Int8Ranges
from ...protocol.vectors.storage import INT8_COSINE, ranges_of, storage_of
from ..output.formatting import pluralize
from ..run_directory.files import AGAIN


class Int8Notes:
    """Collects the notes on one vector of `--store int8`. `ranges`, of its pass, are those of all segments of 0.1.0."""

    def __init__(self, folder: Path, ranges: Int8Ranges | None) -> None:
        self._folder, self._ranges = folder, ranges
        self._count = Int8Count()
        self._numbers = self._at_the_end = 0
        """Values in segments of 0.1.0, and those of them at an end of the ranges."""

    def add(self, info: VectorSegmentInfo, table: pa.Table) -> None:
        """Add a segment."""
        self._count.add(info)
        field = table.schema.field("vector")
        if self._ranges is None or storage_of(field) != "int8" or ranges_of(field) != self._ranges:
            return
        vectors: Any = table.column("vector").combine_chunks()
        numbers = np.asarray(vectors.flatten())
        self._numbers += numbers.size
        self._at_the_end += int(((numbers == -128) | (numbers == 127)).sum())

    def lines(self) -> Iterator[str]:
        """The notes, one line each."""
        if self._count.float16_segments:
            segments = pluralize(self._count.float16_segments, "segment")
            yield f"{self._folder}: {segments} stored as float16, since int8 would be below a cosine of {INT8_COSINE}"
        if self._at_the_end:
            yield (
                f"{self._folder}: {self._at_the_end:,} of {self._numbers:,} values are at an end of the ranges that 0.1.0 "
                f"took from the first rows, and may be clipped; delete these segments and {AGAIN} to compute them exactly"
            )
