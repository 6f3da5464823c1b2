"""A chunk segment for the workers: sorted by length, cut into batches, sent as frames without copying."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.layout import RunLayout
from ...protocol.text.token_estimates import BYTES_PER_TOKEN, TOKENS_A_TEXT
from ...protocol.wire.arrays import Array
from ..background import Background
from ..core.events import Cut, SegmentCut
from .planner import BatchSizes


class SegmentTexts:
    """The texts of one segment, longest first. `order[i]` is the row in the segment of the i-th text."""

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

    def cut(self, sizes: BatchSizes) -> tuple[Cut, ...]:
        """The smallest batches: of at most `cut_tokens` estimated tokens (or one text) and `cut_rows` rows."""
        ends = np.cumsum(self._tokens)
        cuts: list[Cut] = []
        start = 0
        while start < self.rows:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + sizes.cut_tokens, side="right"))
            stop = min(max(stop, start + 1), start + sizes.cut_rows, self.rows)
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


class OpenTexts:
    """The texts of the segments being computed. A pass holds them from the cut until the exporter has all its rows.

    They stay in memory, so that sending a batch reads nothing.
    """

    def __init__(self, run: str, layout: RunLayout, background: Background, emit: Callable[[SegmentCut], None]) -> None:
        self._run, self._layout, self._background, self._emit = run, layout, background, emit
        self._texts: dict[int, SegmentTexts] = {}
        self._left: dict[tuple[int, int], int] = {}
        """By segment and pass: rows that were not handed on yet."""
        self._round = 0
        """Goes up with each `clear`: what was asked for before is of no use any more."""

    def __getitem__(self, segment: int) -> SegmentTexts:
        return self._texts[segment]

    def cut(self, pass_index: int, segment: int, sizes: BatchSizes) -> None:
        """Have the segment read, and cut into batches for the pass; SegmentCut follows."""
        held, asked = self._texts.get(segment), self._round

        def read() -> tuple[SegmentTexts, tuple[Cut, ...]]:
            texts = held or SegmentTexts(self._layout, segment)
            return texts, texts.cut(sizes)

        def hold(answer: Future[tuple[SegmentTexts, tuple[Cut, ...]]]) -> None:
            if asked != self._round:
                return
            texts, cuts = answer.result()
            self._texts[segment] = texts
            self._left[segment, pass_index] = texts.rows
            self._emit(SegmentCut(self._run, pass_index, segment, cuts))

        self._background.post(self._run, read, hold)

    def handed_on(self, pass_index: int, segment: int, rows: int) -> None:
        """Note that so many rows of the pass went to the exporter."""
        left = self._left.pop((segment, pass_index), 0) - rows
        if left > 0:
            self._left[segment, pass_index] = left
        elif not any(held == segment for held, _ in self._left):
            self._texts.pop(segment, None)

    def clear(self) -> None:
        """Every segment that is not committed will be cut again; or the run is closing."""
        self._round += 1
        self._texts.clear()
        self._left.clear()
