"""A chunk segment on its way to the workers: sorted by length, cut into batches, handed out as frames without copying."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.layout import RunLayout
from ...protocol.text.token_estimates import BYTES_PER_TOKEN, TOKENS_A_TEXT
from ...protocol.wire.arrays import Array
from ..core.events import Cut

MAX_BATCH_ROWS = 4_096
KEPT = 8
"""Segments kept in memory: those being sent, and the next."""


class SegmentTexts:
    """The texts of one segment, longest first. `order[i]` is the row in the segment of the i-th."""

    def __init__(self, layout: RunLayout, segment: int) -> None:
        table = read_chunk_columns(layout, segment, ("text", "n_bytes"))
        n_bytes = np.asarray(table.column("n_bytes").to_numpy())
        self.order: npt.NDArray[np.int32] = np.argsort(-n_bytes, kind="stable").astype(np.int32)
        self._tokens = n_bytes[self.order].astype(np.int64) // BYTES_PER_TOKEN + TOKENS_A_TEXT
        texts: Any = table.column("text")
        texts = texts.chunk(0) if texts.num_chunks == 1 else pa.concat_arrays(texts.chunks)
        texts = texts.take(pa.array(self.order))
        _, offsets, data = texts.buffers()
        self._offsets = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
        self._utf8 = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)

    @property
    def rows(self) -> int:
        return len(self.order)

    def cut(self, budget: int) -> tuple[Cut, ...]:
        """Batches of at most `budget` estimated tokens (or one text) and MAX_BATCH_ROWS rows."""
        ends = np.cumsum(self._tokens)
        cuts: list[Cut] = []
        start = 0
        while start < self.rows:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + budget, side="right"))
            stop = min(max(stop, start + 1), start + MAX_BATCH_ROWS, self.rows)
            cuts.append(Cut(start, stop, int(ends[stop - 1]) - before))
            start = stop
        return tuple(cuts)

    def arrays(self, start: int, stop: int) -> dict[str, Array]:
        """The batch's texts: `offsets` int32 (rows+1) into `utf8` bytes."""
        offsets = self._offsets[start : stop + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        return {"offsets": offsets - offsets[0], "utf8": self._utf8[first:last]}

    def positions(self, start: int, stop: int) -> npt.NDArray[np.int32]:
        """The batch's rows in the segment."""
        return self.order[start:stop]


class SegmentCache:
    """The segments in use; the oldest is dropped and would be read again, in the same order."""

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout
        self._kept: OrderedDict[int, SegmentTexts] = OrderedDict()

    def get(self, segment: int) -> SegmentTexts:
        """The segment, read if it is not at hand."""
        found = self._kept.pop(segment, None) or SegmentTexts(self._layout, segment)
        self._kept[segment] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found
