"""TextBatches: texts for a worker: the longest first, cut into batches by estimated tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ...protocol.text.token_estimates import BYTES_PER_TOKEN, TOKENS_A_TEXT
from ...protocol.wire.arrays import Array
from ...protocol.wire.work import Ready, Staged

MOST_BYTES = 64 << 20
"""The largest result of a batch, by the bytes that the worker expects for each row."""
MOST_ROWS = 4_096
FIXED_PARTS = 4
"""Where a row's last bits depend on its batch, a batch has a quarter of the usual tokens, as in a run."""


class BatchLimits(msgspec.Struct, frozen=True):
    """Largest sizes of a batch, in estimated tokens and in rows."""

    tokens: int
    rows: int


def batch_limits(staged: Staged, ready: Ready) -> BatchLimits:
    """The sizes of batches for a worker with its model."""
    tokens = staged.batch_tokens // FIXED_PARTS if ready.fixed_batches else staged.batch_tokens
    return BatchLimits(max(tokens, 1), max(1, min(MOST_ROWS, MOST_BYTES // max(staged.row_bytes, 1))))


class TextBatches:
    """Some texts in UTF-8. Rows are positions in `texts`."""

    def __init__(self, texts: Sequence[str]) -> None:
        column: Any = pa.array(texts, pa.large_string())
        _, offsets, data = column.buffers()
        starts = np.frombuffer(offsets, np.int64)[: len(texts) + 1] if texts else np.zeros(1, np.int64)
        self._starts, self._sizes = starts[:-1], np.diff(starts)
        self._utf8 = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)

    def cut(self, limits: BatchLimits) -> list[Array]:
        """The rows of each batch: of at most `limits.tokens` (or one text) and `limits.rows`."""
        order = np.argsort(-self._sizes, kind="stable").astype(np.int32)
        ends = np.cumsum(self._sizes[order] // BYTES_PER_TOKEN + TOKENS_A_TEXT)
        cuts, start = list[Array](), 0
        while start < len(order):
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + limits.tokens, side="right"))
            stop = min(max(stop, start + 1), start + limits.rows, len(order))
            cuts.append(order[start:stop])
            start = stop
        return cuts

    def arrays(self, rows: Array) -> dict[str, Array]:
        """The texts of these rows as a worker takes them: `offsets` int32 (rows+1) into `utf8` bytes."""
        offsets = np.zeros(len(rows) + 1, np.int32)
        np.cumsum(self._sizes[rows], out=offsets[1:])
        parts = [
            self._utf8[start : start + size] for start, size in zip(self._starts[rows], self._sizes[rows], strict=True)
        ]
        return {"offsets": offsets, "utf8": np.concatenate(parts) if parts else np.empty(0, np.uint8)}
